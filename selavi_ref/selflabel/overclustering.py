"""Over-clustering: heads learn more clusters than requested, and clusters that the modalities confuse are merged.

Two over-clusters are parts of one cluster if video and audio disagree on which of the two a video is in. These
confusions, summed over all videos, are the weights of a graph over the over-clusters of all over-clustering heads; its
spectral clustering gives the merged clusters.
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
    Over-clusters merged to K clusters.

    Parameters
    ----------
    groups : list of array
        For each over-clustering head, the cluster that each over-cluster is merged into, int64, shape (overclusters,).
    posterior : array
        Mean posterior of the merged clusters over the over-clustering heads, float32, shape (N, K).
    spectrum : array
        The K + 1 largest eigenvalues of the normalised graph; a wide gap after the K-th means that there are K kinds of
        videos.
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
    Merge the over-clusters of several heads to K clusters.

    With several processes, each passes a store of its own videos, and gets their posterior.

    Parameters
    ----------
    store : FeatureStore
        With ``log_prob/{modality}/{head}`` of each of the heads and of two modalities.
    heads : list of str
        Names of the over-clustering heads.
    K : int
        Number of merged clusters.
    exchange : Exchange
        The other processes of the run.
    """
    confusion = cross_modal_confusion(store, heads)
    confusion = exchange.all_sum(confusion.reshape(-1)).reshape(confusion.shape)
    first = labelling_modalities(store, heads[0])[0]
    widths = [store.width(f"log_prob/{first}/{head}") for head in heads]
    all_groups, spectrum = spectral_groups(confusion, K)
    groups = np.split(all_groups, np.cumsum(widths)[:-1])
    mean = np.zeros((store.n_videos, K), np.float32)
    for head, group in zip(heads, groups, strict=True):
        membership = np.eye(K, dtype=np.float32)[group] / len(heads)
        for rows in store.blocks():
            mean[rows] += posterior(joint_log_prob(store, head, rows)) @ membership
    return MergedOverclusters(groups, mean, spectrum)


def matching_columns(
    posterior: NDArray[np.float32],
    labels: NDArray[np.int32],
    exchange: Exchange = SingleProcess(),  # noqa: B008
) -> NDArray[np.int32]:
    """
    Return the order (K,) of the columns of a posterior (N, K) by which its clusters overlap most with earlier labels.

    With several processes, each passes the rows of its own videos.
    """
    K = posterior.shape[1]
    shared = overlap(labels, posterior.argmax(1), K).astype(np.float64)
    return best_match(exchange.all_sum(shared.reshape(-1)).reshape(K, K))
