"""The plan pass in plain NumPy: the reference for every faster engine, and the engine of small problems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.transport.arguments import Vector, check_size, normalised, refuse_entry
from selavi_ref.transport.plan_pass import STATS_ROWS, PlanStats, Rows

_MANY, _SMALL = 1e-3, 1e-6  # posteriors that `PlanStats` counts are above the first, or below the second
_BLOCK = 1 << 20  # entries held in float64 at a time


class NumpyPass:
    """`PlanPass` in float64, in blocks of rows."""

    def __init__(self, log_prob: NDArray[Any], strength: float, weight: Vector | None = None) -> None:
        self.shape = (log_prob.shape[0], log_prob.shape[1])
        self.weight = normalised(weight)
        self._log_prob = log_prob
        self._strength = strength
        self._weight = np.full(len(log_prob), 1.0 / len(log_prob)) if self.weight is None else self.weight
        finite = np.isfinite(log_prob)
        if not finite.all():
            row, column = divmod(int(np.argmin(finite)), self.shape[1])
            refuse_entry(row, column, float(log_prob[row, column]))
        self.largest = float(np.abs(log_prob).max())
        check_size(self.largest, strength)

    def __call__(self, potentials: Vector, sharpness: float = 1.0, *, precise: bool = False) -> tuple[float, Vector]:
        """See `PlanPass`."""
        value, mass = 0.0, np.zeros(self.shape[1])
        for rows, logits in self._blocks(potentials, sharpness):
            logsumexp, posterior = _softmax(logits)
            value += float(self._weight[rows] @ logsumexp)
            mass += self._weight[rows] @ posterior
        return value, mass

    def rows(self, potentials: Vector) -> Rows:
        """See `PlanPass`."""
        N, K = self.shape
        labels, confidence, lse = np.empty(N, np.int32), np.empty(N, np.float32), np.empty(N)
        mass = np.zeros(K)
        for rows, logits in self._blocks(potentials, 1.0):
            lse[rows], posterior = _softmax(logits)
            labels[rows] = logits.argmax(1)
            confidence[rows] = posterior.max(1)
            mass += self._weight[rows] @ posterior
        at_label = self._log_prob[np.arange(N), labels].astype(np.float64)
        return Rows(labels, confidence, lse, mass, float(self._weight @ lse), float(self._weight @ at_label))

    def peak(self, potentials: Vector) -> Vector:
        """See `PlanPass`."""
        highest = np.full(self.shape[1], -np.inf)
        for _, logits in self._blocks(potentials, 1.0):
            logsumexp, _ = _softmax(logits)
            highest = np.maximum(highest, (logits - logsumexp[:, None]).max(0))
        return highest

    def stats(self, potentials: Vector, sharpness: float = 1.0) -> PlanStats:
        """See `PlanPass`."""
        step = max(1, self.shape[0] // STATS_ROWS)
        blocks = self._blocks(potentials, sharpness, step)
        return stats_of(((self._weight[rows], logits) for rows, logits in blocks), np.isfinite(potentials))

    def coupling(self, potentials: Vector, step: int, sharpness: float = 1.0) -> Vector:
        """See `PlanPass.coupling`."""
        total, weight = np.zeros((self.shape[1], self.shape[1])), 0.0
        for rows, logits in self._blocks(potentials, sharpness, step):
            posterior = _softmax(logits)[1]
            total += (posterior * self._weight[rows, None]).T @ posterior
            weight += self._weight[rows].sum()
        return np.asarray(total / max(weight, 1e-300))

    def _blocks(self, potentials: Vector, sharpness: float, step: int = 1) -> Iterator[tuple[slice, Vector]]:
        """Yield blocks of every ``step``-th row with their logits ``L + f``."""
        size = step * max(1, _BLOCK // self.shape[1])
        for start in range(0, self.shape[0], size):
            rows = slice(start, min(start + size, self.shape[0]), step)
            yield rows, sharpness * self._strength * self._log_prob[rows].astype(np.float64, order="F") + potentials


def stats_of(blocks: Iterable[tuple[Vector, NDArray[Any]]], used: NDArray[np.bool_]) -> PlanStats:
    """Return the statistics of rows that come in blocks of their weights and their logits, which are overwritten."""
    sums = np.zeros(4)
    for weight, logits in blocks:
        logits -= logits.max(1, keepdims=True)
        posterior = np.exp(logits, out=logits)
        posterior /= posterior.sum(1, keepdims=True)
        soft = 1.0 - np.einsum("ik,ik->i", posterior, posterior)
        small = ((posterior < _SMALL) & used).sum(1)
        sums += np.stack([np.ones(len(posterior)), soft, (posterior > _MANY).sum(1), small]) @ weight
    return PlanStats(*sums.tolist())


def _softmax(logits: Vector) -> tuple[Vector, Vector]:
    """Return the logsumexp and the softmax of each row."""
    top = logits.max(1)
    posterior = np.exp(logits - top[:, None])
    total = posterior.sum(1)
    posterior /= total[:, None]
    return top + np.log(total), posterior
