"""Progress bars for Python sessions and notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selavi_ref.runs.reporter import SILENT, Reporter


class TqdmReporter(Reporter):
    """Shows tqdm bars, as widgets where a notebook can show them, and writes messages beside them."""

    @contextmanager
    def bar(self, total: int, action: str, unit: str, done: int = 0) -> Iterator[Any]:
        """Show a bar while the block runs; parameters are those of the base class."""
        from tqdm.auto import tqdm

        with tqdm(total=total, desc=action, unit=f" {unit}", initial=done) as shown:
            shown.note = lambda text: shown.set_postfix_str(text, refresh=False)
            yield shown

    def info(self, message: str) -> None:
        """Write a message."""
        from tqdm.auto import tqdm

        tqdm.write(message)

    def warn(self, message: str) -> None:
        """Write a warning."""
        self.info(message)


def choose_reporter(reporter: Reporter | None, progress: bool) -> Reporter:
    """Return the given reporter; without one, tqdm bars if progress is to be shown, else a silent one."""
    return reporter or (TqdmReporter() if progress else SILENT)
