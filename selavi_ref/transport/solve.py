"""The optimiser of the K potentials, at which the column sums of the plan meet their marginal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from selavi_ref.errors import InputError
from selavi_ref.transport.arguments import Vector
from selavi_ref.transport.dual import Dual, Point
from selavi_ref.transport.plan_pass import PlanPass, PlanStats, Rows
from selavi_ref.transport.quasi_newton import STALL, quasi_newton

_HARMLESS = 1e4  # spread of potentials, and so of exponents, whose rounding is of no account
_OVER = 1.8  # over-relaxation, tempered where it does not pay
_FARTHEST = 1e12  # starting potentials are clipped to this
_SINGLE = 2e-7  # lowest error aimed at in single precision; lower ones are left to double
_SOFT = 0.1  # softness of a plan at which annealing starts
_GROWTH = 3.0  # of the sharpness from stage to stage
_MOST_STAGES = 40
_STAGE = 0.03  # error, relative to the softness of the rows, at which the log-plan is made sharper
_CAREFUL = 1e-4  # the same where that has failed
_PEAKED = 0.03  # softness that counts in this at least


@dataclass(frozen=True)
class Solution:
    """Potentials (K,), the rows of their plan, the value of the dual, and the L1 error of the column sums.

    ``rounding`` is the part of the error that is a bound on rounding in float64.
    """

    potentials: Vector
    rows: Rows
    value: float
    error: float
    n_passes: int
    converged: bool
    rounding: float = 0.0


def solve(
    plan_pass: PlanPass,
    target: Vector,
    *,
    tol: float,
    max_passes: int,
    method: str = "auto",
    potentials: Vector | None = None,
    penalty: float = np.inf,
) -> Solution:
    """Maximise the dual until the L1 error of the column sums is at most ``tol``.

    Parameters
    ----------
    plan_pass : PlanPass
        The data.
    target : (K,) float64
        Column sums of sum 1; zeros allowed.
    tol, max_passes
        Error at which to stop, and passes at most. The final error is that of a last pass in float64; at least two
        passes are made.
    method : {"auto", "fixed-point", "over-relaxed"}
        ``auto`` is a quasi-Newton method in a metric made from the data, sharpened step by step where rows are peaked.
    potentials : (K,) float64, optional
        Starting point; entries that are not finite count as 0.
    penalty : float
        Price of column sums that differ from ``target``, as in `dual`; infinite: they are met.

    Returns
    -------
    Solution
        The best potentials seen, ``-inf`` where the target is zero.
    """
    if not isinstance(method, str) or method not in METHODS:
        known = ", ".join(METHODS)
        raise InputError(f"unknown method {method!r}; known are {known}", option="method", value=method)
    dual = Dual(plan_pass, target, max_passes - 1, penalty)
    start = np.zeros(dual.sizes.size)
    if potentials is not None:
        start = np.clip(np.where(np.isfinite(potentials), potentials, 0.0), -_FARTHEST, _FARTHEST)[dual.active]
    METHODS[method](dual, start, potentials is None, max(0.9 * tol, _SINGLE))
    solution = _certified(dual, tol)
    if not (solution.converged or dual.precise or dual.exhausted):
        dual.restart_precisely()
        METHODS[method](dual, solution.potentials[dual.active], False, tol)
        solution = _certified(dual, tol)
    return solution


def _certified(dual: Dual, tol: float) -> Solution:
    """Return the best point with the error that it has in float64."""
    assert dual.best is not None
    potentials = dual.full(dual.best.potentials)
    rows = dual.plan_pass.rows(potentials)
    dual.n_passes += 1
    target, reward = dual.aim(dual.best.potentials)
    rounding = _rounding(dual.best)
    error = float(np.abs(rows.mass[dual.active] - target).sum()) + rounding
    return Solution(potentials, rows, reward - rows.value, error, dual.n_passes, error <= tol, rounding)


def _rounding(point: Point) -> float:
    """Return a bound of the error of column sums that comes from rounding exponents as large as the potentials."""
    spread = float(np.ptp(point.potentials[point.mass > 0.0])) if point.mass.any() else 0.0
    return 6 * 2.0**-53 * spread if spread > _HARMLESS else 0.0


def fixed_point(dual: Dual, start: Vector, cold: bool, tol: float) -> None:
    """Sinkhorn's iteration (Cuturi, 2013): every step meets the column sums as if the row sums stayed as they are."""
    _relax(dual, dual.at(start), tol, 1.0)


def over_relaxed(dual: Dual, start: Vector, cold: bool, tol: float) -> None:
    """Sinkhorn's iteration with longer steps (Thibault et al., 2021), shortened whenever the error grows."""
    _relax(dual, dual.at(start), tol, _OVER)


def _relax(dual: Dual, point: Point, tol: float, omega: float) -> Point:
    step, best, best_at = omega, point.error, dual.n_passes
    while point.error > tol and not dual.exhausted and dual.n_passes - best_at < STALL:
        new = dual.at(point.potentials + step * dual.scaling(point), point.sharpness)
        if omega > 1.0:
            step = 1.0 if new.error > point.error else min(omega, step + 0.1)
        point = new
        if point.error < best:
            best, best_at = point.error, dual.n_passes
    return point


def automatic(dual: Dual, start: Vector, cold: bool, tol: float) -> None:
    """Quasi-Newton on the dual; from a cold start of a peaked problem, at growing sharpness of the log-plan.

    If that fails, it is repeated from a sharpness at which the plan has no small entries; the fixed point comes last.
    """
    if not cold and quasi_newton(dual, dual.at(start), tol).error <= tol:
        return
    for is_soft, stage in ((_is_soft, _STAGE), (_is_flat, _CAREFUL)):
        if dual.exhausted and dual.best is not None:
            return
        if _annealed(dual, np.zeros_like(start), _softening(dual, is_soft), stage, tol).error <= tol:
            return
    if dual.best is not None:
        _relax(dual, dual.best, tol, 1.0)


def _annealed(dual: Dual, potentials: Vector, stages: int, stage: float, tol: float) -> Point:
    """Solve at sharpness 3^-stages, ..., 1/3, 1, each from the potentials of the one before, three times as large.

    The softer the rows still are, the less is gained by a low error before the end.
    """
    dual.max_passes -= 1  # one is for the problem itself
    for j in range(stages, 0, -1):
        if dual.exhausted:
            break
        soft = dual.stats(potentials, _GROWTH**-j).softness
        point = dual.at(potentials, _GROWTH**-j)
        potentials = _GROWTH * quasi_newton(dual, point, max(tol, stage * max(soft, _PEAKED))).potentials
    dual.max_passes += 1
    if dual.exhausted and dual.best is not None:
        return dual.best
    return quasi_newton(dual, dual.at(potentials), tol)


def _softening(dual: Dual, is_soft: Callable[[PlanStats], bool]) -> int:
    """Return how often the sharpness is divided until the plan at f = 0 is soft."""
    start = np.zeros_like(dual.sizes)
    if start.size == 1:
        return 0
    return next((h for h in range(_MOST_STAGES) if is_soft(dual.stats(start, _GROWTH**-h))), _MOST_STAGES)


def _is_soft(stats: PlanStats) -> bool:
    return stats.softness > _SOFT


def _is_flat(stats: PlanStats) -> bool:
    return stats.small == 0


METHODS: dict[str, Callable[[Dual, Vector, bool, float], None]] = {
    "auto": automatic,
    "fixed-point": fixed_point,
    "over-relaxed": over_relaxed,
}
