"""The problems that the benchmarks of the solver have in common: log-probabilities, and sizes of clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Problem = tuple[NDArray[np.float32], NDArray[np.float64]]
SHARPNESS = {"moderate": 0.1, "peaked, 3 x as sharp": 0.3, "peaked, 10 x as sharp": 1.0}
RANDOM = "random heads"


def problem(name: str, N: int, K: int) -> Problem:
    """Return the problem of this name: one of `SHARPNESS`, or `RANDOM`."""
    if name != RANDOM:
        return mixture(N, K, SHARPNESS[name])
    rng = np.random.default_rng(0)
    total = np.zeros((N, K), np.float32)
    for _ in range(2):  # two heads with small random weights on features that say nothing about each other
        features = np.maximum(rng.normal(size=(N, 64)), 0).astype(np.float32)
        add_log_softmax(total, features @ (rng.normal(size=(64, K)) / 8).astype(np.float32))
    return total, gaussian_sizes(rng, K)


def mixture(N: int, K: int, sharpness: float, seed: int = 0) -> Problem:
    """Return the added log-probabilities of two views of a 64-dimensional Gaussian mixture, and a Gaussian marginal."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(K, 64)).astype(np.float32)
    member = rng.integers(K, size=N)
    total = np.zeros((N, K), np.float32)
    for _ in range(2):
        view = centres[member] + rng.standard_normal((N, 64), np.float32)
        add_log_softmax(total, view, (sharpness / 8) * centres.T)
    return total, gaussian_sizes(rng, K)


def add_log_softmax(total: NDArray[np.float32], view: NDArray[np.float32], weights: Any = None) -> None:
    for start in range(0, len(total), 100_000):
        rows = slice(start, start + 100_000)
        logits = view[rows] if weights is None else view[rows] @ weights
        logits = logits - logits.max(1, keepdims=True)
        total[rows] += logits - np.log(np.exp(logits).sum(1, keepdims=True))


def gaussian_sizes(rng: np.random.Generator, K: int) -> NDArray[np.float64]:
    sizes = np.maximum(1 + 0.1 * rng.normal(size=K), 1e-3)
    return np.asarray(sizes / sizes.sum())
