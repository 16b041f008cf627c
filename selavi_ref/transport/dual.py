"""The concave dual of the transport problem, as a function of the K cluster potentials.

``D(f) = r.f - sum_i w_i logsumexp_k(L_ik + f_k)`` with gradient ``r - m(f)``, m the column sums of the plan at f
(Genevay et al., 2016, *Stochastic optimization for large-scale optimal transport*). Everything here is K numbers long.

Where the sizes r are only a guess, the plan may miss them at the price ``rho KL(m | r)`` (Chizat et al., 2018, *Scaling
algorithms for unbalanced optimal transport problems*). Then ``r.f`` becomes ``-rho logsumexp_k(log r_k - f_k / rho)``,
which is the conjugate of that price among sizes of sum 1, and the gradient ``t(f) - m(f)`` with
``t = softmax(log r - f / rho)``: the target gives way where potentials push hard.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selavi_ref.transport.arguments import Vector
from selavi_ref.transport.plan_pass import PlanPass, PlanStats

_STARVED = 1e-14  # a column with less than this part of its target has to be lifted in the log domain


@dataclass(frozen=True)
class Point:
    """The dual at one set of potentials; all vectors are (K',), K' the columns of positive size.

    Attributes
    ----------
    potentials, mass, target, gradient : (K',) float64
        f, the column sums there, their target, and ``target - mass``.
    value : float
        ``D(f)``.
    error : float
        L1 norm of the gradient.
    sharpness : float
        Factor of the log-plan, and of the penalty, at which the dual was evaluated.
    """

    potentials: Vector
    mass: Vector
    target: Vector
    gradient: Vector
    value: float
    error: float
    sharpness: float


class Dual:
    """Evaluates the dual through a plan pass, counts the passes and remembers the best point.

    Columns whose size is zero get the potential ``-inf`` and do not exist for the optimiser.
    """

    def __init__(self, plan_pass: PlanPass, sizes: Vector, max_passes: int, penalty: float = np.inf) -> None:
        self.plan_pass = plan_pass
        self.active: NDArray[np.bool_] = sizes > 0
        self.sizes = sizes[self.active]
        self.penalty = penalty
        self.max_passes = max_passes
        self.n_passes = 0
        self.precise = False
        self.best: Point | None = None
        self._stats: tuple[Vector, float, PlanStats] | None = None  # the last, with what they belong to

    @property
    def exhausted(self) -> bool:
        """Whether all permitted passes have been used."""
        return self.n_passes >= self.max_passes

    @property
    def spares_one(self) -> bool:
        """Whether one pass can be used for something else than the next point."""
        return self.max_passes - self.n_passes > 1

    def at(self, potentials: Vector, sharpness: float = 1.0) -> Point:
        """Evaluate the dual (one pass)."""
        self.n_passes += 1
        potentials = self.centred(potentials)
        logsumexp, mass = self.plan_pass(self.full(potentials), sharpness, precise=self.precise)
        mass = mass[self.active]
        target, reward = self.aim(potentials, sharpness)
        gradient = target - mass
        error = float(np.abs(gradient).sum())
        point = Point(potentials, mass, target, gradient, reward - logsumexp, error, sharpness)
        if sharpness == 1.0 and (self.best is None or point.error < self.best.error):
            self.best = point
        return point

    def aim(self, potentials: Vector, sharpness: float = 1.0) -> tuple[Vector, float]:
        """Return the target of the column sums at these potentials, and the first term of the dual."""
        if np.isinf(self.penalty):
            return self.sizes, float(self.sizes @ potentials)
        rho = self.penalty * sharpness
        pushed = np.log(self.sizes) - potentials / rho
        top = pushed.max()
        target = np.exp(pushed - top)
        total = target.sum()
        return target / total, float(-rho * (top + np.log(total)))

    def centred(self, change: Vector) -> Vector:
        """Subtract a common constant, which does not change the plan, to keep potentials small."""
        return np.asarray(change - self.sizes @ change)

    def full(self, potentials: Vector) -> Vector:
        """Return the potentials of all K columns, ``-inf`` in those of size zero."""
        everywhere = np.full(self.active.size, -np.inf)
        everywhere[self.active] = potentials
        return everywhere

    def stats(self, potentials: Vector, sharpness: float) -> PlanStats:
        """Return statistics of the plan at these potentials."""
        if self._stats is None or self._stats[1] != sharpness or not np.array_equal(self._stats[0], potentials):
            found = self.plan_pass.stats(self.full(potentials), sharpness).mean()
            self._stats = potentials.copy(), sharpness, found
        return self._stats[2]

    def stiffness(self, sharpness: float) -> float:
        """Return the curvature that a penalty adds, as a multiple of the target; 0 without a penalty."""
        return 1.0 / (self.penalty * sharpness)

    def scaling(self, point: Point) -> Vector:
        """Return the step of the fixed point, the Sinkhorn iteration: ``log(target / mass)``, less under a penalty.

        Columns that have next to nothing are measured in the log domain by a further pass, so that one step brings them
        back from any distance.
        """
        step = log_ratio(point)
        starved = point.mass < _STARVED * point.target
        if starved.any() and point.sharpness == 1.0 and self.spares_one:
            self.n_passes += 1
            peak = self.plan_pass.peak(self.full(point.potentials))[self.active]
            step[starved] = np.log(point.target[starved]) - np.minimum(peak[starved], 0.0)
        return step / (1.0 + self.stiffness(point.sharpness))

    def restart_precisely(self) -> None:
        """Compute in float64 from here on, and discard the best point so far."""
        self.precise = True
        self.best = None


def log_ratio(point: Point) -> Vector:
    """Return ``log(target / mass)``; a mass of nothing counts as 1e-300."""
    return np.asarray(np.log(np.maximum(point.target, 1e-300)) - np.log(np.maximum(point.mass, 1e-300)))
