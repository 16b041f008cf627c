"""Progress bars, messages and warnings on the error stream: live on a terminal, a line every 30 seconds in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from tqdm import tqdm

from selavi_ref.runs.reporter import Reporter


class _Bar(tqdm):
    """A tqdm bar with the members of `selavi_ref.runs.reporter.ProgressBar`."""

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
        click.echo(message, err=True)

    def warn(self, message: str) -> None:
        """Print a warning."""
        click.echo(message, err=True)


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
