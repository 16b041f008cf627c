"""Atomic writing: a file is replaced completely or not at all, even if the process is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from selavi_ref.errors import SelaviError, printable


@contextmanager
def replacing(path: str | os.PathLike[str], mode: str = "wb", **options: Any) -> Iterator[Any]:
    """
    Open a file for writing that replaces `path` when the block ends, once all of it is on the disk.

    Parameters
    ----------
    path : path
        The file to replace; until then, the new content is in ``<path>.partial`` beside it.
    mode, options
        Arguments of `open`.

    Raises
    ------
    SelaviError
        If the file cannot be written; the old one stays, and no partial file.
    """
    from selavi_ref.store.hdf5_errors import flush_to_disk  # loads h5py, which help texts do without

    partial = Path(f"{os.fspath(path)}.partial")
    try:
        with open(partial, mode, **options) as file:
            yield file
            file.flush()
            flush_to_disk(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if not isinstance(error, (OSError, RuntimeError)):  # PyTorch and HDF5 raise RuntimeErrors for a full disk
            raise
        why = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise SelaviError(f"{printable(path)} cannot be written: {why}", path=path) from error


def write_text(path: Path, text: str) -> None:
    """
    Write a text file atomically.

    Raises
    ------
    SelaviError
        If it cannot be written; the old file stays.
    """
    with replacing(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
