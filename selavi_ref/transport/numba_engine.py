"""The plan pass by compiled code: one fused read of the data per pass, by threads of this process.

The threads are Python's and the kernels release the interpreter lock, so no threading layer is started. Their number
is Numba's: set the environment variable ``NUMBA_NUM_THREADS``. Parts of the rows are summed in order, so that results
repeat to the last bit for the same number of threads.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from selavi_ref.compiler import n_threads
from selavi_ref.transport import kernels
from selavi_ref.transport.arguments import Vector, check_size, normalised, refuse_entry
from selavi_ref.transport.numpy_engine import stats_of
from selavi_ref.transport.plan_pass import STATS_ROWS, PlanStats, Rows

_LOG2E = 1.4426950408889634
_LN2 = 0.6931471805599453
_FEW = 48  # columns up to which a block of rows is vectorised over its rows
_PART = 1 << 18  # entries that a thread takes at a time, at least
_STATS_BLOCK = 1 << 17  # entries that the statistics are taken from at a time
_PARTS = 64  # parts of the data, at most
_MOST_KEPT = 1 << 29  # bytes of powers that are kept
_FAR = 20.0  # change of a potential, in base 2, after which they are computed anew
_NOWHERE = -1e35  # potential of an empty column; finite, so that sums with it are
_SPREAD = 20_000.0  # base-2 exponents that differ by more are left to float64

T = TypeVar("T")
_Kept = tuple[NDArray[Any], NDArray[Any], float, NDArray[Any]]  # f, factor, centre, powers


class NumbaPass:
    """`PlanPass` on float32 or float64 data in memory, of either order, in the precision of the data.

    The powers that one pass computes are kept for the next ones, which are several times as fast, until potentials have
    gone far: as many bytes as the data in single precision have, if they are no more than `_MOST_KEPT`.

    Parameters
    ----------
    log_prob, strength, weight
        As for every engine.
    keeps : bool
        False: compute the powers in each pass.
    """

    def __init__(
        self, log_prob: NDArray[Any], strength: float, weight: Vector | None = None, *, keeps: bool = True
    ) -> None:
        if not (log_prob.flags.c_contiguous or log_prob.flags.f_contiguous):
            log_prob = np.ascontiguousarray(log_prob)
        N, K = self.shape = (log_prob.shape[0], log_prob.shape[1])
        self.weight = normalised(weight)
        self.lend(log_prob)
        self._scale = strength * _LOG2E
        self._by_columns = not log_prob.flags.c_contiguous
        self._tall = K <= _FEW or self._by_columns
        self._width = K if self._tall else _whole_vectors(K)
        self._parts = _divide(N, K)
        self._strength = strength
        self._type: type[Any] = np.float32 if log_prob.dtype == np.float32 else np.float64
        self._weight = np.ones(1) if self.weight is None else self.weight * N
        self.largest = self._largest_entry()
        self._spread = self.largest * abs(self._scale)
        self._keeps = keeps
        self._powers: NDArray[Any] | None = None  # computed at self._f, self._centre and self._sharpness
        self._sharpness = 1.0
        n_shifts = N if keeps or not self._tall else 0
        self._shift: NDArray[Any] = np.full(-(-n_shifts // kernels.TALL) * kernels.TALL, kernels.UNKNOWN)

    def lend(self, log_prob: NDArray[Any] | None) -> None:
        """Replace the data by an equal copy at another address, or by None until the next pass."""
        self._x: Any = log_prob
        self._flat: Any = None if log_prob is None else log_prob.ravel(order="K")

    def __call__(self, potentials: Vector, sharpness: float = 1.0, *, precise: bool = False) -> tuple[float, Vector]:
        """See `PlanPass`."""
        N, K = self.shape
        dtype = self._precision(potentials, precise)
        kept = self._kept(potentials, dtype, sharpness)
        fills = kept is None
        if kept is None:
            kept = self._renewed(potentials, dtype, sharpness)
        f, factor, centre, powers = kept
        scale, weight, shift = dtype(self._scale * sharpness), self._weight.astype(dtype, copy=False), self._shift

        common = shift, powers, fills, weight
        masses = np.zeros((len(self._parts), K))

        def part(p: int, lo: int, hi: int) -> float:
            if self._tall:
                layout = self._by_columns
                return float(kernels.tall_pass(self._x, lo, hi, scale, f, factor, layout, *common, masses[p]))
            return float(kernels.wide_pass(self._flat, K, lo, hi, scale, f, factor, *common, masses[p]))

        values = self._each(part)
        mass = masses.sum(0)  # of sum N but for rounding, which lifts all columns alike
        return sum(values) * _LN2 / N + centre, mass / mass.sum()

    def rows(self, potentials: Vector) -> Rows:
        """See `PlanPass`."""
        N, K = self.shape
        f, mult, centre = _split(potentials, np.float64, self._width)
        scale, weight = self._scale, self._weight
        out = np.empty(N, np.int32), np.empty(N, np.float32), np.empty(N)
        masses = np.zeros((len(self._parts), K))

        def part(p: int, lo: int, hi: int) -> Any:
            if self._tall:
                return kernels.tall_rows(self._x, lo, hi, scale, f, mult, self._by_columns, weight, out, masses[p])
            return kernels.wide_rows(self._flat, K, lo, hi, scale, f, mult, weight, out, masses[p])

        value, score = np.array(self._each(part)).sum(0) / N
        labels, confidence, logsumexp = out
        logsumexp *= _LN2
        logsumexp += centre
        return Rows(labels, confidence, logsumexp, masses.sum(0) / N, float(value) * _LN2 + centre, float(score))

    def peak(self, potentials: Vector) -> Vector:
        """See `PlanPass`."""
        f, _, _ = _split(potentials, np.float64)
        peaks = np.full((len(self._parts), self.shape[1]), -np.inf)
        self._each(lambda p, lo, hi: kernels.peak_pass(self._x, lo, hi, self._scale, f, peaks[p]))
        return np.asarray(np.where(np.isfinite(potentials), peaks.max(0) * _LN2, -np.inf))

    def stats(self, potentials: Vector, sharpness: float = 1.0) -> PlanStats:
        """See `PlanPass`."""
        N, K = self.shape
        step = max(1, N // STATS_ROWS)
        dtype = self._precision(potentials)
        f, scale = potentials.astype(dtype), dtype(self._strength * sharpness)
        weight = np.full(N, 1.0 / N) if self.weight is None else self.weight
        size = step * max(1, _STATS_BLOCK // K)
        blocks = [slice(start, start + size, step) for start in range(0, N, size)]
        layout = np.asfortranarray if K <= _FEW else np.asarray  # reductions of short rows are slow
        return stats_of(((weight[rows], layout(self._x[rows]) * scale + f) for rows in blocks), np.isfinite(potentials))

    def coupling(self, potentials: Vector, step: int, sharpness: float = 1.0) -> Vector:
        """See `PlanPass.coupling`."""
        sums = self.add_coupling(None, potentials, step, sharpness)
        weight = len(range(0, self.shape[0], step)) if len(self._weight) == 1 else self._weight[::step].sum()
        return symmetric(sums) / max(float(weight), 1e-300)

    def add_coupling(
        self, sums: NDArray[np.float32] | None, potentials: Vector, step: int, sharpness: float
    ) -> NDArray[np.float32]:
        """Add ``w q q^T`` of every ``step``-th row, w of mean 1, to ``sums`` (threads, K, K), for `symmetric`."""
        N, K = self.shape
        dtype = self._precision(potentials)
        kept = self._kept(potentials, dtype, sharpness)
        if kept is not None and self._tall and K > _FEW:
            kept = None  # of another layout than the kernel's
        if kept is None:
            f, factor, _ = _split(potentials, dtype, K if K <= _FEW else _whole_vectors(K))
            powers = np.empty((0, K, kernels.TALL) if K <= _FEW else (0, K), dtype)
        else:
            f, factor, _, powers = kept
        scale, weight, by_columns = dtype(self._scale * sharpness), self._weight, self._by_columns
        if sums is None:
            sums = np.zeros((n_threads(), K, K), np.float32)
        parts = _merge(_divide(-(-N // step), K), len(sums))
        add = kernels.tall_coupling if K <= _FEW else kernels.coupling_pass
        self._each(
            lambda p, lo, hi: add(self._x, lo, hi, step, by_columns, scale, f, factor, powers, weight, sums[p]),
            parts,
        )
        return sums

    def _precision(self, potentials: Vector, precise: bool = False) -> type[Any]:
        """Return the type of the arithmetic: that of the data, or float64 if ``precise`` or if exponents are large."""
        used = potentials[np.isfinite(potentials)]
        fits = self._spread < _SPREAD and np.ptp(used) * _LOG2E < _SPREAD and 1e-30 < abs(self._scale) < 1e30
        return self._type if fits and not precise else np.float64

    def _kept(self, potentials: Vector, dtype: type[Any], sharpness: float) -> _Kept | None:
        """Return what has been kept of the powers, with factors for these potentials, if it can be used for them."""
        if self._powers is None or not self._powers.size or self._powers.dtype != dtype or sharpness != self._sharpness:
            return None
        used = np.isfinite(potentials)
        exact = (potentials[used] - self._centre) * _LOG2E
        change = exact - self._f[: len(used)][used].astype(np.float64)
        if np.abs(change).max() > _FAR:
            return None
        factor = np.zeros_like(self._f)
        factor[: len(used)][used] = np.exp2(change)
        return self._f, factor, self._centre, self._powers

    def _renewed(self, potentials: Vector, dtype: type[Any], sharpness: float) -> _Kept:
        """Return what the kernels need to compute the powers anew, and room for them if they are to be kept."""
        N, K = self.shape
        self._f, factor, self._centre = _split(potentials, dtype, self._width)
        if sharpness != self._sharpness:
            self._shift.fill(kernels.UNKNOWN)
        self._shift, self._sharpness = self._shift.astype(dtype, copy=False), sharpness
        if self._powers is None or self._powers.dtype != dtype:
            blocks = -(-N // kernels.TALL)
            shape = (blocks, K, kernels.TALL) if self._tall else (blocks * kernels.TALL, self._width)
            keeps = self._keeps and math.prod(shape) * np.dtype(dtype).itemsize <= _MOST_KEPT
            self._powers = np.zeros((0, *shape[1:]), dtype)
            if keeps:
                with contextlib.suppress(MemoryError):  # then each pass computes them
                    self._powers = np.zeros(shape, dtype)
        return self._f, factor, self._centre, self._powers

    def _largest_entry(self) -> float:
        """Return the largest absolute entry; raise if one is not finite or too large."""
        sizes = self._each(lambda p, lo, hi: _largest(self._x[lo:hi]))
        part = next((p for p, size in enumerate(sizes) if not np.isfinite(size)), None)
        if part is not None:
            lo, hi = self._parts[part]
            finite = np.isfinite(self._x[lo:hi])
            row, column = divmod(int(np.argmin(finite)), self.shape[1])
            refuse_entry(lo + row, column, float(self._x[lo + row, column]))
        check_size(max(sizes), self._strength)
        return float(max(sizes))

    def _each(self, task: Callable[[int, int, int], T], parts: list[tuple[int, int]] | None = None) -> list[T]:
        """Call ``task(part, lo, hi)`` for all parts of the rows, in threads; return the results in order."""
        parts = self._parts if parts is None else parts
        results: list[Any] = [None] * len(parts)
        next_part = count()

        def work() -> None:
            while (p := next(next_part)) < len(parts):
                results[p] = task(p, *parts[p])

        helpers = min(n_threads(), len(parts)) - 1
        futures = [_pool().submit(work) for _ in range(helpers)]
        work()
        for future in futures:
            if not future.cancel():
                future.result()
        return results


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, n_threads() - 1), thread_name_prefix="selavi-plan")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def _largest(part: NDArray[Any]) -> float:
    """Return the largest absolute entry; NaN if there is one."""
    return float(np.maximum(part.max(), -part.min()))


def _divide(N: int, K: int) -> list[tuple[int, int]]:
    """Divide N rows into parts of whole blocks, from N and K alone."""
    rows = max(_PART // K, N // _PARTS, 1)
    rows = -(-rows // kernels.TALL) * kernels.TALL
    return [(lo, min(lo + rows, N)) for lo in range(0, N, rows)]


def _whole_vectors(K: int) -> int:
    """Return K rounded up to whole vectors."""
    return -(-K // kernels.VECTOR) * kernels.VECTOR


def _merge(parts: list[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """Join neighbouring parts until there are at most ``most``."""
    size = -(-len(parts) // most)
    return [(parts[p][0], parts[min(p + size, len(parts)) - 1][1]) for p in range(0, len(parts), size)]


def symmetric(sums: NDArray[np.float32]) -> Vector:
    """Add up lower triangles (n, K, K), and return the whole matrix."""
    total = sums.sum(0, dtype=np.float64)
    return np.asarray(total + np.tril(total, -1).T)


def _split(potentials: Vector, dtype: type[Any], width: int | None = None) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Return potentials in base 2 as (f, multiplier) of ``dtype``, and the centre taken off, in natural units.

    A potential is rounded to ``dtype`` and ``2 ** remainder`` becomes the multiplier, so that float32 arithmetic does
    not limit the resolution of the potentials; the multiplier 0 keeps columns of potential ``-inf`` empty, and those
    that pad both to ``width``.
    """
    K = len(potentials)
    width = K if width is None else width
    used = np.isfinite(potentials)
    centre = float(np.median(potentials[used]))
    exact = np.where(used, potentials - centre, _NOWHERE) * _LOG2E
    f, mult = np.full(width, _NOWHERE, dtype), np.zeros(width, dtype)
    f[:K] = exact
    mult[:K] = np.where(used, np.exp2(np.where(used, exact - f[:K].astype(np.float64), 0.0)), 0.0)
    return f, mult, centre
