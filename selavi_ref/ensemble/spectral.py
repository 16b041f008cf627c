"""Spectral clustering of a weighted graph, and the graph of clusters that two modalities confuse."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, qr, svd

from selavi_ref.errors import InputError
from selavi_ref.store import FeatureStore
from selavi_ref.store.joint_log_prob import labelling_modalities


def cross_modal_confusion(store: FeatureStore, heads: list[str]) -> NDArray[np.float64]:
    """
    Return how often video and audio confuse clusters: the product of their posteriors, summed over all videos.

    Videos that lack one of them do not count.

    Returns
    -------
    array
        float64, shape (F, F) for F clusters of all heads; entry (k, l) is ``sum_i p_video[i, k] p_audio[i, l]``.
    """
    total: NDArray[np.float64] | None = None
    modalities = labelling_modalities(store, heads[0])[:2]
    both = np.logical_and.reduce([store.present(modality) for modality in modalities])
    for rows in store.blocks():
        video, audio = (
            np.concatenate([np.exp(store.log_prob(modality, head, rows)) for head in heads], 1)[both[rows]]
            for modality in modalities
        )
        part = video.astype(np.float64).T @ audio
        total = part if total is None else np.add(total, part, out=total)
    if total is None:
        raise InputError(f"{store.path} holds no videos", path=store.path)
    return total


def spectral_groups(confusion: NDArray[np.float64], K: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """
    Cut a graph into K groups.

    The leading eigenvectors of the symmetrically normalised graph are split by a pivoted QR decomposition, without a
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
    return cut_graph(vectors), spectrum


def leading_vectors(confusion: NDArray[np.float64], K: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Return the K leading eigenvectors (F, K) of the normalised graph, and the K + 1 largest eigenvalues, descending.

    Parameters and errors are those of `spectral_groups`; the first k columns are what `cut_graph` takes for k groups.
    """
    F = len(confusion)
    if F < K:
        raise InputError(f"{F} clusters cannot be merged to {K}", option="K", value=K)
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


def cut_graph(leading: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the groups (F,) into which the K leading eigenvectors (F, K) of a graph cut it; none is empty."""
    K = leading.shape[1]
    pivots = qr(leading.T, mode="r", pivoting=True)[1][:K]
    left, _, right = svd(leading[pivots].T)
    groups: NDArray[np.int64] = np.abs(leading @ (left @ right)).argmax(1).astype(np.int64)
    groups[pivots] = np.arange(K)
    return groups
