"""Measure how well each video fits its cluster, by posteriors of the modalities and by distances of features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from selavi_ref.ensemble.posterior import HeadPosteriors
from selavi_ref.store import FeatureStore
from selavi_ref.store.joint_log_prob import labelling_modalities

LOWEST = 0.5  # fraction of the median fit below which a video fits no cluster
FARTHEST = 6.0  # robust deviations from its cluster, in every modality, from which on a video fits no cluster
_FEWEST = 5  # videos of a cluster below which distances are compared with those of all videos
_TO_SIGMA = 1.4826  # times the median absolute deviation: the standard deviation of a normal distribution
_TINY = 1e-6


@dataclass(frozen=True)
class ModalityViews:
    """
    Labels by each modality alone, and fit, of each of N videos.

    Parameters
    ----------
    labels : dict of str to array
        For each modality the label that all heads together give it alone, int32, shape (N,); -1 without the modality.
    fit : array
        Mean over the heads of ``max_k sqrt(p[i, k] q[i, k])`` for the posteriors p and q of the two modalities (their
        geometric mean for any number of them; the largest posterior for one), float32, shape (N,), 0 to 1; NaN for a
        video without any. It is low for a video without a cluster that is probable for both picture and sound.
    """

    labels: dict[str, NDArray[np.int32]]
    fit: NDArray[np.float32]


def modality_views(store: FeatureStore, groups: NDArray[np.int32]) -> ModalityViews:
    """
    Label the videos of a store by each modality alone, and compute their fit.

    Parameters
    ----------
    store : FeatureStore
        With log-probabilities of H heads.
    groups : array
        int32, shape (H, K): see `selavi_ref.ensemble.consensus.HeadConsensus`.
    """
    membership = np.eye(store.n_clusters, dtype=np.float32)[groups]
    used = {m for name in store.heads for m in labelling_modalities(store, name)}
    posteriors = {m: HeadPosteriors(store, only=m) for m in store.modalities if m in used}
    labels = {m: np.full(store.n_videos, -1, np.int32) for m in posteriors}
    fit = np.full(store.n_videos, np.nan, np.float32)
    for rows in store.blocks():
        n = rows.stop - rows.start
        sums = {m: np.zeros((n, store.n_clusters), np.float32) for m in posteriors}
        total, heads = np.zeros(n, np.float32), np.zeros(n, np.float32)
        for head, name in enumerate(store.heads):
            log_product, modalities = np.zeros((n, store.n_clusters), np.float32), np.zeros(n, np.float32)
            for m, of_modality in posteriors.items():
                values, present = of_modality.of_head(name, rows)
                sums[m] += values @ membership[head]
                logs = np.log(np.maximum(values, np.finfo(np.float32).tiny))
                log_product += np.where(present[:, None], logs, 0)
                modalities += present
            total += np.where(modalities > 0, np.exp(log_product.max(1) / np.maximum(modalities, 1)), 0)
            heads += modalities > 0
        for m, votes in sums.items():
            labels[m][rows] = np.where(store.present(m)[rows], votes.argmax(1), -1)
        fit[rows] = np.where(heads > 0, total / np.maximum(heads, 1), np.nan)
    return ModalityViews(labels, fit)


def far_out(
    store: FeatureStore, labels: NDArray[np.int32], among: NDArray[np.bool_] | None = None
) -> NDArray[np.float32] | None:
    """
    Return the distance of each video's features from its cluster, in robust deviations of the cluster.

    In each modality, features are normalised to length 1; a video's distance is ``1 - cos`` to the centre of its
    cluster, the mean of the half of the cluster's videos that lies nearest to the mean of all of them; its deviation is
    the distance minus the cluster's median, divided by 1.4826 times the median absolute deviation. A video with picture
    and sound gets the smaller of both deviations: it is far out only if it is in both.

    Parameters
    ----------
    store : FeatureStore
        With ``features/{modality}``.
    labels : array
        int32, shape (N,); -1 for none.
    among : array, optional
        Videos that determine centres and deviations, bool, shape (N,); all by default.

    Returns
    -------
    array or None
        float32, shape (N,); NaN without a label or features. None if the store has no features.
    """
    modalities = [m for m in store.modalities if store.has(f"features/{m}")]
    if not modalities:
        return None
    smallest = np.full(store.n_videos, np.nan, np.float32)
    for modality in modalities:
        used = (labels >= 0) & store.present(modality)
        known = used if among is None else used & among
        distance = _distances(store, modality, labels, used, known)
        measured = np.isfinite(distance)
        smallest = np.fmin(smallest, _deviations(distance, labels, used & measured, known & measured))
    return smallest


def misfits(fit: NDArray[np.float32], outlying: NDArray[np.float32] | None, K: int) -> NDArray[np.bool_]:
    """
    Return the videos that fit no cluster: fit below half of the median, or more than six robust deviations away.

    Fits are compared with the median because they are low for all videos of a network that has learnt little. With a
    single cluster, every fit is 1.

    Parameters
    ----------
    fit : array
        `ModalityViews.fit`, shape (N,).
    outlying : array or None
        Result of `far_out`, shape (N,).
    K : int
        Number of clusters.
    """
    known = np.isfinite(fit)
    bad = np.zeros(len(fit), bool)
    if known.any() and K > 1:
        bad |= known & (fit < LOWEST * np.median(fit[known]))
    if outlying is not None:
        bad |= np.nan_to_num(outlying, nan=0.0) > FARTHEST
    return bad


def _distances(
    store: FeatureStore,
    modality: str,
    labels: NDArray[np.int32],
    used: NDArray[np.bool_],
    known: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Return ``1 - cos`` of each video to the centre of the known ones of its cluster, NaN for those not used."""
    centres = _centres(store, modality, labels, known)
    distance = _to_centres(store, modality, labels, used, centres)
    near = known.copy()
    for rows in _by_cluster(labels, known):
        near[rows] = distance[rows] <= np.nanmedian(distance[rows])
    return _to_centres(store, modality, labels, used, _centres(store, modality, labels, near))


