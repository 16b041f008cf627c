"""Nearest neighbours, and retrieval recall: how often an item of the query's class is among them."""

import operator
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError
from selavi_ref.metrics.contingency import Labels, encode_labels

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
    Fraction of the queries that have an item of their own class among the k nearest ones: retrieval recall.

    Nothing is sorted: the rank of a query is the number of items nearer than the nearest one of its class. Of items at
    equal distances, the one with the smaller index comes first. A query whose class no item has is a miss at every k.

    Distances are compared in float32 if both arrays are float32, else in float64. Euclidean ones, as
    ``a.b - |b|^2 / 2`` after the items' mean was subtracted from both, lose some 1e-6 of the items' spread to rounding
    in float32; the mean is itself rounded so that small integers stay exact. Cosines lose some 1e-7. Items whose
    distances differ by less may change places.

    Parameters
    ----------
    queries : float32 or float64 array of shape (Q, D)
        Features of the query videos.
    query_classes : sequence of hashable, length Q
        Their classes.
    items : float32 or float64 array of shape (M, D)
        Features of the videos that are searched.
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
        Memory for scores; at least the scores of one query are held.

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

    Examples
    --------
    >>> items = np.array([[0.0], [1.0], [2.0]])
    >>> retrieval_recall(np.array([[0.1]]), ["cat"], items, ["dog", "cat", "cat"], at=[1, 2])
    {1: 0.0, 2: 1.0}
    """
    search = _search(queries, items, metric, leave_out_self, block_bytes)
    steps = [search.check_k(k, "at") for k in at]
    query_class, members, starts = _by_class(query_classes, item_classes, search)
    from selavi_ref.metrics import retrieval_kernels as ranking

    rank = np.empty(len(query_class), np.int64)
    for rows, _, scores in search.blocks():
        _in_threads(ranking.ranks, len(scores), scores, query_class[rows], members, starts, fill=rank[rows])
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
        Features of the query videos.
    items : float32 or float64 array of shape (M, D)
        Features of the videos that are searched.
    k : int
        From 1 to the number of items that a query can find.
    metric : {"euclidean", "cosine"}
        Distance; of cosine, 1 minus the cosine, which is 0 for a vector of zeros with any other.
    leave_out_self : bool
        Whether queries and items are the same videos in the same order, and none may find itself; their features may
        be of different modalities.
    block_bytes : int
        Memory for scores; at least the scores of one query are held.

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
    k = search.check_k(k, "k")
    from selavi_ref.metrics import retrieval_kernels as ranking

    measure = ranking.cosine if metric == "cosine" else ranking.euclidean
    indices = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k), np.float32)
    for rows, transformed, scores in search.blocks():
        least = np.empty(len(scores), scores.dtype)
        chosen, unordered = np.empty((len(scores), k), np.int64), np.empty((len(scores), k))
        _in_threads(_least, len(scores), scores, k, fill=least)
        _in_threads(ranking.largest, len(scores), scores, least, fill=chosen)
        _in_threads(measure, len(scores), transformed, search.items, chosen, fill=unordered)
        order = np.argsort(unordered, axis=1, kind="stable")
        indices[rows] = np.take_along_axis(chosen, order, axis=1)
        distances[rows] = np.ldexp(np.take_along_axis(unordered, order, axis=1), search.exponent)
    return indices, distances


@dataclass(frozen=True)
class _Search:
    """
    Queries and items transformed so that the nearest item has the largest score.

    Attributes
    ----------
    queries : array of shape (Q, D)
        As given, in the type of the arithmetic.
    transform : function
        Transforms rows of queries as the items were transformed.
    items : array of shape (M, D)
        The transformed items.
    bias : array of shape (M,)
        Term of the score of each item besides its product with the query.
    exponent : int
        Distances of transformed vectors must be multiplied by 2 to this power.
    leave_out_self : bool
        Whether the item of the query's index has a score of minus infinity.
    block_bytes : int
        Size of the scores held at a time.
    """

    queries: Vectors
    transform: Callable[[Vectors], Vectors]
    items: Vectors
    bias: Vectors
    exponent: int
    leave_out_self: bool
    block_bytes: int

    def check_k(self, k: int, name: str) -> int:
        """Return the number of nearest items as an integer, or raise an error if it is out of range."""
        most = len(self.items) - self.leave_out_self
        try:
            is_possible = 1 <= operator.index(k) <= most
        except TypeError:
            is_possible = False
        if not is_possible:
            message = f"{name} must be of whole numbers from 1 to {most}, the items to find, not {k}"
            raise InputError(message, option=name, value=k)
        return operator.index(k)

    def blocks(self) -> Iterator[tuple[slice, Vectors, Vectors]]:
        """Yield blocks of queries: their rows, the transformed queries, and their scores with all items."""
        height = max(1, self.block_bytes // (len(self.items) * self.items.itemsize))
        for lo in range(0, len(self.queries), height):
            rows = slice(lo, min(lo + height, len(self.queries)))
            transformed = self.transform(self.queries[rows])
            scores = transformed @ self.items.T
            scores += self.bias
            if self.leave_out_self:
                scores[np.arange(len(scores)), np.arange(rows.start, rows.stop)] = -np.inf
            yield rows, transformed, scores


def _search(queries: Vectors, items: Vectors, metric: str, leave_out_self: bool, block_bytes: int) -> _Search:
    """Check the arguments and transform the items."""
    if metric not in ("euclidean", "cosine"):
        raise InputError(f"metric must be euclidean or cosine, not {metric!r}", option="metric", value=metric)
    if block_bytes < 1:
        raise InputError(f"block_bytes must be at least 1, not {block_bytes}", option="block_bytes", value=block_bytes)
    queries, items = _vectors(queries, "queries"), _vectors(items, "items")
    if queries.shape[1] != items.shape[1]:
        message = f"queries are of {queries.shape[1]} numbers each, but items are of {items.shape[1]}"
        raise InputError(message, option="items")
    if leave_out_self and len(queries) != len(items):
        message = f"leave_out_self needs a query for each item; there are {len(queries)} for {len(items)}"
        raise InputError(message, option="leave_out_self")
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

    def transform(rows: Vectors) -> Vectors:
        transformed: Vectors = np.ldexp(rows, -exponent) - centre
        return transformed

    return _Search(queries, transform, items, bias, exponent, leave_out_self, block_bytes)


def _vectors(vectors: Vectors, name: str) -> Vectors:
    """Return the vectors as float32 or float64, or raise an error that names the argument."""
    array = np.asarray(vectors)
    if array.ndim != 2 or 0 in array.shape:
        message = f"{name} must be of shape (videos, numbers), neither of them 0, not {array.shape}"
        raise InputError(message, option=name)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} must be real numbers, not {array.dtype}", option=name)
    array = array.astype(np.float32 if array.dtype in (np.float16, np.float32) else np.float64, copy=False)
    finite = np.isfinite(array).all(1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise InputError(f"{name} holds NaN or infinity in row {row}", option=name, row=row)
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
    """Return the vectors scaled to length 1; zero vectors stay as they are."""
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
    query_codes, query_labels = encode_labels(query_classes, "query_classes")
    item_codes, item_labels = encode_labels(item_classes, "item_classes")
    pairs = (("query_classes", query_codes, search.queries), ("item_classes", item_codes, search.items))
    for name, codes, vectors in pairs:
        if len(codes) != len(vectors):
            raise InputError(f"{name} has {len(codes)} entries, but there are {len(vectors)} vectors", option=name)
    number = {label: i for i, label in enumerate(item_labels)}
    query_class = np.array([number.get(label, -1) for label in query_labels], np.int64)[query_codes]
    starts = np.concatenate([[0], np.cumsum(np.bincount(item_codes, minlength=len(item_labels)))])
    return query_class, np.argsort(item_codes, kind="stable"), starts


def _in_threads(task: Callable[..., None], n: int, *arguments: Any, fill: NDArray[Any]) -> None:
    """Call ``task(*arguments, lo, hi, fill)`` for parts of n rows, in as many threads as Numba is set to use."""
    from selavi_ref.compiler import n_threads

    threads = n_threads()
    height = -(-n // threads)
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(task, *arguments, lo, min(lo + height, n), fill) for lo in range(0, n, height)]
        for part in parts:
            part.result()
