"""Memory through which arrays pass from one process to another."""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from typing import Any


class SharedMemory:
    """
    Memory through which objects with large arrays pass from one process to another, with two copies.

    Parameters
    ----------
    file
        Descriptor of the file that both processes map; by default that of a new anonymous file.
    """

    def __init__(self, file: int | None = None) -> None:
        if file is None:
            memory = hasattr(os, "memfd_create")
            file = os.memfd_create("selavi") if memory else os.dup(tempfile.TemporaryFile().fileno())  # noqa: SIM115
        self.file = file
        self._map: mmap.mmap | None = None

    def put(self, value: object) -> tuple[bytes, list[int]]:
        """Copy the arrays of an object into the memory, and return the arguments of `take`."""
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        arrays = [buffer.raw() for buffer in buffers]
        sizes = [array.nbytes for array in arrays]
        if needed := sum(sizes):
            if needed > os.fstat(self.file).st_size:
                os.ftruncate(self.file, needed)
            offset, target = 0, self._mapped(needed)
            for array in arrays:
                target[offset : (offset := offset + array.nbytes)] = array
        return data, sizes

    def take(self, data: bytes, sizes: list[int]) -> Any:
        """Return the object that the other process gave to `put`; its arrays are copies."""
        buffers = []
        if sum(sizes):
            offset, source = 0, memoryview(self._mapped(sum(sizes)))
            for size in sizes:
                buffers.append(bytearray(source[offset : (offset := offset + size)]))
            source.release()
        else:
            buffers = [bytearray() for _ in sizes]
        return pickle.loads(data, buffers=buffers)

    def close(self) -> None:
        """Release the memory."""
        if self._map is not None:
            self._map.close()
        os.close(self.file)

    def _mapped(self, size: int) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            if self._map is not None:
                self._map.close()
            self._map = mmap.mmap(self.file, 0)
        return self._map
