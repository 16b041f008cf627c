"""Posteriors of the clusters, from joint log-probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STRENGTH = 10.0  # default of the transport: lambda / 2 of the paper, 1 / reg of POT


def posterior(log_prob: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the row softmax (N, K) of joint log-probabilities (N, K)."""
    posteriors = np.exp(log_prob - log_prob.max(1, keepdims=True))
    posteriors /= posteriors.sum(1, keepdims=True)
    return posteriors
