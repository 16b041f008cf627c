"""All scores at once, as `selavi evaluate` shows them."""

from selavi_ref.metrics.clusters import accuracy_from_pairs, entropy_from_pairs, purity_from_pairs
from selavi_ref.metrics.contingency import Labels, count_pairs
from selavi_ref.metrics.information import adjusted_from_pairs, normalized_from_pairs
from selavi_ref.metrics.pairs import rand_from_pairs


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
        ``mean_purity``, ``mean_entropy``.

    Raises
    ------
    InputError
        Labels that do not fit.
    """
    pairs = count_pairs(labels_true, labels_pred)
    return {
        "n": pairs.n,
        "classes": len(pairs.classes),
        "clusters": len(pairs.clusters),
        "nmi": normalized_from_pairs(pairs),
        "ami": adjusted_from_pairs(pairs),
        "ari": rand_from_pairs(pairs),
        "accuracy": accuracy_from_pairs(pairs),
        "mean_purity": purity_from_pairs(pairs),
        "mean_entropy": entropy_from_pairs(pairs),
    }
