"""Labels that fill every cluster to exactly its size, at the largest total score: the transport problem in whole rows.

Labels ``argmax_k(x_ik + f_k)`` are the best of all labels with the same cluster sizes, whatever the potentials f are
(complementary slackness). So potentials are first moved until few rows are in a wrong cluster, `sharpen`, and then
single rows are moved along shortest paths from clusters with too many rows to clusters with too few, `exact_labels`.
Importing this module starts the compiler: import it where it is used.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import cg

from selavi_ref.errors import InputError
from selavi_ref.transport.arithmetic import KERNEL, greater
from selavi_ref.transport.clustering import scores
from selavi_ref.transport.engines import Vector, check_size, refuse_entry

Labels = NDArray[np.int32]
Sizes = NDArray[np.int64]

# Costs are compared for equality, and some are infinite: they are computed as written.
EXACT: dict[str, Any] = {**KERNEL, "fastmath": False}

_PARTS, _PART = 32, 1024  # most parts and fewest rows of a part; they do not depend on the number of threads
_FEW = 0.02  # part of the rows that is moved one by one in the time of a few passes over the data
_ROUNDS = 60  # steps of the potentials, at most
_IDLE = 8  # steps in a row without much progress after which to stop
_SHORTEST = 1e-3  # part of a step at which the search for a better one ends
_NEAR = 32  # rows of a cluster nearest to another one that are kept at hand, at most
_FEW_EXTRA = 10  # rows of a boundary from which its density is told, besides those that have to cross it


def integer_sizes(marginal: ArrayLike, N: int) -> Sizes:
    """Round ``N * marginal`` to whole rows whose sum is N, by largest remainders; of equal ones the first goes up.

    Parameters
    ----------
    marginal : (K,) float64
        Sizes as parts of N, of sum 1.
    N : int
        Rows, at least 1.

    Returns
    -------
    (K,) int64
        The floor or the ceiling of each ``N * marginal``; zeros stay zero.

    Raises
    ------
    InputError
        If a part is negative or not finite, or the sum of the parts is not 1.
    """
    r = np.asarray(marginal, dtype=np.float64)
    if N < 1:
        raise InputError(f"the number of rows must be at least 1, not {N}")
    if r.ndim != 1 or not (np.isfinite(r) & (r >= 0)).all() or abs(r.sum() - 1) > 1e-9:
        raise InputError("the parts of the clusters must be (K,) numbers, finite, not negative and of sum 1")
    share = N * r
    sizes = np.floor(share).astype(np.int64)
    remainder = share - sizes
    sizes[np.argsort(-remainder, kind="stable")[: N - sizes.sum()]] += 1
    return sizes


def exact_labels(log_prob: ArrayLike, sizes: ArrayLike, potentials: ArrayLike) -> Labels:
    """Return the labels of largest total score of which exactly ``sizes[k]`` are k.

    Solves ``max sum_i log_prob[i, label_i]`` by successive shortest paths (Ahuja, Magnanti and Orlin, 1993, *Network
    Flows*, chapter 9) between clusters: an edge costs what the cheapest row loses that goes from one to the other. The
    total is the largest up to the rounding of float64 sums. Memory beside the data is O(N + K^2).

    Parameters
    ----------
    log_prob : (N, K) float32 or float64
        Finite scores; copied only if neither rows nor columns are contiguous.
    sizes : (K,) int
        Rows of each cluster, of sum N.
    potentials : (K,) float64
        Where to start, in units of ``log_prob``: best such that ``argmax_k(log_prob[i, k] + potentials[k])`` is nearly
        right. The total does not depend on it, but the time does.

    Returns
    -------
    (N,) int32

    Raises
    ------
    InputError
        If shapes do not fit, an entry is not finite (row and column named), or sizes do not sum to N.
    """
    problem = _Problem.of(log_prob, sizes, potentials)
    sight = _sharpened(problem)
    _repair(problem, sight)
    return sight.labels


def sharpen(log_prob: ArrayLike, sizes: ArrayLike, potentials: ArrayLike) -> Vector:
    """Return potentials (K,) at which ``argmax_k(log_prob[i, k] + potentials[k])`` nearly has the sizes asked for.

    Minimises ``sum_i max_k(log_prob_ik + f_k) - sum_k sizes_k f_k``, the dual of `exact_labels`, which has the same
    parameters, until at most 2% of the rows are in excess, if so many can be placed by potentials alone: equal rows and
    columns cannot. Potentials of clusters of size zero are ``-inf``.
    """
    return _sharpened(_Problem.of(log_prob, sizes, potentials)).potentials


def greedy_labels(log_prob: ArrayLike, sizes: ArrayLike, potentials: ArrayLike) -> Labels:
    """Return labels of which exactly ``sizes[k]`` are k, by the plain repair that `exact_labels` improves on.

    Each cluster keeps, of the rows that prefer it, those that do so by the largest margin, as many as it has room for.
    The others, again by descending margin, go to the cluster they like best of those that have room. Rows like
    ``log_prob + potentials``. Parameters are those of `exact_labels`.
    """
    problem = _Problem.of(log_prob, sizes, potentials)
    sight = problem.look(problem.start)
    labels, margin, sizes = sight.labels, sight.margin, problem.sizes
    order = np.lexsort((-margin, labels))
    count = np.bincount(labels, minlength=len(sizes))
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(count) - count, count)
    surplus = order[rank >= sizes[labels[order]]]
    surplus = surplus[np.argsort(-margin[surplus], kind="stable")]
    _settle(problem.x, sight.potentials, sizes - np.minimum(count, sizes), surplus, labels)
    return labels


class Matrix(NamedTuple):
    """N x K data of either order for the kernels: entry (i, k) is number ``i * down + k * right``.

    It is one of ``double``, or of ``single`` if that is empty: kernels are compiled once for both.
    """

    single: Any
    double: Any
    down: int
    right: int


@dataclass(frozen=True)
class _Problem:
    """Data that have been checked; the potentials to start from are as `_start` makes them."""

    x: Matrix
    sizes: Sizes
    start: Vector

    @classmethod
    def of(cls, log_prob: ArrayLike, sizes: ArrayLike, potentials: ArrayLike) -> _Problem:
        data = scores(np.asarray(log_prob))
        N, K = data.shape
        if not (data.flags.c_contiguous or data.flags.f_contiguous):
            data = np.ascontiguousarray(data)
        low, high = float(data.min()), float(data.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            row, column = divmod(int(np.argmin(np.isfinite(data))), K)
            refuse_entry(row, column, float(data[row, column]))
        check_size(max(-low, high), 1.0)
        flat, none = data.ravel(order="K"), np.empty(0)
        steps = (K, 1) if data.flags.c_contiguous else (1, N)
        x = Matrix(none.astype(np.float32), flat, *steps) if data.dtype == np.float64 else Matrix(flat, none, *steps)
        whole = _whole(sizes, N, K)
        return cls(x, whole, _start(potentials, whole, high - low))

    def look(self, potentials: Vector) -> _Sight:
        """Label all rows; one pass over the data."""
        N = int(self.sizes.sum())
        labels, second, margin = np.empty(N, np.int32), np.empty(N, np.int32), np.empty(N, np.float32)
        rows = max(-(-N // _PARTS), _PART)

        def part(lo: int) -> float:
            return float(_survey(self.x, lo, min(lo + rows, N), potentials, labels, second, margin))

        with ThreadPoolExecutor(int(numba.config.NUMBA_NUM_THREADS)) as pool:  # type: ignore[attr-defined]
            total = sum(pool.map(part, range(0, N, rows)))
        used = self.sizes > 0
        gap = np.bincount(labels, minlength=len(self.sizes)) - self.sizes
        value = total - float(self.sizes[used] @ potentials[used])
        return _Sight(potentials, labels, second, margin, gap, value)


@dataclass(frozen=True)
class _Sight:
    """Labels at potentials, the second choice of each row, and by how much it falls short.

    ``gap`` is how many rows a cluster has too many, and ``value`` is the dual.
    """

    potentials: Vector
    labels: Labels
    second: Labels
    margin: NDArray[np.float32]
    gap: Sizes
    value: float

    @property
    def excess(self) -> int:
        return int(np.maximum(self.gap, 0).sum())


def _whole(sizes: ArrayLike, N: int, K: int) -> Sizes:
    given = np.asarray(sizes)
    if given.shape != (K,) or given.dtype.kind not in "iu":
        raise InputError(f"cluster sizes must be ({K},) integers, not {given.shape} of type {given.dtype}")
    size = given.astype(np.int64)
    if (size < 0).any() or size.sum() != N:
        raise InputError(f"cluster sizes must not be negative and must sum to the number of rows, {N}")
    return size


def _start(potentials: ArrayLike, sizes: Sizes, spread: float) -> Vector:
    """Return potentials between ``-spread`` and 0, or ``-inf`` for clusters of size zero.

    Where no two entries differ by more than ``spread``, lower ones change no label and would only cost digits.
    """
    f = np.array(potentials, dtype=np.float64)
    if f.shape != sizes.shape:
        raise InputError(f"potentials have shape {f.shape}, but there are {len(sizes)} clusters")
    used = sizes > 0
    if np.isnan(f[used]).any() or (f[used] == np.inf).any():
        raise InputError("potentials must be numbers, or -inf")
    top = f[used].max()
    f = np.maximum(f - top, -spread) if np.isfinite(top) else np.zeros(len(f))
    f[~used] = -np.inf
    return f


def _sharpened(problem: _Problem) -> _Sight:
    """Lower the dual until few rows are in excess, or it falls no more."""
    N = int(problem.sizes.sum())
    sight = best = problem.look(problem.start)
    length, idle, slow = 1.0, 0, False
    for _ in range(_ROUNDS):
        if best.excess <= _FEW * N or idle == _IDLE:
            break
        lower = 4 * sight.excess > N and not slow
        direction = _lowering(sight) if lower else _newton(sight)
        if not direction.any():
            break
        length = 1.0 if lower else min(1.0, 2 * length)
        found = problem.look(sight.potentials + length * direction)
        while found.value >= sight.value and length > _SHORTEST:
            length /= 2
            found = problem.look(sight.potentials + length * direction)
        if found.value >= sight.value:
            break
        slow = lower and found.excess > 0.9 * sight.excess
        sight = found
        idle = 0 if sight.excess < 0.8 * best.excess else idle + 1
        best = min(best, sight, key=lambda seen: seen.excess)
    return best


def _lowering(sight: _Sight) -> Vector:
    """Return by how much each cluster in excess is lowered for as many rows to prefer another one, all else equal.

    Lowered together, they keep at least their sizes, so that the dual falls.
    """
    need = np.maximum(sight.gap, 0)
    return np.where(need > 0, -_smallest(sight.labels, sight.margin, need), 0.0)


def _newton(sight: _Sight) -> Vector:
    """Return a step to the minimum of a quadratic model of the dual.

    Its Hessian is the Laplacian of the densities of rows at the boundaries between clusters. A density is told from the
    rows within the width from which the larger need of the two clusters can be met.
    """
    K = len(sight.gap)
    labels, second, margin = sight.labels, sight.second, sight.margin
    need = np.abs(sight.gap) + _FEW_EXTRA
    width = _smallest(np.concatenate((labels, second)), np.concatenate((margin, margin)), need)
    width[~np.isfinite(width)] = width[np.isfinite(width)].max()
    edge = np.maximum(width[labels], width[second])
    near = margin < edge
    density = coo_array((0.5 / edge[near], (labels[near], second[near])), shape=(K, K)).tocsr()
    density = density + density.T
    degree: Vector = density.sum(1)
    degree = np.where(degree > 0, 1.001 * degree, degree.max() + 1.0)
    laplacian = diags_array(degree) - density
    step, _ = cg(laplacian, -sight.gap.astype(np.float64), rtol=1e-2, maxiter=100, M=diags_array(1 / degree))
    return np.asarray(step)


def _smallest(group: Labels, margin: NDArray[np.float32], rank: Sizes) -> Vector:
    """Return of each group k the margin that ``rank[k]`` others precede, or the largest; infinity if it has none."""
    order = np.argsort(group.astype(np.min_scalar_type(len(rank))), kind="stable")  # a radix sort for few groups
    ends = np.cumsum(np.bincount(group, minlength=len(rank)))
    found = np.full(len(rank), np.inf)
    for k, part in enumerate(np.split(margin[order], ends[:-1])):
        if len(part):
            r = min(int(rank[k]), len(part) - 1)
            found[k] = np.partition(part, r)[r]
    return found


class Clusters(NamedTuple):
    """Rows of each cluster, and what they would lose elsewhere.

    The rows of cluster j are ``member[first[j] : first[j] + count[j]]``; ``place`` is where a row stands there, and
    ``own`` what it scores. ``cost[j, k]`` is the smallest of ``x_ij - x_ik`` over the rows of j; ``ties[j, k]`` rows
    reach it, and ``cheapest[j, k]`` may still be one of them. If no row is left to reach it, it is smaller than all and
    to be renewed when that matters. All rows of j of smaller cost than ``bound[j, k]`` are among the first
    ``known[j, k]`` of ``near[j, k]``, at costs ``loss[j, k]``: from them comes the next cheapest one.
    """

    size: Any
    count: Any
    first: Any
    member: Any
    own: Any
    place: Any
    cost: Any
    ties: Any
    cheapest: Any
    near: Any
    loss: Any
    known: Any
    bound: Any


def _repair(problem: _Problem, sight: _Sight) -> None:
    """Change ``sight.labels`` until all clusters have their sizes.

    The potentials are raised by the distances from clusters in excess. Then the edges of shortest paths are tight: they
    cost nothing, in the costs ``cost[j, k] + f[j] - f[k]``, never negative. Rows are moved along paths of tight edges,
    the shortest first, until there are none, and so on.
    """
    if not sight.excess:
        return
    clusters = _clusters(problem, sight.labels)
    f, depth = sight.potentials.copy(), np.empty(len(problem.sizes), np.int64)
    while (clusters.count > problem.sizes).any():
        _shortest(problem.x, clusters, f)
        while _levels(problem.x, clusters, f, depth):
            _augment(problem.x, clusters, f, depth, sight.labels)


def _clusters(problem: _Problem, labels: Labels) -> Clusters:
    """Sort the rows into their clusters and find the costs; one pass over the data."""
    N, K = len(labels), len(problem.sizes)
    slots = np.maximum(np.bincount(labels, minlength=K), problem.sizes)
    most = min(_NEAR, N // K**2)
    clusters = Clusters(
        size=problem.sizes,
        count=np.zeros(K, np.int64),
        first=np.cumsum(slots) - slots,
        member=np.empty(slots.sum(), np.int32),
        own=np.empty(slots.sum()),
        place=np.empty(N, np.int32),
        cost=np.full((K, K), np.inf),
        ties=np.zeros((K, K), np.int32),
        cheapest=np.zeros((K, K), np.int32),
        near=np.empty((K, K, most), np.int32),
        loss=np.empty((K, K, most)),
        known=np.zeros((K, K), np.int8),
        bound=np.full((K, K), np.inf if most else -np.inf),
    )
    _fill(problem.x, clusters, labels)
    return clusters


@njit(**KERNEL)
def _load(x: Any, lo: int, n: int, f: Any, v: Any) -> None:
    """Fill ``v`` with rows ``lo:lo + n`` plus ``f``."""
    if x.double.size > 0:
        _load_from(x.double, x.right, lo, n, f, v)
    else:
        _load_from(x.single, x.right, lo, n, f, v)


@njit(**KERNEL)
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


@njit(**KERNEL)
def _first_of_largest(v: Any) -> Any:
    top = v[0]
    for k in range(1, v.size):
        top = greater(top, v[k])
    k = 0
    while v[k] < top:
        k += 1
    return k, top


@njit(**KERNEL)
def _survey(x: Any, lo: int, hi: int, f: Any, labels: Any, second: Any, margin: Any) -> float:
    """Fill in first and second choice and the margin between them for rows ``lo:hi``; return the sum of the best."""
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


@njit(**EXACT)
def _settle(x: Any, f: Any, room: Any, rows: Any, labels: Any) -> None:
    """Give ``rows``, in this order, their best cluster of those with ``room``."""
    for i in rows:
        best = -1
        for k in range(f.size):
            if room[k] > 0 and (best < 0 or _entry(x, i, k) + f[k] > _entry(x, i, best) + f[best]):
                best = k
        labels[i] = best
        room[best] -= 1


@njit(**EXACT)
def _entry(x: Any, i: int, k: int) -> Any:
    at = np.int64(i) * x.down + k * x.right
    return x.double[at] if x.double.size > 0 else np.float64(x.single[at])


@njit(**EXACT)
def _fill(x: Any, c: Any, labels: Any) -> None:
    """Put all rows into the clusters of their labels."""
    block = 4 if x.right == 1 else 64
    K = c.size.size
    v, zero = np.empty((block, K)), np.zeros(K)
    for start in range(0, labels.size, block):
        n = min(block, labels.size - start)
        _load(x, start, n, zero, v)
        for r in range(n):
            _enter(c, start + r, np.int64(labels[start + r]), v[r])


@njit(**EXACT)
def _enter(c: Any, i: int, j: int, v: Any) -> None:
    """Add row i, with entries ``v``, to cluster j."""
    p = c.first[j] + c.count[j]
    c.count[j] += 1
    c.member[p], c.place[i], own = i, p, v[j]
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


@njit(**EXACT)
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


@njit(**EXACT)
def _strike(near: Any, loss: Any, n: int, i: int) -> int:
    """Take row i off the ``n`` nearest, if it is there; return their new number."""
    for p in range(n):
        if near[p] == i:
            near[p], loss[p] = near[n - 1], loss[n - 1]
            return n - 1
    return n


@njit(**EXACT)
def _shortest(x: Any, c: Any, f: Any) -> None:
    """Add to ``f`` the distances from clusters in excess, up to that of the farthest cluster in deficit (Dijkstra).

    Potentials are set to ``f[j] + cost[j, k]`` as such, not by a difference, so that `_tight` can tell them exactly. A
    cost that has to be renewed is too small until then; so it is enough to renew it when its cluster would come next.
    """
    K = f.size
    g, parent, done = np.empty(K), np.empty(K, np.int64), np.empty(K, np.bool_)
    wanted = 0
    for k in range(K):
        g[k], parent[k], done[k] = f[k] if c.count[k] > c.size[k] else np.inf, -1, c.size[k] == 0
        wanted += c.count[k] < c.size[k]
    reached = 0.0
    while wanted > 0:
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
        wanted -= c.count[j] < c.size[j]
        reached = max(reached, g[j] - f[j])
        cost, base = c.cost[j], g[j]
        for k in range(K):
            if not done[k] and base + cost[k] < g[k]:
                g[k], parent[k] = base + cost[k], j
    for k in range(K):
        if c.size[k] > 0:
            f[k] = g[k] if done[k] else f[k] + reached


@njit(**EXACT)
def _closest(g: Any, f: Any, done: Any) -> int:
    j, least = -1, np.inf
    for k in range(g.size):
        if not done[k] and g[k] - f[k] < least:
            j, least = k, g[k] - f[k]
    return j


@njit(**EXACT)
def _tight(x: Any, c: Any, f: Any, j: int, k: int) -> bool:
    if f[j] + c.cost[j, k] <= f[k] and c.ties[j, k] == 0:
        _renew(x, c, j, k)
    return f[j] + c.cost[j, k] <= f[k]


@njit(**EXACT)
def _levels(x: Any, c: Any, f: Any, depth: Any) -> bool:
    """Fill ``depth`` with the number of tight edges from clusters in excess; return whether one in deficit is reached.

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


