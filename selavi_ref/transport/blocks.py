"""Scores (N, K) that lie in a file and pass through memory in blocks of rows."""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError
from selavi_ref.store.mapped_blocks import Views, map_dataset, map_file
from selavi_ref.transport.block_cache import BlockCache

_BYTES = 1 << 24  # size of a block; up to three are in memory

Read = Callable[[slice, NDArray[Any]], NDArray[Any]]


class Blocks:
    """Scores in a file, for solving out of core: one source, or the sum of several of the same shape.

    Pass it to `assign` in place of an array; ``assign(..., engine="store")`` makes it from a single source. Sources
    that lie in their file as they would in memory are mapped; others are read, one block ahead of the computation.

    Parameters
    ----------
    *sources : h5py.Dataset, selavi_ref.store.mapped_blocks.Views, or array such as numpy.memmap
        Real numbers of shape (N, K). Files must stay open and unchanged; changes that were made to views in memory may
        be lost.
    cache : path, optional
        Folder for a temporary file of the scores, which later passes read in place of the sources: faster where there
        are several, or one that computes what it reads. Without room for it, passes read the sources.

    Raises
    ------
    InputError
        If shapes differ, or a source does not hold real numbers in two dimensions.

    Examples
    --------
    >>> from selavi_ref.transport import assign
    >>> video, audio = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.zeros((3, 2))
    >>> assign(Blocks(video, audio), [2, 1]).labels
    array([0, 0, 1], dtype=int32)
    """

    def __init__(self, *sources: Any, cache: str | os.PathLike[str] | None = None) -> None:
        if not sources:
            raise InputError("give at least one source of scores", option="sources")
        sources = tuple(_map_if_plain(source) for source in sources)
        views = [source for source in sources if isinstance(source, Views)]
        shapes = [_shape(source) for source in sources]
        if len(set(shapes)) > 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
            message = f"scores have shape {' and '.join(map(str, shapes))}; it must be (N, K), the same for all"
            raise InputError(message, option="sources")
        types = [source[0][1].dtype if isinstance(source, Views) else source.dtype for source in sources]
        if any(kind.kind not in "fiub" for kind in types):
            message = f"sources of scores have types {', '.join(map(str, types))}; they must be real numbers"
            raise InputError(message, option="sources")
        self.shape: tuple[int, int] = shapes[0]
        self.dtype: np.dtype[Any] = np.result_type(*(_read_type(source) for source in sources))
        self.slices = _joined_slices(views, self) if views else _even_slices(self.shape, self.dtype.itemsize)
        self._reads = [_reader(source) for source in sources]
        self._cache = None if cache is None else BlockCache(cache, self.shape, self.dtype)
        self._is_mapped = [isinstance(source, (_MappedArray, Views)) for source in sources]

    def __len__(self) -> int:
        return self.shape[0]

    def walk(self, apart: int = 1) -> Iterator[tuple[int, slice, NDArray[Any]]]:
        """Yield number, rows and scores of every ``apart``-th block, and read the next one meanwhile.

        A block is valid until the next one is requested.
        """
        numbers = range(0, len(self.slices), apart)
        rows = max(block.stop - block.start for block in self.slices)
        buffers = [np.empty((rows, self.shape[1]), self.dtype) for _ in range(2)]
        spare = np.empty_like(buffers[0]) if len(self._reads) > 1 else buffers[0][:0]
        with ThreadPoolExecutor(1, thread_name_prefix="selavi-read") as reader:
            following = reader.submit(self._read, 0, buffers[0], spare)
            for turn, number in enumerate(numbers):
                scores = following.result()
                if turn + 1 < len(numbers):
                    following = reader.submit(self._read, numbers[turn + 1], buffers[(turn + 1) % 2], spare)
                yield number, self.slices[number], scores
                if self._is_mapped == [True]:
                    _drop_pages(scores)

    def array(self) -> NDArray[Any]:
        """Return all scores in memory."""
        whole = np.empty(self.shape, self.dtype)
        for _, rows, scores in self.walk():
            whole[rows] = scores
        return whole

    def _read(self, number: int, buffer: NDArray[Any], spare: NDArray[Any]) -> NDArray[Any]:
        rows = self.slices[number]
        buffer, spare = buffer[: rows.stop - rows.start], spare[: rows.stop - rows.start]
        if self._cache is not None and self._cache.read(rows, buffer):
            return buffer
        scores = self._reads[0](rows, buffer)
        for i, read in enumerate(self._reads[1:], 1):
            more = read(rows, spare)
            before, scores = scores, np.add(scores, more, out=buffer)
            for is_mapped, part in ((self._is_mapped[i - 1], before), (self._is_mapped[i], more)):
                if is_mapped:
                    _drop_pages(part)
        if self._cache is not None:
            self._cache.write(rows, scores)
        return scores


