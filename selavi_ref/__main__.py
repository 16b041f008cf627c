"""`python -m selavi_ref` runs the program `selavi`, whatever files lie in the current folder."""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the console script `selavi` of this package, which the core does not import by name."""
    _ignore_current_folder()
    scripts = [point for point in entry_points(group="console_scripts", name="selavi") if point.module == "cli"]
    if not scripts:
        sys.exit(f"selavi is not installed: pip install -e {_ROOT}, or run it as: python {_ROOT / 'cli.py'}")
    sys.argv[0] = "selavi"
    scripts[0].load()()


def _ignore_current_folder() -> None:
    """Take the current folder off the module path, unless it is ours: its cli.py would be run in place of ours."""
    current = Path(os.getcwd()).resolve()
    if current != _ROOT:
        sys.path[:] = [place for place in sys.path if Path(os.fspath(place)).resolve() != current]


if __name__ == "__main__":
    main()
