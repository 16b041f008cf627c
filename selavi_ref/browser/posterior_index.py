"""What every labelling of a store thinks of single videos, and which other videos are like them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from selavi_ref.browser.labelling import CONSENSUS
from selavi_ref.ensemble.consensus import find_consensus, groups_of
from selavi_ref.ensemble.labels import label_store, stored_consensus
from selavi_ref.ensemble.posterior import posterior
from selavi_ref.metrics import nearest
from selavi_ref.store import FeatureStore
from selavi_ref.store.joint_log_prob import joint_log_prob, labelling_modalities

Neighbours = dict[str, list[tuple[int, float]]]


class PosteriorIndex:
    """
    Posteriors and neighbours of the videos of a store, read as they are asked for; for many threads.

    Parameters
    ----------
    store : FeatureStore
        With log-probabilities; it stays open as long as it is used here.
    features : FeatureStore
        Of the same videos, with features if there are any; may be the same.

    Attributes
    ----------
    lock : RLock
        To be held by whoever else reads the store.
    """

    def __init__(self, store: FeatureStore, features: FeatureStore):
        self._store, self._features = store, features
        self.lock = threading.RLock()
        self._present = {m: store.present(m) for m in store.modalities}
        self._norms: dict[str, NDArray[np.float32]] = {}

    @cached_property
    def _members(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """What brings each head's clusters into the numbers of its labels, and into those of the consensus."""
        names, K = self._store.heads, self._store.n_clusters
        agreement = stored_consensus(self._store, len(names)) or find_consensus(label_store(self._store).heads, K)
        square = np.eye(K, dtype=np.float32)
        aligned = groups_of(agreement.alignment)
        return [(square[a], square[g]) for a, g in zip(aligned, agreement.groups, strict=True)]

    def posteriors(self, rows: slice) -> dict[str, NDArray[np.float32]]:
        """
        Return each labelling's posterior, float32 (rows, K), in the cluster numbers of `label_store`.

        The first is the consensus, then come the heads. Rows are zero where a head cannot see the video.
        """
        heads: dict[str, NDArray[np.float32]] = {}
        with self.lock:
            n = len(range(*rows.indices(self._store.n_videos)))
            total, votes = np.zeros((n, self._store.n_clusters), np.float32), np.zeros((n, 1), np.float32)
            for name, (aligned, grouped) in zip(self._store.heads, self._members, strict=True):
                seen = [self._present[m][rows] for m in labelling_modalities(self._store, name)]
                usable = np.logical_or.reduce(seen)[:, None]
                shares = np.where(usable, posterior(joint_log_prob(self._store, name, rows)), 0)
                heads[name] = shares @ aligned
                total += shares @ grouped
                votes += usable
        total /= np.maximum(votes, 1)
        return {CONSENSUS: total, **heads}

    def neighbours(self, row: int, k: int) -> Neighbours:
        """Return, for each modality of which there are features, the k videos nearest to one, and their distances."""
        found: Neighbours = {}
        for modality in self._modalities():
            there = self._usable(modality)
            if not there[row]:
                continue
            with self.lock:
                own = self._features.features(modality, slice(row, row + 1))[0]
                far = self._squares(modality) + own @ own
                for rows, values in self._features.views(f"features/{modality}"):
                    far[rows] -= 2 * (values @ own)
                far[~there] = np.inf
                far[row] = np.inf
                # What rounding has left of small differences is settled by exact distances of a few more.
                few = _smallest(far, min(4 * k + 8, int(there.sum()) - 1))
                exact = np.linalg.norm(self._features.features(modality, few).astype(np.float64) - own, axis=1)
            order = np.argsort(exact, kind="stable")[:k]
            found[modality] = [(int(few[o]), float(exact[o])) for o in order]
        return found

    def all_neighbours(self, k: int) -> list[Neighbours]:
        """Return the `neighbours` of all videos, of which the features are in memory meanwhile."""
        found: list[Neighbours] = [{} for _ in range(self._store.n_videos)]
        for modality in self._modalities():
            who = np.flatnonzero(self._usable(modality))
            if (wanted := min(k, len(who) - 1)) < 1:
                continue
            with self.lock:
                values = self._features.features(modality, who)
            places, distances = nearest(values, values, wanted, leave_out_self=True)
            for row, near, far in zip(who, who[places].tolist(), distances.astype(float).tolist(), strict=True):
                found[row][modality] = list(zip(near, far, strict=True))
        return found

    def _modalities(self) -> list[str]:
        return [m for m in self._features.modalities if self._features.has(f"features/{m}")]

    def _usable(self, modality: str) -> NDArray[np.bool_]:
        return self._features.present(modality) & np.isfinite(self._squares(modality))

    def _squares(self, modality: str) -> NDArray[np.float32]:
        """Return a copy of the squared lengths of features, float32 (N,); not finite where there are none."""
        with self.lock:
            if modality not in self._norms:
                norms = np.empty(self._store.n_videos, np.float32)
                for rows, values in self._features.views(f"features/{modality}"):
                    norms[rows] = np.einsum("nd,nd->n", values, values)
                self._norms[modality] = norms
            return self._norms[modality].copy()


