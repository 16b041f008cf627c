"""Retrieval: which items are nearest to a query, and how often one of its class is among them."""

import operator
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError
from selavi_ref.metrics.contingency import Labels, numbered

Vectors = NDArray[Any]

_BLOCK_BYTES = 1 << 25


def retrieval_recall(
    queries: Vectors,
    query_classes: Labels,
    items: Vectors,
    item_classes: Labels,
    *,
    at: Sequence[int] = (1, 5, 10, 20, 50),
    metric: str = "euclidean",
    leave_out_self: bool = False,
    block_bytes: int = _BLOCK_BYTES,
) -> dict[int, float]:
    """
    Share of the queries that have an item of their own class among the k nearest ones.

    Nothing is sorted: what counts is how many items are nearer than the nearest one of the query's class. Of items at
    equal distances, the one with the smaller index comes first. A query whose class no item has is a miss at every k.

    Distances are compared in float32 if both arrays are float32, else in float64. Euclidean ones, as
    ``a.b - |b|^2 / 2`` after the items' mean was subtracted from both, lose some 1e-6 of the items' spread to rounding
    in float32; the mean is itself rounded so that small integers stay exact. Cosines lose some 1e-7. What differs by
    no more than that may change places.

    Parameters
    ----------
    queries : float32 or float64 array of shape (Q, D)
        Features of the videos to find others for.
    query_classes : sequence of hashable, length Q
        Their classes.
    items : float32 or float64 array of shape (M, D)
        Features of the videos to be found.
    item_classes : sequence of hashable, length M
        Their classes.
    at : sequence of int
        Numbers k of nearest items, from 1 to the number of items that a query can find.
    metric : {"euclidean", "cosine"}
        Distance; the cosine of a vector of zeros with any other is 0.
    leave_out_self : bool
        Whether queries and items are the same videos in the same order, and none may find itself; their features may
        be of different modalities.
    block_bytes : int
        Size of the scores that are held at a time; at least those of one query are.

    Returns
    -------
    dict
        The recall, from 0 to 1, for each k.

    Raises
    ------
    InputError
        Arrays that are not two-dimensional, not finite, empty, or of different widths; classes that do not fit; k out
        of range; an unknown metric.

    References
    ----------
    Asano et al., Labelling unlabelled videos from scratch with multi-modal self-supervision, NeurIPS 2020, section 4.
    """
    search = _search(queries, items, metric, leave_out_self, block_bytes)
    steps = [search.checked(k, "at") for k in at]
    wanted, members, starts = _by_class(query_classes, item_classes, search)
    from selavi_ref.metrics import retrieval_kernels as ranking

    rank = np.empty(len(wanted), np.int64)
    for rows, _, scores in search.blocks():
        _in_threads(ranking.ranks, len(scores), scores, wanted[rows], members, starts, fill=rank[rows])
    return {k: float(np.mean(rank < k)) for k in steps}


