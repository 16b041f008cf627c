"""Numba kernels of the softmax residual of many heads at once; NumPy is slow at reductions over short rows."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def shift(logits: NDArray[Any], labels: NDArray[Any], label_logits: NDArray[Any]) -> None:
    """
    Subtract the largest of each row's K logits from them; write that of its label (or 0) to `label_logits`.

    In NumPy: ``logits -= logits.max(2)[:, :, None]; label_logits[:] = take(logits, labels)``; shapes (n, B, K), (n, B).
    """
    for i in range(logits.shape[0]):
        for b in range(logits.shape[1]):
            largest = logits[i, b, 0]
            for k in range(1, logits.shape[2]):
                largest = max(largest, logits[i, b, k])
            for k in range(logits.shape[2]):
                logits[i, b, k] -= largest
            label_logits[i, b] = logits[i, b, labels[i, b]] if labels[i, b] >= 0 else np.float32(0)


@numba.njit(cache=True, nogil=True)
def residual(exponentials: NDArray[Any], labels: NDArray[Any], totals: NDArray[Any]) -> None:
    """
    Turn exponentials into softmax less the one-hot label, or 0 without one; write sums to `totals`.

    In NumPy: ``totals[:] = e.sum(2); e /= totals; e -= eye[labels]; e *= labels >= 0``; shapes as in `shift`.
    """
    for i in range(exponentials.shape[0]):
        for b in range(exponentials.shape[1]):
            if labels[i, b] < 0:
                totals[i, b] = 1
                for k in range(exponentials.shape[2]):
                    exponentials[i, b, k] = 0
                continue
            total = np.float32(0)
            for k in range(exponentials.shape[2]):
                total += exponentials[i, b, k]
            inverse = np.float32(1) / total
            for k in range(exponentials.shape[2]):
                exponentials[i, b, k] *= inverse
            exponentials[i, b, labels[i, b]] -= np.float32(1)
            totals[i, b] = total
