"""Homogeneity, completeness and their mean, the V-measure."""

import math

from selavi_ref.errors import InputError
from selavi_ref.metrics.contingency import Labels, PairCounts, count_pairs
from selavi_ref.metrics.information import entropy


def homogeneity_score(labels_true: Labels, labels_pred: Labels) -> float:
    """
    Share of the entropy of the classes that the clusters explain.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video; exchanged, they give `completeness_score`.

    Returns
    -------
    float
        From 0, independent, to 1, where every cluster holds one class only; 1 also for a single class.

    Raises
    ------
    InputError
        Labels that do not fit.

    References
    ----------
    Rosenberg and Hirschberg, V-measure: a conditional entropy-based external cluster evaluation measure, EMNLP 2007.
    """
    return homogeneity_from_pairs(count_pairs(labels_true, labels_pred))


def completeness_score(labels_true: Labels, labels_pred: Labels) -> float:
    """
    Share of the entropy of the clusters that the classes explain.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video; exchanged, they give `homogeneity_score`.

    Returns
    -------
    float
        From 0, independent, to 1, where every class lies in one cluster only; 1 also for a single cluster.

    Raises
    ------
    InputError
        Labels that do not fit.

    References
    ----------
    Rosenberg and Hirschberg, V-measure: a conditional entropy-based external cluster evaluation measure, EMNLP 2007.
    """
    return completeness_from_pairs(count_pairs(labels_true, labels_pred))


def v_measure_score(labels_true: Labels, labels_pred: Labels, *, beta: float = 1.0) -> float:
    """
    Weighted harmonic mean of homogeneity and completeness.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video.
    beta : float
        Weight of completeness in relation to homogeneity, at least 0; with 1, the score is the normalised mutual
        information with the arithmetic mean.

    Returns
    -------
    float
        From 0, independent, to 1, the same up to names.

    Raises
    ------
    InputError
        Labels that do not fit, or a weight below 0 or not finite.

    References
    ----------
    Rosenberg and Hirschberg, V-measure: a conditional entropy-based external cluster evaluation measure, EMNLP 2007.
    """
    return homogeneity_completeness_v_measure(labels_true, labels_pred, beta=beta)[2]


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
    tuple of three floats
        As of `homogeneity_score`, `completeness_score` and `v_measure_score`.

    Raises
    ------
    InputError
        Labels that do not fit, or a weight below 0 or not finite.
    """
    if not 0 <= beta < math.inf:
        raise InputError(f"beta must be a number of at least 0, not {beta}")
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