def nearest(
    queries: Vectors,
    items: Vectors,
    k: int,
    *,
    metric: str = "euclidean",
    leave_out_self: bool = False,
    block_bytes: int = _BLOCK_BYTES,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """
    Find the k items that are nearest to each query.

    Which items they are is decided in the precision described in `retrieval_recall`; their order and the distances
    returned come from differences, or products, summed in float64, so that equal vectors are at distance 0.

    Parameters
    ----------
    queries : float32 or float64 array of shape (Q, D)
        Features of the videos to find others for.
    items : float32 or float64 array of shape (M, D)
        Features of the videos to be found.
    k : int
        From 1 to the number of items that a query can find.
    metric : {"euclidean", "cosine"}
        Distance; of cosine, 1 minus the cosine, which is 0 for a vector of zeros with any other.
    leave_out_self : bool
        Whether queries and items are the same videos in the same order, and none may find itself; their features may
        be of different modalities.
    block_bytes : int
        Size of the scores that are held at a time; at least those of one query are.

    Returns
    -------
    indices : int64 array of shape (Q, k)
        The nearest item first; items at equal distances by index.
    distances : float32 array of shape (Q, k)
        Their distances.

    Raises
    ------
    InputError
        Arrays that are not two-dimensional, not finite, empty, or of different widths; k out of range; an unknown
        metric.
    """
    search = _search(queries, items, metric, leave_out_self, block_bytes)
    k = search.checked(k, "k")
    from selavi_ref.metrics import retrieval_kernels as ranking

    measure = ranking.cosine if metric == "cosine" else ranking.euclidean
    indices = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k), np.float32)
    for rows, placed, scores in search.blocks():
        least = np.empty(len(scores), scores.dtype)
        chosen, apart = np.empty((len(scores), k), np.int64), np.empty((len(scores), k))
        _in_threads(_least, len(scores), scores, k, fill=least)
        _in_threads(ranking.largest, len(scores), scores, least, fill=chosen)
        _in_threads(measure, len(scores), placed, search.items, chosen, fill=apart)
        order = np.argsort(apart, axis=1, kind="stable")
        indices[rows] = np.take_along_axis(chosen, order, axis=1)
        distances[rows] = np.ldexp(np.take_along_axis(apart, order, axis=1), search.exponent)
    return indices, distances


@dataclass(frozen=True)
class _Search:
    """
    Queries and items placed so that the nearest item has the largest score.

    Attributes
    ----------
    queries : array of shape (Q, D)
        As given, in the type of the arithmetic.
    place : function
        Places rows of queries as the items were placed.
    items : array of shape (M, D)
        The items, placed.
    bias : array of shape (M,)
        What the score of an item has beyond its product with the query.
    exponent : int
        Distances between what is placed are to be multiplied by 2 to this power.
    leave_out_self : bool
        Whether the item of the query's index has a score of minus infinity.
    block_bytes : int
        Size of the scores held at a time.
    """

    queries: Vectors
    place: Callable[[Vectors], Vectors]
    items: Vectors
    bias: Vectors
    exponent: int
    leave_out_self: bool
    block_bytes: int

    def checked(self, k: int, name: str) -> int:
        """Return the number of nearest items, or refuse it."""
        most = len(self.items) - self.leave_out_self
        try:
            fits = 1 <= operator.index(k) <= most
        except TypeError:
            fits = False
        if not fits:
            raise InputError(f"{name} must be of whole numbers from 1 to {most}, the items to find, not {k}")
        return operator.index(k)

    def blocks(self) -> Iterator[tuple[slice, Vectors, Vectors]]:
        """Yield blocks of rows: which they are, the queries placed, and their scores with all items."""
        height = max(1, self.block_bytes // (len(self.items) * self.items.itemsize))
        for lo in range(0, len(self.queries), height):
            rows = slice(lo, min(lo + height, len(self.queries)))
            placed = self.place(self.queries[rows])
            scores = placed @ self.items.T
            scores += self.bias
            if self.leave_out_self:
                scores[np.arange(len(scores)), np.arange(rows.start, rows.stop)] = -np.inf
            yield rows, placed, scores


def _search(queries: Vectors, items: Vectors, metric: str, leave_out_self: bool, block_bytes: int) -> _Search:
    """Check the arguments and place the items."""
    if metric not in ("euclidean", "cosine"):
        raise InputError(f"metric must be euclidean or cosine, not {metric!r}")
    if block_bytes < 1:
        raise InputError(f"block_bytes must be at least 1, not {block_bytes}")
    queries, items = _vectors(queries, "queries"), _vectors(items, "items")
    if queries.shape[1] != items.shape[1]:
        raise InputError(f"queries are of {queries.shape[1]} numbers each, but items are of {items.shape[1]}")
    if leave_out_self and len(queries) != len(items):
        raise InputError(f"leave_out_self needs a query for each item; there are {len(queries)} for {len(items)}")
    dtype = np.result_type(queries, items)
    queries, items = queries.astype(dtype, copy=False), items.astype(dtype, copy=False)
    if metric == "cosine":
        bias = np.zeros(len(items), dtype)
        return _Search(queries, _directions, _directions(items), bias, 0, leave_out_self, block_bytes)
    exponent = int(np.frexp(max(_magnitude(queries), _magnitude(items)))[1])
    items = np.ldexp(items, -exponent)
    centre = _centre(items)
    items -= centre
    bias = (np.einsum("ij,ij->i", items, items, dtype=np.float64) / -2).astype(dtype)

    def place(rows: Vectors) -> Vectors:
        moved: Vectors = np.ldexp(rows, -exponent) - centre
        return moved

    return _Search(queries, place, items, bias, exponent, leave_out_self, block_bytes)


def _vectors(vectors: Vectors, name: str) -> Vectors:
    """Return the vectors as float32 or float64, checked by themselves."""
    array = np.asarray(vectors)
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"{name} must be of shape (videos, numbers), neither of them 0, not {array.shape}")
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} must be real numbers, not {array.dtype}")
    array = array.astype(np.float32 if array.dtype in (np.float16, np.float32) else np.float64, copy=False)
    finite = np.isfinite(array).all(1)
    if not finite.all():
        raise InputError(f"{name} holds NaN or infinity in row {int(np.flatnonzero(~finite)[0])}")
    return array


