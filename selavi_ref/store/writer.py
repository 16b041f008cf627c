"""Writing a store: rows in any order, resumable, and renamed to its final name when it is complete."""

import contextlib
import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.errors import InputError, StoreError
from selavi_ref.store import layout
from selavi_ref.store.checks import check_file, check_is_file, check_replaceable
from selavi_ref.store.hdf5_errors import abandon, explain, sync, sync_folder
from selavi_ref.store.row_access import count, row_numbers, write_rows

_CHECKPOINT_SECONDS = 10.0


class StoreWriter:
    """
    Writes a store row by row; use it as a context manager and call `finish` when every row is written.

    The rows go to ``<path>.partial``, whose space on disk is allocated at once, so that a full disk is noticed at the
    start. Leaving the context without `finish` keeps that file, and the same call continues it: `remaining` holds the
    missing rows.

    Parameters
    ----------
    path : path
        The store to make. An existing one stays untouched until `finish`.
    paths : sequence of str, length N
        The videos; any name a file can have.
    datasets : mapping of str to int
        Name to trailing dimension of each data set with a row for each video: ``features/{modality}`` D,
        ``log_prob/{modality}/{head}`` K, ``log_posterior`` K, ``disagreement`` H, ``labels`` H.
    classes : sequence of str, length N, optional
        True classes, "" where unknown.
    provenance : mapping, optional
        Model, settings and versions that make the store; plain JSON values.
    whole : mapping of str to array, optional
        Small data sets that belong to the store as a whole: ``potentials``, ``alignment``, ``groups`` (H, K).
    start, total : int
        For a shard: the position of its first video in the collection, and the number of videos of the collection.
    resume : bool
        Continue a partial file of the same videos, data sets and provenance; any other is replaced.

    Raises
    ------
    InputError
        No videos, lengths that differ, or names of data sets that do not fit.
    StoreError
        The file cannot be written, the disk is full, or another process is writing it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        paths: Sequence[str | os.PathLike[str]],
        datasets: Mapping[str, int],
        *,
        classes: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        whole: Mapping[str, ArrayLike] | None = None,
        start: int = 0,
        total: int | None = None,
        resume: bool = True,
    ):
        self.path = Path(path)
        self.partial = layout.partial_path(self.path)
        self._paths = [layout.encode(os.fspath(name), "path") for name in paths]
        self._classes = None if classes is None else [layout.encode(name, "class") for name in classes]
        self._datasets = dict(datasets)
        self._provenance = layout.to_json(provenance or {})
        self._whole = {name: np.asarray(value, layout.dtype_of(name)) for name, value in (whole or {}).items()}
        self.n_videos = len(self._paths)
        self._position = (start, self.n_videos + start if total is None else total)
        self._check_arguments()
        self.modalities = layout.modality_order(filter(None, map(layout.modality_of, self._datasets)))

        check_is_file(self.path)
        check_replaceable(self.path, layout.FORMAT)
        check_is_file(self.partial)
        partial = self._continue() if resume else None
        self.resumed = partial is not None
        self._file: Any = self._create() if partial is None else partial
        # HDF5 writes the rest of a data set when its handle is closed, where h5py cannot raise: so handles stay open.
        self._handles = {name: self._file[name] for name in [*self._row_names(), "done", *self._datasets]}
        self._done: NDArray[np.bool_] = self._handles["done"][:]
        self._pending: list[slice | NDArray[np.int64]] = []
        self._last_checkpoint = time.monotonic()

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which rows are written, shape (N,)."""
        return self._done.copy()

    @property
    def remaining(self) -> NDArray[np.int64]:
        """Numbers of the rows that are not written yet, ascending."""
        return np.flatnonzero(~self._done)

    def write(
        self,
        rows: layout.Rows,
        values: Mapping[str, ArrayLike],
        *,
        present: Mapping[str, ArrayLike] | None = None,
        reason: str | Sequence[str] = "",
    ) -> None:
        """
        Write the given rows and mark them done.

        Parameters
        ----------
        rows : slice or array of int
            Rows of this file, each at most once.
        values : mapping of str to array
            Data set to its values, shape (rows, width). A data set that is left out stays NaN in these rows.
        present : mapping of str to bool or array of bool, optional
            Whether the videos have the modality. Without it: whether `values` has data of the modality.
        reason : str or sequence of str
            Why the videos could not be decoded; "" where they could.

        Raises
        ------
        InputError
            Rows, names or shapes that do not fit.
        StoreError
            The file cannot be written.
        """
        if self._file is None:
            raise StoreError(f"{self.path} was closed; open a new StoreWriter to go on", path=self.path)
        numbers = row_numbers(rows, self.n_videos)
        n = count(numbers)
        if not isinstance(numbers, slice) and len(np.unique(numbers)) < n:
            raise InputError("a row was given twice in one call", option="rows")
        arrays = {name: self._checked(name, value, n) for name, value in values.items()}
        given = {layout.modality_of(name) for name in arrays}
        if unknown := set(present or {}) - set(self.modalities):
            message = f"{self.path} has no modality {', '.join(map(repr, unknown))}, only {self.modalities}"
            raise InputError(message, option="present", path=self.path)
        for modality in self.modalities:
            has = (present or {}).get(modality, modality in given)
            arrays[f"videos/has_{modality}"] = _for_each_row(np.asarray(has, bool), n, f"present[{modality!r}]")
        reasons = [reason] * n if isinstance(reason, str) else reason
        clipped = np.array([layout.clip_text(text) for text in reasons], layout.REASON_TYPE)
        arrays["videos/reason"] = _for_each_row(clipped, n, "reason")
        try:
            for name, array in arrays.items():
                write_rows(self._handles[name], numbers, array)
            self._done[numbers] = True
            self._pending.append(numbers)
            if time.monotonic() - self._last_checkpoint > _CHECKPOINT_SECONDS:
                self.checkpoint()
        except (OSError, RuntimeError, ValueError) as error:
            raise self._failed(error) from error

    def checkpoint(self) -> None:
        """
        Flush everything written to the disk, where it survives a killed process or machine.

        Rows are marked done only after they have reached the disk, so that no lost row can be marked. This happens
        automatically every ten seconds and when the context is left.
        """
        try:
            if self._pending:
                sync(self._file)
                for rows in self._pending:
                    write_rows(self._handles["done"], rows, self._done[rows])
                self._pending.clear()
                sync(self._file)
            self._last_checkpoint = time.monotonic()
        except (OSError, RuntimeError, ValueError) as error:
            raise self._failed(error) from error

    def invalidate(self, names: Iterable[str]) -> None:
        """Mark data sets as not written; reading them is refused until `WorkingStore.rewrite` has written them."""
        for name in names:
            self._handles[name].attrs.modify("valid", False)

    def finish(self) -> Path:
        """
        Mark the store complete, rename it to its final name, and close the writer.

        Raises
        ------
        StoreError
            Rows are missing, or the file cannot be written.
        """
        if not self._done.all():
            message = f"{self.path} is not complete: {len(self.remaining)} of {self.n_videos} rows are not written"
            raise StoreError(message, path=self.path, problem="incomplete", row=int(self.remaining[0]))
        self.checkpoint()
        try:
            self._file.attrs.modify("complete", True)
            sync(self._file)
            self._file, file = None, self._file
            file.close()
            os.replace(self.partial, self.path)
            sync_folder(self.path.parent)
        except (OSError, RuntimeError, ValueError) as error:
            raise self._failed(error) from error
        return self.path

    def close(self) -> None:
        """Close the partial file, which stays to be continued."""
        if self._file is not None:
            self.checkpoint()
            file, self._file = self._file, None
            try:
                file.close()
            except (OSError, RuntimeError, ValueError) as error:
                abandon(file)
                raise explain(self.partial, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except StoreError:
            if error is None:
                raise

    def _check_arguments(self) -> None:
        if not self._paths:
            raise InputError(f"{self.path}: a store needs at least one video", option="paths", path=self.path)
        if self._classes is not None and len(self._classes) != self.n_videos:
            message = f"{self.path}: {len(self._classes)} classes for {self.n_videos} videos"
            raise InputError(message, option="classes", path=self.path)
        if self._position[0] < 0 or self._position[0] + self.n_videos > self._position[1]:
            start, total = self._position
            message = f"{self.path}: {self.n_videos} videos from row {start} do not fit into {total} rows"
            raise InputError(message, option="start", path=self.path)
        for name, width in self._datasets.items():
            if not layout.is_row_dataset(name):
                message = f"{self.path}: {name!r} is no data set of a store, such as features/video"
                raise InputError(message, option="datasets", value=name, path=self.path)
            if width < 1:
                message = f"{self.path}: {name} needs at least one column, not {width}"
                raise InputError(message, option="datasets", value=width, path=self.path)
        for name in self._whole:
            if layout.is_row_dataset(name) or name.split("/")[0] in ("videos", "done", "shards"):
                message = f"{self.path}: {name!r} cannot be given as a whole"
                raise InputError(message, option="whole", value=name, path=self.path)

    def _checked(self, name: str, value: ArrayLike, n_rows: int) -> NDArray[Any]:
        if name not in self._datasets:
            message = f"{self.path} was opened without {name!r}; it has {', '.join(self._datasets)}"
            raise InputError(message, option=name, path=self.path)
        array = np.asarray(value, layout.dtype_of(name))
        if array.shape != (n_rows, self._datasets[name]):
            message = f"{name} of {n_rows} rows has shape {array.shape}, not {(n_rows, self._datasets[name])}"
            raise InputError(message, option=name, path=self.path)
        return array

    def _failed(self, error: Exception) -> StoreError:
        file, self._file = self._file, None
        if file is not None:
            abandon(file)
        return explain(self.partial, error)

    def _create(self) -> Any:
        self._refuse_second_writer()
        file = None
        try:
            self.partial.unlink(missing_ok=True)
            # Aligned chunks let a reader map them into memory as they are.
            file = h5py.File(
                self.partial,
                "x",
                libver=layout.LIBRARY_VERSIONS,
                rdcc_nbytes=4 * layout.CHUNK_BYTES,
                alignment_threshold=1024,
                alignment_interval=64,
            )
            handles = self._lay_out(file)
            sync(file)
            del handles
        except BaseException as error:
            if file is not None:
                abandon(file)
            if not isinstance(error, FileExistsError):
                with contextlib.suppress(OSError):
                    self.partial.unlink(missing_ok=True)
            if isinstance(error, (OSError, RuntimeError, ValueError)):
                raise explain(self.path, error) from error
            raise
        return file

    def _row_names(self) -> list[str]:
        return ["videos/reason", *(f"videos/has_{modality}" for modality in self.modalities)]

    def _lay_out(self, file: Any) -> list[Any]:
        """Create all data sets, and return their handles, which must stay open until all has reached the disk."""
        file.attrs.update(format=layout.FORMAT, version=layout.VERSION, complete=False, id=uuid.uuid4().hex)
        file.attrs.update(provenance=self._provenance, start=self._position[0], total=self._position[1])
        handles = [layout.write_texts(file, "videos/path", self._paths)]
        if self._classes is not None:
            handles.append(layout.write_texts(file, "videos/class", self._classes))
        for name in [*self._row_names(), "done"]:
            kind = layout.REASON_TYPE if name == "videos/reason" else bool
            handles.append(file.create_dataset(name, (self.n_videos,), kind, dcpl=layout.preallocated()))
        handles += [file.create_dataset(name, data=value) for name, value in self._whole.items()]
        handles += [layout.create_rows(file, name, self.n_videos, width) for name, width in self._datasets.items()]
        return handles

    def _refuse_second_writer(self) -> None:
        if self.partial.exists():
            try:
                h5py.File(self.partial, "r+").close()
            except OSError as error:
                explained = explain(self.partial, error)
                if explained.problem == "in use":
                    raise explained from error

    def _continue(self) -> Any:
        """Open the partial file of an earlier run, or return None if there is none that fits."""
        if not self.partial.exists():
            return None
        file = None
        try:
            file = h5py.File(self.partial, "r+", rdcc_nbytes=4 * layout.CHUNK_BYTES)
            check_file(self.partial, file)  # writing to a data set that lies in another file would change that one
            if self._fits(file):
                _reset_torn_chunks(file)
                return file
            abandon(file)
        except (StoreError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            if file is not None:
                abandon(file)
            explained = error if isinstance(error, StoreError) else explain(self.partial, error)
            if explained.problem not in ("damaged", "foreign"):  # the work of hours must not be thrown away
                raise explained from error
        return None

    def _fits(self, file: Any) -> bool:
        expected = {name: (self.n_videos, width) for name, width in self._datasets.items()}
        classes = [layout.decode(text) for text in self._classes] if self._classes is not None else None
        return (
            file.attrs["format"] == layout.FORMAT
            and file.attrs["version"] == layout.VERSION
            and file.attrs["provenance"] == self._provenance
            and (file.attrs["start"], file.attrs["total"]) == self._position
            and {name: dataset.shape for name, dataset in layout.row_datasets(file).items()} == expected
            and all(np.array_equal(file[name][()], value, equal_nan=True) for name, value in self._whole.items())
            and layout.read_texts(file["videos/path"]) == [layout.decode(text) for text in self._paths]
            and (layout.read_texts(file["videos/class"]) if "videos/class" in file else None) == classes
        )


def _for_each_row(value: NDArray[Any], n_rows: int, name: str) -> NDArray[Any]:
    if value.shape not in ((), (n_rows,)):
        raise InputError(f"{name} of {n_rows} rows has shape {value.shape}, not {(n_rows,)}", option=name)
    return np.broadcast_to(value, n_rows)


def _reset_torn_chunks(file: Any) -> None:
    """Reset the chunks that a killed process has left half written, and mark their rows as not done."""
    for name, dataset in layout.row_datasets(file).items():
        for chunk in dataset.iter_chunks():
            try:
                dataset[chunk]
            except OSError:
                dataset.id.write_direct_chunk((chunk[0].start, 0), _blank_chunk(dataset, name))
                file["done"][chunk[0]] = False


def _blank_chunk(dataset: Any, name: str) -> bytes:
    """Return the bytes on disk, checksum included, of a chunk to which nothing was written."""
    with h5py.File("blank", "w", driver="core", backing_store=False) as memory:
        rows, width = dataset.chunks
        blank = layout.create_rows(memory, name, rows, width)
        return bytes(blank.id.read_direct_chunk((0, 0))[1])
