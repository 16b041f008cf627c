"""Reading and writing rows of a data set in any order, through slices, which are fast in HDF5."""

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError
from selavi_ref.store.layout import Rows

_SPAN_BYTES = 16 << 20


def row_numbers(rows: Rows, n_rows: int) -> slice | NDArray[np.int64]:
    """
    Return the requested rows as a slice of step 1 or as row numbers.

    Parameters
    ----------
    rows : slice, array of int or None
        None means all of them.
    n_rows : int
        Number of rows.

    Raises
    ------
    InputError
        A row that is not there, or row numbers that are no integers.
    """
    if rows is None:
        return slice(0, n_rows)
    if isinstance(rows, slice):
        start, stop, step = rows.indices(n_rows)
        return slice(start, max(start, stop)) if step == 1 else np.arange(start, stop, step, dtype=np.int64)
    numbers = np.asarray(rows)
    if numbers.ndim != 1 or (numbers.dtype.kind not in "iu" and numbers.size):
        message = f"rows must be a slice or a 1-d array of integers, not {numbers.ndim}-d of {numbers.dtype}"
        raise InputError(message, option="rows")
    outside = (numbers < 0) | (numbers >= n_rows)
    if outside.any():
        row = int(numbers[outside][0])
        message = f"row {row} is outside of the store, whose rows are 0 to {n_rows - 1}"
        raise InputError(message, option="rows", row=row)
    return numbers.astype(np.int64)


def count(rows: slice | NDArray[np.int64]) -> int:
    """Return the number of rows of a result of `row_numbers`."""
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def read_rows(dataset: Any, rows: slice | NDArray[np.int64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the rows as an array of shape (rows, ...) of type `dtype`."""
    out = np.empty((count(rows), *dataset.shape[1:]), dtype)
    if isinstance(rows, slice):
        if out.size:
            dataset.read_direct(out, np.s_[rows.start : rows.stop])
        return out
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    for piece in _spans(ascending, max(1, _SPAN_BYTES // max(1, out[:1].nbytes))):
        first, last = operator.itemgetter(0, -1)(ascending[piece])
        out[order[piece]] = dataset[first : last + 1][ascending[piece] - first]
    return out


def write_rows(dataset: Any, rows: slice | NDArray[np.int64], values: NDArray[Any]) -> None:
    """Write `values`, of shape (rows, ...), to the rows."""
    if isinstance(rows, slice):
        if count(rows):
            dataset[rows] = values
        return
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    breaks = np.flatnonzero(np.diff(ascending) != 1) + 1
    for piece in np.split(np.arange(len(rows)), breaks):
        if len(piece):
            dataset[ascending[piece[0]] : ascending[piece[-1]] + 1] = values[order[piece]]


def _spans(ascending: NDArray[np.int64], longest: int) -> Iterator[slice]:
    """Divide ascending row numbers into pieces that span at most `longest` rows each."""
    start = 0
    while start < len(ascending):
        stop = int(np.searchsorted(ascending, ascending[start] + longest))
        yield slice(start, stop)
        start = stop
