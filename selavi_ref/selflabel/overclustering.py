"""From fine labels to coarse ones: fine clusters that one modality tells apart and the other confuses belong together.

Side heads learn more clusters than are asked for. Two fine clusters are of one kind if sight and sound do not agree on
which of the two a video is in: these confusions, summed over all videos, are a graph over the fine clusters of all side
heads, whose spectral clustering gives the coarse ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selavi_ref.ensemble.matching import best_match, overlap
from selavi_ref.ensemble.posterior import posterior
from selavi_ref.ensemble.spectral import cross_modal_confusion, spectral_groups
from selavi_ref.runs.processes import Exchange, SingleProcess
from selavi_ref.store import FeatureStore
from selavi_ref.store.joint_log_prob import joint_log_prob, labelling_modalities


@dataclass(frozen=True)
class MergedOverclusters:
    """
    Fine clusters brought together.

    Parameters
    ----------
    groups : list of array
        Of each side head: int64, shape (fine clusters,), the coarse cluster of each fine one.
    posterior : array
        Of the coarse clusters, mean over the side heads, float32, shape (N, K).
    spectrum : array
        The K + 1 largest eigenvalues of the normalised graph; a wide gap after the K-th says that the collection has K
        kinds.
    """

    groups: list[NDArray[np.int64]]
    posterior: NDArray[np.float32]
    spectrum: NDArray[np.float64]


def merge_overclusters(
    store: FeatureStore,
    heads: list[str],
    K: int,
    exchange: Exchange = SingleProcess(),  # noqa: B008
) -> MergedOverclusters:
    """
    Bring the fine clusters of some heads together to K coarse ones, without any true label.

    With several processes, each has a store of its share of the videos, and gets the posterior of these.

    Parameters
    ----------
    store : FeatureStore
        With ``log_prob/{modality}/{head}`` of each of the heads and of two modalities.
    heads : list of str
        The side heads.
    K : int
        Number of coarse clusters.
    exchange : Exchange
        With the other processes of the run.
    """
    confusion = cross_modal_confusion(store, heads)
    confusion = exchange.all_sum(confusion.reshape(-1)).reshape(confusion.shape)
    first = labelling_modalities(store, heads[0])[0]
    widths = [store.width(f"log_prob/{first}/{head}") for head in heads]
    together, spectrum = spectral_groups(confusion, K)
    groups = np.split(together, np.cumsum(widths)[:-1])
    mean = np.zeros((store.n_videos, K), np.float32)
    for head, group in zip(heads, groups, strict=True):
        membership = np.eye(K, dtype=np.float32)[group] / len(heads)
        for rows in store.blocks():
            mean[rows] += posterior(joint_log_prob(store, head, rows)) @ membership
    return MergedOverclusters(groups, mean, spectrum)


def renumber(
    posterior: NDArray[np.float32],
    labels: NDArray[np.int32],
    exchange: Exchange = SingleProcess(),  # noqa: B008
) -> NDArray[np.float32]:
    """
    Permute the columns of a posterior (N, K) so that its clusters overlap most with labels (N,) given before.

    With several processes, each gives the rows of its videos.
    """
    K = posterior.shape[1]
    shared = overlap(labels, posterior.argmax(1), K).astype(np.float64)
    return posterior[:, best_match(exchange.all_sum(shared.reshape(-1)).reshape(K, K))]
