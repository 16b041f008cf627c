"""Errors that a user can mend, and how paths and reasons are shown in one line."""

import os
from pathlib import Path
from typing import Any, Literal

FilePath = str | os.PathLike[str]


class SelaviError(Exception):
    """Base of all errors raised on purpose; the command line prints the message in one line and exits with 2.

    Parameters
    ----------
    message : str
        One line that names what is wrong and says what would be right.
    path : path, optional
        The file concerned.
    option : str, optional
        Name of the argument, command-line option or field that does not fit.
    value : object, optional
        Its value.
    row, column : int, optional
        Position, from 0, of the entry of an array or table that does not fit.
    """

    def __init__(
        self,
        message: str = "",
        *,
        path: FilePath | None = None,
        option: str | None = None,
        value: Any = None,
        row: int | None = None,
        column: int | None = None,
    ) -> None:
        super().__init__(message)
        self.path = None if path is None else Path(path)
        self.option, self.value = option, value
        self.row, self.column = row, column


class InputError(SelaviError, ValueError):
    """An argument, option or array that does not fit."""


class MediaError(SelaviError):
    """A video file that cannot be read; the message names the file and the reason."""


class TransientMediaError(MediaError):
    """A video file that could not be read this time, through no fault of its content: another time it might be."""


StoreProblem = Literal["missing", "incomplete", "damaged", "foreign", "unsafe", "in use", "full", "system"]


class StoreError(SelaviError):
    """A feature store that is missing, incomplete, damaged, of another version, or that cannot be written.

    Parameters
    ----------
    message : str
        As of `SelaviError`, which explains the other parameters too.
    problem : str, optional
        ``missing``; ``incomplete``; ``damaged``: its content is wrong; ``foreign``: something else than a store, or of
        another version or collection; ``unsafe``: it would make the reader open other files; ``in use`` by another
        process; ``full``: no space left; ``system``: the system refuses, which says nothing about the content.
    dataset : str, optional
        Name of the data set concerned.
    """

    def __init__(
        self, message: str = "", *, problem: StoreProblem | None = None, dataset: str | None = None, **fields: Any
    ) -> None:
        super().__init__(message, **fields)
        self.problem, self.dataset = problem, dataset


class ConvergenceWarning(UserWarning):
    """The solver stopped before it reached the requested tolerance; the result holds the error it did reach."""


class CheckpointError(SelaviError):
    """A checkpoint that is damaged or cannot be read, so that the one before has to do."""


class RunInUseError(SelaviError):
    """A run folder into which another job writes.

    Parameters
    ----------
    message : str
        As of `SelaviError`, which explains the other parameters too.
    process : int, optional
        Number of the process that holds the run's lock.
    machine, since : str
        Its machine, and when it took the lock; "" if unknown.
    """

    def __init__(
        self, message: str = "", *, process: int | None = None, machine: str = "", since: str = "", **fields: Any
    ) -> None:
        super().__init__(message, **fields)
        self.process, self.machine, self.since = process, machine, since


class ElsewhereError(SelaviError):
    """Another process of the same run has failed and reports why; this one only has to end."""


class StopRequest(Exception):  # noqa: N818
    """The system has asked the run to end soon (SIGTERM, SIGUSR1): its state is saved, and it can be resumed."""


class DivergedError(SelaviError):
    """The loss or the weights are no longer finite numbers."""


# What reading raises where a file has another content than it should have.
WRONG_CONTENT = (
    *(KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError),
    *(OverflowError, RecursionError, MemoryError),
)


def printable(path: FilePath) -> str:
    """Return a path as it is, or escaped in quotes if it holds line breaks or undecodable bytes."""
    name = os.fspath(path)
    return name if name.isprintable() else ascii(name)


def reason(error: BaseException) -> str:
    """Return the reason of an exception in one line, without the file's name."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