def typicality(store: FeatureStore, labels: NDArray[np.int32], confidence: NDArray[np.float32]) -> NDArray[np.int64]:
    """
    Order the labelled videos of a store so that those most typical of their clusters come first.

    A video is the more typical the surer its label, and of equally sure ones (to a thousandth), the nearer its features
    are to the mean of its cluster, with each feature in units of its standard deviation.

    Returns
    -------
    array
        Numbers of the labelled videos, int64.
    """
    distance = np.zeros(len(labels))
    for modality in store.modalities:
        if store.has(f"features/{modality}"):
            distance += _from_the_mean(store, modality, labels)
    order = np.lexsort((distance, -np.round(confidence.astype(np.float64), 3)))
    return order[labels[order] >= 0]


def _from_the_mean(store: FeatureStore, modality: str, labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return each video's distance from the mean of its cluster, per feature; 0 where it cannot be said."""
    name = f"features/{modality}"
    there = store.present(modality) & (labels >= 0)
    K, D = int(labels.max(initial=-1)) + 1, store.width(name)
    sums, counts, squares = np.zeros((K, D)), np.zeros(K), np.zeros(D)
    for rows, values in store.views(name):
        good = there[rows] & np.isfinite(values).all(1)
        there[rows] = good
        chosen = labels[rows][good]
        ones = np.ones(len(chosen), np.float32)
        sums += csr_array((ones, (chosen, np.arange(len(chosen)))), shape=(K, len(chosen))) @ values[good]
        counts += np.bincount(chosen, minlength=K)
        squares += np.einsum("nd,nd->d", values[good], values[good], dtype=np.float64)
    if not counts.any():
        return np.zeros(len(labels))
    variance = squares / counts.sum() - (sums.sum(0) / counts.sum()) ** 2
    scale = np.divide(1.0, np.sqrt(np.maximum(variance, 0)), where=variance > 1e-12, out=np.zeros(D))
    means = sums / np.maximum(counts, 1)[:, None]
    distance = np.zeros(len(labels))
    for rows, values in store.views(name):
        gaps = (values - means[labels[rows]]) * scale
        distance[rows] = np.where(there[rows], np.einsum("nd,nd->n", gaps, gaps) / D, 0)
    return distance


def _smallest(values: NDArray[np.floating[Any]], k: int) -> NDArray[np.int64]:
    if k < 1:
        return np.empty(0, np.int64)
    return np.sort(np.argpartition(values, k - 1)[:k])


def top(shares: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
    """Return the k largest of the shares of one video, largest first, without those that are shown as zero."""
    order = np.argsort(-shares, kind="stable")[:k]
    return [(int(c), round(float(shares[c]), 4)) for c in order if shares[c] >= 5e-5]


def most_probable(posteriors: Mapping[str, NDArray[np.float32]], row: int) -> list[dict[str, Any]]:
    """Return label and confidence of each head for one row of its posteriors; label -1 where it sees nothing."""
    found = []
    for name, shares in posteriors.items():
        if name != CONSENSUS:
            best = int(shares[row].argmax())
            confidence = float(shares[row, best])
            found.append({"name": name, "label": best if confidence > 0 else -1, "confidence": round(confidence, 4)})
    return found
