"""Estimate of the number of clusters, from heads that have learnt more clusters than there may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from selavi_ref.ensemble.spectral import cross_modal_confusion, cut_graph, leading_vectors
from selavi_ref.errors import InputError, printable
from selavi_ref.metrics import adjusted_mutual_info_score
from selavi_ref.store import FeatureStore
from selavi_ref.store.joint_log_prob import joint_log_prob

_COMPARED = 20_000  # videos, evenly spread, whose labels are compared
_TOLERANCE = 0.02  # adjusted mutual information by which agreement may fall short of the best
_MAX_DIVISIONS = 10  # divisions of the heads into halves
_TRY_EACH_TO = 32  # every number of clusters up to this is tried; beyond, steps grow
_PILOT_FACTOR = 1.5  # clusters of a pilot's heads: times the square root of the number of videos
_MIN_SIZE = 8  # videos of a cluster of a pilot's heads, at least


@dataclass(frozen=True)
class NClustersEstimate:
    """
    An estimate of the number of clusters.

    Parameters
    ----------
    clusters : int
        The estimate.
    tried : array
        Numbers of clusters K that were tried, ascending, int64, shape (C,).
    agreement : array
        For each, the agreement of labels by different heads: adjusted mutual information, shape (C,).
    spectrum : array
        Leading eigenvalues of the graph of clusters that the modalities confuse, descending.
    gap : int
        Number of eigenvalues before the widest gap, among the numbers tried: the estimate by the spectrum alone.
    """

    clusters: int
    tried: NDArray[np.int64]
    agreement: NDArray[np.float64]
    spectrum: NDArray[np.float64]
    gap: int

    @property
    def at_the_end(self) -> bool:
        """Whether the estimate is the largest number tried, so that there may be more."""
        return self.clusters == int(self.tried[-1])


def estimate_n_clusters(store: FeatureStore, *, most: int | None = None) -> NClustersEstimate:
    """
    Estimate the number of clusters.

    Every head of the store has learnt F clusters, more than there are kinds of videos. For each number K, the clusters
    of one half of the heads are merged to K groups by the confusions of the modalities, and those of the other half
    likewise. If K is the number of kinds, both halves find the same groups; fewer groups must merge kinds, and more
    must split them, which each half does in its own way. The agreement of their labels is the adjusted mutual
    information, mean over divisions of the heads. Of all K whose agreement is within 0.02 of the best, the estimate is
    the one after which the spectrum of the confusions falls most.

    Parameters
    ----------
    store : FeatureStore
        With log-probabilities of two modalities and two heads or more.
    most : int, optional
        Largest number tried; by default half of F.

    Raises
    ------
    InputError
        If the store has too few heads, modalities, clusters or videos.

    References
    ----------
    Lange, Roth, Braun and Buhmann, Stability-based validation of clustering solutions, Neural Computation 16 (2004).
    """
    heads, F = store.heads, store.n_clusters if store.heads else 0
    most = max(2, F // 2) if most is None else most
    if len(heads) < 2 or len(store.modalities) < 2 or not 2 <= most <= F:
        raise InputError(
            f"{printable(store.path)}: an estimate needs two modalities and two heads of at least "
            f"{max(2, most)} clusters; it has {len(store.modalities)} and {len(heads)} of {F}",
            path=store.path,
        )
    confusion = cross_modal_confusion(store, heads)
    rows = np.unique(np.linspace(0, store.n_videos - 1, min(store.n_videos, _COMPARED)).astype(np.int64))
    labels = _labels(store, heads)[rows]
    tried = _numbers(most)
    agreement = np.zeros(len(tried))
    divisions = _divisions(len(heads))
    for halves in divisions:
        groupings = [_groupings(confusion, half, F, tried) for half in halves]
        for index, K in enumerate(tried.tolist()):
            votes = [_votes(labels, half, g[index], K) for half, g in zip(halves, groupings, strict=True)]
            agreement[index] += adjusted_mutual_info_score(*votes) / len(divisions)
    spectrum = leading_vectors(confusion, most)[1]
    falls = spectrum[tried - 1] - np.append(spectrum, 0.0)[tried]
    stable = agreement >= agreement.max() - _TOLERANCE
    estimate = int(tried[np.where(stable, falls, -np.inf).argmax()])
    return NClustersEstimate(estimate, tried, agreement, spectrum, int(tried[falls.argmax()]))


def pilot_n_clusters(n_videos: int, most: int | None = None) -> int:
    """
    Return the number of clusters of the heads of a pilot run.

    Parameters
    ----------
    n_videos : int
        Videos to learn from.
    most : int, optional
        Largest possible number of clusters; the pilot's heads have twice as many.

    Raises
    ------
    InputError
        If there are too few videos.
    """
    n_clusters = round(_PILOT_FACTOR * n_videos**0.5) if most is None else 2 * most
    limit = n_videos // _MIN_SIZE
    if limit < 4 or (most is not None and n_clusters > limit):
        numbers = "an estimated number" if most is None else f"an estimate of up to {most} clusters"
        needed = _MIN_SIZE * (4 if most is None else n_clusters)
        raise InputError(
            f"{numbers} needs at least {needed:,} videos, but there are {n_videos:,}; give --clusters a number",
            option="clusters",
            value=n_videos,
        )
    return min(n_clusters, limit)


def _labels(store: FeatureStore, heads: Sequence[str]) -> NDArray[np.int64]:
    """Return the labels of all videos by each head, shape (N, H)."""
    labels = np.empty((store.n_videos, len(heads)), np.int64)
    for column, head in enumerate(heads):
        for rows in store.blocks():
            labels[rows, column] = joint_log_prob(store, head, rows).argmax(1)
    return labels


def _numbers(most: int) -> NDArray[np.int64]:
    """Return the numbers to try: each up to 32, then about 5 % apart."""
    numbers = list(range(2, min(most, _TRY_EACH_TO) + 1))
    while numbers[-1] < most:
        numbers.append(min(most, max(numbers[-1] + 1, round(1.05 * numbers[-1]))))
    return np.array(numbers)


def _divisions(H: int) -> list[tuple[list[int], list[int]]]:
    """Return some of the divisions of H heads into halves."""
    halves = [list(half) for half in combinations(range(H), H // 2) if H % 2 or 0 in half]
    chosen = np.unique(np.linspace(0, len(halves) - 1, min(len(halves), _MAX_DIVISIONS)).astype(int))
    return [(halves[i], [h for h in range(H) if h not in halves[i]]) for i in chosen]


def _groupings(
    confusion: NDArray[np.float64], half: Sequence[int], F: int, tried: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Return for each number tried the group of each cluster of each head of a half, shape (heads, F)."""
    own = np.concatenate([np.arange(F) + head * F for head in half])
    vectors, _ = leading_vectors(confusion[np.ix_(own, own)], int(tried[-1]))
    return [cut_graph(vectors[:, :K]).reshape(len(half), F) for K in tried.tolist()]


def _votes(labels: NDArray[np.int64], half: Sequence[int], groups: NDArray[np.int64], K: int) -> NDArray[np.int64]:
    """Return the group of each video by majority vote of half of the heads."""
    votes = np.zeros((len(labels), K), np.int16)
    every = np.arange(len(labels))
    for row, head in enumerate(half):
        votes[every, groups[row, labels[:, head]]] += 1
    return votes.argmax(1)
