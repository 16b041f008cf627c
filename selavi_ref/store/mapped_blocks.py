"""Data sets as memory-mapped blocks, for computations that pass over them many times."""

import mmap
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import h5py
import numpy as np
from numpy.typing import NDArray

Block = tuple[slice, NDArray[Any]]

# Views must look like other arrays, also to Numba, so they are not read-only; writing to one does not change the file.
# The last flag keeps Linux from reserving memory for such changes, which would forbid stores larger than the memory.
_PRIVATE = getattr(mmap, "MAP_PRIVATE", 0) | getattr(
    mmap, "MAP_NORESERVE", 0x4000 if hasattr(mmap, "MAP_PRIVATE") else 0
)


class Views(Sequence[Block]):
    """
    The blocks of a data set, each with the slice of its rows; made by `FeatureStore.views`.

    A block is mapped into memory where the file holds plain numbers, and read anew at each access elsewhere. Its
    checksum is checked at the first access, so the store must still be open then; after the data set was rewritten,
    make new views.

    Parameters
    ----------
    read : function
        Takes a slice of rows and returns them with their checksums checked.
    mapped : list of slice and array, or None
        All rows in order, if they could be mapped.
    blocks : iterable of slice
        The rows of each block otherwise.
    has_checksums : bool
        Whether mapped blocks have checksums.
    """

    def __init__(
        self,
        read: Callable[[slice], NDArray[Any]],
        mapped: list[Block] | None,
        blocks: Iterator[slice],
        *,
        has_checksums: bool = True,
    ):
        self._read = read
        self._mapped = mapped
        self._slices = list(blocks) if mapped is None else [rows for rows, _ in mapped]
        self._checked = [not has_checksums] * len(self._slices)

    @property
    def slices(self) -> list[slice]:
        """The rows of each block."""
        return self._slices

    @property
    def mapped(self) -> bool:
        """Whether the blocks are mapped; otherwise each access reads the file."""
        return self._mapped is not None

    def __len__(self) -> int:
        return len(self._slices)

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> list[Block]: ...
    def __getitem__(self, index: int | slice) -> Block | list[Block]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if self._mapped is None:
            return self._slices[index], self._read(self._slices[index])
        if not self._checked[index]:
            self._read(self._slices[index])
            self._checked[index] = True
        return self._mapped[index]


def map_file(path: Path, dtype: np.dtype[Any], shape: Sequence[int], offset: int) -> NDArray[Any] | None:
    """Map an array that is contiguous in a file, or return None where it cannot be mapped."""
    if offset % dtype.itemsize or 0 in shape:
        return None
    try:
        with open(path, "rb") as file:
            memory = mmap.mmap(file.fileno(), 0, flags=_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return np.frombuffer(memory, dtype, int(np.prod(shape)), offset).reshape(shape)


def map_dataset(path: Path, dataset: Any, dtype: np.dtype[Any]) -> list[Block] | None:
    """Map the chunks of a data set, or return None if they are not plain rows of `dtype`."""
    n_rows, width = dataset.shape
    if dataset.dtype != dtype or not dataset.chunks or dataset.chunks[1] != width or not _only_checksums(dataset):
        return None
    offsets: dict[int, int] = {}
    dataset.id.chunk_iter(lambda chunk: offsets.__setitem__(chunk.chunk_offset[0], chunk.byte_offset))
    starts = range(0, n_rows, dataset.chunks[0])
    if sorted(offsets) != list(starts) or any(offset % dtype.itemsize for offset in offsets.values()):
        return None
    try:
        with open(path, "rb") as file:
            memory = mmap.mmap(file.fileno(), 0, flags=_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    blocks = []
    for start, stop in pairwise([*starts, n_rows]):
        values = np.frombuffer(memory, dtype, (stop - start) * width, offsets[start])
        blocks.append((slice(start, stop), values.reshape(stop - start, width)))
    return blocks


def map_shards(paths: Sequence[Path], name: str, dtype: np.dtype[Any]) -> list[Block] | None:
    """Map the chunks of a data set of several shards, given in the order of their rows."""
    blocks: list[Block] = []
    for path in paths:
        with h5py.File(path, "r") as shard:
            part = map_dataset(path, shard[name], dtype)
        if part is None:
            return None
        first = blocks[-1][0].stop if blocks else 0
        blocks += [(slice(first + rows.start, first + rows.stop), values) for rows, values in part]
    return blocks


def _only_checksums(dataset: Any) -> bool:
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    return all(code == h5py.h5z.FILTER_FLETCHER32 for code in filters)
