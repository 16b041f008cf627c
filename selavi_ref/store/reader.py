"""Reading a store, in blocks and with checks."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError, StoreError
from selavi_ref.store import layout
from selavi_ref.store.arrays import write_arrays
from selavi_ref.store.checks import check_file, check_is_file, check_n_videos
from selavi_ref.store.hdf5_errors import abandon, explain, guarded
from selavi_ref.store.mapped_blocks import Views, map_dataset, map_shards
from selavi_ref.store.row_access import read_rows, row_numbers
from selavi_ref.store.shards import Shards

_BLOCK_BYTES = 64 << 20


class FeatureStore:
    """
    A complete store, opened for reading; use it as a context manager.

    Opening reads the shapes and checks format, version and completeness, not the data; their checksums are checked as
    they are read.

    Parameters
    ----------
    path : path
        The file that a `StoreWriter`, `join` or another program has made.

    Raises
    ------
    StoreError
        The file is missing, no feature store, incomplete, of another version, damaged, or a shard of it is.

    Examples
    --------
    >>> import tempfile
    >>> from selavi_ref.store import StoreWriter
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "features.h5"
    >>> with StoreWriter(path, ["a.mp4", "b.mp4"], {"features/video": 3}) as writer:
    ...     writer.write([1, 0], {"features/video": np.ones((2, 3))})
    ...     path = writer.finish()
    >>> with FeatureStore(path) as store:
    ...     store.paths, store.features("video").shape
    (['a.mp4', 'b.mp4'], (2, 3))
    >>> folder.cleanup()
    """

    _mode = "r"
    _equal_heads = True  # labels of several heads can be matched only then

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        _check_is_there(self.path)
        with guarded(self.path):
            self._file: Any = h5py.File(self.path, self._mode, rdcc_nbytes=4 * layout.CHUNK_BYTES)
        try:
            with guarded(self.path):
                check_file(self.path, self._file)
                self._check_header()
                self._rows = layout.row_datasets(self._file)
                self.n_videos: int = len(self._file["videos/path"])
                check_n_videos(self.path, self.n_videos)
                self._check_shapes()
                self._shards = self._open_shards()
        except BaseException:
            self._file.close()
            raise

    @classmethod
    def from_arrays(
        cls,
        path: str | os.PathLike[str],
        features: Mapping[str, Any],
        *,
        paths: Sequence[str | os.PathLike[str]],
        classes: Sequence[str] | None = None,
        log_prob: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Self:
        """
        Make a store of arrays that any models have computed, and open it.

        Parameters
        ----------
        path : path
            The store to write. An existing one is replaced when the new one is complete.
        features : mapping of str to array
            Name of each feature space to its features, real numbers of shape (N, D), stored as float32: NumPy arrays,
            or anything with ``shape`` and ``dtype`` that is sliced, such as ``np.load(file, mmap_mode="r")`` or an HDF5
            data set, which is read block by block. A row of NaN marks a video that lacks the modality.
        paths : sequence of str, length N
            The videos, or any other names of the rows.
        classes : sequence of str, length N, optional
            True classes, "" where unknown.
        log_prob : mapping of str to array, optional
            ``"{modality}"`` or ``"{modality}/{head}"`` to log-probabilities (or logits) of shape (N, K).
        provenance : mapping, optional
            Models and settings that made the arrays; plain JSON values.

        Raises
        ------
        InputError
            Arrays of other shapes or types, or with an infinite or a single NaN number; ``option``, ``row`` and
            ``column`` say where.
        StoreError
            The file cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> features = {"clip": np.ones((2, 3)), "mel": np.ones((2, 5))}
        >>> with FeatureStore.from_arrays(f"{folder.name}/f.h5", features, paths=["a.mp4", "b.mp4"]) as store:
        ...     store.modalities
        ['clip', 'mel']
        >>> folder.cleanup()
        """
        written = write_arrays(path, features, paths=paths, classes=classes, log_prob=log_prob, provenance=provenance)
        return cls(written)

    @cached_property
    def paths(self) -> list[str]:
        """Path of each video, as its writer named it."""
        return self._texts("videos/path")

    @cached_property
    def classes(self) -> list[str]:
        """True class of each video, "" where unknown."""
        return self._texts("videos/class")

    @cached_property
    def reasons(self) -> list[str]:
        """Why a video could not be decoded, "" where it could."""
        return self._texts("videos/reason")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Model, settings and versions that have made the store."""
        with guarded(self.path, "the attribute 'provenance'"):
            provenance = json.loads(layout.decode(self._file.attrs.get("provenance", "{}")))
            if not isinstance(provenance, dict):
                raise TypeError(f"it holds JSON of type {type(provenance).__name__}, not an object")
            return provenance

    @property
    def shard_files(self) -> list[Path]:
        """The files in which the rows of a joined store lie; none for a store in one file."""
        return [] if self._shards is None else [shard.path for shard in self._shards.entries]

    @property
    def names(self) -> list[str]:
        """Names of the data sets with one row for each video."""
        return list(self._rows)

    @property
    def modalities(self) -> list[str]:
        """Modalities of which the store has features or log-probabilities, video first."""
        return layout.modality_order(filter(None, map(layout.modality_of, self._rows)))

    @property
    def heads(self) -> list[str]:
        """Heads of which the store has log-probabilities."""
        return layout.head_order(name.split("/")[2] for name in self._rows if name.startswith("log_prob/"))

    @property
    def n_clusters(self) -> int:
        """Clusters of each head, K."""
        widths = [dataset.shape[1] for name, dataset in self._rows.items() if name.startswith("log_prob/")]
        if not widths:
            message = f"{self.path} holds no log-probabilities (log_prob/{{modality}}/{{head}})"
            raise StoreError(message, path=self.path, problem="missing")
        return int(widths[0])

    def has(self, name: str) -> bool:
        """Return whether the store has a data set of this name."""
        with guarded(self.path):
            return isinstance(self._file.get(name), h5py.Dataset)

    def get(self, name: str, rows: layout.Rows = None) -> NDArray[Any]:
        """
        Return a data set, or some of its rows.

        Parameters
        ----------
        name : str
            Such as ``features/video``, ``disagreement``, ``potentials``.
        rows : slice or array of int, optional
            Which rows, in any order; all of them without it.

        Returns
        -------
        array
            Of shape (rows, ...); float32 and int32, ``potentials`` float64.

        Raises
        ------
        InputError
            A row that is not there.
        StoreError
            A data set that is not there, whose checksum does not match, or that was not written to its end.
        """
        if not self.has(name):
            raise self._no_dataset(name)
        with guarded(self.path, name):
            dataset = self._file[name]
            if not dataset.attrs.get("valid", True):
                message = f"{self.path}: {name} was never written, or its rewriting was cut off; write it again"
                raise StoreError(message, path=self.path, dataset=name, problem="incomplete")
            if not (layout.is_row_dataset(name) or name in ("potentials", "alignment", "groups")):
                return np.asarray(dataset[()] if rows is None else dataset[:][rows])
            numbers = row_numbers(rows, dataset.shape[0])
            if self._shards is not None and layout.is_row_dataset(name):
                return self._shards.read(name, numbers, dataset.shape[1])
            return read_rows(dataset, numbers, layout.dtype_of(name))

    def features(self, modality: str, rows: layout.Rows = None) -> NDArray[np.float32]:
        """Return features of shape (rows, D); NaN where a video lacks the modality."""
        return self.get(f"features/{modality}", rows)

    def log_prob(self, modality: str, head: str | int, rows: layout.Rows = None) -> NDArray[np.float32]:
        """Return log-probabilities of shape (rows, K); NaN where a video lacks the modality."""
        return self.get(f"log_prob/{modality}/{head}", rows)

    def present(self, modality: str) -> NDArray[np.bool_]:
        """Return which videos have the modality, shape (N,); if that is not stored, all that could be decoded."""
        name = f"videos/has_{modality}"
        if not self.has(name):
            return np.array([reason == "" for reason in self.reasons], dtype=bool)
        with guarded(self.path, name):
            return np.asarray(self._file[name][:], dtype=bool)

    def blocks(self, rows_per_block: int | None = None) -> Iterator[slice]:
        """
        Divide the rows into consecutive slices.

        Parameters
        ----------
        rows_per_block : int, optional
            Without it, whole chunks of the widest data set, about 64 MiB.
        """
        step = self._default_block() if rows_per_block is None else rows_per_block
        if step < 1:
            raise InputError(f"rows_per_block must be at least 1, not {step}", option="rows_per_block", value=step)
        for start in range(0, self.n_videos, step):
            yield slice(start, min(start + step, self.n_videos))

    def width(self, name: str) -> int:
        """Return the number of columns of a data set."""
        if name not in self._rows:
            raise self._no_dataset(name)
        return int(self._rows[name].shape[1])

    def views(self, name: str) -> Views:
        """
        Return a data set as a sequence of blocks, for computations that pass over it many times.

        Blocks of a store written by `StoreWriter` are mapped into memory: after the first access, which checks their
        checksums, they cost no copy, and the system frees their memory when it is short.

        Parameters
        ----------
        name : str
            A data set with one row for each video.

        Returns
        -------
        Views
            Pairs of a slice of rows and an array of shape (rows, width), about 1 MiB each.

        Raises
        ------
        StoreError
            As for `get`, also when a block is accessed.
        """
        if name not in self._rows:
            raise self._no_dataset(name)
        self.get(name, slice(0, 0))
        with guarded(self.path, name):
            dtype = layout.dtype_of(name)
            if self._shards is not None:
                mapped = map_shards([shard.path for shard in self._shards.entries], name, dtype)
            else:
                mapped = map_dataset(self.path, self._rows[name], dtype)
        return Views(lambda rows: self.get(name, rows), mapped, self.blocks())

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            if self._shards is not None:
                self._shards.close()
            try:
                file.close()
            except (OSError, RuntimeError, ValueError) as error:
                abandon(file)
                raise explain(self.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _no_dataset(self, name: str) -> StoreError:
        message = f"{self.path} has no data set {name}; it has {', '.join(self._rows) or 'none'}"
        return StoreError(message, path=self.path, dataset=name, problem="missing")

    def _texts(self, name: str) -> list[str]:
        if not self.has(name):
            return [""] * self.n_videos
        with guarded(self.path, name):
            return layout.read_texts(self._file[name])

    def _default_block(self) -> int:
        if not self._rows:
            return self.n_videos
        widest = max(self._rows.values(), key=lambda dataset: dataset.shape[1])
        row_bytes = widest.shape[1] * widest.dtype.itemsize
        chunk = widest.chunks[0] if widest.chunks else layout.chunk_rows(self.n_videos, row_bytes)
        return max(1, _BLOCK_BYTES // (chunk * row_bytes)) * int(chunk)

    def _check_header(self) -> None:
        attributes = self._file.attrs
        kind = attributes.get("format")
        if layout.decode(kind if isinstance(kind, (str, bytes)) else "") != layout.FORMAT:
            message = f"{self.path} is an HDF5 file, but no feature store (its attribute 'format' is {kind!r})"
            raise StoreError(message, path=self.path, problem="foreign")
        version = attributes.get("version")
        if version != layout.VERSION:
            message = f"{self.path} is a store of version {version}; this program reads version {layout.VERSION}"
            raise StoreError(message, path=self.path, problem="foreign")
        if not attributes.get("complete", False):
            raise _incomplete(self.path, self._file)

    def _check_shapes(self) -> None:
        clusters = {}
        for name, dataset in self._rows.items():
            if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fi" or dataset.ndim != 2:
                raise self._damaged(f"{name} must be a two-dimensional data set of numbers", name)
            if dataset.shape[0] != self.n_videos or dataset.shape[1] < 1:
                raise self._damaged(f"{name} has shape {dataset.shape}, but there are {self.n_videos} videos", name)
            if name.startswith("log_prob/"):
                clusters[dataset.shape[1]] = name
        for name in self._file["videos"]:
            if self._file["videos"][name].shape != (self.n_videos,):
                raise self._damaged(f"videos/{name} must have one entry for each of {self.n_videos} videos", name)
        if len(clusters) > 1 and self._equal_heads:
            both = " and ".join(f"{name} has {width}" for width, name in clusters.items())
            raise self._damaged(f"all heads must have the same number of clusters, but {both}")

    def _damaged(self, message: str, dataset: str | None = None) -> StoreError:
        return StoreError(f"{self.path}: {message}", path=self.path, dataset=dataset, problem="damaged")

    def _open_shards(self) -> Shards | None:
        if "shards" not in self._file:
            return None
        group = self._file["shards"]
        shards = Shards(self.path, layout.read_texts(group["file"]), layout.read_texts(group["id"]), _incomplete)
        if shards.n_rows != self.n_videos:
            raise self._damaged(f"its shards hold {shards.n_rows} rows, but there are {self.n_videos} videos")
        return shards


def _check_is_there(path: Path) -> None:
    check_is_file(path)
    if path.exists():
        return
    partial = layout.partial_path(path)
    check_is_file(partial)
    if not partial.exists():
        raise StoreError(
            f"{path} does not exist; name a store, as selavi extract writes it", path=path, problem="missing"
        )
    with guarded(partial), h5py.File(partial, "r") as file:
        check_file(partial, file)
        raise _incomplete(path, file)


def _incomplete(path: Path, file: Any) -> StoreError:
    done = file.get("done")
    count = "" if done is None else f": {int(np.count_nonzero(done[:]))} of {len(done)} videos are done"
    message = f"{path} is not complete{count}; run the command that makes it again, and it goes on from there"
    return StoreError(message, path=path, problem="incomplete")
