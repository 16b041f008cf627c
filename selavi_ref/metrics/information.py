"""Mutual information: plain, normalised, and adjusted for chance."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError
from selavi_ref.metrics.contingency import ROUNDING, Labels, PairCounts, count_pairs


def mutual_info_score(labels_true: Labels, labels_pred: Labels) -> float:
    """
    Mutual information of classes and clusters, in nats.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video; the score does not change when they change places.

    Returns
    -------
    float
        From 0, independent, to the smaller of the entropies of classes and of clusters.

    Raises
    ------
    InputError
        Labels that do not fit.
    """
    return count_pairs(labels_true, labels_pred).mutual_information


def normalized_mutual_info_score(
    labels_true: Labels, labels_pred: Labels, *, average_method: str = "arithmetic"
) -> float:
    """
    Mutual information of classes and clusters, divided by a mean of their entropies.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video; the score does not change when they change places.
    average_method : {"arithmetic", "geometric", "min", "max"}
        The mean.

    Returns
    -------
    float
        From 0, independent, to 1, the same up to names; 1 also for one class in one cluster.

    Raises
    ------
    InputError
        Labels that do not fit, or an unknown mean.

    Examples
    --------
    >>> normalized_mutual_info_score(["cat", "cat", "dog"], [1, 1, 0])
    1.0
    """
    return normalized_from_pairs(count_pairs(labels_true, labels_pred), average_method)


def adjusted_mutual_info_score(
    labels_true: Labels, labels_pred: Labels, *, average_method: str = "arithmetic"
) -> float:
    """
    Mutual information adjusted for chance: 0 expected of random clusters of the same sizes, 1 for equal labels.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video; the score does not change when they change places.
    average_method : {"arithmetic", "geometric", "min", "max"}
        The mean of the entropies that takes the place of the maximum.

    Returns
    -------
    float
        About 0 for random clusters, and negative for worse; 1 for classes and clusters that are the same up to names.

    Raises
    ------
    InputError
        Labels that do not fit, or an unknown mean.

    References
    ----------
    Vinh, Epps and Bailey, Information theoretic measures for clusterings comparison, JMLR 11 (2010), equation 24a.
    """
    return adjusted_from_pairs(count_pairs(labels_true, labels_pred), average_method)


def normalized_from_pairs(pairs: PairCounts, average_method: str = "arithmetic") -> float:
    """Return the normalised mutual information of a table."""
    mean = _mean_entropy_of(pairs, average_method)
    if len(pairs.classes) == len(pairs.clusters) == 1:
        return 1.0
    information = pairs.mutual_information
    return information / mean if information > 0 else 0.0


def adjusted_from_pairs(pairs: PairCounts, average_method: str = "arithmetic") -> float:
    """Return the adjusted mutual information of a table."""
    mean = _mean_entropy_of(pairs, average_method)
    if len(pairs.classes) == len(pairs.clusters) == 1:
        return 1.0
    if len(pairs.classes) == 1 or len(pairs.clusters) == 1:
        return 0.0
    singletons = [len(groups) == pairs.n for groups in (pairs.classes, pairs.clusters)]
    if all(singletons) or (any(singletons) and average_method == "min"):
        return 1.0  # the expectation is the maximum: 0 / 0, whose sign must not depend on rounding
    # Numba is imported by the only score that needs it.
    from selavi_ref.metrics.expected_mi import expected_mutual_information

    expected = expected_mutual_information(pairs.class_sizes, pairs.cluster_sizes)
    excess, maximum = pairs.mutual_information - expected, mean - expected
    # A difference that is exactly 0 must not get its sign, or its size, from rounding.
    return _away_from_zero(excess) / _away_from_zero(maximum)


def entropy(sizes: NDArray[np.int64]) -> float:
    """Return the entropy, in nats, of belonging to one of groups of these sizes."""
    if len(sizes) == 1:
        return 0.0
    frequency = sizes / sizes.sum()
    return -float(np.sum(frequency * np.log(frequency)))


def _mean_entropy_of(pairs: PairCounts, average_method: str) -> float:
    means: dict[str, Callable[[float, float], float]] = {
        "arithmetic": lambda a, b: (a + b) / 2,
        "geometric": lambda a, b: math.sqrt(a * b),
        "min": min,
        "max": max,
    }
    if average_method not in means:
        message = f"average_method must be one of {', '.join(means)}, not {average_method!r}"
        raise InputError(message, option="average_method", value=average_method)
    return float(means[average_method](entropy(pairs.class_sizes), entropy(pairs.cluster_sizes)))


def _away_from_zero(value: float) -> float:
    return min(value, -ROUNDING) if value < 0 else max(value, ROUNDING)
