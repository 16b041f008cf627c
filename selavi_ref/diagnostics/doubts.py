"""Quick checks of new labels: reasons not to trust them as a whole, and single labels to drop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from selavi_ref.diagnostics import agreement
from selavi_ref.diagnostics.finding import Finding, score, unmeasured
from selavi_ref.diagnostics.fit import far_out, misfits, modality_views
from selavi_ref.ensemble.labels import Labels, has_final_labels
from selavi_ref.store import FeatureStore

_MIN_HEADS_AMI = 0.5  # mean adjusted MI of the heads
_MIN_KAPPA = 0.2  # Cohen's kappa of the modalities: about 0 for noise, 0.34 where labels are 73 % right
_MIN_RUNS_NMI = 0.3  # agreement of the runs of a search: 0.1 for noise, 0.6 where labels are 73 % right


def doubts(store: FeatureStore, labels: Labels, *, of_training: bool = True) -> list[Finding]:
    """
    Return the reasons not to trust labels as a whole; an empty list is no proof that they are right.

    Checked are the sizes of the clusters, and whether heads, modalities, and the runs of a cross-fitted search agree.
    Where labels are cross-fitted on what networks have learnt, only the runs of the search count, and not the heads.

    Parameters
    ----------
    store : FeatureStore
        With log-probabilities.
    labels : Labels
        Labels of its videos.
    of_training : bool
        Whether the labels were learnt from these videos; others may all be in one cluster.
    """
    sizes = agreement.sizes(labels.label, store.n_clusters)
    if of_training and sizes.severity == "warning":  # then nothing else can be compared
        return [sizes]
    search = (_runs(store), "nmi", _MIN_RUNS_NMI)
    if has_final_labels(store):
        return _below([search])
    heads = agreement.heads(labels, store.heads)
    alone = modality_views(store, labels.groups).labels
    modalities = agreement.modalities(labels.label, alone, store.n_clusters)
    return _below([(heads, "ami", _MIN_HEADS_AMI), (modalities, "kappa", _MIN_KAPPA), search])


def reject(store: FeatureStore, labels: Labels, *, min_confidence: float = 0.0, drop_misfits: bool = False) -> Labels:
    """
    Drop the labels of some videos, with the reason.

    Parameters
    ----------
    store : FeatureStore
        With log-probabilities.
    labels : Labels
        Labels of its videos.
    min_confidence : float
        Labels of a smaller confidence are dropped.
    drop_misfits : bool
        Whether labels of videos that fit no cluster are dropped, see `selavi_ref.diagnostics.fit.misfits`.
    """
    labelled = labels.label >= 0
    reasons = list(labels.reasons)
    unsure = labelled & (labels.confidence < min_confidence)
    for row in np.flatnonzero(unsure):
        reasons[row] = f"confidence {labels.confidence[row]:.2f} is below {min_confidence:g}"
    dropped = unsure
    if drop_misfits:
        fit = modality_views(store, labels.groups).fit
        outside = labelled & misfits(fit, far_out(store, labels.label), store.n_clusters)
        for row in np.flatnonzero(outside & ~unsure):
            reasons[row] = "it fits no cluster"
        dropped = unsure | outside
    return replace(
        labels,
        label=_without(labels.label, dropped),
        runner_up=_without(labels.runner_up, dropped),
        reasons=reasons,
    )


def _below(limits: list[tuple[Finding, str, float]]) -> list[Finding]:
    """Return the findings whose named figure is below its limit."""
    return [each for each, name, least in limits if each.measured and float(each.figures[name]) < least]


def _without(values: NDArray[np.int32], dropped: NDArray[np.bool_]) -> NDArray[np.int32]:
    return np.where(dropped, np.int32(-1), values)


def _runs(store: FeatureStore) -> Finding:
    """Return the agreement of the runs of a cross-fitted search, from the provenance of the store."""
    search = store.provenance.get("search")
    if not isinstance(search, dict) or not isinstance(search.get("agreement"), (int, float)):
        return unmeasured("runs", "the labels are not cross-fitted")
    nmi = float(search["agreement"])
    sentence = f"runs from different starts agree with a mean NMI of {score(nmi)} only"
    return Finding("runs", "warning", sentence, {"nmi": nmi})
