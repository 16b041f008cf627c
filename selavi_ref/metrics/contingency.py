"""The contingency table of classes and clusters, from which all scores are computed."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.errors import InputError

Labels = ArrayLike | Sequence[Hashable]

_MOST_CELLS = 1 << 28
ROUNDING = float(np.finfo(np.float64).eps)


class ContingencyTable(NamedTuple):
    """
    The number of videos of each class in each cluster, with the labels of rows and columns.

    Attributes
    ----------
    counts : int64 array of shape (classes, clusters)
        Number of videos of the class in the cluster; no row and no column is all zero.
    classes, clusters : list
        The labels of the rows and of the columns, ascending where they can be ordered.
    """

    counts: NDArray[np.int64]
    classes: list[Hashable]
    clusters: list[Hashable]


def contingency_table(labels_true: Labels, labels_pred: Labels) -> ContingencyTable:
    """
    Count how many videos of each class lie in each cluster.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video.

    Returns
    -------
    ContingencyTable
        The counts, and the labels of rows and columns.

    Raises
    ------
    InputError
        Lengths that differ, no labels, NaN; or a table too large to be written out.
    """
    pairs = count_pairs(labels_true, labels_pred)
    return ContingencyTable(pairs.dense(), list(pairs.classes), list(pairs.clusters))


@dataclass(frozen=True)
class PairCounts:
    """
    The nonzero entries of a contingency table: clusters of single videos need no N x N numbers.

    Attributes
    ----------
    rows, columns : integer array of shape (entries,)
        Class and cluster number of each nonzero entry, by row, then by column.
    counts : int64 array of shape (entries,)
        The entries.
    classes, clusters : sequence
        The labels of the rows and of the columns.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    counts: NDArray[np.int64]
    classes: Sequence[Hashable]
    clusters: Sequence[Hashable]

    @cached_property
    def n(self) -> int:
        """Number of videos."""
        return int(self.counts.sum())

    @cached_property
    def class_sizes(self) -> NDArray[np.int64]:
        """Videos of each class."""
        return _sums(self.rows, self.counts, len(self.classes))

    @cached_property
    def cluster_sizes(self) -> NDArray[np.int64]:
        """Videos of each cluster."""
        return _sums(self.columns, self.counts, len(self.clusters))

    @cached_property
    def mutual_information(self) -> float:
        """Mutual information of classes and clusters in nats."""
        if len(self.classes) == 1 or len(self.clusters) == 1:
            return 0.0
        n = self.n
        log_sizes = np.log(self.class_sizes)[self.rows] + np.log(self.cluster_sizes)[self.columns]
        terms = self.counts / n * (np.log(self.counts) + math.log(n) - log_sizes)
        # Terms that are only rounding errors would make independent labels seem dependent.
        terms[np.abs(terms) < ROUNDING] = 0.0
        return max(0.0, float(terms.sum()))

    def dense(self) -> NDArray[np.int64]:
        """Return all entries, shape (classes, clusters)."""
        shape = (len(self.classes), len(self.clusters))
        if shape[0] * shape[1] > _MOST_CELLS:
            message = f"a table of {shape[0]} classes by {shape[1]} clusters does not fit into memory"
            raise InputError(message, value=shape)
        table = np.zeros(shape, np.int64)
        table[self.rows, self.columns] = self.counts
        return table


def count_pairs(labels_true: Labels, labels_pred: Labels) -> PairCounts:
    """Return the nonzero entries of the contingency table; parameters and errors as for `contingency_table`."""
    rows, classes = encode_labels(labels_true, "labels_true")
    columns, clusters = encode_labels(labels_pred, "labels_pred")
    if len(rows) != len(columns):
        message = f"labels_true has {len(rows)} labels, but labels_pred has {len(columns)}"
        raise InputError(message, option="labels_pred")
    cells = len(classes) * len(clusters)
    cell = rows * len(clusters) + columns
    if cells <= max(1 << 22, 4 * len(rows)):
        table = np.bincount(cell, minlength=cells)
        occupied = np.flatnonzero(table)
        counts = table[occupied].astype(np.int64, copy=False)
    else:
        occupied, counts = np.unique(cell, return_counts=True)
    first, second = np.divmod(occupied, len(clusters))
    return PairCounts(first, second, counts, classes, clusters)


