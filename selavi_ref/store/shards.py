"""Reading the rows of a joined store from its shards.

The index of a joined store has virtual data sets, but HDF5 silently returns fill values where it cannot open a shard,
even if only too many files are open. So they are for other programs; rows are read from the shards themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import StoreError
from selavi_ref.store import layout
from selavi_ref.store.checks import check_file
from selavi_ref.store.hdf5_errors import guarded
from selavi_ref.store.row_access import count, read_rows

_OPEN_FILES = 8  # shards that stay open, at most


@dataclass(frozen=True)
class ShardEntry:
    """A shard as the index knows it: its path, its ``id``, and the rows that it holds."""

    path: Path
    id: str
    start: int
    stop: int


class Shards:
    """The shards of a joined store, in the order of their rows.

    Parameters
    ----------
    store : Path
        The index.
    files, ids : sequence of str
        Path of each shard relative to the index, and its ``id``.
    incomplete : function
        Of a path and an opened file; returns the error for a store that is not complete.

    Raises
    ------
    StoreError
        A shard is missing, incomplete, damaged, or was written anew.
    """

    def __init__(self, store: Path, files: Sequence[str], ids: Sequence[str], incomplete: Any) -> None:
        self._store = store
        self._open: dict[Path, Any] = {}
        self.entries: list[ShardEntry] = []
        stop = 0
        for name, identity in zip(files, ids, strict=True):
            path = store.parent / name
            if not path.is_file():
                message = f"{store} is joined of shards, and its shard {path} is missing"
                raise StoreError(message, path=path, problem="missing")
            if not identity and path.parent.resolve() != store.parent.resolve():
                message = f"{store} is refused: its shard {path} lies in another folder and has no id"
                raise StoreError(message, path=path, problem="unsafe")
            with guarded(path), h5py.File(path, "r") as file:
                if not file.attrs.get("complete", False):
                    raise incomplete(path, file)
                self._check(path, file, identity)
                start, stop = stop, stop + len(file["videos/path"])
            self.entries.append(ShardEntry(path, identity, start, stop))

    @property
    def n_rows(self) -> int:
        """Rows of all shards."""
        return self.entries[-1].stop if self.entries else 0

    def read(self, name: str, rows: slice | NDArray[np.int64], width: int) -> NDArray[Any]:
        """Return rows of a data set, in any order, of shape (rows, width)."""
        out = np.empty((count(rows), width), layout.dtype_of(name))
        for shard in self.entries:
            if isinstance(rows, slice):
                low, high = max(rows.start, shard.start), min(rows.stop, shard.stop)
                if low < high:
                    target: Any = slice(low - rows.start, high - rows.start)
                    out[target] = self._read(shard, name, slice(low - shard.start, high - shard.start), width)
            else:
                target = np.flatnonzero((rows >= shard.start) & (rows < shard.stop))
                if len(target):
                    out[target] = self._read(shard, name, rows[target] - shard.start, width)
        return out

    def close(self) -> None:
        """Close all shards."""
        while self._open:
            self._open.popitem()[1].close()

    def _read(self, shard: ShardEntry, name: str, rows: slice | NDArray[np.int64], width: int) -> NDArray[Any]:
        with guarded(shard.path, name):
            dataset = self._file(shard)[name]
            if dataset.shape != (shard.stop - shard.start, width) or not dataset.attrs.get("valid", True):
                message = f"{shard.path}: {name} has shape {dataset.shape}, or was never written"
                raise StoreError(message, path=shard.path, dataset=name, problem="damaged")
            return read_rows(dataset, rows, layout.dtype_of(name))

    def _file(self, shard: ShardEntry) -> Any:
        """Return the opened shard; the least recently used one is closed if there are too many."""
        file = self._open.pop(shard.path, None)
        if file is None:
            if len(self._open) >= _OPEN_FILES:
                self._open.pop(next(iter(self._open))).close()
            file = h5py.File(shard.path, "r", rdcc_nbytes=4 * layout.CHUNK_BYTES)
            try:
                self._check(shard.path, file, shard.id)
            except BaseException:
                file.close()
                raise
        self._open[shard.path] = file
        return file

    def _check(self, path: Path, file: Any, identity: str) -> None:
        check_file(path, file)
        if "shards" in file:
            message = f"{self._store} is refused: its shard {path} is itself joined of shards"
            raise StoreError(message, path=path, problem="unsafe")
        if layout.decode(file.attrs.get("id", "")) != identity:
            message = f"{path} was written anew after {self._store} was joined; join the shards again"
            raise StoreError(message, path=path, problem="foreign")
