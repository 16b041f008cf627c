"""Regularised multinomial logistic regression for many label vectors at once, with one matrix product for all.

The features are expected to be principal components (uncorrelated, so that a diagonal preconditioner is nearly the
inverse Hessian): L-BFGS then needs ten to thirty passes over the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.crossfit.softmax_kernels import residual, shift

_BLOCK_BYTES = 1 << 21  # of the logits that are worked on at a time: they stay in the cache
_MEMORY = 8  # pairs of steps and gradient differences that L-BFGS remembers
_MOST_HALVINGS = 12
_SUFFICIENT = 1e-4  # part of the decrease that the slope promises (Armijo's rule)


@dataclass(frozen=True)
class LogisticHeads:
    """
    B linear classifiers with K classes on the same D features.

    Parameters
    ----------
    weights : array
        float32, shape (D + 1, B, K); the last row holds the biases.
    n_iterations : int
        Steps of L-BFGS taken.
    gradient : float
        Largest norm of a problem's gradient at the end, in the metric of the preconditioner and divided by the square
        root of its number of rows.
    """

    weights: NDArray[np.float32]
    n_iterations: int
    gradient: float

    def logits(self, x: NDArray[np.float32], head: int) -> NDArray[np.float32]:
        """Return the logits of rows (n, D) by one of the heads, shape (n, K)."""
        return np.asarray(x @ self.weights[:-1, head] + self.weights[-1, head])


def fit_logistic(
    x: NDArray[np.float32],
    labels: NDArray[np.int32],
    trained_on: NDArray[np.bool_],
    K: int,
    *,
    penalty: float | NDArray[np.float64],
    start: NDArray[np.float32] | None = None,
    max_iterations: int = 100,
    tol: float = 1e-3,
) -> LogisticHeads:
    """
    Minimise ``sum_i cross_entropy_i + penalty / 2 * |W|^2`` for B problems on the same features.

    The biases are not penalised; ``penalty`` is ``1 / C`` of scikit-learn's `LogisticRegression`.

    Parameters
    ----------
    x : array
        float32, shape (N, D): uncorrelated features with mean near 0.
    labels : array
        int32, shape (B, N), values in 0..K-1; those of rows that a problem is not trained on do not matter.
    trained_on : array
        bool, shape (B, N): the rows that each problem is fitted on.
    K : int
        Number of classes.
    penalty : float or array
        Strength of the regularisation, above 0; one for all problems, or shape (B,).
    start : array, optional
        Weights to start from, shape (D + 1, B, K); zeros without it.
    max_iterations : int
        Steps of L-BFGS after which to stop in any case.
    tol : float
        `LogisticHeads.gradient` at which to stop.

    Returns
    -------
    LogisticHeads

    References
    ----------
    Nocedal and Wright, Numerical Optimization (2006), algorithm 7.4 (L-BFGS), here for B independent problems in step;
    Böhning, Multinomial logistic regression algorithm, Ann. Inst. Statist. Math. 44 (1992), for the preconditioner: the
    Hessian of each class is bounded by X'X / 2, and is near X'X (K - 1) / K^2 while the classes are hardly told apart.
    """
    problem = _Problem(x, labels, trained_on, K, penalty)
    weights = np.zeros(problem.shape, np.float32) if start is None else start.astype(np.float32)
    scale = problem.inverse_hessian()
    memory = _Memory(scale)
    value, gradient = problem(weights)
    n_rows = np.maximum(trained_on.sum(1), 1)
    n, norm = 0, np.inf
    for n in range(max_iterations + 1):
        norm = float(np.sqrt(_dot(gradient, gradient * scale) / n_rows).max())
        if norm <= tol or n == max_iterations:
            break
        direction = memory.direction(gradient)
        step = _line_search(problem, weights, value, gradient, direction)
        if step is None:
            break
        memory.add(step[0] - weights, step[2] - gradient)
        weights, value, gradient = step
    return LogisticHeads(weights, n, norm)


def log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Return logits (..., K) less the logarithm of the sum of their exponentials."""
    shifted = logits - logits.max(-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(-1, keepdims=True))
    return np.asarray(shifted)


