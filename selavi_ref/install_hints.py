"""How a missing package is installed, as this package itself was: from a checkout, a file, or an index."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

_NAME = "selavi-ref"


def install_command(extra: str) -> str:
    """Return the command that installs one of this package's extras, such as ``"all"``."""
    from importlib.metadata import PackageNotFoundError, distribution  # here: each process that decodes would wait

    try:
        text = distribution(_NAME).read_text("direct_url.json")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return _from_folder(Path(__file__).resolve().parent.parent, extra, editable=True)
    try:
        source = json.loads(text or "{}")
        url = str(source.get("url", ""))
        if "dir_info" in source and url.startswith("file://"):
            from urllib.parse import unquote, urlsplit

            return _from_folder(Path(unquote(urlsplit(url).path)), extra, bool(source["dir_info"].get("editable")))
    except (ValueError, AttributeError):
        url = ""
    return f'pip install "{_NAME}[{extra}]{f" @ {url}" if url else ""}"'


def missing_package(name: str | None, extra: str = "all") -> str:
    """Return the message for a package that cannot be imported."""
    return f"this needs the package {name}; install it with: {install_command(extra)}"


def _from_folder(folder: Path, extra: str, editable: bool) -> str:
    return f"pip install {'-e ' if editable else ''}{shlex.quote(f'{folder}[{extra}]')}"
