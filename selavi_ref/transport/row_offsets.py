"""The plan pass on huge scores: a constant is subtracted from each row first, in float64.

It changes no plan, but without it exponents would be rounded to units of ``|strength * log_prob| * 2 ** -53``: a large
offset that all columns have in common would decide the labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.transport.arguments import Vector, is_tensor
from selavi_ref.transport.plan_pass import PlanPass, Rows

HUGE = 1e5  # |strength * log_prob| from which rows are shifted


class ShiftedPass:
    """`PlanPass` by another engine, on scores less the one of each row at which ``strength * log_prob`` is largest.

    Parameters
    ----------
    make_pass : function
        Takes the shifted scores, in float64, and returns the inner pass.
    log_prob : (N, K) array or tensor
        Scores.
    strength : float
        Factor of the scores.
    """

    def __init__(self, make_pass: Callable[[Any], PlanPass], log_prob: Any, strength: float) -> None:
        self._make_pass, self._strength, self._log_prob = make_pass, strength, log_prob
        self._shift_by(np.ones(log_prob.shape[1], bool))

    def _shift_by(self, used: NDArray[np.bool_]) -> None:
        """Make the inner pass, with offsets from the columns that are used: those of size zero may hold anything."""
        self._used, all_used = used, bool(used.all())
        columns = self._log_prob if all_used else self._log_prob[:, np.flatnonzero(used)]
        extreme = columns.max if self._strength > 0 else columns.min
        if is_tensor(self._log_prob):
            self._offset: Any = extreme(1).values.double()
            offset = self._offset.cpu().numpy()
        else:
            self._offset = offset = extreme(1).astype(np.float64)
        self._inner = self._make_pass(self._shifted(self._log_prob))
        self._row_offset: Vector = offset
        weight = self._inner.weight
        self._mean_offset = float(offset.mean() if weight is None else weight @ offset)

    def _follow(self, potentials: Vector) -> None:
        """Shift anew if other columns are used than before: the potential of an unused one is ``-inf``."""
        used = np.isfinite(potentials)
        if used.any() and not np.array_equal(used, self._used):
            self._shift_by(used)

    def __getattr__(self, name: str) -> Any:
        """Return what the shift does not change: shape, weight, peak, stats, coupling, metric."""
        return getattr(self._inner, name)

    def lend(self, log_prob: Any) -> None:
        """Replace the data by an equal copy at another address, or by None until the next pass."""
        self._log_prob = log_prob
        self._inner.lend(None if log_prob is None else self._shifted(log_prob))  # type: ignore[attr-defined]

    def __call__(self, potentials: Vector, sharpness: float = 1.0, *, precise: bool = False) -> tuple[float, Vector]:
        """See `PlanPass`."""
        self._follow(potentials)
        value, mass = self._inner(potentials, sharpness, precise=precise)
        return value + sharpness * self._strength * self._mean_offset, mass

    def rows(self, potentials: Vector) -> Rows:
        """See `PlanPass`."""
        self._follow(potentials)
        rows = self._inner.rows(potentials)
        return replace(
            rows,
            logsumexp=rows.logsumexp + self._strength * self._row_offset,
            value=rows.value + self._strength * self._mean_offset,
            score=rows.score + self._mean_offset,
        )

    def _shifted(self, log_prob: Any) -> Any:
        if is_tensor(log_prob):
            shifted = log_prob.double() - self._offset[:, None]
        else:
            shifted = np.subtract(log_prob, self._offset[:, None], dtype=np.float64)
        if not self._used.all():
            shifted[:, np.flatnonzero(~self._used)] = 0.0
        return shifted
