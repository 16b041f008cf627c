"""Scores that were read and added up once, kept in a temporary file for later passes."""

from __future__ import annotations

import os
import tempfile
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SPARE = 1 << 30  # bytes of the file system that stay free


class BlockCache:
    """
    Blocks of rows in a temporary file, which the system removes when the program ends, however it does.

    Parameters
    ----------
    folder : path
        Where the file is made.
    shape, dtype
        Of all rows together.
    """

    def __init__(self, folder: str | os.PathLike[str], shape: tuple[int, int], dtype: np.dtype[Any]):
        self._row_bytes = shape[1] * dtype.itemsize
        self._kept: set[int] = set()
        self._file: Any = None
        if not hasattr(os, "preadv"):
            return
        try:
            free = os.statvfs(folder)
            if free.f_bavail * free.f_frsize > shape[0] * self._row_bytes + _SPARE:
                self._file = tempfile.TemporaryFile(dir=folder, prefix=".selavi-scores-")  # noqa: SIM115
                weakref.finalize(self, self._file.close)
        except OSError:  # a folder that cannot be written
            return

    def read(self, rows: slice, buffer: NDArray[Any]) -> bool:
        """Read rows into a contiguous array; False if they are not kept."""
        if rows.start not in self._kept:
            return False
        memory, offset = memoryview(buffer.data).cast("B"), rows.start * self._row_bytes
        while memory:
            count = os.preadv(self._file.fileno(), [memory], offset)
            if count == 0:
                return False
            memory, offset = memory[count:], offset + count
        return True

    def write(self, rows: slice, scores: NDArray[Any]) -> None:
        """Keep rows, if there is room for them."""
        if self._file is None:
            return
        memory, offset = memoryview(np.ascontiguousarray(scores).data).cast("B"), rows.start * self._row_bytes
        try:
            while memory:
                count = os.pwrite(self._file.fileno(), memory, offset)
                memory, offset = memory[count:], offset + count
            self._kept.add(rows.start)
        except OSError:  # a full disk
            self._kept.clear()
            self._file.close()
            self._file = None
