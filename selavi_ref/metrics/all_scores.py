"""All scores at once, as `selavi evaluate` prints them."""

from collections.abc import Callable

from selavi_ref.metrics.contingency import Labels, PairCounts, count_pairs
from selavi_ref.metrics.information import adjusted_from_pairs, normalized_from_pairs
from selavi_ref.metrics.matching import accuracy_from_pairs
from selavi_ref.metrics.pair_counting import adjusted_rand_from_pairs, fowlkes_mallows_from_pairs
from selavi_ref.metrics.purity import entropy_from_pairs, purity_from_pairs
from selavi_ref.metrics.vmeasure import completeness_from_pairs, homogeneity_from_pairs

SCORES: dict[str, Callable[[PairCounts], float]] = {
    "nmi": normalized_from_pairs,
    "ami": adjusted_from_pairs,
    "ari": adjusted_rand_from_pairs,
    "accuracy": accuracy_from_pairs,
    "mean_purity": purity_from_pairs,
    "mean_entropy": entropy_from_pairs,
    "homogeneity": homogeneity_from_pairs,
    "completeness": completeness_from_pairs,
    "fmi": fowlkes_mallows_from_pairs,
}


def summary(labels_true: Labels, labels_pred: Labels) -> dict[str, float | int]:
    """
    Compute every score from one pass over the labels.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video.

    Returns
    -------
    dict
        ``n``, ``classes``, ``clusters`` (numbers of those that occur), ``nmi``, ``ami``, ``ari``, ``accuracy``,
        ``mean_purity``, ``mean_entropy``, ``homogeneity``, ``completeness``, ``fmi`` (Fowlkes and Mallows).

    Raises
    ------
    InputError
        Labels that do not fit.

    Examples
    --------
    >>> scores = summary(["cat", "cat", "dog", "dog"], [0, 0, 1, 0])
    >>> scores["clusters"], scores["accuracy"], round(scores["nmi"], 3)
    (2, 0.75, 0.344)
    """
    pairs = count_pairs(labels_true, labels_pred)
    sizes = {"n": pairs.n, "classes": len(pairs.classes), "clusters": len(pairs.clusters)}
    return sizes | {name: score(pairs) for name, score in SCORES.items()}
