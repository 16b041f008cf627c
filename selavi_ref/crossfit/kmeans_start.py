"""K-means in NumPy from one k-means++ seeding, for initial labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ITERATIONS = 50
_BLOCK = 65_536  # rows per block


def kmeans_start(x: NDArray[np.float32], K: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """
    Cluster rows by Lloyd's iterations from one k-means++ seeding.

    Parameters
    ----------
    x : array
        float32, shape (N, D), with N >= K.
    K : int
        Number of clusters.
    rng : Generator
        Source of the seeding.

    Returns
    -------
    array
        int32, shape (N,). A cluster that lost all of its rows takes the row that is farthest from its own centre.

    References
    ----------
    Arthur and Vassilvitskii, k-means++: the advantages of careful seeding, SODA 2007.
    """
    centres = _seeding(x, K, rng)
    labels = np.full(len(x), -1, np.int32)
    for _ in range(_ITERATIONS):
        new, distance = _nearest(x, centres)
        if (new == labels).all():
            break
        labels = new
        counts = np.bincount(labels, minlength=K)
        centres = np.asarray(_sums(x, labels, K) / np.maximum(counts, 1)[:, None], np.float32)
        empty = np.flatnonzero(counts == 0)
        centres[empty] = x[np.argsort(-distance)[: len(empty)]]
    return labels


def _seeding(x: NDArray[np.float32], K: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return K rows, each drawn with a probability proportional to its squared distance from those drawn before."""
    centres = np.empty((K, x.shape[1]), np.float32)
    centres[0] = x[rng.integers(len(x))]
    distance = ((x - centres[0]) ** 2).sum(1).astype(np.float64)
    for k in range(1, K):
        total = distance.sum()
        row = rng.choice(len(x), p=distance / total) if total > 0 else rng.integers(len(x))
        centres[k] = x[row]
        distance = np.minimum(distance, ((x - centres[k]) ** 2).sum(1))
    return centres


def _nearest(x: NDArray[np.float32], centres: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the nearest centre of each row and its squared distance."""
    labels, distance = np.empty(len(x), np.int32), np.empty(len(x), np.float32)
    norms = (centres**2).sum(1)
    for first in range(0, len(x), _BLOCK):
        rows = slice(first, first + _BLOCK)
        squares = norms - 2 * x[rows] @ centres.T
        labels[rows] = squares.argmin(1)
        distance[rows] = squares.min(1) + (x[rows] ** 2).sum(1)
    return labels, distance


def _sums(x: NDArray[np.float32], labels: NDArray[np.int32], K: int) -> NDArray[np.float32]:
    """Return the sum of the rows of each cluster, shape (K, D)."""
    from scipy import sparse

    membership = sparse.csr_array((np.ones(len(x), np.float32), (labels, np.arange(len(x)))), shape=(K, len(x)))
    return np.asarray(membership @ x, np.float32)
