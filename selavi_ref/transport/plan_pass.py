"""The contract between the solver and its engines: the plan pass and its results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from selavi_ref.transport.arguments import Vector

STATS_ROWS = 1024  # rows, about, that the statistics of a plan are taken from


@dataclass(frozen=True)
class Rows:
    """Labels, confidences and column sums of a plan, always computed in float64.

    Attributes
    ----------
    labels : (N,) int32
        Column with the largest entry in each row of the plan; the first one where entries are equal.
    confidence : (N,) float32
        That entry, divided by the sum of the row.
    logsumexp : (N,) float64
        ``logsumexp_k(strength * log_prob_ik + f_k)``.
    mass : (K,) float64
        Column sums of the plan.
    value, score : float
        Weighted means over the rows of ``logsumexp`` and of ``log_prob`` at the label.
    """

    labels: NDArray[np.int32]
    confidence: NDArray[np.float32]
    logsumexp: Vector
    mass: Vector
    value: float
    score: float


@dataclass(frozen=True)
class PlanStats:
    """Statistics of a plan that tell how peaked it is: weighted means over about a thousand of its rows.

    With ``q_i`` the softmax of row i.

    Attributes
    ----------
    weight : float
        Sum of the weights of these rows. The other three are weighted sums that `mean` divides by it, so that the
        statistics of parts of the rows can be added up.
    softness : float
        ``1 - sum_k q_ik ** 2``: 0 where each row has a single entry.
    many : float
        Number of entries of ``q_i`` above 0.001.
    small : float
        Number of entries of ``q_i`` below 1e-6, in columns of finite potential.
    """

    weight: float
    softness: float
    many: float
    small: float

    def mean(self) -> PlanStats:
        """Return the means; those of the softest possible plan if all these rows have weight zero."""
        if not self.weight > 0:
            return PlanStats(1.0, 1.0, np.inf, 0.0)
        weight = self.weight
        return PlanStats(1.0, self.softness / weight, self.many / weight, self.small / weight)


class PlanPass(Protocol):
    """The operation on N x K data that the optimiser needs: K potentials in, K column sums out.

    With ``L = sharpness * strength * log_prob`` and row weights w of sum 1, the plan at potentials f is
    ``Q_ik = w_i softmax_k(L_ik + f_k)``. Potentials may be ``-inf`` for columns that are to receive nothing, and are
    finite for at least one. No finite data may lead to NaN. A pass may also have a ``metric``, which
    `selavi_ref.transport.preconditioner.curvature` then calls in place of ``coupling``.
    """

    shape: tuple[int, int]
    weight: Vector | None

    def __call__(self, potentials: Vector, sharpness: float = 1.0, *, precise: bool = False) -> tuple[float, Vector]:
        """Return ``sum_i w_i logsumexp_k(L_ik + f_k)`` and the column sums (K,); ``precise`` asks for float64."""
        ...

    def rows(self, potentials: Vector) -> Rows:
        """Return labels, confidences, certified column sums and cost, from one more pass over the rows."""
        ...

    def peak(self, potentials: Vector) -> Vector:
        """Return the logarithm of the largest posterior ``q_ik`` of each column over all rows (K,), however small."""
        ...

    def stats(self, potentials: Vector, sharpness: float = 1.0) -> PlanStats:
        """Return statistics of about `STATS_ROWS` rows, evenly spread."""
        ...

    def coupling(self, potentials: Vector, step: int, sharpness: float = 1.0) -> Vector:
        """Return the weighted mean (K, K) of ``q_i q_i^T`` over every ``step``-th row; q_i is the softmax of row i.

        It may be taken over another selection of about as many rows, entries below 0.001 may be left out, and single
        precision is enough: it only serves as a metric.
        """
        ...


Engine = Callable[[Any, float, "Vector | None"], PlanPass]
