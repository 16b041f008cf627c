"""Arrays of features in files of other programs: NumPy (.npy, .npz) and Parquet, with the list of their videos."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from selavi_ref.datasets.manifest import read_manifest
from selavi_ref.datasets.video_files import LIST_EXTENSIONS
from selavi_ref.errors import InputError, printable, reason
from selavi_ref.runs.reporter import counted

_PATHS, _CLASSES = ("path", "paths"), ("class", "classes")


@dataclass
class Embeddings:
    """
    Features of one or several models, for the same videos.

    Parameters
    ----------
    spaces : dict of str to array
        Name of each feature space to its features, shape (N, D): arrays, or files mapped or read as they are sliced.
    paths, classes : list of str, length N
        The videos, and their true classes ("" where unknown).
    """

    spaces: dict[str, Any] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)


def read_embeddings(files: Iterable[str]) -> Embeddings:
    """
    Open files of features, and read the list of their videos.

    Parameters
    ----------
    files : iterable of str
        ``FILE`` or ``NAME=FILE``, of these kinds. ``.npy``: one array (N, D), mapped into memory, named like the file.
        ``.npz``: each array of two dimensions is a feature space, named by its key (by NAME or the file, if it is the
        only one); texts called ``paths`` and ``classes`` list the videos. ``.parquet``: each column of lists is a
        feature space, named by the column; all columns of numbers together are one, named like the file; texts in
        columns ``path`` and ``class`` list the videos. ``.csv``, ``.tsv``, ``.txt``, ``.lst``: the list of the videos,
        as `read_manifest` takes it.

    Raises
    ------
    InputError
        A file that is missing or does not fit, no list of videos or two, or two spaces of one name.
    """
    result = Embeddings()
    list_file, files_of = "", {}
    for text in files:
        name, path = _split(text)
        spaces, paths, classes = _read_file(path, name)
        for space, array in spaces.items():
            if space in result.spaces:
                raise InputError(
                    f"two feature spaces are called {space!r}; name one of them: NAME={printable(path)}", path=path
                )
            result.spaces[space], files_of[space] = array, path
        if paths and list_file:
            raise InputError(f"both {printable(list_file)} and {printable(path)} list the videos", path=path)
        if paths:
            result.paths, result.classes, list_file = paths, classes or [""] * len(paths), path
    if not result.spaces:
        raise InputError("name at least one file of features: .npy, .npz or .parquet")
    if not result.paths:
        raise InputError("name a list of the videos too: a CSV file with a column path, a row for each row of features")
    for space, array in result.spaces.items():
        if array.shape and array.shape[0] != len(result.paths):
            file = files_of[space]
            raise InputError(
                f"{printable(file)} has {counted(array.shape[0], 'row')} of {space}, and {printable(list_file)} has "
                f"{counted(len(result.paths), 'video')}; both need a row for each video, in the same order",
                path=file,
                option=space,
            )
    return result


def _split(text: str) -> tuple[str, str]:
    """Return NAME and FILE of an argument; a file whose own name has an equals sign needs no NAME."""
    name, equals, path = text.partition("=")
    return (name, path) if equals and os.sep not in name and not os.path.exists(text) else ("", text)


_Parts = tuple[dict[str, Any], list[str], list[str]]


def _read_file(path: str, name: str) -> _Parts:
    """Return feature spaces, paths and classes of one file; `name` is what the user calls its space, or ""."""
    extension = os.path.splitext(path)[1].lower()
    if extension in LIST_EXTENSIONS:
        manifest = read_manifest(path)
        return {}, manifest.paths, manifest.classes
    if extension not in _READERS:
        kinds = ", ".join((*_READERS, *LIST_EXTENSIONS))
        raise InputError(f"{printable(path)} is no file of features or list of videos: {kinds}", path=path)
    spaces, paths, classes = _READERS[extension](path, name or Path(path).stem)
    if name and len(spaces) > 1:
        raise InputError(f"{printable(path)} holds {len(spaces)} feature spaces, which have their own names", path=path)
    return spaces, paths, classes


def _read_npy(path: str, name: str) -> _Parts:
    return {name: _load(path, mmap_mode="r")}, [], []


def _read_npz(path: str, name: str) -> _Parts:
    with _load(path) as archive:
        try:
            arrays = {key: archive[key] for key in archive.files}
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise _unreadable(path, error) from error
    spaces = {key: array for key, array in arrays.items() if array.ndim == 2}
    if not spaces:
        raise InputError(f"{printable(path)} holds no array of two dimensions (videos, numbers)", path=path)
    texts = {key: array.astype(str).tolist() for key, array in arrays.items() if array.ndim == 1}
    if len(spaces) == 1:
        spaces = {name: next(iter(spaces.values()))}
    return spaces, _first(texts, _PATHS), _first(texts, _CLASSES)


def _load(path: str, **options: Any) -> Any:
    try:
        return np.load(path, allow_pickle=False, **options)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> InputError:
    return InputError(f"{printable(path)} cannot be read: {reason(error)}", path=path)


def _first(texts: Mapping[str, list[str]], names: tuple[str, ...]) -> list[str]:
    return next((texts[name] for name in names if name in texts), [])


class _ParquetColumns:
    """Columns of numbers (or one column of lists) of a Parquet file, read by row groups as they are sliced."""

    dtype = np.dtype(np.float32)

    def __init__(self, file: Any, columns: list[str], width: int):
        self._file, self._columns = file, columns
        groups = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
        self._ends = np.cumsum(groups)
        self.shape = (int(file.metadata.num_rows), width)
        self._read = (-1, np.empty((0, width), np.float32))  # number of the row group read last, and its rows

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        start, stop, _ = rows.indices(self.shape[0])
        pieces = []
        for group in range(int(np.searchsorted(self._ends, start, side="right")), len(self._ends)):
            first = int(self._ends[group - 1]) if group else 0
            if first >= stop:
                break
            if self._read[0] != group:
                self._read = group, self._rows_of(group)
            pieces.append(self._read[1][max(0, start - first) : stop - first])
        return np.concatenate(pieces) if pieces else self._read[1][:0]

    def _rows_of(self, group: int) -> NDArray[np.float32]:
        table = self._file.read_row_group(group, columns=self._columns)
        columns = [_numbers(table.column(name), self.shape[1]) for name in self._columns]
        return columns[0] if columns[0].ndim == 2 else np.stack(columns, axis=1)


def _numbers(column: Any, width: int) -> NDArray[np.float32]:
    """Return a column of numbers as (N,), of lists as (N, width); a missing value is NaN."""
    import pyarrow as pa

    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not _is_list(whole.type):
        return np.asarray(whole.to_numpy(zero_copy_only=False), np.float32)
    valid = np.asarray(whole.is_valid())
    flat = np.asarray(whole.drop_null().flatten().to_numpy(zero_copy_only=False), np.float32)
    lengths = np.asarray(whole.drop_null().value_lengths())
    if (lengths != width).any():
        row = int(np.flatnonzero(valid)[np.flatnonzero(lengths != width)[0]])
        raise InputError(f"a list has {lengths[lengths != width][0]} numbers, the others {width}", row=row)
    out = np.full((len(whole), width), np.nan, np.float32)
    out[valid] = flat.reshape(-1, width)
    return out


def _read_parquet(path: str, name: str) -> _Parts:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    schema = file.schema_arrow
    lists = [item.name for item in schema if _is_list(item.type)]
    # An index of pandas is called __index_level_0__.
    numbers = [
        item.name
        for item in schema
        if (pa.types.is_integer(item.type) or pa.types.is_floating(item.type)) and not item.name.startswith("__")
    ]
    spaces: dict[str, Any] = {}
    for column in lists:
        space = name if len(lists) == 1 and not numbers else column
        spaces[space] = _ParquetColumns(file, [column], _width(file, column))
    if numbers:
        spaces[name] = _ParquetColumns(file, numbers, len(numbers))
    if not spaces:
        raise InputError(f"{printable(path)} has no column of numbers, or of lists of numbers", path=path)
    texts = {}
    for column in {*_PATHS, *_CLASSES}.intersection(schema.names):
        values = file.read(columns=[column]).column(column).to_pylist()
        texts[column] = ["" if text is None else str(text) for text in values]
    return spaces, _first(texts, _PATHS), _first(texts, _CLASSES)


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _width(file: Any, column: str) -> int:
    """Return the length of the first list of a column."""
    for batch in file.iter_batches(batch_size=64, columns=[column]):
        values = batch.column(0).drop_null()
        if len(values):
            return len(values[0])
    return 0


_READERS: dict[str, Callable[[str, str], _Parts]] = {".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}
