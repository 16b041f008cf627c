"""Labels that fill every cluster to exactly its size, at the largest total score: the transport problem in whole rows.

Labels ``argmax_k(x_ik + f_k)`` are the best of all labels with the same cluster sizes, whatever the potentials f are
(complementary slackness). So potentials are first moved until few rows are in a wrong cluster, `sharpen`, and then
single rows are moved along shortest paths from clusters with too many rows to clusters with too few, `exact_labels`.
Importing this module starts the compiler: import it where it is used.
"""

from __future__ import annotations

from collections.abc import Callable
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

_PARTS = 32  # parts of the rows that threads share, whatever their number, so that sums do not depend on it
_ROUNDS = 60  # of potentials, at most
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

    Solves ``max sum_i log_prob[i, label_i]`` by successive shortest paths between clusters (Ahuja, Magnanti and Orlin,
    1993, *Network Flows*, chapter 9), the costs of which are kept for each pair of clusters: what the cheapest row loses
    that goes from one to the other. Memory beside the data is O(N + K^2).

    Parameters
    ----------
    log_prob : (N, K) float32 or float64
        Finite scores; copied only if neither rows nor columns are contiguous.
    sizes : (K,) int
        Rows of each cluster, of sum N.
    potentials : (K,) float64
        Where to start, in units of ``log_prob``: such that ``argmax_k(log_prob[i, k] + potentials[k])`` is nearly right.
        The total does not depend on it, but the time does.

    Returns
    -------
    (N,) int32

    Raises
    ------
    InputError
        If shapes do not fit, an entry is not finite (row and column named), or sizes do not sum to N.
    """
    problem = _Problem.of(log_prob, sizes, potentials)
    sight = problem.look(_sharpened(problem))
    if sight.excess:
        _repair(problem.x, problem.sizes, sight.potentials, sight.labels)
    return sight.labels


def sharpen(log_prob: ArrayLike, sizes: ArrayLike, potentials: ArrayLike) -> Vector:
    """Return potentials (K,) at which ``argmax_k(log_prob[i, k] + potentials[k])`` nearly has the sizes asked for.

    Minimises ``sum_i max_k(log_prob_ik + f_k) - sum_k sizes_k f_k``, the dual of `exact_labels`, which has the same
    parameters, until a few rows per cluster are in excess. Potentials of clusters of size zero are ``-inf``.
    """
    return _sharpened(_Problem.of(log_prob, sizes, potentials))


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
    homeless = order[rank >= sizes[labels[order]]]
    homeless = homeless[np.argsort(-margin[homeless], kind="stable")]
    _settle(problem.x, sight.potentials, sizes - np.minimum(count, sizes), homeless, labels)
    return labels


class Matrix(NamedTuple):
    """N x K data of either order for the kernels: entry (i, k) is ``flat[i * down + k * right]``."""

    flat: Any
    down: int
    right: int


@dataclass(frozen=True)
class _Problem:
    """Data that have been checked: potentials to start from differ by no more than entries do, or are ``-inf``."""

    x: Matrix
    sizes: Sizes
    start: Vector

    @classmethod
    def of(cls, log_prob: ArrayLike, sizes: ArrayLike, potentials: ArrayLike) -> _Problem:
        data = scores(log_prob)
        N, K = data.shape
        if not (data.flags.c_contiguous or data.flags.f_contiguous):
            data = np.ascontiguousarray(data)
        low, high = float(data.min()), float(data.max())
        if not np.isfinite(high - low):
            row, column = divmod(int(np.argmin(np.isfinite(data))), K)
            refuse_entry(row, column, float(data[row, column]))
        check_size(max(-low, high), 1.0)
        by_rows = data.flags.c_contiguous
        x = Matrix(data.reshape(-1), K, 1) if by_rows else Matrix(data.ravel(order="K"), 1, N)
        size = _whole(sizes, N, K)
        return cls(x, size, _start(potentials, size, high - low))

    def look(self, potentials: Vector) -> _Sight:
        """Label all rows; one pass over the data."""
        N = len(self.x.flat) // len(self.sizes)
        labels, second, margin = np.empty(N, np.int32), np.empty(N, np.int32), np.empty(N, np.float32)
        rows = -(-N // _PARTS)

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
    """Return potentials no further apart than ``spread``, which gives the same or better labels, and keeps digits."""
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


def _sharpened(problem: _Problem) -> Vector:
    """Minimise the dual until about as many rows are in excess as there are clusters, or no progress is made."""
    N, K = problem.sizes.sum(), len(problem.sizes)
    sight = problem.look(problem.start)
    for _ in range(_ROUNDS):
        if sight.excess <= K:
            break
        better = _lowered(problem, sight) if 4 * sight.excess > N else _newton(problem, sight)
        done = better is None or better.excess > 0.9 * sight.excess and better.value > 0
        if better is None:
            break
        sight = better
    return sight.potentials
