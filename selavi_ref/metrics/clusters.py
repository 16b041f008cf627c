"""Scores that look at clusters one by one: accuracy after matching, purity, entropy."""

import numpy as np

from selavi_ref.metrics.contingency import Labels, PairCounts, count_pairs


def hungarian_accuracy(labels_true: Labels, labels_pred: Labels) -> float:
    """
    Share of the videos labelled right when each cluster is named after one class so as to be right most often.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video. With more clusters than classes, the clusters left over name no class and their
        videos count as wrong, and the other way round.

    Returns
    -------
    float
        From above 0 to 1.

    Raises
    ------
    InputError
        Labels that do not fit, or more classes times clusters than memory holds.

    References
    ----------
    Kuhn, The Hungarian method for the assignment problem, Naval Research Logistics Quarterly 2 (1955).
    """
    return accuracy_from_pairs(count_pairs(labels_true, labels_pred))


def mean_purity(labels_true: Labels, labels_pred: Labels) -> float:
    """
    Share of the most frequent class in a cluster, averaged over the clusters.

    Every cluster that is not empty counts the same, whatever its size, as in SeLaVi; the purity of textbooks weights
    the clusters by their sizes.

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


def accuracy_from_pairs(pairs: PairCounts) -> float:
    """Return the accuracy of a table after matching."""
    # SciPy's optimisers take as long to load as the rest of the core.
    from scipy.optimize import linear_sum_assignment

    counts = pairs.dense()
    classes, clusters = linear_sum_assignment(counts, maximize=True)
    return int(counts[classes, clusters].sum()) / pairs.n


def purity_from_pairs(pairs: PairCounts) -> float:
    """Return the mean purity of the columns of a table."""
    largest = np.zeros(len(pairs.clusters), np.int64)
    np.maximum.at(largest, pairs.columns, pairs.counts)
    return float(np.mean(largest / pairs.cluster_sizes))


def entropy_from_pairs(pairs: PairCounts) -> float:
    """Return the mean entropy of the columns of a table."""
    share = pairs.counts / pairs.cluster_sizes[pairs.columns]
    # Adding zero turns a minus zero of pure clusters into zero.
    return float(-np.sum(share * np.log(share)) / len(pairs.clusters)) + 0.0
