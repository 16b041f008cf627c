"""The plainest possible versions of the transport solver, in NumPy and float64, to test the fast ones against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def plan(log_prob: Array, f: Array, strength: float = 1.0, weight: Array | None = None) -> Array:
    """``Q_ik = w_i softmax_k(strength * log_prob_ik + f_k)``."""
    x = np.asarray(log_prob, np.float64)
    used = x[:, np.isfinite(f)] if np.isfinite(f).any() else x
    logits = strength * (x - used.max(1, keepdims=True)) + f  # the maxima go first: offsets round differences off
    logits = logits - logits.max(1, keepdims=True)
    posterior = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return posterior * (np.full(len(x), 1 / len(x)) if weight is None else weight)[:, None]


def logsumexp(log_prob: Array, f: Array, strength: float = 1.0) -> Array:
    """``log sum_k exp(strength * log_prob_ik + f_k)`` for each row."""
    logits = strength * np.asarray(log_prob, np.float64) + f
    top = logits.max(1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(1)))


def dual(log_prob: Array, f: Array, target: Array, strength: float = 1.0, weight: Array | None = None) -> float:
    """``r.f - sum_i w_i logsumexp_i``, for targets without zeros."""
    weight = np.full(len(log_prob), 1 / len(log_prob)) if weight is None else weight
    return float(target @ f - weight @ logsumexp(log_prob, f, strength))


def error(q: Array, target: Array) -> float:
    """L1 distance of the column sums from the target."""
    return float(np.abs(q.sum(0) - target).sum())


def sinkhorn_potentials(log_prob: Array, target: Array, strength: float, n: int = 5000) -> Array:
    """Sinkhorn's iteration in the log domain, n times."""
    f = np.zeros(len(target))
    for _ in range(n):
        f += np.log(target) - np.log(plan(log_prob, f, strength).sum(0))
    return f
