"""Measure how well videos that were added to a collection fit the clusters that were learnt without them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selavi_ref.diagnostics.finding import Figure, Finding, Severity, counted, percent, unmeasured
from selavi_ref.diagnostics.fit import FARTHEST, LOWEST, far_out, modality_views
from selavi_ref.ensemble.labels import Labels
from selavi_ref.metrics import adjusted_mutual_info_score
from selavi_ref.selflabel.kmeans import kmeans
from selavi_ref.store import FeatureStore

_MANY = 3.0  # times the fraction of misfits among the old videos, from which on new videos fit badly
_FEWEST = 3  # misfits that are reported
_KIND = 8  # videos of a kind, at least on average
_MOST_KINDS = 20  # largest number of kinds that is tried
_AGREEING = 0.5  # agreement of picture and sound from which on there is more than one kind
_TOLERANCE = 0.02  # by which agreement may fall short of the best
_WARNING = 0.2  # fraction of misfits from which on it is a warning


@dataclass(frozen=True)
class Fit:
    """
    How well new videos fit.

    Parameters
    ----------
    misfits : array
        Videos that fit no cluster, bool, shape (N,): as `selavi_ref.diagnostics.fit.misfits`, with the medians of the
        old videos.
    finding : Finding
        The result in a sentence.
    """

    misfits: NDArray[np.bool_]
    finding: Finding


def fit_of_new(
    store: FeatureStore, labels: Labels, new: NDArray[np.bool_], features: FeatureStore | None = None
) -> Fit:
    """
    Find the new videos that fit no cluster, compared with the old videos.

    Parameters
    ----------
    store : FeatureStore
        With log-probabilities of all N videos.
    labels : Labels
        Their labels.
    new : array
        New videos, bool, shape (N,).
    features : FeatureStore, optional
        Store of the features of the same videos, if they are not in `store`.
    """
    fit = modality_views(store, labels.groups).fit
    before = ~new & (labels.label >= 0)
    mine = new & (labels.label >= 0)
    if not before.any() or not mine.any():
        none = np.zeros(store.n_videos, bool)
        return Fit(none, unmeasured("new videos", "no new video has a label" if before.any() else "all are new"))
    bad = np.zeros(store.n_videos, bool)
    if store.n_clusters > 1:
        bad |= fit < LOWEST * np.nanmedian(fit[before])
    outlying = far_out(features or store, labels.label, before)
    if outlying is not None:
        bad |= np.nan_to_num(outlying, nan=0.0) > FARTHEST
    bad &= labels.label >= 0
    share, usual = float(bad[mine].mean()), float(bad[before].mean())
    confidence = float(labels.confidence[mine].mean())
    count = int(bad[mine].sum())
    figures: dict[str, Figure] = {
        "new": int(mine.sum()),
        "misfits": count,
        "share": share,
        "usual": usual,
        "confidence": confidence,
        "usual_confidence": float(labels.confidence[before].mean()),
    }
    sentence = (
        f"{count:,} of {counted(int(mine.sum()), 'new video')} ({percent(share)}) fit no cluster, against "
        f"{percent(usual)} of those before; mean confidence {confidence:.2f}, against {figures['usual_confidence']:.2f}"
    )
    badly = count >= _FEWEST and share >= _MANY * usual
    severity: Severity = ("warning" if share >= _WARNING else "look") if badly else "ok"
    return Fit(bad, Finding("new videos", severity, sentence, figures))


def n_new_clusters(store: FeatureStore, misfits: NDArray[np.bool_], *, seed: int = 0) -> int:
    """
    Estimate the number of kinds among the videos that fit no cluster.

    They are clustered by the features of each modality alone, for each number of clusters. If it is the number of
    kinds, picture and sound find the same clusters, as in `selavi_ref.ensemble.n_clusters`: of all numbers whose
    agreement, the adjusted mutual information, is within 0.02 of the best, the estimate is the largest. Without any
    good agreement they are one kind.

    Parameters
    ----------
    store : FeatureStore
        With features of two modalities.
    misfits : array
        Videos that fit no cluster, bool, shape (N,).
    seed : int
        Seed of K-means.

    Returns
    -------
    int
        0 if there are fewer than 8 such videos; each kind has at least 8 on average.
    """
    modalities = [m for m in store.modalities if store.has(f"features/{m}")][:2]
    rows = np.flatnonzero(misfits & np.logical_and.reduce([store.present(m) for m in modalities]))
    most = min(_MOST_KINDS, len(rows) // _KIND)
    if most < 2 or len(modalities) < 2:
        return min(most, 1)
    spaces = [store.features(m, rows) for m in modalities]
    for values in spaces:
        values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.float32(1e-12))
    agreement = np.array(
        [adjusted_mutual_info_score(*(kmeans(values, n, seed=seed) for values in spaces)) for n in range(2, most + 1)]
    )
    if agreement.max() < _AGREEING:
        return 1
    return int(np.flatnonzero(agreement >= agreement.max() - _TOLERANCE)[-1]) + 2
