"""How the heads of a run go together, found from their labels alone: the best head, and what all heads agree on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selavi_ref.ensemble.matching import best_match, overlap
from selavi_ref.ensemble.spectral import spectral_groups
from selavi_ref.metrics import normalized_mutual_info_score

_MOST_JOINED = 6000  # clusters of all heads; the graph of more takes gigabytes, and minutes to be cut


@dataclass(frozen=True)
class HeadConsensus:
    """
    How the heads of a run go together; it is found once and kept, so that a label means the same in every table.

    Parameters
    ----------
    reference : int
        The head that agrees best with the others (largest mean NMI): its numbers are the numbers of the labels.
    agreement : array
        Mean NMI of each head's labels with those of the others, shape (H,); 1 for a single head.
    alignment : array
        int32, shape (H, K): cluster ``alignment[h, k]`` of head h is cluster k of the reference; one to one.
    groups : array
        int32, shape (H, K): the cluster of the consensus that cluster k of head h belongs to; several of a head may
        belong to one, as where a head has split what the others hold together. Where all heads together have more than
        6,000 clusters, these are matched one to one instead.
    """

    reference: int
    agreement: NDArray[np.float64]
    alignment: NDArray[np.int32]
    groups: NDArray[np.int32]


def find_consensus(labels: NDArray[np.int32], K: int) -> HeadConsensus:
    """
    Find how heads go together from their labels alone.

    Parameters
    ----------
    labels : array
        int32, shape (N, H); rows below zero (no label) are left out.
    K : int
        Number of clusters of every head.
    """
    labels = labels[(labels >= 0).all(1)]
    H = labels.shape[1]
    plain = np.tile(np.arange(K, dtype=np.int32), (H, 1))
    if not len(labels):
        return HeadConsensus(0, np.ones(H), plain, plain)
    scores = np.eye(H)
    for a in range(H):
        for b in range(a):
            scores[a, b] = scores[b, a] = normalized_mutual_info_score(labels[:, a], labels[:, b])
    agreement = (scores.sum(1) - 1) / (H - 1) if H > 1 else np.ones(1)
    reference = int(agreement.argmax())
    alignment = np.stack([best_match(overlap(labels[:, reference], labels[:, h], K)) for h in range(H)])
    groups = co_association(labels, K, alignment) if 1 < H <= _MOST_JOINED / K else groups_of(alignment)
    return HeadConsensus(reference, agreement, alignment, groups)


def groups_of(alignment: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return a one-to-one `HeadConsensus.alignment` in the form of `HeadConsensus.groups`."""
    return np.argsort(alignment, 1).astype(np.int32)


def co_association(labels: NDArray[np.int32], K: int, alignment: NDArray[np.int32]) -> NDArray[np.int32]:
    """
    Bring the clusters of all heads together to K groups by the videos that they share.

    Clusters of different heads are joined by as many videos as lie in both; this graph over the H K clusters is cut
    into K groups by its leading eigenvectors (`selavi_ref.ensemble.spectral.spectral_groups`). Where heads make
    different
    mistakes, a head that merges two kinds is outvoted on both, and one that splits a kind has both parts in one group,
    which matching clusters one to one cannot express.

    Parameters
    ----------
    labels : array
        int32, shape (N, H), without gaps.
    K : int
        Number of clusters of every head, and of groups.
    alignment : array
        As in `HeadConsensus`; the groups get the numbers under which they agree most with it, and clusters without
        videos are put where it has them.

    Returns
    -------
    array
        int32, shape (H, K): the group of each cluster.

    References
    ----------
    Strehl and Ghosh, Cluster ensembles, JMLR 3 (2002), whose meta-clustering has another cut of a like graph.
    """
    H = labels.shape[1]
    shared = np.zeros((H, K, H, K))
    for a in range(H):
        for b in range(a):
            shared[a, :, b] = overlap(labels[:, a], labels[:, b], K)
            shared[b, :, a] = shared[a, :, b].T
    graph = shared.reshape(H * K, H * K)
    sizes = graph.sum(1)
    used = sizes > 0
    n_groups = max(len(np.unique(labels[:, head])) for head in range(H))
    found, _ = spectral_groups(graph[np.ix_(used, used)], n_groups)
    matched = groups_of(alignment).reshape(-1)
    agreeing = np.zeros((n_groups, K))
    np.add.at(agreeing, (found, matched[used]), sizes[used])
    names = best_match(agreeing)
    groups = matched.copy()
    groups[used] = names[found]
    return groups.reshape(H, K).astype(np.int32)