class _Problem:
    """Value and gradient of B problems, (B,) and (D + 1, B, K), as functions of their weights."""

    def __init__(
        self,
        x: NDArray[np.float32],
        labels: NDArray[np.int32],
        trained_on: NDArray[np.bool_],
        K: int,
        penalty: float | NDArray[np.float64],
    ):
        self.x, self.K = x, K
        self.penalty = np.broadcast_to(np.asarray(penalty, np.float32), (len(labels),))
        self.labels = np.ascontiguousarray(np.where(trained_on, labels, -1).T.astype(np.int32))
        self.rows = trained_on.sum(1)
        self.shape = x.shape[1] + 1, len(labels), K
        self._block = max(64, _BLOCK_BYTES // (4 * len(labels) * K))

    def __call__(self, weights: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        D1, B, K = self.shape
        flat = weights.reshape(D1, B * K)
        gradient = np.zeros_like(flat)
        loss = np.zeros(B)
        for first in range(0, len(self.x), self._block):
            rows = slice(first, first + self._block)
            block = self.x[rows]
            work = block @ flat[:-1]
            work += flat[-1]
            loss += self._residual(work.reshape(-1, B, K), self.labels[rows])
            gradient[:-1] += block.T @ work
            gradient[-1] += work.sum(0)
        loss += self.penalty / 2 * _dot(weights[:-1], weights[:-1])
        gradient = gradient.reshape(self.shape)
        gradient[:-1] += self.penalty[:, None] * weights[:-1]
        return loss, gradient

    @staticmethod
    def _residual(logits: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.float64]:
        """Replace logits (n, B, K) by their gradient of the cross entropy; return its sum for each problem."""
        label_logits, totals = np.empty(labels.shape, np.float32), np.empty(labels.shape, np.float32)
        shift(logits, labels, label_logits)
        np.exp(logits, out=logits)
        residual(logits, labels, totals)
        return np.asarray((np.log(totals) - label_logits).sum(0, dtype=np.float64))

    def inverse_hessian(self) -> NDArray[np.float32]:
        """Return the preconditioner, shape (D + 1, B, 1): the inverse diagonal while classes are hardly told apart."""
        rows = self.rows
        squares = np.einsum("nd,nd->d", self.x, self.x, dtype=np.float64) / max(1, len(self.x))
        curvature = (self.K - 1) / self.K**2
        diagonal = np.append(squares, 1.0)[:, None] * rows * curvature
        diagonal[:-1] += self.penalty
        return (1 / np.maximum(diagonal, 1e-12))[:, :, None].astype(np.float32)


class _Memory:
    """The L-BFGS approximation of the inverse Hessian, for B problems in step."""

    def __init__(self, scale: NDArray[np.float32]):
        self.scale = scale
        self._pairs: list[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]] = []
        self._gamma: NDArray[np.float32] | float = 1.0

    def add(self, step: NDArray[np.float32], change: NDArray[np.float32]) -> None:
        """Store a step and the change of the gradient along it, except of problems that hardly moved."""
        curvature = _dot(step, change)
        usable = curvature > 1e-10
        inverse = np.where(usable, 1 / np.where(usable, curvature, 1), 0)
        self._pairs = [*self._pairs[1 - _MEMORY :], (step, change, inverse)]
        squares = _dot(change, change * self.scale)
        gamma = np.where(usable & (squares > 0), curvature / np.where(squares > 0, squares, 1), 1)
        self._gamma = gamma[None, :, None].astype(np.float32)

    def direction(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the search direction, shape (D + 1, B, K)."""
        q = gradient.copy()
        alphas = []
        for step, change, inverse in reversed(self._pairs):
            alphas.append((inverse * _dot(step, q)).astype(np.float32)[None, :, None])
            q -= alphas[-1] * change
        q *= self.scale * self._gamma
        for (step, change, inverse), alpha in zip(self._pairs, reversed(alphas), strict=True):
            beta = (inverse * _dot(change, q)).astype(np.float32)[None, :, None]
            q += (alpha - beta) * step
        return -q


def _line_search(
    problem: _Problem,
    weights: NDArray[np.float32],
    value: NDArray[np.float64],
    gradient: NDArray[np.float32],
    direction: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32]] | None:
    """Halve the step of each problem until it decreases enough; None if no point is better in float32."""
    slope = _dot(gradient, direction)
    step = np.where(slope < 0, 1.0, 0.0)
    slack = 1e-7 * np.abs(value)
    for _ in range(_MOST_HALVINGS):
        trial = weights + step.astype(np.float32)[None, :, None] * direction
        trial_value, trial_gradient = problem(trial)
        worse = trial_value > value + _SUFFICIENT * step * slope + slack
        if not worse.any():
            return (trial, trial_value, trial_gradient) if step.any() else None
        step[worse] *= 0.4
    step[worse] = 0
    if not step.any():
        return None
    trial = weights + step.astype(np.float32)[None, :, None] * direction
    return trial, *problem(trial)


def _dot(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the inner product of each problem, (D, B, K) with (D, B, K) to (B,)."""
    return np.einsum("dbk,dbk->b", a, b, dtype=np.float64)
