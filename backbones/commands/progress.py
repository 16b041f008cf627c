"""Progress bars, messages and warnings on the error stream: live on a terminal, a line every 30 seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from backbones.commands import messages
from selavi_ref.runs.reporter import Reporter


class _Bar(tqdm):
    """A tqdm bar with the members of `selavi_ref.runs.reporter.ProgressBar`; its end is told to -v and the log."""

    def __init__(self, *args: Any, desc: str, unit: str, **options: Any):
        self._step, self._count, self._began, self._ended = f"{desc}: {{:,}}{unit}s", 0, time.perf_counter(), False
        super().__init__(*args, desc=desc, unit=unit, **options)

    def update(self, n: float | None = 1) -> bool | None:
        """Count n further units as done."""
        self._count += int(n or 0)
        shown: bool | None = super().update(n)
        return shown

    def close(self) -> None:
        """Remove the bar."""
        super().close()
        if not self._ended:
            self._ended = True
            messages.detail(f"{self._step.format(self._count)} in {time.perf_counter() - self._began:.1f} s")

    def note(self, text: str) -> None:
        """Show a short text beside the bar."""
        self.set_postfix_str(text, refresh=False)


def bar(total: int, action: str, unit: str, done: int = 0) -> Any:
    """Return a tqdm bar that shows how far an action is."""
    lively = sys.stderr.isatty()
    return _Bar(
        total=total,
        desc=action,
        unit=f" {unit}",
        initial=done,
        dynamic_ncols=lively,
        mininterval=0.2 if lively else 30,
        ascii=None if lively else True,
        disable=messages.is_quiet(),
    )


class TerminalReporter(Reporter):
    """Shows progress bars and messages on the error stream, so that results alone are on standard output."""

    @contextmanager
    def bar(self, total: int, action: str, unit: str, done: int = 0) -> Iterator[Any]:
        """Show a bar while the block runs; parameters are those of the base class."""
        with bar(total, action, unit, done) as shown:
            yield shown

    def info(self, message: str) -> None:
        """Print a message."""
        messages.note(message, err=True)

    def warn(self, message: str) -> None:
        """Print a warning, once in a command."""
        messages.warn_once(message)


TERMINAL = TerminalReporter()


@contextmanager
def counter(total: int, action: str, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a bar, and give the function that moves it on by a number."""
    with bar(total, action, unit) as progress:
        yield lambda n: progress.update(n) and None


class Bars:
    """One bar after the other, for work in several parts; as a context manager, and called with how far it is."""

    def __init__(self) -> None:
        self._action = ""
        self._bar: Any = None

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, action: str, done: int, total: int) -> None:
        """Show that so much of a part is done; a part of another name closes the one before."""
        if action != self._action:
            self.__exit__()
            self._action, self._bar = action, bar(total, action, "")
        self._bar.update(done - self._bar.n)
