"""Progress bars on the error stream: lively on a terminal, a line every half minute in a log file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


def bar(total: int, what: str, unit: str, initial: int = 0, *, shown: bool = True) -> Any:
    """Return a tqdm bar; one that is not shown keeps count all the same."""
    lively = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=what,
        unit=f" {unit}",
        initial=initial,
        dynamic_ncols=lively,
        mininterval=0.2 if lively else 30,
        ascii=None if lively else True,
        disable=not shown,
    )


@contextmanager
def counter(total: int, what: str, unit: str, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Show a bar, and give the function that moves it on by a number."""
    with bar(total, what, unit, shown=shown) as progress:
        yield lambda n: progress.update(n) and None


class Bars:
    """One bar after the other, for work in several parts; as a context manager, and called with how far it is."""

    def __init__(self) -> None:
        self._what = ""
        self._bar: Any = None

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that so much of a part is done; a part of another name closes the one before."""
        if what != self._what:
            self.__exit__()
            self._what, self._bar = what, bar(total, what, "")
        self._bar.update(done - self._bar.n)
