"""Homogeneity, completeness and the V-measure."""

import math

from selavi_ref.errors import InputError
from selavi_ref.metrics.contingency import Labels, PairCounts, count_pairs
from selavi_ref.metrics.information import entropy


def homogeneity_completeness_v_measure(
    labels_true: Labels, labels_pred: Labels, *, beta: float = 1.0
) -> tuple[float, float, float]:
    """
    Homogeneity, completeness and V-measure from one pass over the labels.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video.
    beta : float
        Weight of completeness in relation to homogeneity, at least 0.

    Returns
    -------
    homogeneity : float
        Fraction of the entropy of the classes that the clusters explain; 1 for pure clusters, and for a single class.
    completeness : float
        Fraction of the entropy of the clusters that the classes explain; 1 if each class lies in a single cluster.
    v_measure : float
        Their weighted harmonic mean; with ``beta`` 1, the normalised mutual information with the arithmetic mean.

    Raises
    ------
    InputError
        Labels that do not fit, or a weight below 0 or not finite.

    References
    ----------
    Rosenberg and Hirschberg, V-measure: a conditional entropy-based external cluster evaluation measure, EMNLP 2007.

    Examples
    --------
    >>> homogeneity, completeness, v_measure = homogeneity_completeness_v_measure([0, 0, 1, 1], [0, 1, 2, 2])
    >>> round(homogeneity, 3), round(completeness, 3), round(v_measure, 3)
    (1.0, 0.667, 0.8)
    """
    if not 0 <= beta < math.inf:
        raise InputError(f"beta must be a number of at least 0, not {beta}", option="beta", value=beta)
    pairs = count_pairs(labels_true, labels_pred)
    homogeneity, completeness = homogeneity_from_pairs(pairs), completeness_from_pairs(pairs)
    if homogeneity == 0 or completeness == 0:
        return homogeneity, completeness, 0.0
    v_measure = (1 + beta) * homogeneity * completeness / (beta * homogeneity + completeness)
    return homogeneity, completeness, v_measure


def homogeneity_from_pairs(pairs: PairCounts) -> float:
    """Return the homogeneity of a table."""
    return 1.0 if len(pairs.classes) == 1 else pairs.mutual_information / entropy(pairs.class_sizes)


def completeness_from_pairs(pairs: PairCounts) -> float:
    """Return the completeness of a table."""
    return 1.0 if len(pairs.clusters) == 1 else pairs.mutual_information / entropy(pairs.cluster_sizes)
