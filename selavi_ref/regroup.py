"""From fine labels to coarse ones: fine clusters that one modality tells apart and the other confuses belong together.

Side heads learn more clusters than are asked for. Two fine clusters are of one kind if sight and sound do not agree on
which of the two a video is in: these confusions, summed over all videos, are a graph over the fine clusters of all side
heads, whose spectral clustering gives the coarse ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, qr, svd

from selavi_ref.errors import InputError
from selavi_ref.exchange import Alone, Exchange
from selavi_ref.matching import best_match, overlap
from selavi_ref.selflabel import joint_log_prob, labelling_modalities, posterior
from selavi_ref.store import FeatureStore


@dataclass(frozen=True)
class Regrouping:
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


def regroup(
    store: FeatureStore,
    heads: list[str],
    K: int,
    exchange: Exchange = Alone(),  # noqa: B008
) -> Regrouping:
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
    return Regrouping(groups, mean, spectrum)


def cross_modal_confusion(store: FeatureStore, heads: list[str]) -> NDArray[np.float64]:
    """
    Sum over all videos the product of what the picture and what the sound says.

    Returns
    -------
    array
        float64, shape (F, F), F the fine clusters of all heads: entry (k, l) is ``sum_i p_video[i, k] p_audio[i, l]``.
    """
    total: NDArray[np.float64] | None = None
    modalities = labelling_modalities(store, heads[0])[:2]
    for rows in store.blocks():
        video, audio = (
            np.concatenate([np.exp(store.log_prob(modality, head, rows)) for head in heads], 1)
            for modality in modalities
        )
        part = video.astype(np.float64).T @ audio
        total = part if total is None else np.add(total, part, out=total)
    if total is None:
        raise InputError(f"{store.path} holds no videos")
    return total


def spectral_groups(confusion: NDArray[np.float64], K: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """
    Cut a graph into K groups.

    The leading eigenvectors of the symmetrically normalised graph, split by a pivoted QR decomposition, which needs no
    random start (Damle, Minden and Ying, 2019, *Simple, direct and efficient multi-way spectral clustering*).

    Parameters
    ----------
    confusion : array
        Non-negative weights, shape (F, F) with F >= K; made symmetric here.
    K : int
        Number of groups; none is empty.

    Returns
    -------
    groups, spectrum : array
        int64, shape (F,), and the K + 1 largest eigenvalues (K if F = K), descending.
    """
    vectors, spectrum = leading_vectors(confusion, K)
    return cut(vectors), spectrum


def leading_vectors(confusion: NDArray[np.float64], K: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Return the K leading eigenvectors (F, K) of the normalised graph, and the K + 1 largest eigenvalues, descending.

    Parameters and errors are those of `spectral_groups`; the first k columns are what `cut` takes for k groups.
    """
    F = len(confusion)
    if F < K:
        raise InputError(f"{F} fine clusters cannot be brought together to {K}")
    graph = confusion + confusion.T
    degree = np.maximum(graph.sum(0), np.finfo(np.float64).tiny)
    graph *= 1 / np.sqrt(degree)
    graph *= 1 / np.sqrt(degree)[:, None]
    first = max(0, F - K - 1)
    values, vectors = eigh(graph, subset_by_index=[first, F - 1])
    if len(values) < F - first or not np.isfinite(vectors).all():
        # LAPACK's solver for some of the eigenvalues may lose one of several that are equal.
        values, vectors = (found[..., first:] for found in eigh(graph, driver="ev"))
    return vectors[:, ::-1][:, :K], values[::-1]


def cut(leading: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the groups (F,) into which the K leading eigenvectors (F, K) of a graph cut it; none is empty."""
    K = leading.shape[1]
    pivots = qr(leading.T, mode="r", pivoting=True)[1][:K]
    left, _, right = svd(leading[pivots].T)
    groups: NDArray[np.int64] = np.abs(leading @ (left @ right)).argmax(1).astype(np.int64)
    groups[pivots] = np.arange(K)
    return groups


def renumber(
    posterior: NDArray[np.float32],
    labels: NDArray[np.int32],
    exchange: Exchange = Alone(),  # noqa: B008
) -> NDArray[np.float32]:
    """
    Permute the columns of a posterior (N, K) so that its clusters overlap most with labels (N,) given before.

    With several processes, each gives the rows of its videos.
    """
    K = posterior.shape[1]
    shared = overlap(labels, posterior.argmax(1), K).astype(np.float64)
    return posterior[:, best_match(exchange.all_sum(shared.reshape(-1)).reshape(K, K))]