@njit(**EXACT)
def _augment(x: Any, c: Any, f: Any, depth: Any, labels: Any) -> None:
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


@njit(**EXACT)
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


@njit(**EXACT)
def _move(x: Any, c: Any, j: int, k: int, rows: int, labels: Any) -> None:
    """Move as many as ``rows`` rows of cluster j to cluster k, all at the same smallest cost."""
    v = np.empty(c.size.size)
    cost, left = c.cost[j, k], rows
    p = np.int64(c.place[c.cheapest[j, k]])
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


@njit(**EXACT)
def _leave(c: Any, p: int, j: int, v: Any) -> None:
    """Take the row at place ``p``, with entries ``v``, out of cluster j."""
    c.count[j] -= 1
    last = c.first[j] + c.count[j]
    i, own, cost, ties = np.int64(c.member[p]), c.own[p], c.cost[j], c.ties[j]
    near, loss, known, bound = c.near[j], c.loss[j], c.known[j], c.bound[j]
    c.member[p], c.own[p] = c.member[last], c.own[last]
    c.place[c.member[p]] = p
    for k in range(v.size):
        d = own - v[k]
        if d == cost[k]:
            ties[k] -= 1
        if d <= bound[k]:
            known[k] = _strike(near[k], loss[k], np.int64(known[k]), i)


@njit(**EXACT)
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
