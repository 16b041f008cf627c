"""L-BFGS on the dual of K potentials, in a metric made from the data, with safeguards for plans that are peaked."""

from __future__ import annotations

from collections import deque

import numpy as np

from selavi_ref.transport.arguments import Vector
from selavi_ref.transport.dual import Dual, Point, log_ratio
from selavi_ref.transport.preconditioner import Diagonal, Preconditioner, curvature, preconditioner_cost

STALL = 100  # passes without a new best point after which to stop
_NEAR = 0.6  # logarithm of target / mass up to which fixed-point steps are not tried first
_MEMORY = 10  # pairs that L-BFGS keeps
_PAYS = 0.6  # factor by which a fixed-point step has to lower the error to be followed by another
_RATE = 0.4  # factor by which each pass has to lower the error; otherwise the metric is renewed
_MOST_EFFORT = 4096  # times the rows of the first sample
_TRIALS = 6  # points tried along one direction
_FAR = 1.0  # logarithm of target / mass beyond which columns follow it, as in the fixed point, not the gradient
_STEP = 2.0  # change of a potential that is always allowed; doubled while the gradient stays as it was

History = deque[tuple[Vector, Vector]]


def quasi_newton(dual: Dual, point: Point, tol: float) -> Point:
    """Return the best point found by L-BFGS (Liu and Nocedal, 1989), at the sharpness of ``point``.

    Its initial metric is renewed from the data when progress is slow; where no direction leads up, a fixed-point step
    is taken. Each potential has a reach of its own: a column that stays as it was, as happens between the rows of a
    very peaked plan, may go twice as far the next time.
    """
    if np.abs(log_ratio(point)).max() > _NEAR:
        point = _while_it_pays(dual, point, tol)
    reach = np.full_like(point.mass, _STEP)
    history: History = deque(maxlen=_MEMORY)
    source = _MetricSource(dual, point)
    best, best_at = point, dual.n_passes
    while point.error > tol and not dual.exhausted and dual.n_passes - best_at < STALL:
        if source.renew(point):
            history.clear()
        direction = _direction(dual, point, source.metric, history)
        bound = reach + np.abs(log_ratio(point))
        new = _step(dual, point, np.clip(direction, -bound, bound), history)
        if source.rejects(point, new):
            continue
        stays = new.gradient * point.gradient > 0.5 * point.gradient**2
        cut = np.abs(direction) > bound
        reach = np.where(stays, np.where(cut, 2.0 * reach, reach), np.maximum(0.5 * reach, _STEP))
        moved, bent = new.potentials - point.potentials, point.gradient - new.gradient
        if moved @ bent > 0:
            history.append((moved, bent))
        point = new
        if point.error < best.error:
            best, best_at = point, dual.n_passes
    return best


class _MetricSource:
    """The current metric, and the decision when to compute a new one."""

    def __init__(self, dual: Dual, point: Point) -> None:
        self.metric: Preconditioner = Diagonal(point, dual.stiffness(point.sharpness))
        self._dual = dual
        self._patience = preconditioner_cost(dual)
        self._judged_at = self._made_at = dual.n_passes
        self._slow, self._worth, self._fresh = True, True, False
        self._effort = 1

    def renew(self, point: Point) -> bool:
        """Compute a new metric if it is due; return whether there is a new one."""
        metric = curvature(self._dual, point, self._effort) if self._slow and self._due else None
        if self._slow and self._due:
            self._worth, self._made_at = metric is not None, self._dual.n_passes
        self._judged_at = self._dual.n_passes
        if metric is None:
            return False
        self.metric, self._fresh = metric, True
        return True

    def rejects(self, point: Point, new: Point) -> bool:
        """Return whether the step to ``new`` has raised the error and should be repeated with a new metric."""
        self._slow = new.error > point.error * _RATE ** (self._dual.n_passes - self._judged_at)
        rejected = self._slow and self._due and not self._fresh and new.error > point.error
        if self._slow and self._fresh:
            self._effort = min(4 * self._effort, _MOST_EFFORT)
        self._fresh = False
        return rejected

    @property
    def _due(self) -> bool:
        return self._worth and self._dual.n_passes - self._made_at >= self._patience


def _while_it_pays(dual: Dual, point: Point, tol: float) -> Point:
    """Take fixed-point steps as long as they lower the error well."""
    before = np.inf
    while tol < point.error < _PAYS * before and not dual.exhausted:
        before = point.error
        point = dual.at(point.potentials + dual.scaling(point), point.sharpness)
    return point


def _direction(dual: Dual, point: Point, metric: Preconditioner, history: History) -> Vector:
    """Return the ascent direction: along the gradient in the metric, or far from the target along its logarithm."""
    ratio = log_ratio(point)
    if np.abs(ratio).max() > _FAR:
        history.clear()
        direction = metric.solve(point.mass * ratio)
    else:
        direction = _two_loops(metric, history, point.gradient)
    return dual.centred(direction)


def _step(dual: Dual, point: Point, direction: Vector, history: History) -> Point:
    """Return a point along ``direction``, or that of a fixed-point step if the dual does not rise along it."""
    new = _line_search(dual, point, direction)
    if new is None:
        history.clear()
        new = dual.at(point.potentials + dual.scaling(point), point.sharpness)
    return new


def _two_loops(metric: Preconditioner, history: History, gradient: Vector) -> Vector:
    """Return the L-BFGS ascent direction."""
    direction = gradient.copy()
    alphas = []
    for moved, bent in reversed(history):
        alpha = (moved @ direction) / (moved @ bent)
        direction -= alpha * bent
        alphas.append(alpha)
    direction = metric.solve(direction)
    if history and isinstance(metric, Diagonal):
        moved, bent = history[-1]
        direction *= (moved @ bent) / (bent @ metric.solve(bent))
    for (moved, bent), alpha in zip(history, reversed(alphas), strict=True):
        direction += (alpha - (bent @ direction) / (moved @ bent)) * moved
    return direction


def _line_search(dual: Dual, point: Point, direction: Vector) -> Point | None:
    """Return a point along ``direction`` where the slope has fallen enough, judged by slopes: values lose digits."""
    first = float(point.gradient @ direction)
    if not (first > 0 and np.isfinite(direction).all()):
        return None
    low, slope_low, high, slope_high, length = 0.0, first, np.inf, 0.0, 1.0
    ahead = None
    for _ in range(_TRIALS):
        new = dual.at(point.potentials + length * direction, point.sharpness)
        slope = float(new.gradient @ direction)
        if -0.5 * first <= slope <= 0.9 * first or dual.exhausted:
            return new
        if slope > 0:
            low, slope_low, ahead = length, slope, new
        else:
            high, slope_high = length, slope
        if np.isinf(high):
            length *= 4.0
        else:
            secant = low + (high - low) * slope_low / (slope_low - slope_high)
            length = float(np.clip(secant, low + 0.1 * (high - low), high - 0.1 * (high - low)))
    return ahead
