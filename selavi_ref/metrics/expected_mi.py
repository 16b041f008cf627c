"""The expected mutual information of random clusters of given sizes, compiled by Numba."""

import numpy as np
from numpy.typing import NDArray

from selavi_ref.compiler import exact_kernel

# Weights of the hypergeometric distribution below this fraction of the largest one are left out.
_NEGLIGIBLE = 1e-20


def expected_mutual_information(class_sizes: NDArray[np.int64], cluster_sizes: NDArray[np.int64]) -> float:
    """
    Return the mutual information, in nats, expected of a random table with these sums of rows and columns.

    An entry x of the table follows the hypergeometric distribution of its row's and column's sums alone, so equal sums
    are computed once. The distribution is followed from its mode to both sides by the ratio of neighbours,
    ``P(x + 1) / P(x) = (a - x) (b - x) / ((x + 1) (N - a - b + x + 1))``, until its weights are negligible, and divided
    by its sum: no factorial of N is needed, and some twenty terms take the place of ``min(a, b)``.

    Parameters
    ----------
    class_sizes, cluster_sizes : int64 array
        Positive, with the same sum N.

    Returns
    -------
    float
        The expectation.

    References
    ----------
    Vinh, Epps and Bailey, Information theoretic measures for clusterings comparison, JMLR 11 (2010), equation 24a.
    """
    a, a_times = np.unique(class_sizes, return_counts=True)
    b, b_times = np.unique(cluster_sizes, return_counts=True)
    log = np.zeros(int(min(a[-1], b[-1])) + 1)
    log[1:] = np.log(np.arange(1, len(log)))
    return float(_sum_over_sizes(a, a_times, b, b_times, int(class_sizes.sum()), log))


@exact_kernel
def _sum_over_sizes(a, a_times, b, b_times, n, log):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(len(a)):
        row = 0.0
        for j in range(len(b)):
            row += b_times[j] * _expected_term(a[i], b[j], n, log)
        total += a_times[i] * row
    return total / n


@exact_kernel
def _expected_term(a, b, n, log):  # type: ignore[no-untyped-def]
    """Return the expectation of ``x log(n x / (a b))``; x of the `a` videos of a class are among `b` drawn of n."""
    low, high = max(0, a + b - n), min(a, b)
    mode = min(max((a + 1) * (b + 1) // (n + 2), low), high)
    log_mean = np.log(np.float64(a)) + np.log(np.float64(b)) - np.log(np.float64(n))
    mass = 1.0
    value = mode * (log[mode] - log_mean) if mode > 0 else 0.0

    weight, x = 1.0, mode
    while x < high and (weight > _NEGLIGIBLE or x < mode + 2):
        weight *= (np.float64(a - x) * np.float64(b - x)) / (np.float64(x + 1) * np.float64(n - a - b + x + 1))
        x += 1
        mass += weight
        value += weight * x * (log[x] - log_mean)

    weight, x = 1.0, mode
    while x > low and weight > _NEGLIGIBLE:
        weight *= (np.float64(x) * np.float64(n - a - b + x)) / (np.float64(a - x + 1) * np.float64(b - x + 1))
        x -= 1
        mass += weight
        if x > 0:
            value += weight * x * (log[x] - log_mean)
    return value / mass
