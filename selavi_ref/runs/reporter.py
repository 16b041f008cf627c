"""Progress, messages and warnings of long jobs, handed to the caller; by default nothing is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class ProgressBar:
    """
    Progress bar of one part of a job; this base class counts, and shows nothing.

    Parameters
    ----------
    total : int
        Number of units; may be changed later.
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
        """Show a short text beside the bar, such as the loss."""


class Reporter:
    """
    Receiver of progress, messages and warnings; this base class is silent, so that the library prints nothing.

    The command line's shows tqdm bars (`backbones.commands.progress.TerminalReporter`).
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
        """Receive a message that a user may want to read."""

    def warn(self, message: str) -> None:
        """Receive a message that a user should read."""


SILENT = Reporter()


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 video``, ``2 videos``, ``2 classes`` or ``2 stretches``."""
    plural = "" if number == 1 else "es" if noun.endswith(("s", "tch")) else "s"
    return f"{number:,} {noun}{plural}"
