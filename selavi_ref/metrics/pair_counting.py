"""Scores that count pairs of videos: Rand index, adjusted Rand index, Fowlkes-Mallows index."""

import math

from selavi_ref.metrics.contingency import Labels, PairCounts, count_pairs


def adjusted_rand_score(labels_true: Labels, labels_pred: Labels) -> float:
    """
    Rand index adjusted for chance.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video; the score does not change when they change places.

    Returns
    -------
    float
        1 for classes and clusters that are the same up to names, about 0 for random clusters, at least -0.5.

    Raises
    ------
    InputError
        Labels that do not fit.

    References
    ----------
    Hubert and Arabie, Comparing partitions, Journal of Classification 2 (1985).
    """
    return adjusted_rand_from_pairs(count_pairs(labels_true, labels_pred))


def rand_score(labels_true: Labels, labels_pred: Labels) -> float:
    """
    Rand index: the fraction of pairs of videos that are together in both labellings or apart in both.

    With many classes and clusters most pairs are apart in both, so the score is near 1 by chance alone.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video; the score does not change when they change places.

    Returns
    -------
    float
        From 0 to 1, the same up to names; 1 also for a single video.

    Raises
    ------
    InputError
        Labels that do not fit.

    References
    ----------
    Rand, Objective criteria for the evaluation of clustering methods, Journal of the American Statistical Association
    66 (1971).
    """
    together, same_class, same_cluster, apart = _pair_confusion(count_pairs(labels_true, labels_pred))
    if same_class == same_cluster == 0:
        return 1.0
    return (together + apart) / (together + same_class + same_cluster + apart)


def fowlkes_mallows_score(labels_true: Labels, labels_pred: Labels) -> float:
    """
    Fowlkes-Mallows index: geometric mean of precision and recall of the pairs that are together in a cluster.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video; the score does not change when they change places.

    Returns
    -------
    float
        From 0, where no pair is together in both, as with singletons, to 1, the same up to names.

    Raises
    ------
    InputError
        Labels that do not fit.

    References
    ----------
    Fowlkes and Mallows, A method for comparing two hierarchical clusterings, Journal of the American Statistical
    Association 78 (1983).
    """
    return fowlkes_mallows_from_pairs(count_pairs(labels_true, labels_pred))


def adjusted_rand_from_pairs(pairs: PairCounts) -> float:
    """Return the adjusted Rand index of a table."""
    together, same_class, same_cluster, apart = _pair_confusion(pairs)
    if same_class == same_cluster == 0:
        return 1.0
    agreement = 2 * (together * apart - same_class * same_cluster)
    chance = (together + same_class) * (same_class + apart) + (together + same_cluster) * (same_cluster + apart)
    return agreement / chance


def fowlkes_mallows_from_pairs(pairs: PairCounts) -> float:
    """Return the score of Fowlkes and Mallows of a table."""
    together, same_class, same_cluster, _ = _pair_confusion(pairs)
    if together == 0:
        return 0.0
    return math.sqrt(together / (together + same_class)) * math.sqrt(together / (together + same_cluster))


def _pair_confusion(pairs: PairCounts) -> tuple[int, int, int, int]:
    """Return the ordered pairs of videos together in both, only in a class, only in a cluster, and in neither."""
    # Python's integers, since products of numbers of pairs go beyond 64 bits.
    together = int((pairs.counts**2).sum())
    same_class = int((pairs.class_sizes**2).sum()) - together
    same_cluster = int((pairs.cluster_sizes**2).sum()) - together
    apart = pairs.n**2 - same_class - same_cluster - together
    return together - pairs.n, same_class, same_cluster, apart
