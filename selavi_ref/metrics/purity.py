"""Purity and entropy of clusters, one by one and on average."""

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selavi_ref.metrics.contingency import Labels, PairCounts, count_pairs


class ClusterReport(NamedTuple):
    """
    Size, entropy, purity and most frequent class of each cluster, in the order of the cluster labels.

    Attributes
    ----------
    clusters : list
        The labels of the clusters, ascending where they can be ordered.
    sizes : int64 array
        Number of videos.
    entropy : float64 array
        Entropy of the classes in the cluster, in nats.
    purity : float64 array
        Fraction of the most frequent class in the cluster.
    majority : list
        The most frequent class; of several, the first in the order of the classes.
    """

    clusters: list[Hashable]
    sizes: NDArray[np.int64]
    entropy: NDArray[np.float64]
    purity: NDArray[np.float64]
    majority: list[Hashable]


def cluster_report(labels_true: Labels, labels_pred: Labels) -> ClusterReport:
    """
    Compute size, entropy, purity and most frequent class of each cluster.

    The means of entropy and purity are `mean_entropy` and `mean_purity`; the mean of purity, weighted by the sizes, is
    `purity_score`.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video; here it matters which is which.

    Returns
    -------
    ClusterReport
        One entry for each cluster that is not empty.

    Raises
    ------
    InputError
        Labels that do not fit.
    """
    pairs = count_pairs(labels_true, labels_pred)
    majority = [pairs.classes[row] for row in _majority_rows(pairs)]
    return ClusterReport(list(pairs.clusters), pairs.cluster_sizes, _entropies(pairs), _purities(pairs), majority)


def purity_score(labels_true: Labels, labels_pred: Labels) -> float:
    """
    Fraction of the videos that have the most frequent class of their cluster.

    This is the purity of textbooks, the mean over the clusters weighted by their sizes. It reaches 1 with one cluster
    for each video, so compare it for equal numbers of clusters only.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video; here it matters which is which.

    Returns
    -------
    float
        From above 0 to 1, where every cluster holds one class only.

    Raises
    ------
    InputError
        Labels that do not fit.

    References
    ----------
    Manning, Raghavan and Schütze, Introduction to Information Retrieval, 2008, equation 16.1.
    """
    pairs = count_pairs(labels_true, labels_pred)
    return int(_largest(pairs).sum()) / pairs.n


def mean_purity(labels_true: Labels, labels_pred: Labels) -> float:
    """
    Fraction of the most frequent class in a cluster, averaged over the clusters.

    Every cluster that is not empty counts the same, whatever its size, as in SeLaVi; the purity of textbooks weights
    the clusters by their sizes: `purity_score`.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video; here it matters which is which.

    Returns
    -------
    float
        From above 0 to 1, where every cluster holds one class only.

    Raises
    ------
    InputError
        Labels that do not fit.

    References
    ----------
    Asano et al., Labelling unlabelled videos from scratch with multi-modal self-supervision, NeurIPS 2020, section 4.
    """
    return purity_from_pairs(count_pairs(labels_true, labels_pred))


def mean_entropy(labels_true: Labels, labels_pred: Labels) -> float:
    """
    Entropy of the classes in a cluster, in nats, averaged over the clusters.

    Every cluster that is not empty counts the same, whatever its size, as in SeLaVi; weighted by sizes it would be the
    conditional entropy of the classes.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video; here it matters which is which.

    Returns
    -------
    float
        From 0, where every cluster holds one class only, to the logarithm of the number of classes.

    Raises
    ------
    InputError
        Labels that do not fit.

    References
    ----------
    Asano et al., Labelling unlabelled videos from scratch with multi-modal self-supervision, NeurIPS 2020, section 4.
    """
    return entropy_from_pairs(count_pairs(labels_true, labels_pred))


def purity_from_pairs(pairs: PairCounts) -> float:
    """Return the mean purity of the columns of a table."""
    return float(np.mean(_purities(pairs)))


def entropy_from_pairs(pairs: PairCounts) -> float:
    """Return the mean entropy of the columns of a table."""
    return float(np.mean(_entropies(pairs)))


def _purities(pairs: PairCounts) -> NDArray[np.float64]:
    purities: NDArray[np.float64] = _largest(pairs) / pairs.cluster_sizes
    return purities


def _largest(pairs: PairCounts) -> NDArray[np.int64]:
    """Return the largest entry of each column."""
    largest = np.zeros(len(pairs.clusters), np.int64)
    np.maximum.at(largest, pairs.columns, pairs.counts)
    return largest


def _entropies(pairs: PairCounts) -> NDArray[np.float64]:
    frequency = pairs.counts / pairs.cluster_sizes[pairs.columns]
    sums = np.bincount(pairs.columns, weights=frequency * np.log(frequency), minlength=len(pairs.clusters))
    # Subtracted from zero, so that pure clusters have entropy 0 and not -0.
    return np.subtract(0.0, sums, dtype=np.float64)


def _majority_rows(pairs: PairCounts) -> NDArray[np.intp]:
    """Return for each column the first row with its largest entry."""
    is_largest = np.flatnonzero(pairs.counts == _largest(pairs)[pairs.columns])
    rows = np.full(len(pairs.clusters), len(pairs.classes), np.intp)
    np.minimum.at(rows, pairs.columns[is_largest], pairs.rows[is_largest])
    return rows
