"""The score that counts pairs of videos: the adjusted Rand index."""

from selavi_ref.metrics.contingency import Labels, PairCounts, count_pairs


def adjusted_rand_score(labels_true: Labels, labels_pred: Labels) -> float:
    """
    Share of the pairs of videos that are together or apart in both, beyond chance.

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
    return rand_from_pairs(count_pairs(labels_true, labels_pred))


def rand_from_pairs(pairs: PairCounts) -> float:
    """Return the adjusted Rand index of a table."""
    # Python's integers, since products of numbers of pairs go beyond 64 bits.
    together = int((pairs.counts**2).sum())
    same_class = int((pairs.class_sizes**2).sum()) - together
    same_cluster = int((pairs.cluster_sizes**2).sum()) - together
    apart = pairs.n**2 - same_class - same_cluster - together
    together -= pairs.n
    if same_class == same_cluster == 0:
        return 1.0
    agreement = 2 * (together * apart - same_class * same_cluster)
    chance = (together + same_class) * (same_class + apart) + (together + same_cluster) * (same_cluster + apart)
    return agreement / chance