@dataclass(frozen=True)
class _MappedArray:
    """An array in a file that was mapped by this module alone, so that its pages may be dropped."""

    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype


def _shape(source: Any) -> tuple[int, ...]:
    if isinstance(source, Views):
        return source.slices[-1].stop, source[0][1].shape[1]
    return tuple(source.shape)


def _read_type(source: Any) -> np.dtype[Any]:
    """Return the type in which a source is read."""
    stored = np.dtype(source[0][1].dtype if isinstance(source, Views) else source.dtype)
    return np.dtype(np.float32 if stored.kind == "f" and stored.itemsize <= 4 else np.float64)


def _even_slices(shape: tuple[int, int], itemsize: int) -> list[slice]:
    """Divide rows into blocks of equal size."""
    rows = max(1, _BYTES // (shape[1] * itemsize))
    return [slice(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows)]


def _joined_slices(views: Sequence[Views], blocks: Blocks) -> list[slice]:
    """Join the blocks of views, which must be the same in all of them, where they are small."""
    slices = [each.slices for each in views]
    if any(each != slices[0] for each in slices):
        message = "views of different blocks cannot be added up; write the data sets with equal chunks"
        raise InputError(message, option="sources")
    most = max(1, _BYTES // (blocks.shape[1] * blocks.dtype.itemsize))
    joined: list[slice] = []
    for rows in slices[0]:
        if joined and rows.stop - joined[-1].start <= most and 4 * (rows.stop - rows.start) < most:
            joined[-1] = slice(joined[-1].start, rows.stop)
        else:
            joined.append(rows)
    return joined


def _view_reader(views: Views) -> Read:
    """Return a function that copies consecutive blocks of views into its buffer."""
    starts = [rows.start for rows in views.slices]

    def read(rows: slice, buffer: NDArray[Any]) -> NDArray[Any]:
        numbers = range(bisect_left(starts, rows.start), bisect_left(starts, rows.stop))
        if len(numbers) == 1:
            return views[numbers[0]][1]
        for number in numbers:
            part, scores = views[number]
            buffer[part.start - rows.start : part.stop - rows.start] = scores
            _drop_pages(scores)
        return buffer

    return read


def _reader(source: Any) -> Read:
    """Return a function that reads rows of ``source`` into its buffer, or returns them as a view."""
    if isinstance(source, Views):
        return _view_reader(source)
    if isinstance(source, _MappedArray):
        return lambda rows, buffer: source.array[rows]
    if hasattr(source, "read_direct"):

        def read(rows: slice, buffer: NDArray[Any]) -> NDArray[Any]:
            source.read_direct(buffer, rows)
            return buffer

        return read
    usable = isinstance(source, np.ndarray) and source.flags.c_contiguous and source.flags.writeable
    if usable and source.dtype in (np.float32, np.float64):
        return lambda rows, buffer: source[rows]

    def copy(rows: slice, buffer: NDArray[Any]) -> NDArray[Any]:
        np.copyto(buffer, source[rows])
        return buffer

    return copy


def _map_if_plain(source: Any) -> Any:
    """Map an HDF5 data set that lies in its file as it would in memory; return other sources as they are."""
    if not hasattr(source, "read_direct") or source.ndim != 2 or 0 in source.shape:
        return source
    plain = source.dtype in (np.float32, np.float64) and source.file.driver == "sec2" and source.file.mode == "r"
    if not plain or source.external or source.is_virtual or source.fletcher32:
        return source
    path = Path(source.file.filename)
    if source.chunks:
        blocks = map_dataset(path, source, source.dtype)
        if blocks is None:
            return source
        return Views(lambda rows: np.asarray(source[rows]), blocks, iter(()), has_checksums=False)
    offset = source.id.get_offset()
    mapped = None if offset is None else map_file(path, source.dtype, source.shape, offset)
    return source if mapped is None else _MappedArray(mapped)


def _drop_pages(scores: NDArray[Any]) -> None:
    """Return the pages of a mapped block to the system, so that memory does not fill up with the file."""
    base: Any = scores
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if not isinstance(base, mmap.mmap) or not hasattr(base, "madvise"):
        return
    start = scores.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (start + scores.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - first
    if length > 0:
        base.madvise(mmap.MADV_DONTNEED, first, length)