def _centres(
    store: FeatureStore, modality: str, labels: NDArray[np.int32], used: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the mean direction of each cluster's features, shape (clusters, D), of length 1."""
    K = int(labels.max(initial=0)) + 1
    sums = np.zeros((K, store.width(f"features/{modality}")), np.float64)
    for rows in store.blocks():
        mine = np.flatnonzero(used[rows])
        pick = csr_array((np.ones(len(mine), np.float32), (labels[rows][mine], mine)), (K, rows.stop - rows.start))
        sums += pick @ _directions(store, modality, rows)
    return _unit(sums).astype(np.float32)


def _to_centres(
    store: FeatureStore,
    modality: str,
    labels: NDArray[np.int32],
    used: NDArray[np.bool_],
    centres: NDArray[np.float32],
) -> NDArray[np.float32]:
    distance = np.full(store.n_videos, np.nan, np.float32)
    for rows in store.blocks():
        cosine = np.einsum("nd,nd->n", _directions(store, modality, rows), centres[np.maximum(labels[rows], 0)])
        distance[rows] = np.where(used[rows], 1 - cosine, np.nan)
    return distance


def _directions(store: FeatureStore, modality: str, rows: slice) -> NDArray[np.float32]:
    """Return features of length 1; zeros where a value is missing or infinite, or where all are zero."""
    values = store.features(modality, rows)
    values[~np.isfinite(values).all(1)] = 0
    return _unit(values)


def _unit(values: NDArray[np.floating]) -> NDArray[np.floating]:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(length > 0, length, 1))


def _by_cluster(labels: NDArray[np.int32], used: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    rows = np.flatnonzero(used)
    order = rows[np.argsort(labels[rows], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []


def _deviations(
    distance: NDArray[np.float32], labels: NDArray[np.int32], used: NDArray[np.bool_], known: NDArray[np.bool_]
) -> NDArray[np.float32]:
    deviations = np.full(len(distance), np.nan, np.float32)
    overall = _spread(distance[known]) if known.any() else (0.0, 1.0)
    for rows in _by_cluster(labels, used):
        reference = rows[known[rows]]
        middle, spread = _spread(distance[reference]) if len(reference) >= _FEWEST else overall
        # In a very narrow cluster, small distances would count as outliers.
        deviations[rows] = (distance[rows] - middle) / max(spread, overall[1] / 4, _TINY)
    return deviations


def _spread(distance: NDArray[np.float32]) -> tuple[float, float]:
    middle = float(np.median(distance))
    return middle, _TO_SIGMA * float(np.median(np.abs(distance - middle)))
