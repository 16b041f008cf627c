"""One-to-one matching of the clusters of two clusterings by the videos that they share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


def overlap(a: NDArray[np.integer], b: NDArray[np.integer], K: int) -> NDArray[np.int64]:
    """Return the number of videos with label k in `a` and l in `b`, shape (K, K); negative labels (N,) are missing."""
    both = (a >= 0) & (b >= 0)
    return np.bincount(a[both].astype(np.int64) * K + b[both], minlength=K * K).reshape(K, K)


def best_match(shared: NDArray[Any]) -> NDArray[np.int32]:
    """Return the column matched with each row of an `overlap` so that the sum is largest, int32, shape (K,)."""
    columns: NDArray[np.int32] = linear_sum_assignment(shared, maximize=True)[1].astype(np.int32)
    return columns


def match_numbers(labels: NDArray[np.int32], reference: NDArray[np.int32], K: int) -> NDArray[np.int32]:
    """Renumber labels (N,), 0 to K - 1, so that most equal those of the reference (N,); -1 stays."""
    numbers = best_match(overlap(labels, reference, K))
    return np.where(labels >= 0, numbers[np.maximum(labels, 0)], -1).astype(np.int32)


def number_like(labels: NDArray[np.int32], reference: NDArray[np.int32], K: int) -> NDArray[np.int32]:
    """
    Return the number of each cluster, int32, shape (K,), under which labels (N,) most equal those of the reference.

    Clusters that share no video with any of the reference keep their number where they can.
    """
    shared = overlap(labels, reference, K) * (K + 1) + np.eye(K, dtype=np.int64)
    return best_match(shared)
