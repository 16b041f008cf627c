"""What a long job tells its caller: progress, messages and warnings. By default nothing is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class ProgressBar:
    """
    How far one part of a job is; this base class only counts, and shows nothing.

    Parameters
    ----------
    total : int
        Units of the whole part; may be changed as it becomes known.
    done : int
        Units done before.
    """

    def __init__(self, total: int = 0, done: int = 0):
        self.total = total
        self.done = done

    def update(self, n: int = 1) -> None:
        """Count n further units as done."""
        self.done += n

    def note(self, text: str) -> None:
        """Take a short text that belongs beside the bar, such as the loss."""


class Reporter:
    """
    Takes what a job says; this base class is silent, so that the library prints nothing by itself.

    The command line has one that shows tqdm bars (`backbones.commands.progress.TerminalReporter`).
    """

    @contextmanager
    def bar(self, total: int, action: str, unit: str, done: int = 0) -> Iterator[Any]:
        """
        Yield the `ProgressBar` of one part of the job.

        Parameters
        ----------
        total, done : int
            Units in all, and done before.
        action, unit : str
            What is being done, such as ``"decoding"``, and to what, such as ``"video"``.
        """
        yield ProgressBar(total, done)

    def info(self, message: str) -> None:
        """Take a message that a user may want to read."""

    def warn(self, message: str) -> None:
        """Take a message that a user should read."""


SILENT = Reporter()
