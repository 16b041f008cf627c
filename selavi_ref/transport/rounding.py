"""Rounding of a plan to labels whose clusters have exactly the given sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.errors import InputError
from selavi_ref.transport.arguments import Vector

Sizes = NDArray[np.int64]

_FEW_ROWS = 256  # up to which SciPy solves the assignment problem in milliseconds


def integer_sizes(marginal: ArrayLike, N: int) -> Sizes:
    """Round ``N * marginal`` to integers of sum N by largest remainders; among equal ones the first is rounded up.

    Parameters
    ----------
    marginal : (K,) float64
        Sizes as fractions of N, of sum 1.
    N : int
        Rows, at least 1.

    Returns
    -------
    (K,) int64
        The floor or the ceiling of each ``N * marginal``; zeros stay zero.

    Raises
    ------
    InputError
        If a fraction is negative or not finite, or their sum is not 1.
    """
    r = np.asarray(marginal, dtype=np.float64)
    if N < 1:
        raise InputError(f"the number of rows must be at least 1, not {N}", option="N", value=N)
    if r.ndim != 1 or not (np.isfinite(r) & (r >= 0)).all() or abs(r.sum() - 1) > 1e-9:
        raise InputError("the marginal must be (K,) numbers, finite, not negative and of sum 1", option="marginal")
    scaled = N * r
    sizes = np.floor(scaled).astype(np.int64)
    remainder = scaled - sizes
    sizes[np.argsort(-remainder, kind="stable")[: N - sizes.sum()]] += 1
    return sizes


def labels_of_sizes(log_prob: NDArray[Any], sizes: Sizes, potentials: Vector) -> NDArray[np.int32]:
    """Return the labels of the largest total score among those of which exactly ``sizes[k]`` are k.

    Parameters are those of `selavi_ref.transport.exact.exact_labels`, which solves all but small problems: compiling it
    would take half a minute where there is no cache.
    """
    if len(log_prob) > _FEW_ROWS:
        from selavi_ref.transport.exact import exact_labels

        return exact_labels(log_prob, sizes, potentials)
    from scipy.optimize import linear_sum_assignment

    columns = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return np.asarray(columns[linear_sum_assignment(log_prob[:, columns], maximize=True)[1]])
