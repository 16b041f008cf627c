"""The plan pass over rows that are spread over processes, of which each holds a part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from selavi_ref.errors import InputError
from selavi_ref.transport import engines
from selavi_ref.transport.engines import Engine, PlanPass, Rows, Survey, Vector

AllSum = Callable[[Vector], Vector]


class Sharded:
    """An engine for `assign`: the rows given are a part of all rows, and sums over all are made by ``all_sum``.

    Every process calls `assign` with its own rows and otherwise equal arguments, and gets the labels of its rows with
    the potentials, the error and the cost of the whole. Per pass K + 1 numbers travel, now and then K * K. A process
    may have no rows at all (an array of shape (0, K)). All processes take the same decisions from the same sums, so
    they should have processors of one kind.

    Parameters
    ----------
    all_sum : function
        Of a float64 vector, of the same length in all processes; returns the sum over the processes, the same to the
        last bit in each. With ``torch.distributed``: a tensor made from the vector, ``all_reduce``, and back.
    rank, size : int
        Which of how many processes this one is.
    inner : str or engine
        Who passes over the rows of this process.

    Examples
    --------
    >>> import numpy as np
    >>> from selavi_ref.transport import assign
    >>> one = Sharded(lambda numbers: numbers, rank=0, size=1)
    >>> assign(np.log([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]]), engine=one).labels
    array([0, 0, 1, 1], dtype=int32)
    """

    takes_no_rows = True

    def __init__(self, all_sum: AllSum, rank: int, size: int, inner: str | Engine = "auto") -> None:
        if not 0 <= rank < size:
            raise InputError(f"rank {rank} is not below the number of processes, {size}")
        self.all_sum, self.rank, self.size, self.inner = all_sum, rank, size, inner

    def __call__(self, log_prob: Any, strength: float, weight: Vector | None = None) -> PlanPass:
        """Return a pass over the rows of all processes; an error of one is an error of all."""
        failure: Exception | None = None
        inner: PlanPass | None = None
        try:
            if log_prob.shape[0] > 0:
                own = weight if weight is not None and weight.any() else None
                inner = engines.create(self.inner, log_prob, strength, own)
        except Exception as error:
            failure = error
        told = self._gathered(np.array([0.0 if failure is None else 1.0, log_prob.shape[1], weight is not None]))
        if failure is not None:
            raise failure
        if told[:, 0].any():
            raise InputError(f"the rows of process {int(told[:, 0].argmax())} were refused; see its error")
        if (told[:, 1:] != told[0, 1:]).any():
            raise InputError(f"processes differ in columns or in having weights: {told[:, 1:].astype(int).tolist()}")
        return _ShardedPass(self, inner, log_prob.shape, weight)

    def _gathered(self, numbers: Vector) -> Vector:
        """Return the vectors of all processes, (size, n)."""
        everyone = np.zeros((self.size, numbers.size))
        everyone[self.rank] = numbers
        return self.all_sum(everyone.reshape(-1)).reshape(everyone.shape)


class _ShardedPass:
    """`PlanPass` over all rows, by the passes over the parts: means of parts are weighted by what the parts weigh."""

    def __init__(self, shards: Sharded, inner: PlanPass | None, shape: tuple[int, int], weight: Vector | None) -> None:
        here = float(shape[0] if weight is None else weight.sum())
        total, n = shards.all_sum(np.array([here, float(shape[0])]))
        if not total > 0:
            raise InputError("all sample weights are zero; at least one must be positive" if n else "there are no rows")
        self.shape = int(n), shape[1]
        self._shards, self._inner, self._part = shards, inner, here / total
        self.weight: Vector | None = np.full(shape[0], 1.0 / total) if weight is None else weight / total

    def __call__(self, potentials: Vector, sharpness: float = 1.0, *, precise: bool = False) -> tuple[float, Vector]:
        """See `PlanPass`."""
        sums = np.zeros(self.shape[1] + 1)
        if self._inner is not None:
            sums[0], sums[1:] = self._inner(potentials, sharpness, precise=precise)
        sums = self._sum(sums)
        return float(sums[0]), sums[1:]

    def rows(self, potentials: Vector) -> Rows:
        """See `PlanPass`; labels, confidences and logsumexps are those of the rows of this process."""
        sums = np.zeros(self.shape[1] + 2)
        if self._inner is None:
            own = Rows(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0), sums[2:], 0.0, 0.0)
        else:
            own = self._inner.rows(potentials)
            sums[0], sums[1], sums[2:] = own.value, own.score, own.mass
        sums = self._sum(sums)
        return Rows(own.labels, own.confidence, own.logsumexp, sums[2:], float(sums[0]), float(sums[1]))

    def peak(self, potentials: Vector) -> Vector:
        """See `PlanPass`."""
        own = np.full(self.shape[1], -np.inf) if self._inner is None else self._inner.peak(potentials)
        return np.asarray(self._shards._gathered(own).max(0))

    def survey(self, potentials: Vector, sharpness: float = 1.0) -> Survey:
        """See `PlanPass`."""
        sums = np.zeros(4)
        if self._inner is not None:
            own = self._inner.survey(potentials, sharpness)
            sums[:] = own.weight, own.softness, own.many, own.small
        return Survey(*self._sum(sums).tolist())

    def coupling(self, potentials: Vector, step: int, sharpness: float = 1.0) -> Vector:
        """See `PlanPass`."""
        K = self.shape[1]
        sums = np.zeros(K * K)
        if self._inner is not None:
            sums[:] = self._inner.coupling(potentials, step, sharpness).reshape(-1)
        return self._sum(sums).reshape(K, K)

    def _sum(self, numbers: Vector) -> Vector:
        return self._shards.all_sum(numbers * self._part)
