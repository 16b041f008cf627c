"""The concave dual of the transport problem, as a function of the K cluster potentials.

``D(f) = r.f - sum_i w_i logsumexp_k(L_ik + f_k)`` with gradient ``r - m(f)``, m the column sums of the plan at f
(Genevay et al., 2016, *Stochastic optimization for large-scale optimal transport*). Everything here is K numbers long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selavi_ref.transport.engines import PlanPass, Survey, Vector

_STARVED = 1e-14  # a column with less than this part of its target has to be lifted in the log domain


@dataclass(frozen=True)
class Point:
    """The dual at one set of potentials; all vectors are (K',), K' the columns of positive target.

    Attributes
    ----------
    potentials, mass, gradient : (K',) float64
        f, the column sums there, and ``target - mass``.
    value : float
        ``D(f)``.
    error : float
        L1 norm of the gradient.
    sharpness : float
        Factor of the log-plan at which all this holds.
    """

    potentials: Vector
    mass: Vector
    gradient: Vector
    value: float
    error: float
    sharpness: float


class Dual:
    """Evaluates the dual through a plan pass, counts the passes and remembers the best point.

    Columns whose target is zero get the potential ``-inf`` and do not exist for the optimiser.
    """

    def __init__(self, plan_pass: PlanPass, target: Vector, max_passes: int) -> None:
        self.plan_pass = plan_pass
        self.active: NDArray[np.bool_] = target > 0
        self.target = target[self.active]
        self.max_passes = max_passes
        self.n_passes = 0
        self.precise = False
        self.best: Point | None = None

    @property
    def exhausted(self) -> bool:
        """Whether all passes that were granted have been used."""
        return self.n_passes >= self.max_passes

    def at(self, potentials: Vector, sharpness: float = 1.0) -> Point:
        """Evaluate the dual (one pass)."""
        self.n_passes += 1
        potentials = potentials - self.target @ potentials  # a common constant changes nothing; keep it small
        logsumexp, mass = self.plan_pass(self.full(potentials), sharpness, precise=self.precise)
        mass = mass[self.active]
        gradient = self.target - mass
        value = float(self.target @ potentials) - logsumexp
        point = Point(potentials, mass, gradient, value, float(np.abs(gradient).sum()), sharpness)
        if sharpness == 1.0 and (self.best is None or point.error < self.best.error):
            self.best = point
        return point

    def full(self, potentials: Vector) -> Vector:
        """Return potentials of all K columns."""
        everywhere = np.full(self.active.size, -np.inf)
        everywhere[self.active] = potentials
        return everywhere

    def survey(self, potentials: Vector, sharpness: float) -> Survey:
        """Return how the plan looks on the whole."""
        return self.plan_pass.survey(self.full(potentials), sharpness).mean()

    def log_ratio(self, point: Point) -> Vector:
        """Return ``log(target / mass)``: the step of the fixed point, the Sinkhorn iteration.

        Columns that have next to nothing are measured in the log domain by a further pass, so that one step brings them
        back from any distance.
        """
        starved = point.mass < _STARVED * self.target
        if not starved.any():
            return np.log(self.target) - np.log(point.mass)
        safe = np.maximum(point.mass, 1e-300)
        step = np.log(self.target) - np.log(safe)
        if point.sharpness == 1.0:
            self.n_passes += 1
            peak = self.plan_pass.peak(self.full(point.potentials))[self.active]
            step[starved] = np.log(self.target[starved]) - np.minimum(peak[starved], 0.0)
        return step

    def restart_precisely(self) -> None:
        """From here on compute in float64, and forget what was found in less."""
        self.precise = True
        self.best = None
