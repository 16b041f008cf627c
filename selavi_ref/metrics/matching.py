"""One-to-one matching of clusters with classes: accuracy and confusion matrix."""

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selavi_ref.metrics.contingency import Labels, PairCounts, count_pairs


class MatchedConfusion(NamedTuple):
    """
    Confusion matrix with the matched pairs of class and cluster along the diagonal.

    Attributes
    ----------
    counts : int64 array of shape (classes, clusters)
        Number of videos of the class in the cluster.
    classes, clusters : list
        The labels of the rows and of the columns: first the matched ones, a class and its cluster at the same position,
        in the order of the classes; then the rest, the largest first.
    matched : int
        Number of pairs, the smaller of the numbers of classes and clusters.
    """

    counts: NDArray[np.int64]
    classes: list[Hashable]
    clusters: list[Hashable]
    matched: int


def hungarian_accuracy(labels_true: Labels, labels_pred: Labels) -> float:
    """
    Accuracy under the best one-to-one matching of clusters with classes.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video. Videos of clusters or classes that are not matched count as errors.

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

    Examples
    --------
    >>> hungarian_accuracy(["cat", "cat", "dog", "dog"], [0, 0, 1, 0])
    0.75
    """
    return accuracy_from_pairs(count_pairs(labels_true, labels_pred))


def matched_confusion(labels_true: Labels, labels_pred: Labels) -> MatchedConfusion:
    """
    Compute the confusion matrix, with rows and columns in the order of the best one-to-one matching.

    The pairs are those of `hungarian_accuracy`, which is the sum of the diagonal over N. As many pairs are made as
    possible, so a class and a cluster that share no video may be among them.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video.

    Returns
    -------
    MatchedConfusion
        The counts, the labels in the order of rows and columns, and the number of pairs.

    Raises
    ------
    InputError
        Labels that do not fit, or more classes times clusters than memory holds.
    """
    pairs = count_pairs(labels_true, labels_pred)
    counts = pairs.dense()
    matched_rows, matched_columns = _matching(counts)
    rows = _matched_first(matched_rows, pairs.class_sizes)
    columns = _matched_first(matched_columns, pairs.cluster_sizes)
    return MatchedConfusion(
        counts[np.ix_(rows, columns)],
        [pairs.classes[row] for row in rows],
        [pairs.clusters[column] for column in columns],
        len(matched_rows),
    )


def accuracy_from_pairs(pairs: PairCounts) -> float:
    """Return the accuracy of a table after matching."""
    counts = pairs.dense()
    return int(counts[_matching(counts)].sum()) / pairs.n


def _matching(counts: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows, ascending, and the columns of the matching with the largest sum."""
    # Importing SciPy's optimisers takes as long as importing the rest of the core.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(counts, maximize=True)
    return rows, columns


def _matched_first(matched: NDArray[np.intp], sizes: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the numbers of all groups: the matched ones as given, then the rest, largest first."""
    rest = np.setdiff1d(np.arange(len(sizes)), matched)
    return np.concatenate([matched, rest[np.argsort(-sizes[rest], kind="stable")]])
