"""Labels of the largest total score whose clusters have exactly the given sizes.

Labels ``argmax_k(x_ik + f_k)`` are the best of all labels with the same cluster sizes, whatever the potentials f are
(complementary slackness). So potentials are first moved until few rows are in a wrong cluster, and then single rows
are moved along shortest paths from clusters with too many rows to clusters with too few. Importing this module starts
the compiler: import it only where it is used.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import cg

from selavi_ref.compiler import n_threads
from selavi_ref.errors import InputError
from selavi_ref.transport import exact_kernels
from selavi_ref.transport.arguments import Vector, check_size, refuse_entry, score_matrix

Labels = NDArray[np.int32]
Sizes = NDArray[np.int64]

_PARTS, _PART = 32, 1024  # most parts, and fewest rows of a part, whatever the number of threads
_FEW = 0.02  # fraction of the rows that single moves place in the time of a few passes over the data
_ROUNDS = 60  # steps of the potentials, at most
_IDLE = 8  # steps in a row without much progress after which to stop
_SHORTEST = 1e-3  # fraction of a step at which the line search ends
_NEAR = 32  # most rows of a cluster nearest to another one that are stored
_FEW_EXTRA = 10  # rows from which the density at a boundary is estimated, besides those that have to cross it


def exact_labels(log_prob: ArrayLike, sizes: ArrayLike, potentials: ArrayLike) -> Labels:
    """Return the labels of the largest total score among those of which exactly ``sizes[k]`` are k.

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
        Starting point, in units of ``log_prob``: the closer ``argmax_k(log_prob[i, k] + potentials[k])`` is to the
        sizes, the less time it takes. The total does not depend on it.

    Returns
    -------
    (N,) int32

    Raises
    ------
    InputError
        If shapes do not fit, an entry is not finite (row and column named), or sizes do not sum to N.
    """
    problem = Problem.of(log_prob, sizes, potentials)
    return repair(problem, fit_potentials(problem))[0]


def greedy_labels(log_prob: ArrayLike, sizes: ArrayLike, potentials: ArrayLike) -> Labels:
    """Return labels of which exactly ``sizes[k]`` are k by greedy repair, the baseline of `exact_labels`.

    Each cluster keeps, of the rows that prefer it, those that do so by the largest margin, as many as it has room for.
    The others, again by descending margin, go to the best cluster that has room. Rows prefer the largest
    ``log_prob + potentials``. Parameters are those of `exact_labels`.
    """
    problem = Problem.of(log_prob, sizes, potentials)
    return repair_greedily(problem, problem.evaluate(problem.start))


def repair_greedily(problem: Problem, state: State) -> Labels:
    """Change the labels of a state in place to those of `greedy_labels` at its potentials, and return them."""
    labels, margin, sizes = state.labels, state.margin, problem.sizes
    order = np.lexsort((-margin, labels))
    count = np.bincount(labels, minlength=len(sizes))
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(count) - count, count)
    surplus = order[rank >= sizes[labels[order]]]
    surplus = surplus[np.argsort(-margin[surplus], kind="stable")]
    exact_kernels.settle(problem.x, state.potentials, sizes - np.minimum(count, sizes), surplus, labels)
    return labels


@dataclass(frozen=True)
class Problem:
    """Checked data, with the starting potentials of `_start`."""

    x: exact_kernels.Matrix
    sizes: Sizes
    start: Vector

    @classmethod
    def of(cls, log_prob: ArrayLike, sizes: ArrayLike, potentials: ArrayLike) -> Problem:
        """Check the arguments of `exact_labels`."""
        data = score_matrix(np.asarray(log_prob))
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
        checked = _checked_sizes(sizes, N, K)
        return cls(x, checked, _start(potentials, checked, high - low))

    def evaluate(self, potentials: Vector) -> State:
        """Label all rows; one pass over the data."""
        N = int(self.sizes.sum())
        labels, second, margin = np.empty(N, np.int32), np.empty(N, np.int32), np.empty(N, np.float32)
        rows = max(-(-N // _PARTS), _PART)

        def part(lo: int) -> float:
            return float(exact_kernels.label_rows(self.x, lo, min(lo + rows, N), potentials, labels, second, margin))

        parts = range(0, N, rows)
        threads = min(n_threads(), len(parts))
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                total = sum(pool.map(part, parts))
        else:
            total = sum(map(part, parts))
        used = self.sizes > 0
        gap = np.bincount(labels, minlength=len(self.sizes)) - self.sizes
        value = total - float(self.sizes[used] @ potentials[used])
        return State(potentials, labels, second, margin, gap, value)


@dataclass(frozen=True)
class State:
    """Labels at potentials, the second best cluster of each row, and its margin to the best.

    ``gap`` is the number of rows that a cluster has too many, and ``value`` is the dual.
    """

    potentials: Vector
    labels: Labels
    second: Labels
    margin: NDArray[np.float32]
    gap: Sizes
    value: float

    @property
    def excess(self) -> int:
        """Rows that have to leave the clusters which have too many."""
        return int(np.maximum(self.gap, 0).sum())


def _checked_sizes(sizes: ArrayLike, N: int, K: int) -> Sizes:
    array = np.asarray(sizes)
    if array.shape != (K,) or array.dtype.kind not in "iu":
        message = f"cluster sizes must be ({K},) integers, not {array.shape} of type {array.dtype}"
        raise InputError(message, option="sizes")
    size = array.astype(np.int64)
    if (size < 0).any() or size.sum() != N:
        message = f"cluster sizes must not be negative and must sum to the number of rows, {N}"
        raise InputError(message, option="sizes")
    return size


def _start(potentials: ArrayLike, sizes: Sizes, spread: float) -> Vector:
    """Return potentials between ``-spread`` and 0, or ``-inf`` for clusters of size zero.

    Where no two scores differ by more than ``spread``, lower potentials change no label and only cost digits.
    """
    f = np.array(potentials, dtype=np.float64)
    if f.shape != sizes.shape:
        raise InputError(f"potentials have shape {f.shape}, but there are {len(sizes)} clusters", option="potentials")
    used = sizes > 0
    if np.isnan(f[used]).any() or (f[used] == np.inf).any():
        raise InputError("potentials must be numbers, or -inf", option="potentials")
    top = f[used].max()
    f = np.maximum(f - top, -spread) if np.isfinite(top) else np.zeros(len(f))
    f[~used] = -np.inf
    return f


def fit_potentials(problem: Problem) -> State:
    """Lower the dual of `exact_labels` until few rows are in excess, or it falls no more.

    The dual is ``sum_i max_k(log_prob_ik + f_k) - sum_k sizes_k f_k``. At most 2 % of the rows are in excess then, if
    potentials alone can place so many: equal rows and equal columns they cannot tell apart.
    """
    N = int(problem.sizes.sum())
    state = best = problem.evaluate(problem.start)
    length, idle, slow = 1.0, 0, False
    for _ in range(_ROUNDS):
        if best.excess <= _FEW * N or idle == _IDLE:
            break
        lower = 4 * state.excess > N and not slow
        direction = _lowering(state) if lower else _newton(state)
        if not direction.any():
            break
        length = 1.0 if lower else min(1.0, 2 * length)
        new = problem.evaluate(state.potentials + length * direction)
        while new.value >= state.value and length > _SHORTEST:
            length /= 2
            new = problem.evaluate(state.potentials + length * direction)
        if new.value >= state.value:
            break
        slow = lower and new.excess > 0.9 * state.excess
        state = new
        idle = 0 if state.excess < 0.8 * best.excess else idle + 1
        best = min(best, state, key=lambda each: each.excess)
    return best


def _lowering(state: State) -> Vector:
    """Return the change that makes just the excess rows of each cluster prefer another one, all else equal.

    Lowered together, clusters keep at least their sizes, so that the dual falls.
    """
    need = np.maximum(state.gap, 0)
    return np.where(need > 0, -_smallest(state.labels, state.margin, need), 0.0)


def _newton(state: State) -> Vector:
    """Return the step to the minimum of a quadratic model of the dual.

    Its Hessian is the Laplacian of the densities of rows at the boundaries between clusters. A density is estimated
    from the rows within the width that meets the larger need of the two clusters.
    """
    K = len(state.gap)
    labels, second, margin = state.labels, state.second, state.margin
    need = np.abs(state.gap) + _FEW_EXTRA
    width = _smallest(np.concatenate((labels, second)), np.concatenate((margin, margin)), need)
    width[~np.isfinite(width)] = width[np.isfinite(width)].max()
    edge = np.maximum(width[labels], width[second])
    near = margin < edge
    density = coo_array((0.5 / edge[near], (labels[near], second[near])), shape=(K, K)).tocsr()
    density = density + density.T
    degree: Vector = density.sum(1)
    degree = np.where(degree > 0, 1.001 * degree, degree.max() + 1.0)
    laplacian = diags_array(degree) - density
    step, _ = cg(laplacian, -state.gap.astype(np.float64), rtol=1e-2, maxiter=100, M=diags_array(1 / degree))
    return np.asarray(step)


def _smallest(group: Labels, margin: NDArray[np.float32], rank: Sizes) -> Vector:
    """Return the margin of rank ``rank[k]``, from 0, in each group k, or its largest; infinity for an empty group."""
    order = np.argsort(group.astype(np.min_scalar_type(len(rank))), kind="stable")  # a radix sort for few groups
    ends = np.cumsum(np.bincount(group, minlength=len(rank)))
    smallest = np.full(len(rank), np.inf)
    for k, part in enumerate(np.split(margin[order], ends[:-1])):
        if len(part):
            r = min(int(rank[k]), len(part) - 1)
            smallest[k] = np.partition(part, r)[r]
    return smallest


def repair(problem: Problem, state: State) -> tuple[Labels, Vector]:
    """Change the labels of a state in place until all clusters have their sizes; return them and their potentials.

    At these potentials each row is in the best cluster, or in one as good: a start for a problem much like this one.
    The potentials are raised by the distances from clusters in excess. Then the edges of shortest paths are tight: they
    cost nothing, in the costs ``cost[j, k] + f[j] - f[k]``, never negative. Rows are moved along paths of tight edges,
    the shortest first, until there are none, and so on.
    """
    if not state.excess:
        return state.labels, state.potentials
    clusters = _clusters(problem, state.labels)
    f, depth = state.potentials.copy(), np.empty(len(problem.sizes), np.int64)
    while (clusters.count > problem.sizes).any():
        exact_kernels.shortest(problem.x, clusters, f)
        while exact_kernels.levels(problem.x, clusters, f, depth):
            exact_kernels.augment(problem.x, clusters, f, depth, state.labels)
    return state.labels, f


def _clusters(problem: Problem, labels: Labels) -> exact_kernels.Clusters:
    """Sort the rows into their clusters and compute the costs; one pass over the data."""
    N, K = len(labels), len(problem.sizes)
    slots = np.maximum(np.bincount(labels, minlength=K), problem.sizes)
    most = min(_NEAR, N // K**2)
    clusters = exact_kernels.Clusters(
        size=problem.sizes,
        count=np.zeros(K, np.int64),
        first=np.cumsum(slots) - slots,
        member=np.empty(slots.sum(), np.int32),
        own=np.empty(slots.sum()),
        position=np.empty(N, np.int32),
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
