"""Errors that a user can mend, and how files and reasons are shown in one line."""

import os


class SelaviError(Exception):
    """Base of all errors raised on purpose; the command line prints its message in one line and exits with 2."""


class InputError(SelaviError, ValueError):
    """An argument, option or array that does not fit."""


class MediaError(SelaviError):
    """A video file that cannot be read; the message names the file and the reason."""


class TransientMediaError(MediaError):
    """A video file that could not be read this time, through no fault of its content: another time it might be."""


class StoreError(SelaviError):
    """A feature store that is missing, incomplete, damaged, of another version, or that cannot be written."""


class ConvergenceWarning(UserWarning):
    """The solver stopped before the tolerance asked for; the result says which error it has reached."""


class CheckpointError(SelaviError):
    """A checkpoint that is damaged or cannot be read, so that the one before has to do."""


class ElsewhereError(SelaviError):
    """Another process of the same run has failed and says why; this one only has to end."""


class StopRequest(Exception):  # noqa: N818
    """The system has asked the run to end soon (SIGTERM, SIGUSR1): what was learnt is kept, and it can go on."""


class DivergedError(SelaviError):
    """The loss or the weights are no longer finite numbers."""


FilePath = str | os.PathLike[str]


def printable(path: FilePath) -> str:
    """Return a path as it is, or escaped in quotes if it holds line breaks or undecodable bytes."""
    name = os.fspath(path)
    return name if name.isprintable() else ascii(name)


def reason(error: BaseException) -> str:
    """Return the reason of an exception in one line, without the file's name."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
