"""Numba kernels of `exact`: labels of all rows, and their repair along shortest paths between clusters."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from selavi_ref.compiler import exact_kernel, kernel
from selavi_ref.transport.arithmetic import greater


class Matrix(NamedTuple):
    """N x K data of either order for the kernels: entry (i, k) is number ``i * down + k * right``.

    It is one of ``double``, or of ``single`` if that is empty: kernels are compiled once for both.
    """

    single: Any
    double: Any
    down: int
    right: int


class Clusters(NamedTuple):
    """The rows of each cluster, and the costs of moving them to other clusters.

    The rows of cluster j are ``member[first[j] : first[j] + count[j]]``; ``position`` is the position of each row in
    ``member``, and ``own`` its score in its cluster. ``cost[j, k]`` is the smallest of ``x_ij - x_ik`` over the rows of
    j; ``ties[j, k]`` rows reach it, and ``cheapest[j, k]`` may still be one of them. If no row reaches it any more, it
    is a lower bound and is renewed when that matters. All rows of j of smaller cost than ``bound[j, k]`` are among the
    first ``known[j, k]`` of ``near[j, k]``, at costs ``loss[j, k]``: the next cheapest row is taken from them.
    """

    size: Any
    count: Any
    first: Any
    member: Any
    own: Any
    position: Any
    cost: Any
    ties: Any
    cheapest: Any
    near: Any
    loss: Any
    known: Any
    bound: Any


@kernel
def _load(x: Any, lo: int, n: int, f: Any, v: Any) -> None:
    """Fill ``v`` with rows ``lo:lo + n`` plus ``f``."""
    if x.double.size > 0:
        _load_from(x.double, x.right, lo, n, f, v)
    else:
        _load_from(x.single, x.right, lo, n, f, v)


@kernel
def _load_from(flat: Any, right: int, lo: int, n: int, f: Any, v: Any) -> None:
    K = f.size
    if right == 1:
        for r in range(n):
            row, to = flat[(lo + r) * K : (lo + r + 1) * K], v[r]
            for k in range(K):
                to[k] = np.float64(row[k]) + f[k]
    else:
        for k in range(K):
            column = flat[k * right + lo : k * right + lo + n]
            for r in range(n):
                v[r, k] = np.float64(column[r]) + f[k]


@kernel
def _first_of_largest(v: Any) -> Any:
    top = v[0]
    for k in range(1, v.size):
        top = greater(top, v[k])
    k = 0
    while v[k] < top:
        k += 1
    return k, top


@kernel
def label_rows(x: Any, lo: int, hi: int, f: Any, labels: Any, second: Any, margin: Any) -> float:
    """Fill in the best and second best cluster of rows ``lo:hi`` and their margin; return the sum of best scores."""
    block = 4 if x.right == 1 else 64
    v = np.empty((block, f.size))
    total = 0.0
    for start in range(lo, hi, block):
        n = min(block, hi - start)
        _load(x, start, n, f, v)
        for r in range(n):
            i = start + r
            labels[i], best = _first_of_largest(v[r])
            v[r, labels[i]] = -np.inf
            second[i], other = _first_of_largest(v[r])
            margin[i] = best - other
            total += best
    return total


@exact_kernel
def settle(x: Any, f: Any, room: Any, rows: Any, labels: Any) -> None:
    """Give ``rows``, in this order, their best cluster of those with ``room``."""
    for i in rows:
        best = -1
        for k in range(f.size):
            if room[k] > 0 and (best < 0 or _entry(x, i, k) + f[k] > _entry(x, i, best) + f[best]):
                best = k
        labels[i] = best
        room[best] -= 1


@exact_kernel
def _entry(x: Any, i: int, k: int) -> Any:
    at = np.int64(i) * x.down + k * x.right
    return x.double[at] if x.double.size > 0 else np.float64(x.single[at])


@exact_kernel
def fill(x: Any, c: Any, labels: Any) -> None:
    """Enter all rows into the clusters of their labels."""
    block = 4 if x.right == 1 else 64
    K = c.size.size
    v, zero = np.empty((block, K)), np.zeros(K)
    for start in range(0, labels.size, block):
        n = min(block, labels.size - start)
        _load(x, start, n, zero, v)
        for r in range(n):
            _enter(c, start + r, np.int64(labels[start + r]), v[r])


@exact_kernel
def _enter(c: Any, i: int, j: int, v: Any) -> None:
    """Add row i, with entries ``v``, to cluster j."""
    p = c.first[j] + c.count[j]
    c.count[j] += 1
    c.member[p], c.position[i], own = i, p, v[j]
    c.own[p] = own
    cost, ties, cheapest = c.cost[j], c.ties[j], c.cheapest[j]
    near, loss, known, bound = c.near[j], c.loss[j], c.known[j], c.bound[j]
    for k in range(v.size):
        d = own - v[k]
        if d <= cost[k]:
            ties[k] = ties[k] + 1 if d == cost[k] else 1
            cost[k], cheapest[k] = d, i
        if d < bound[k]:
            known[k], bound[k] = _note(near[k], loss[k], np.int64(known[k]), bound[k], i, d)


@exact_kernel
def _note(near: Any, loss: Any, n: int, bound: float, i: int, d: float) -> Any:
    """Add row i, of cost ``d`` below the bound, to the ``n`` nearest; if these are too many, drop the farthest.

    Returns their new number and bound.
    """
    if n < near.size:
        near[n], loss[n] = i, d
        return n + 1, bound
    far = 0
    for p in range(1, n):
        if loss[p] > loss[far]:
            far = p
    bound = max(d, loss[far])
    if d < loss[far]:
        near[far], loss[far] = i, d
    return n, bound


@exact_kernel
def _strike(near: Any, loss: Any, n: int, i: int) -> int:
    """Take row i off the ``n`` nearest, if it is there; return their new number."""
    for p in range(n):
        if near[p] == i:
            near[p], loss[p] = near[n - 1], loss[n - 1]
            return n - 1
    return n


@exact_kernel
def shortest(x: Any, c: Any, f: Any) -> None:
    """Add to ``f`` the distances from clusters in excess, up to that of the farthest cluster in deficit (Dijkstra).

    Potentials are set to ``f[j] + cost[j, k]`` as such, not by a difference, so that `_tight` can tell them exactly. A
    cost that has to be renewed is too small until then; so it is enough to renew it when its cluster would come next.
    """
    K = f.size
    g, parent, done = np.empty(K), np.empty(K, np.int64), np.empty(K, np.bool_)
    n_deficits = 0
    for k in range(K):
        g[k], parent[k], done[k] = f[k] if c.count[k] > c.size[k] else np.inf, -1, c.size[k] == 0
        n_deficits += c.count[k] < c.size[k]
    reached = 0.0
    while n_deficits > 0:
        j = _closest(g, f, done)
        p = parent[j]
        if p >= 0 and c.ties[p, j] == 0:
            _renew(x, c, p, j)
            g[j], parent[j] = f[j] if c.count[j] > c.size[j] else np.inf, -1
            for p in range(K):
                if done[p] and g[p] + c.cost[p, j] < g[j]:
                    g[j], parent[j] = g[p] + c.cost[p, j], p
            continue
        done[j] = True
        n_deficits -= c.count[j] < c.size[j]
        reached = max(reached, g[j] - f[j])
        cost, base = c.cost[j], g[j]
        for k in range(K):
            if not done[k] and base + cost[k] < g[k]:
                g[k], parent[k] = base + cost[k], j
    for k in range(K):
        if c.size[k] > 0:
            f[k] = g[k] if done[k] else f[k] + reached


@exact_kernel
def _closest(g: Any, f: Any, done: Any) -> int:
    j, least = -1, np.inf
    for k in range(g.size):
        if not done[k] and g[k] - f[k] < least:
            j, least = k, g[k] - f[k]
    return j


@exact_kernel
def _tight(x: Any, c: Any, f: Any, j: int, k: int) -> bool:
    if f[j] + c.cost[j, k] <= f[k] and c.ties[j, k] == 0:
        _renew(x, c, j, k)
    return f[j] + c.cost[j, k] <= f[k]


@exact_kernel
def levels(x: Any, c: Any, f: Any, depth: Any) -> bool:
    """Fill ``depth`` with the number of tight edges from clusters in excess; return whether it reaches one in deficit.

    It is -1 for clusters that are not reached, or no sooner than a cluster in deficit is.
    """
    K = f.size
    queue = np.empty(K, np.int64)
    n = 0
    depth[:] = -1
    for k in range(K):
        if c.count[k] > c.size[k]:
            depth[k] = 0
            queue[n] = k
            n += 1
    at, last = 0, K
    while at < n and depth[queue[at]] < last:
        j = queue[at]
        cost = c.cost[j]
        at += 1
        for k in range(K):
            if depth[k] < 0 and f[j] + cost[k] <= f[k] and _tight(x, c, f, j, k):
                depth[k] = depth[j] + 1
                queue[n] = k
                n += 1
                if c.count[k] < c.size[k]:
                    last = depth[k]
    return last < K


@exact_kernel
def augment(x: Any, c: Any, f: Any, depth: Any, labels: Any) -> None:
    """Move rows along paths of tight edges, each of which leads one deeper, until there are no such paths."""
    K = f.size
    path, at = np.empty(K, np.int64), np.zeros(K, np.int64)
    for source in range(K):
        while c.count[source] > c.size[source]:
            n = _path(x, c, f, depth, source, path, at)
            if n == 0:
                break
            sink = path[n]
            rows = min(c.count[source] - c.size[source], c.size[sink] - c.count[sink])
            for p in range(n):
                rows = min(rows, c.ties[path[p], path[p + 1]])
            for p in range(n - 1, -1, -1):
                _move(x, c, path[p], path[p + 1], rows, labels)


@exact_kernel
def _path(x: Any, c: Any, f: Any, depth: Any, source: int, path: Any, at: Any) -> int:
    """Find a path from ``source`` to a cluster in deficit, depth first; return its number of edges, 0 if there is none.

    ``at[j]`` is how far the edges of cluster j have been searched; one from which nothing was found loses its depth.
    """
    K = f.size
    path[0] = source
    n = 0
    while c.count[path[n]] >= c.size[path[n]]:
        j = path[n]
        k = at[j]
        while k < K and not (depth[k] == depth[j] + 1 and _tight(x, c, f, j, k)):
            k += 1
        at[j] = k
        if k < K:
            n += 1
            path[n] = k
        else:
            depth[j] = -1
            if n == 0:
                return 0
            n -= 1
    return n


@exact_kernel
def _move(x: Any, c: Any, j: int, k: int, rows: int, labels: Any) -> None:
    """Move ``rows`` rows of cluster j to cluster k, all at the same smallest cost."""
    v = np.empty(c.size.size)
    cost, left = c.cost[j, k], rows
    p = np.int64(c.position[c.cheapest[j, k]])
    if not (rows == 1 and c.first[j] <= p < c.first[j] + c.count[j] and c.own[p] - _entry(x, c.member[p], k) == cost):
        p = c.first[j] + c.count[j] - 1
    while left > 0:
        i = np.int64(c.member[p])
        if c.own[p] - _entry(x, i, k) == cost:
            for m in range(v.size):
                v[m] = _entry(x, i, m)
            _leave(c, p, j, v)
            _enter(c, i, k, v)
            labels[i] = k
            left -= 1
        p -= 1


@exact_kernel
def _leave(c: Any, p: int, j: int, v: Any) -> None:
    """Take the row at position ``p``, with entries ``v``, out of cluster j."""
    c.count[j] -= 1
    last = c.first[j] + c.count[j]
    i, own, cost, ties = np.int64(c.member[p]), c.own[p], c.cost[j], c.ties[j]
    near, loss, known, bound = c.near[j], c.loss[j], c.known[j], c.bound[j]
    c.member[p], c.own[p] = c.member[last], c.own[last]
    c.position[c.member[p]] = p
    for k in range(v.size):
        d = own - v[k]
        if d == cost[k]:
            ties[k] -= 1
        if d <= bound[k]:
            known[k] = _strike(near[k], loss[k], np.int64(known[k]), i)


@exact_kernel
def _renew(x: Any, c: Any, j: int, k: int) -> None:
    """Find the cost from cluster j to cluster k anew, among the nearest rows if it must be there, or among all."""
    near, loss, bound = c.near[j, k], c.loss[j, k], c.bound[j, k]
    n: Any = np.int64(c.known[j, k])
    cheapest: Any = np.int64(0)
    cost, ties = bound, 0
    for p in range(n):
        if loss[p] <= cost:
            ties = ties + 1 if loss[p] == cost else 1
            cost, cheapest = loss[p], near[p]
    if cost == bound:
        member, own, first = c.member, c.own, c.first[j]
        cost, n, bound = np.inf, 0, np.inf if near.size > 0 else -np.inf
        for p in range(first, first + c.count[j]):
            i = np.int64(member[p])
            d = own[p] - _entry(x, i, k)
            if d <= cost:
                ties = ties + 1 if d == cost else 1
                cost, cheapest = d, i
            if d < bound:
                n, bound = _note(near, loss, n, bound, i, d)
        c.known[j, k], c.bound[j, k] = n, bound
    c.cost[j, k], c.ties[j, k], c.cheapest[j, k] = cost, ties, cheapest
