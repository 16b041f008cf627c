"""Metrics for the quasi-Newton method: stand-ins for the inverse Hessian of the dual.

The Hessian is minus the graph Laplacian ``diag(m) - sum_i w_i q_i q_i^T`` over the clusters, q_i the softmax of row i.
Its coupling is summed over all rows where rows are peaked, else over a sample of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from selavi_ref.transport.arguments import Vector
from selavi_ref.transport.dual import Dual, Point

_DAMPING = 0.3  # Levenberg damping, relative to target and error: curvature changes on the way to the solution
_LEAST = 1e-5  # smallest damping: the Laplacian is singular
_PEAKED = 12.0  # mean number of posteriors above 0.001 up to which a plan counts as peaked
_ROWS = 4096  # fewest rows of a sample
_SOFT_ROWS = 8  # soft rows per column in a sample
_DEAR = 200  # cost of the products of whole rows, in columns per row of the data, above which no metric is made
_FACTORISED = 10  # columns squared that are factorised in the time of passing over one row
_SMALL = 64  # columns up to which a matrix is simply inverted
_MEDIUM = 1024  # columns up to which the factorisation is done in this thread, without LAPACK
_MOST_COLUMNS = 4096  # columns above which no metric is made


class Preconditioner(Protocol):
    """Approximate inverse of the negative Hessian."""

    def solve(self, gradient: Vector) -> Vector:
        """Return the ascent direction for a gradient (K',)."""
        ...


class Diagonal:
    """The diagonal ``1 / max(target, mass)``, as in the fixed point; ``stiffness`` is what a penalty adds to it."""

    def __init__(self, point: Point, stiffness: float) -> None:
        self._scale = np.maximum(point.target, point.mass) * (1.0 + stiffness)

    def solve(self, gradient: Vector) -> Vector:
        """See `Preconditioner.solve`."""
        return np.asarray(gradient / self._scale)


class Laplacian:
    """A damped Laplacian, factorised in variables scaled by the square root of the masses.

    The scaling keeps the factorisation stable for targets of any orders of magnitude. Entries that the coupling leaves
    out stay on the diagonal, so that columns that have only small entries are not moved too far.
    """

    def __init__(self, coupling: Vector, mass: Vector, target: Vector, damping: float) -> None:
        scale = np.maximum(target, mass)
        self._root = np.sqrt(scale)
        own = coupling.diagonal()
        degree = np.maximum(coupling.sum(1) - own, mass - own)
        matrix = coupling / -self._root[:, None]
        matrix /= self._root
        np.fill_diagonal(matrix, degree / scale + damping)
        self._solve = _factorised(matrix)

    def solve(self, gradient: Vector) -> Vector:
        """See `Preconditioner.solve`."""
        return np.asarray(self._solve(gradient / self._root) / self._root)


def _factorised(matrix: Vector) -> Callable[[Vector], Vector]:
    """Return the function that solves for a positive definite ``matrix``, which is overwritten."""
    if len(matrix) <= _SMALL:
        inverse = np.linalg.inv(matrix)
        return lambda b: np.asarray(np.einsum("ij,j->i", inverse, b))
    if len(matrix) <= _MEDIUM:
        from selavi_ref.compiler import IS_DISABLED
        from selavi_ref.transport import kernels

        if not IS_DISABLED:
            kernels.cholesky(matrix)
            return lambda b: np.asarray(kernels.cholesky_solve(matrix, b))
    from scipy.linalg import cho_factor, cho_solve

    factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    return lambda b: np.asarray(cho_solve(factor, b, check_finite=False))


def curvature(dual: Dual, point: Point, effort: int = 1) -> Preconditioner | None:
    """Return a metric computed from the data at ``point``, or None where it would cost more than it saves.

    It is computed from a sample of the rows, which grows with ``effort`` and is larger where rows are peaked.
    """
    N, K = dual.plan_pass.shape
    if not dual.spares_one:
        return None
    potentials = dual.full(point.potentials)
    stats = dual.stats(point.potentials, point.sharpness)
    peaked, soft = stats.many <= _PEAKED, stats.softness
    n = max(_ROWS, int(_SOFT_ROWS * K / max(soft, 1e-6)) if peaked else _SOFT_ROWS * K)
    if K > _MOST_COLUMNS or (not peaked and n * K > _DEAR * N):
        return None
    dual.n_passes += 1
    step = max(1, N // (n * effort))
    damping = max(_LEAST, min(1.0, _DAMPING * point.error)) + dual.stiffness(point.sharpness)
    if hasattr(dual.plan_pass, "metric"):  # of an engine whose data lie on a device, and the K x K numbers beside them
        metric: Preconditioner = dual.plan_pass.metric(
            potentials, step, point.sharpness, dual.active, point.mass, point.target, damping
        )
        return metric
    coupling = dual.plan_pass.coupling(potentials, step, point.sharpness)[np.ix_(dual.active, dual.active)]
    if step > 1:
        coupling = _to_mass(coupling, point.mass)
    return Laplacian(coupling, point.mass, point.target, damping)


def preconditioner_cost(dual: Dual) -> int:
    """Return the cost of a factorisation, in passes over the data."""
    N, K = dual.plan_pass.shape
    return K * K // (_FACTORISED * N)


def _to_mass(coupling: Vector, mass: Vector) -> Vector:
    """Scale the coupling of a sample of the rows such that its row sums are the masses of all."""
    sampled = coupling.sum(1)
    factor = np.sqrt(np.divide(mass, sampled, out=np.zeros_like(mass), where=sampled > 0))
    return np.asarray(coupling * factor[:, None] * factor)