def encode_labels(labels: Labels, name: str) -> tuple[NDArray[np.intp], Sequence[Hashable]]:
    """Replace labels by numbers from 0, in the order of the labels; return the numbers and the labels that occur."""
    array, listed = _as_array(labels, name)
    if array is not None and array.ndim != 1:
        raise InputError(f"{name} must be one-dimensional, not of shape {array.shape}", option=name)
    if (len(listed) if array is None else len(array)) == 0:
        raise InputError(f"{name} is empty; a score needs at least one label", option=name)
    if array is None or array.dtype.kind in "OUSV":
        return _encode_any(listed if array is None else array.tolist(), name)
    if array.dtype.kind in "fcmM":
        is_label = ~np.isnat(array) if array.dtype.kind in "mM" else np.isfinite(array) & np.isreal(array)
        if not is_label.all():
            _refuse_label(array[is_label.argmin()], int(is_label.argmin()), name)
    if array.dtype.kind in "biu":
        return _encode_integers(array)
    values, numbers = np.unique(array, return_inverse=True)
    return numbers, values.tolist()


def _as_array(labels: Labels, name: str) -> tuple[NDArray[Any] | None, Sequence[Any]]:
    """Return the labels as an array, or None and a list where NumPy could make one label of two, as of 1 and "1"."""
    if isinstance(labels, np.ndarray):
        return labels, ()
    try:
        array = np.asarray(labels)
    except ValueError:
        array = np.empty(0, object)
    if isinstance(labels, list | tuple) and (array.ndim != 1 or array.dtype.kind not in "biu") and len(labels):
        return None, labels
    if array.ndim == 0:
        raise InputError(f"{name} must be a sequence of labels, not {type(labels).__name__}", option=name)
    return array, ()


def _encode_integers(array: NDArray[Any]) -> tuple[NDArray[np.intp], Sequence[Hashable]]:
    low, high = int(array.min()), int(array.max())
    span = high - low + 1
    if span > max(1 << 16, 4 * len(array)):
        values, numbers = np.unique(array, return_inverse=True)
        return numbers, values.tolist()
    # Labels in a narrow range need no sorting.
    wide = array if array.dtype.itemsize == 8 else array.astype(np.int64)
    offset = (wide - wide.dtype.type(low)).astype(np.intp, copy=False)
    present = np.flatnonzero(np.bincount(offset, minlength=span))
    if len(present) < span:
        position = np.empty(span, np.intp)
        position[present] = np.arange(len(present))
        offset = position[offset]
    return offset, [low + value for value in present.tolist()]


def _encode_any(labels: Sequence[Any], name: str) -> tuple[NDArray[np.intp], Sequence[Hashable]]:
    seen: dict[Hashable, int] = {}
    try:
        numbers = np.fromiter((seen.setdefault(label, len(seen)) for label in labels), np.intp, len(labels))
    except TypeError as error:
        raise InputError(f"{name} holds something that cannot be a label: {error}", option=name) from None
    for number, label in enumerate(seen):
        if not _is_label(label):
            _refuse_label(label, int(np.argmax(numbers == number)), name)
    try:
        ordered = sorted(seen)  # type: ignore[type-var]
    except TypeError:
        return numbers, list(seen)
    position = np.empty(len(seen), np.intp)
    for number, label in enumerate(ordered):
        position[seen[label]] = number
    return position[numbers], ordered


def _is_label(value: Any) -> bool:
    """Return whether a value is neither missing, in any way of writing NaN, nor infinite, nor complex."""
    if isinstance(value, complex | np.complexfloating):
        return False
    if isinstance(value, float | np.floating):
        return bool(np.isfinite(value))
    try:
        return bool(value == value)
    except TypeError:  # pandas.NA has no truth
        return False


def _refuse_label(value: Any, row: int, name: str) -> NoReturn:
    message = f"{name} holds {value} at position {row}; a label must be a finite real number, a text or the like"
    raise InputError(message, option=name, row=row)


def _sums(index: NDArray[np.intp], counts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    # As doubles, the sums are exact up to 2^53 videos.
    return np.bincount(index, weights=counts, minlength=size).astype(np.int64)
