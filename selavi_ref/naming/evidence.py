"""Names for clusters from evidence about single videos: words that describe them, or probabilities of classes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.errors import InputError
from selavi_ref.naming.proposals import Proposal, clean_name, ranked

MOST = 5  # proposals of one source for a cluster
_CANDIDATES = 30  # words of a cluster that are scored
_LEAST_VIDEOS = 2  # of a cluster that must have a word
_BLOCK = 4096  # videos


def names_from_words(
    words: Sequence[Collection[str]], labels: ArrayLike, source: str = "files", most: int = MOST
) -> dict[int, list[Proposal]]:
    """
    Propose words that a cluster's videos have and others lack.

    Class-based TF-IDF chooses the candidates of each cluster: a word's share of the cluster's words, times
    ``log(1 + words of an average cluster / occurrences of the word)`` (Grootendorst, 2022). Of these, the words whose
    presence correlates most with membership in the cluster are proposed.

    Parameters
    ----------
    words : sequence of N collections of str
        Words of each video, without repetition; see `selavi_ref.naming.texts.describing_words`.
    labels : array-like of int, shape (N,)
        Cluster of each video; -1: none, such videos are left out.
    source : str
        Named in the proposals.
    most : int
        Proposals for each cluster.

    Returns
    -------
    dict of int to list of Proposal
        The best first.
    """
    label = _checked(labels, len(words))
    sizes = Counter(label[label >= 0].tolist())
    N = sizes.total()
    inside: dict[int, Counter[str]] = {cluster: Counter() for cluster in sizes}
    total: Counter[str] = Counter()
    for cluster, described in zip(label.tolist(), words, strict=True):
        if cluster >= 0:
            inside[cluster].update(described)
            total.update(described)
    mean_words = total.total() / max(1, len(sizes))
    proposals = {}
    for cluster, counts in sorted(inside.items()):
        weights = {
            word: number / counts.total() * math.log1p(mean_words / total[word])
            for word, number in counts.items()
            if number >= _LEAST_VIDEOS
        }
        candidates = sorted(weights, key=lambda word: (-weights[word], word))[:_CANDIDATES]
        scores = {word: _phi(counts[word], total[word], sizes[cluster], N) for word in candidates}
        if several := _best_words(scores, source, most):
            proposals[cluster] = several
    return proposals


def names_from_probabilities(
    log_prob: ArrayLike, names: Sequence[str], labels: ArrayLike, source: str, most: int = MOST
) -> dict[int, list[Proposal]]:
    """
    Propose the classes whose probability is higher in a cluster's videos than in the rest.

    The score is ``(mean in the cluster - mean in the rest) * sqrt(share * (1 - share)) / deviation``, the correlation
    of the probability with membership in the cluster.

    Parameters
    ----------
    log_prob : array-like, shape (N, C)
        Log-probabilities of C classes, or finite scores in their place; NaN for a video without them.
    names : sequence of str, length C
        Names of the classes.
    labels : array-like of int, shape (N,)
        Cluster of each video; -1: none.
    source : str
        Named in the proposals.
    most : int
        Proposals for each cluster.

    Returns
    -------
    dict of int to list of Proposal
        The best first.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    log_prob = np.asarray(log_prob, np.float32)
    label = _checked(labels, len(log_prob))
    if log_prob.ndim != 2 or log_prob.shape[1] != len(names):
        raise InputError(f"log_prob has shape {log_prob.shape}, but there are {len(names)} names", option="names")
    rows = np.flatnonzero((label >= 0) & np.isfinite(log_prob).all(1))
    if not len(rows):
        return {}
    clusters, member = np.unique(label[rows], return_inverse=True)
    K, N = len(clusters), len(rows)
    sizes = np.bincount(member, minlength=K).astype(float)
    sums, squares = np.zeros((K, len(names))), np.zeros(len(names))
    for start in range(0, N, _BLOCK):
        part = slice(start, start + _BLOCK)
        prob = np.exp(log_prob[rows[part]].astype(float))
        np.add.at(sums, member[part], prob)
        squares += (prob**2).sum(0)
    mean = sums.sum(0) / N
    deviation = np.sqrt(np.maximum(squares / N - mean**2, 0))
    share = (sizes / N)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        # the difference of the means, inside and outside, is (mean inside - mean) / (1 - share)
        score = (sums / sizes[:, None] - mean) * np.sqrt(share / (1 - share)) / deviation
    score = np.where(np.isfinite(score) & (deviation > 1e-12), score, 0.0)
    proposals = {}
    for row, cluster in enumerate(clusters.tolist()):
        order = np.argsort(-score[row], kind="stable")[:most]
        several = [
            Proposal(clean_name(names[column]), round(min(1.0, float(score[row, column])), 4), source)
            for column in order
            if score[row, column] > 0 and clean_name(names[column])
        ]
        if several:
            proposals[cluster] = ranked(several)
    return proposals


def _checked(labels: ArrayLike, N: int) -> NDArray[np.int64]:
    label = np.asarray(labels, np.int64)
    if label.shape != (N,):
        raise InputError(f"labels have shape {label.shape}, but there are {N} videos", option="labels")
    return label


def _phi(both: int, with_word: int, in_cluster: int, N: int) -> float:
    """Return the correlation of two properties of N videos by how many have both, and either."""
    spread = with_word * (N - with_word) * in_cluster * (N - in_cluster)
    return (both * N - with_word * in_cluster) / math.sqrt(spread) if spread else 0.0


def _best_words(scores: dict[str, float], source: str, most: int) -> list[Proposal]:
    """Return the words of the best positive scores, the longer one of equal ones; none that repeats a better one."""
    order = sorted((word for word in scores if scores[word] > 0), key=lambda word: (-scores[word], -len(word), word))
    chosen: list[str] = []
    for word in order:
        if len(chosen) == most:
            break
        parts = set(word.split())
        if not any(parts <= set(other.split()) or parts >= set(other.split()) for other in chosen):
            chosen.append(word)
    return [Proposal(clean_name(word), round(scores[word], 4), source) for word in chosen]
