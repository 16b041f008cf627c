"""The consensus of several heads: which clusters of different heads belong together, found from their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.ensemble.matching import best_match, overlap
from selavi_ref.ensemble.spectral import spectral_groups
from selavi_ref.metrics import normalized_mutual_info_score

_MAX_NODES = 6000  # clusters of all heads; a larger graph takes gigabytes, and minutes to be cut


@dataclass(frozen=True)
class HeadConsensus:
    """
    Which clusters of the heads of a run belong together; saved with the run, so that labels keep their meaning.

    Parameters
    ----------
    reference : int
        The head that agrees most with the others (largest mean NMI); labels have its cluster numbers.
    agreement : array
        Mean NMI of each head's labels with those of the others, shape (H,); 1 for a single head.
    alignment : array
        int32, shape (H, K): cluster ``alignment[h, k]`` of head h is matched with cluster k of the reference, one to
        one.
    groups : array
        int32, shape (H, K): the cluster of the consensus that cluster k of head h belongs to. Several clusters of a
        head may belong to one, such as the parts of a cluster that only this head has split. If all heads together
        have more than 6,000 clusters, the groups are those of the one-to-one matching.
    """

    reference: int
    agreement: NDArray[np.float64]
    alignment: NDArray[np.int32]
    groups: NDArray[np.int32]

    def renumbered(self, numbers: NDArray[np.integer[Any]]) -> HeadConsensus:
        """Return the same consensus in which cluster k has the number ``numbers[k]``."""
        alignment = np.empty_like(self.alignment)
        alignment[:, numbers] = self.alignment
        return HeadConsensus(self.reference, self.agreement, alignment, numbers[self.groups].astype(np.int32))


def find_consensus(labels: NDArray[np.int32], K: int) -> HeadConsensus:
    """
    Find the consensus of several heads from their labels.

    Parameters
    ----------
    labels : array
        int32, shape (N, H); rows with a negative (missing) label are ignored.
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
    groups = co_association(labels, K, alignment) if 1 < H <= _MAX_NODES / K else groups_of(alignment)
    return HeadConsensus(reference, agreement, alignment, groups)


def groups_of(alignment: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the inverse of `HeadConsensus.alignment`, in the form of `HeadConsensus.groups`."""
    return np.argsort(alignment, 1).astype(np.int32)


def co_association(labels: NDArray[np.int32], K: int, alignment: NDArray[np.int32]) -> NDArray[np.int32]:
    """
    Group the clusters of all heads into K groups by the videos that they share.

    Two clusters of different heads are connected by the number of videos in both; this graph over the H K clusters is
    cut into K groups by its leading eigenvectors (`selavi_ref.ensemble.spectral.spectral_groups`). A head that merges
    two kinds of videos is outvoted on both, and one that splits a kind has both parts in one group, which a one-to-one
    matching cannot express.

    Parameters
    ----------
    labels : array
        int32, shape (N, H), none missing.
    K : int
        Number of clusters of every head, and of groups.
    alignment : array
        See `HeadConsensus`; groups are numbered so that they agree most with it, and clusters without videos are
        grouped by it.

    Returns
    -------
    array
        int32, shape (H, K): the group of each cluster.

    References
    ----------
    Strehl and Ghosh, Cluster ensembles, JMLR 3 (2002), whose meta-clustering cuts a similar graph differently.
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
    parts, _ = spectral_groups(graph[np.ix_(used, used)], n_groups)
    matched = groups_of(alignment).reshape(-1)
    agreeing = np.zeros((n_groups, K))
    np.add.at(agreeing, (parts, matched[used]), sizes[used])
    numbers = best_match(agreeing)
    groups = matched.copy()
    groups[used] = numbers[parts]
    return groups.reshape(H, K).astype(np.int32)
