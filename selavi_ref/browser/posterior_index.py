"""Posteriors and nearest neighbours of single videos of a store."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from selavi_ref.browser.labelling import CONSENSUS
from selavi_ref.ensemble.consensus import groups_of
from selavi_ref.ensemble.labels import final_posterior, has_final_labels, store_consensus
from selavi_ref.ensemble.posterior import HeadPosteriors
from selavi_ref.metrics import nearest
from selavi_ref.store import FeatureStore

Neighbours = dict[str, list[tuple[int, float]]]


class PosteriorIndex:
    """
    Posteriors and neighbours of the videos of a store, read on demand; thread-safe.

    Parameters
    ----------
    store : FeatureStore
        With log-probabilities; must stay open.
    features : FeatureStore
        Store of the same videos with their features, if there are any; may be the same one.

    Attributes
    ----------
    lock : RLock
        Hold it to read the store elsewhere.
    """

    def __init__(self, store: FeatureStore, features: FeatureStore):
        self._store, self._features = store, features
        self.lock = threading.RLock()
        self._posteriors = HeadPosteriors(store)
        self._norms: dict[str, NDArray[np.float32]] = {}

    @cached_property
    def _memberships(self) -> list[dict[str, NDArray[np.float32]]]:
        """Per head, one-hot matrices (K, K) from its clusters to the numbers of its labels, and to the consensus."""
        consensus, square = store_consensus(self._store), np.eye(self._store.n_clusters, dtype=np.float32)
        return [
            {name: square[of_head] for name, of_head in zip(self._store.heads, groups, strict=True)}
            for groups in (groups_of(consensus.alignment), consensus.groups)
        ]

    def posteriors(self, rows: slice) -> dict[str, NDArray[np.float32]]:
        """
        Return the posterior of each labelling, float32 (rows, K), in the cluster numbers of `label_store`.

        The consensus comes first, then the heads. Rows are zero where a head has no input of a video.
        """
        with self.lock:
            aligned, grouped = self._memberships
            heads = {name: self._posteriors.of_head(name, rows)[0] @ aligned[name] for name in aligned}
            if has_final_labels(self._store):
                return {CONSENSUS: final_posterior(self._store, rows)[0], **heads}
            return {CONSENSUS: self._posteriors.mean(rows, grouped)[0], **heads}

    def neighbours(self, row: int, k: int) -> Neighbours:
        """Return the k nearest videos and their distances, for each modality with features."""
        neighbours: Neighbours = {}
        for modality in self._modalities():
            usable = self._usable(modality)
            if not usable[row]:
                continue
            with self.lock:
                own = self._features.features(modality, slice(row, row + 1))[0]
                far = self._squares(modality) + own @ own
                for rows, values in self._features.views(f"features/{modality}"):
                    far[rows] -= 2 * (values @ own)
                far[~usable] = np.inf
                far[row] = np.inf
                # Exact distances of a few more candidates correct the rounding errors of small distances.
                few = _smallest(far, min(4 * k + 8, int(usable.sum()) - 1))
                exact = np.linalg.norm(self._features.features(modality, few).astype(np.float64) - own, axis=1)
            order = np.argsort(exact, kind="stable")[:k]
            neighbours[modality] = [(int(few[o]), float(exact[o])) for o in order]
        return neighbours

    def all_neighbours(self, k: int) -> list[Neighbours]:
        """Return the `neighbours` of all videos; needs memory for all features of a modality."""
        neighbours: list[Neighbours] = [{} for _ in range(self._store.n_videos)]
        for modality in self._modalities():
            usable = np.flatnonzero(self._usable(modality))
            if (count := min(k, len(usable) - 1)) < 1:
                continue
            with self.lock:
                values = self._features.features(modality, usable)
            indices, distances = nearest(values, values, count, leave_out_self=True)
            for row, near, far in zip(usable, usable[indices].tolist(), distances.astype(float).tolist(), strict=True):
                neighbours[row][modality] = list(zip(near, far, strict=True))
        return neighbours

    def _modalities(self) -> list[str]:
        return [m for m in self._features.modalities if self._features.has(f"features/{m}")]

    def _usable(self, modality: str) -> NDArray[np.bool_]:
        return self._features.present(modality) & np.isfinite(self._squares(modality))

    def _squares(self, modality: str) -> NDArray[np.float32]:
        """Return a copy of the squared norms of features, float32 (N,); not finite where there are none."""
        with self.lock:
            if modality not in self._norms:
                norms = np.empty(self._store.n_videos, np.float32)
                for rows, values in self._features.views(f"features/{modality}"):
                    norms[rows] = np.einsum("nd,nd->n", values, values)
                self._norms[modality] = norms
            return self._norms[modality].copy()


def typicality(store: FeatureStore, labels: NDArray[np.int32], confidence: NDArray[np.float32]) -> NDArray[np.int64]:
    """
    Return the labelled videos of a store, the most typical of their clusters first.

    They are sorted by confidence, rounded to a thousandth, then by the distance of their standardised features from the
    mean of their cluster.

    Returns
    -------
    array
        Row numbers, int64.
    """
    distance = np.zeros(len(labels))
    for modality in store.modalities:
        if store.has(f"features/{modality}"):
            distance += _distance_from_mean(store, modality, labels)
    order = np.lexsort((distance, -np.round(confidence.astype(np.float64), 3)))
    return order[labels[order] >= 0]


def _distance_from_mean(store: FeatureStore, modality: str, labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the squared distance of each video from the mean of its cluster, per feature; 0 where unknown."""
    name = f"features/{modality}"
    usable = store.present(modality) & (labels >= 0)
    K, D = int(labels.max(initial=-1)) + 1, store.width(name)
    sums, counts, squares = np.zeros((K, D)), np.zeros(K), np.zeros(D)
    for rows, values in store.views(name):
        good = usable[rows] & np.isfinite(values).all(1)
        usable[rows] = good
        clusters = labels[rows][good]
        ones = np.ones(len(clusters), np.float32)
        sums += csr_array((ones, (clusters, np.arange(len(clusters)))), shape=(K, len(clusters))) @ values[good]
        counts += np.bincount(clusters, minlength=K)
        squares += np.einsum("nd,nd->d", values[good], values[good], dtype=np.float64)
    if not counts.any():
        return np.zeros(len(labels))
    variance = squares / counts.sum() - (sums.sum(0) / counts.sum()) ** 2
    scale = np.divide(1.0, np.sqrt(np.maximum(variance, 0)), where=variance > 1e-12, out=np.zeros(D))
    means = sums / np.maximum(counts, 1)[:, None]
    distance = np.zeros(len(labels))
    for rows, values in store.views(name):
        gaps = (values - means[labels[rows]]) * scale
        distance[rows] = np.where(usable[rows], np.einsum("nd,nd->n", gaps, gaps) / D, 0)
    return distance


def _smallest(values: NDArray[np.floating[Any]], k: int) -> NDArray[np.int64]:
    if k < 1:
        return np.empty(0, np.int64)
    return np.sort(np.argpartition(values, k - 1)[:k])


def top(probabilities: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
    """Return the k most probable clusters of one video with their probabilities, without those shown as zero."""
    order = np.argsort(-probabilities, kind="stable")[:k]
    return [(int(c), round(float(probabilities[c]), 4)) for c in order if probabilities[c] >= 5e-5]


def most_probable(posteriors: Mapping[str, NDArray[np.float32]], row: int) -> list[dict[str, Any]]:
    """Return label and confidence of each head for one row of its posteriors; label -1 without input."""
    labels = []
    for name, probabilities in posteriors.items():
        if name != CONSENSUS:
            best = int(probabilities[row].argmax())
            confidence = float(probabilities[row, best])
            labels.append({"name": name, "label": best if confidence > 0 else -1, "confidence": round(confidence, 4)})
    return labels
