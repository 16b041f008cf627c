"""Keep blocks of a score matrix, which were read and added up once, in a temporary file for later passes."""

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
    Keeps blocks of rows of scores in a temporary file, which the system removes when the program ends, however it does.

    Blocks are read back with their checksums: on some file systems, what was written can be lost without an error.

    Parameters
    ----------
    folder : path
        Where the file is made.
    shape, dtype
        Of all rows together.
    """

    def __init__(self, folder: str | os.PathLike[str], shape: tuple[int, int], dtype: np.dtype[Any]):
        self._row_bytes = shape[1] * dtype.itemsize
        self._dtype = dtype
        self._kept: dict[int, int] = {}  # first row of each block -> checksum
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
        memory = memoryview(buffer.data).cast("B")
        offset = rows.start * self._row_bytes
        try:
            while memory:
                count = os.preadv(self._file.fileno(), [memory], offset)
                if count == 0:
                    break
                memory, offset = memory[count:], offset + count
        except OSError:
            pass
        if not memory and _parity(buffer) == self._kept[rows.start]:
            return True
        del self._kept[rows.start]
        return False

    def write(self, rows: slice, scores: NDArray[Any]) -> None:
        """Keep rows, if there is room for them."""
        if self._file is None:
            return
        scores = np.ascontiguousarray(scores, self._dtype)
        memory = memoryview(scores.data).cast("B")
        offset = rows.start * self._row_bytes
        try:
            while memory:
                count = os.pwrite(self._file.fileno(), memory, offset)
                memory, offset = memory[count:], offset + count
            self._kept[rows.start] = _parity(scores)
        except OSError:  # a full disk
            self._kept.clear()
            self._file.close()
            self._file = None


def _parity(scores: NDArray[Any]) -> int:
    """Return the parity of all bits of an array, by their position in 32 bits: as fast as memory, unlike CRC-32."""
    return int(np.bitwise_xor.reduce(scores.reshape(-1).view(np.uint32)))
