"""Labels that fill every cluster to exactly its size, at the largest total score: the transport problem in whole rows.

Labels ``argmax_k(x_ik + f_k)`` are the best of all labels with the same cluster sizes, whatever the potentials f are
(complementary slackness). So potentials are first moved until few rows are in a wrong cluster, `sharpen`, and then
single rows are moved along shortest paths from clusters with too many rows to clusters with too few, `exact_labels`.
Importing this module starts the compiler: import it where it is used.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import cg

from selavi_ref.errors import InputError
from selavi_ref.transport import exact_kernels
from selavi_ref.transport.assignment import scores
from selavi_ref.transport.engines import Vector, check_size, refuse_entry

Labels = NDArray[np.int32]
Sizes = NDArray[np.int64]

_PARTS, _PART = 32, 1024  # most parts and fewest rows of a part; they do not depend on the number of threads
_FEW = 0.02  # part of the rows that single moves place in the time of a few passes over the data
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
    exact_kernels.settle(problem.x, sight.potentials, sizes - np.minimum(count, sizes), surplus, labels)
    return labels


@dataclass(frozen=True)
class _Problem:
    """Data that have been checked; the potentials to start from are as `_start` makes them."""

    x: exact_kernels.Matrix
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
        x = (
            exact_kernels.Matrix(none.astype(np.float32), flat, *steps)
            if data.dtype == np.float64
            else exact_kernels.Matrix(flat, none, *steps)
        )
        whole = _whole(sizes, N, K)
        return cls(x, whole, _start(potentials, whole, high - low))

    def look(self, potentials: Vector) -> _Sight:
        """Label all rows; one pass over the data."""
        N = int(self.sizes.sum())
        labels, second, margin = np.empty(N, np.int32), np.empty(N, np.int32), np.empty(N, np.float32)
        rows = max(-(-N // _PARTS), _PART)

        def part(lo: int) -> float:
            return float(exact_kernels.survey(self.x, lo, min(lo + rows, N), potentials, labels, second, margin))

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
        exact_kernels.shortest(problem.x, clusters, f)
        while exact_kernels.levels(problem.x, clusters, f, depth):
            exact_kernels.augment(problem.x, clusters, f, depth, sight.labels)


def _clusters(problem: _Problem, labels: Labels) -> exact_kernels.Clusters:
    """Sort the rows into their clusters and find the costs; one pass over the data."""
    N, K = len(labels), len(problem.sizes)
    slots = np.maximum(np.bincount(labels, minlength=K), problem.sizes)
    most = min(_NEAR, N // K**2)
    clusters = exact_kernels.Clusters(
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
    exact_kernels.fill(problem.x, clusters, labels)
    return clusters
