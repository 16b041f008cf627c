"""One file of a cache of decoded videos: its writer, and its reader for many processes."""

from __future__ import annotations

import io
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import StoreError, reason
from selavi_ref.store.hdf5_errors import explain, flush_to_disk

_FORMAT, _VERSION = "selavi-clip-cache", 1
_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class PackedVideo:
    """A video as stored in a cache: the bytes of its frames, one after the other, and its log mel energies."""

    shape: tuple[int, int]  # height and width
    data: NDArray[np.uint8]
    ends: NDArray[np.int64]  # of the bytes of each frame
    energies: NDArray[np.float32]  # (n', F)


class Shard:
    """One file of a cache, open for reading, and the index of its videos."""

    def __init__(self, path: Path, jpeg: bool) -> None:
        self.path, self.jpeg = path, jpeg
        file = self.file
        try:
            if file.attrs["format"] != _FORMAT or int(file.attrs["version"]) != _VERSION:
                raise StoreError(f"{path} is no part of a cache of this version; delete it", path=path)
            texts = [[os.fsdecode(text) for text in file[name][:]] for name in ("path", "stamp", "reason")]
            self.keys = list(zip(texts[0], texts[1], strict=True))
            self.reasons = texts[2]
            self.shapes = file["shape"][:]
            self.n_frames, self.n_steps = file["n_frames"][:], file["n_steps"][:]
        except (KeyError, OSError, RuntimeError) as error:
            raise read_error(path, error) from error
        self.first_frame = np.cumsum(self.n_frames) - self.n_frames
        self.first_step = np.cumsum(self.n_steps) - self.n_steps

    @property
    def file(self) -> Any:
        """The open file."""
        try:
            return _open_files.get(self.path)
        except OSError as error:
            raise read_error(self.path, error) from error


def read_error(path: Path, error: Exception) -> StoreError:
    """Return the error for a file that cannot be read; only one that is proved damaged is to be deleted."""
    explained = error if isinstance(error, StoreError) else explain(path, error)
    if explained.problem in ("damaged", "foreign"):
        return StoreError(f"{path} is damaged; delete it ({reason(error)})", problem="damaged", path=path)
    return explained


class _OpenFiles:
    """The HDF5 files that this process read most recently, kept open; a forked process opens its own."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._process = os.getpid()
        self._files: dict[Path, Any] = {}

    def get(self, path: Path) -> Any:
        """Return an open file."""
        import h5py

        if self._process != os.getpid():
            self._process, self._files = os.getpid(), {}
        file = self._files.pop(path, None)
        self._files[path] = file = h5py.File(path, "r") if file is None else file
        if len(self._files) > self._limit:
            self._files.pop(next(iter(self._files))).close()
        return file


_open_files = _OpenFiles(64)


class ShardWriter:
    """
    Writer of one file of a cache, which is built in memory and written, when it is complete, at once.

    HDF5 on a full disk fails again, with tracebacks, when its objects are released; plain writing fails once.
    """

    def __init__(self, folder: Path, n_filters: int, jpeg: bool) -> None:
        import h5py

        self._jpeg = jpeg
        self._final = folder / f"{uuid.uuid4().hex}.h5"
        self.n_bytes = 0
        self._rows: list[tuple[str, str, str]] = []
        self._shapes: list[tuple[int, int]] = []
        self._counts: list[tuple[int, int]] = []
        self._content = io.BytesIO()
        self._file = h5py.File(self._content, "w")
        self._data = self._create_resizable("data", np.uint8, (), _CHUNK)
        self._ends = self._create_resizable("ends", np.int64, (), 1 << 14)
        self._energies = self._create_resizable("energies", np.float32, (n_filters,), 1 << 10)
        self._append(self._ends, np.zeros(1, np.int64))

    def add(self, key: tuple[str, str], video: PackedVideo | str) -> None:
        """Add a video, or the reason why it cannot be decoded."""
        if isinstance(video, str):
            self._record(key, video, (0, 0), (0, 0))
            return
        self._append(self._ends, len(self._data) + video.ends)
        self._append(self._data, video.data)
        self._append(self._energies, video.energies)
        self.n_bytes += video.data.nbytes + video.energies.nbytes
        self._record(key, "", video.shape, (len(video.ends), len(video.energies)))

    def finish(self) -> Shard:
        """
        Write the file, and return it.

        Raises
        ------
        StoreError
            If it cannot be written, such as when the disk is full.
        """
        for column, name in enumerate(("path", "stamp", "reason")):
            texts = [os.fsencode(row[column]) for row in self._rows]
            self._file.create_dataset(name, data=np.array(texts, dtype=object), dtype=_bytes_type())
        self._file["shape"] = np.array(self._shapes, np.int32).reshape(-1, 2)
        for column, name in enumerate(("n_frames", "n_steps")):
            self._file[name] = np.array([counts[column] for counts in self._counts], np.int64)
        self._file.attrs["format"], self._file.attrs["version"] = _FORMAT, _VERSION
        self._file.close()
        partial = self._final.with_suffix(".partial")
        try:
            with open(partial, "wb") as file:
                file.write(self._content.getbuffer())
                file.flush()
                flush_to_disk(file.fileno())
            os.replace(partial, self._final)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise explain(self._final.parent, error) from error
        return Shard(self._final, self._jpeg)

    def _record(self, key: tuple[str, str], why: str, shape: tuple[int, int], counts: tuple[int, int]) -> None:
        self._rows.append((*key, why))
        self._shapes.append(shape)
        self._counts.append(counts)

    def _create_resizable(self, name: str, dtype: Any, tail: tuple[int, ...], chunk: int) -> Any:
        shape = (0, *tail)
        return self._file.create_dataset(
            name, shape, dtype, maxshape=(None, *tail), chunks=(chunk, *tail), fletcher32=True
        )

    def _append(self, dataset: Any, values: NDArray[Any]) -> None:
        before = len(dataset)
        dataset.resize(before + len(values), axis=0)
        dataset[before:] = values


def _bytes_type() -> Any:
    import h5py

    return h5py.string_dtype("ascii")  # a path may be any bytes
