"""Which clusters of two labellings are the same: matched one to one by the videos that they share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


def overlap(a: NDArray[np.integer], b: NDArray[np.integer], K: int) -> NDArray[np.int64]:
    """Count the videos with label k in `a` and l in `b`, both (N,); those below zero have none. Shape (K, K)."""
    both = (a >= 0) & (b >= 0)
    return np.bincount(a[both].astype(np.int64) * K + b[both], minlength=K * K).reshape(K, K)


def best_match(shared: NDArray[Any]) -> NDArray[np.int32]:
    """Return for each row of an `overlap` the column that it is matched with, so that most is shared; int32, (K,)."""
    matched: NDArray[np.int32] = linear_sum_assignment(shared, maximize=True)[1].astype(np.int32)
    return matched


def match_numbers(labels: NDArray[np.int32], reference: NDArray[np.int32], K: int) -> NDArray[np.int32]:
    """Return labels (N,) with the numbers, 0 to K - 1, under which most are those of the reference (N,); -1 stays."""
    names = best_match(overlap(labels, reference, K))
    return np.where(labels >= 0, names[np.maximum(labels, 0)], -1).astype(np.int32)
