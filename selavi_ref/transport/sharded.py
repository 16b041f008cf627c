"""The plan pass over rows that are spread over several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from selavi_ref.errors import InputError
from selavi_ref.transport import engines
from selavi_ref.transport.arguments import Vector
from selavi_ref.transport.plan_pass import Engine, PlanPass, PlanStats, Rows

AllSum = Callable[[Vector], Vector]


class Sharded:
    """An engine for `assign` whose rows are spread over processes; ``all_sum`` adds vectors up over all of them.

    Every process calls `assign` with its own rows and otherwise equal arguments, and gets the labels of its rows with
    the potentials, the error and the cost of the whole. Each pass communicates K + 1 numbers, each new metric K * K.
    A process may have no rows at all (an array of shape (0, K)). All processes take the same decisions from the same
    sums, so they should have processors of one kind.

    Parameters
    ----------
    all_sum : function
        Takes a float64 vector of the same length in all processes and returns the sum over the processes, the same to
        the last bit in each. With ``torch.distributed``: a tensor made from the vector, ``all_reduce``, and back.
    rank, size : int
        Number of this process, from 0, and number of processes.
    inner : str or engine
        Engine for the rows of this process.

    Examples
    --------
    >>> import numpy as np
    >>> from selavi_ref.transport import assign
    >>> one = Sharded(lambda numbers: numbers, rank=0, size=1)
    >>> assign(np.log([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]]), engine=one).labels
    array([0, 0, 1, 1], dtype=int32)
    """

    allows_no_rows = True

    def __init__(self, all_sum: AllSum, rank: int, size: int, inner: str | Engine = "auto") -> None:
        if not 0 <= rank < size:
            raise InputError(f"rank {rank} is not below the number of processes, {size}", option="rank", value=rank)
        self.all_sum, self.rank, self.size, self.inner = all_sum, rank, size, inner

    @contextmanager
    def raise_together(self) -> Iterator[None]:
        """Raise in all processes at the end of the block if one of them has raised in it."""
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        failed = self._gathered(np.array([float(failure is not None)]))[:, 0]
        if failure is not None:
            raise failure
        if failed.any():
            raise InputError(f"process {int(failed.argmax())} cannot go on; see its error")

    def __call__(self, log_prob: Any, strength: float, weight: Vector | None = None) -> PlanPass:
        """Return a pass over the rows of all processes."""
        inner: PlanPass | None = None
        largest = 0.0 if weight is None or not weight.size else float(weight.max())
        with self.raise_together():
            if log_prob.shape[0] > 0:
                inner = engines.create(self.inner, log_prob, strength, weight if largest > 0 else None)
        settings = self._gathered(np.array([log_prob.shape[1], weight is not None, largest]))
        if (settings[:, :2] != settings[0, :2]).any():
            raise InputError(
                f"processes differ in columns or in having weights: {settings[:, :2].astype(int).tolist()}"
            )
        largest = max(float(settings[:, 2].max()), 5e-324)
        return _ShardedPass(self, inner, log_prob.shape, None if weight is None else weight / largest)

    def _gathered(self, numbers: Vector) -> Vector:
        """Return the vectors of all processes, (size, n)."""
        everyone = np.zeros((self.size, numbers.size))
        everyone[self.rank] = numbers
        return self.all_sum(everyone.reshape(-1)).reshape(everyone.shape)


class _ShardedPass:
    """`PlanPass` over all rows, as the sum of the passes of the processes, each weighted by the sum of its weights."""

    def __init__(self, shards: Sharded, inner: PlanPass | None, shape: tuple[int, int], weight: Vector | None) -> None:
        own = float(shape[0] if weight is None else weight.sum())
        total, n = shards.all_sum(np.array([own, float(shape[0])]))
        if not total > 0:
            if n:
                raise InputError("all sample weights are zero; at least one must be positive", option="sample_weight")
            raise InputError("log_prob has no rows in any process", option="log_prob")
        self.shape = int(n), shape[1]
        self._shards, self._inner, self._part = shards, inner, own / total
        self.weight: Vector | None = np.full(shape[0], 1.0 / total) if weight is None else weight / total

    def __call__(self, potentials: Vector, sharpness: float = 1.0, *, precise: bool = False) -> tuple[float, Vector]:
        """See `PlanPass`."""

        def own(inner: PlanPass) -> Vector:
            value, mass = inner(potentials, sharpness, precise=precise)
            return np.append(mass, value)

        sums = self._sum(own, self.shape[1] + 1)
        return float(sums[-1]), sums[:-1]

    def rows(self, potentials: Vector) -> Rows:
        """See `PlanPass`; labels, confidences and logsumexps are those of the rows of this process."""
        K = self.shape[1]
        local = Rows(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0), np.zeros(K), 0.0, 0.0)

        def own(inner: PlanPass) -> Vector:
            nonlocal local
            local = inner.rows(potentials)
            return np.append(local.mass, [local.value, local.score])

        sums = self._sum(own, K + 2)
        return replace(local, mass=sums[:K], value=float(sums[K]), score=float(sums[K + 1]))

    def peak(self, potentials: Vector) -> Vector:
        """See `PlanPass`."""
        own = np.full(self.shape[1], -np.inf)
        with self._shards.raise_together():
            if self._inner is not None:
                own = self._inner.peak(potentials)
        return np.asarray(self._shards._gathered(own).max(0))

    def stats(self, potentials: Vector, sharpness: float = 1.0) -> PlanStats:
        """See `PlanPass`."""

        def own(inner: PlanPass) -> Vector:
            stats = inner.stats(potentials, sharpness)
            return np.array([stats.weight, stats.softness, stats.many, stats.small])

        return PlanStats(*self._sum(own, 4).tolist())

    def coupling(self, potentials: Vector, step: int, sharpness: float = 1.0) -> Vector:
        """See `PlanPass`."""
        K = self.shape[1]
        return self._sum(lambda inner: inner.coupling(potentials, step, sharpness).reshape(-1), K * K).reshape(K, K)

    def _sum(self, own: Callable[[PlanPass], Vector], n: int) -> Vector:
        """Add up ``n`` numbers of each process, weighted by its part of all weight; if one process fails, all raise."""
        sums, failure = np.zeros(n + 1), None
        if self._inner is not None:
            try:
                sums[:n] = own(self._inner) * self._part
            except Exception as error:
                failure = error
                sums[n] = 1.0
        sums = self._shards.all_sum(sums)
        if failure is not None:
            raise failure
        if sums[n] > 0:
            raise InputError("a pass has failed in another process; see its error")
        return sums[:n]