def _magnitude(vectors: Vectors) -> float:
    return max(float(vectors.max()), -float(vectors.min()))


def _centre(items: Vectors) -> Vectors:
    """Return the mean of the items, rounded to a sixteenth or so of their spread: integers less a mean stay short."""
    mean = items.mean(0, dtype=np.float64)
    squares = np.einsum("ij,ij->j", items, items, dtype=np.float64) / len(items)
    spread = np.sqrt(max(0.0, float(np.mean(squares - mean**2))))
    if spread == 0:
        return items[0].copy()
    unit = np.ldexp(1.0, int(np.frexp(spread)[1]) - 4)
    centre: Vectors = (np.rint(mean / unit) * unit).astype(items.dtype)
    return centre


def _directions(vectors: Vectors) -> Vectors:
    """Return the vectors at length 1, but zeros as they are."""
    largest = np.maximum(vectors.max(1), -vectors.min(1))[:, None]
    # Divided by the largest entry first, no square overflows or vanishes.
    directions = vectors / np.where(largest > 0, largest, 1)
    length = np.sqrt(np.einsum("ij,ij->i", directions, directions, dtype=np.float64))
    directions /= np.where(length > 0, length, 1).astype(vectors.dtype)[:, None]
    return directions


def _least(scores: Vectors, k: int, lo: int, hi: int, least: Vectors) -> None:
    """Fill in the smallest of the k largest scores of rows ``lo:hi``."""
    least[lo:hi] = np.partition(scores[lo:hi], -k, axis=1)[:, -k]


def _by_class(
    query_classes: Labels, item_classes: Labels, search: _Search
) -> tuple[NDArray[np.int64], NDArray[np.intp], NDArray[np.intp]]:
    """Return the class number of each query, -1 if no item has it; the items by class; and where each class starts."""
    asked, asked_labels = numbered(query_classes, "query_classes")
    given, given_labels = numbered(item_classes, "item_classes")
    for name, found, expected in (("queries", asked, search.queries), ("items", given, search.items)):
        if len(found) != len(expected):
            raise InputError(f"there are {len(expected)} {name}, but classes of {len(found)}")
    number = {label: i for i, label in enumerate(given_labels)}
    wanted = np.array([number.get(label, -1) for label in asked_labels], np.int64)[asked]
    starts = np.concatenate([[0], np.cumsum(np.bincount(given, minlength=len(given_labels)))])
    return wanted, np.argsort(given, kind="stable"), starts


def _in_threads(task: Callable[..., None], n: int, *arguments: Any, fill: NDArray[Any]) -> None:
    """Call ``task(*arguments, lo, hi, fill)`` for parts of n rows, in as many threads as Numba is set to use."""
    import numba

    threads = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    height = -(-n // threads)
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(task, *arguments, lo, min(lo + height, n), fill) for lo in range(0, n, height)]
        for part in parts:
            part.result()
