"""Compiled passes over the scores of pairs of queries and items. Import this module only where it is used.

Each pass fills the rows ``lo:hi`` of its last argument and releases the interpreter lock, so that threads of Python
share a block of rows. Nothing runs in a threading layer of Numba: one of them ends a process that was forked after it
started, another one a process that calls it from two threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from selavi_ref.compiler import compiled, exact_kernel


@exact_kernel
def ranks(scores: Any, query_class: Any, members: Any, starts: Any, lo: int, hi: int, rank: Any) -> None:
    """
    Fill in the number of items before the first one of the query's class, or of all items if there is none.

    A larger score comes first, then a smaller index. An item with a score of minus infinity is left out.
    ``members[starts[c]:starts[c + 1]]`` are the items of class c, ascending; ``query_class`` is -1 where no item
    has the class of the query.
    """
    n = scores.shape[1]
    for i in range(lo, hi):
        row = scores[i]
        first = -1
        if query_class[i] >= 0:
            best = row.dtype.type(-np.inf)
            for j in members[starts[query_class[i]] : starts[query_class[i] + 1]]:
                if row[j] > best:
                    best, first = row[j], j
        rank[i] = n if first < 0 else _count_before(row, first)


@exact_kernel
def _count_before(row: Any, first: int) -> int:
    best, before = row[first], 0
    for j in range(first):
        before += row[j] >= best
    for j in range(first + 1, row.size):
        before += row[j] > best
    return before


@exact_kernel
def largest(scores: Any, least: Any, lo: int, hi: int, chosen: Any) -> None:
    """Fill in, ascending, the items with the largest scores, of which ``least`` is the smallest; the first of ties."""
    k = chosen.shape[1]
    for i in range(lo, hi):
        row, bound, above = scores[i], least[i], 0
        for j in range(row.size):
            above += row[j] > bound
        ties, position = k - above, 0
        for j in range(row.size):
            if row[j] > bound or (row[j] == bound and ties > 0):
                ties -= row[j] == bound
                chosen[i, position] = j
                position += 1


@exact_kernel
def euclidean(queries: Any, items: Any, chosen: Any, lo: int, hi: int, distances: Any) -> None:
    """Fill in the Euclidean distances of the chosen items."""
    for i in range(lo, hi):
        for position in range(chosen.shape[1]):
            distances[i, position] = np.sqrt(_squared_distance(queries[i], items[chosen[i, position]]))


@exact_kernel
def cosine(queries: Any, items: Any, chosen: Any, lo: int, hi: int, distances: Any) -> None:
    """Fill in 1 minus the product with the chosen items."""
    for i in range(lo, hi):
        for position in range(chosen.shape[1]):
            distances[i, position] = max(0.0, 1.0 - _product(queries[i], items[chosen[i, position]]))


@compiled(fastmath={"reassoc", "contract"}, nogil=True)
def _squared_distance(a: Any, b: Any) -> float:
    total = 0.0
    for d in range(a.size):
        gap = np.float64(a[d]) - np.float64(b[d])
        total += gap * gap
    return total


@compiled(fastmath={"reassoc", "contract"}, nogil=True)
def _product(a: Any, b: Any) -> float:
    total = 0.0
    for d in range(a.size):
        total += np.float64(a[d]) * np.float64(b[d])
    return total
