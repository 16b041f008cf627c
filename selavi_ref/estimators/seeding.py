"""Starting centres of K-means."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def plus_plus(X: NDArray[np.float32], n_clusters: int, random: np.random.RandomState) -> NDArray[np.intp]:
    """
    Choose samples that are far from each other as starting centres, by greedy k-means++.

    It is the algorithm of `sklearn.cluster.kmeans_plusplus` (of ``2 + log(K)`` samples drawn by their squared distances
    to the centres so far, the one that lowers the sum of these most is the next centre), which takes four times as
    long, half of the time of balanced K-means: it computes norms, checks and conversions anew for each centre. Here
    one product of matrices gives the squared distances of all samples to all candidates.

    Parameters
    ----------
    X : (N, D) float32
        The samples, best with mean zero: distances then lose few digits.
    n_clusters : int
        Number of centres K, from 1 to N.
    random : RandomState
        Gives one integer and ``(K - 1) * (2 + log(K))`` uniform numbers.

    Returns
    -------
    (K,) int
        The rows of the centres.
    """
    N, D = X.shape
    norms = np.einsum("ij,ij->i", X, X)
    # ``|x - c|^2`` is the product of the row ``(-2c, 1, |c|^2)`` of `factor` and the column ``(x, |x|^2, 1)``.
    columns = np.ascontiguousarray(np.concatenate((X.T, norms[None], np.ones((1, N), np.float32))))
    factor = np.ones((2 + int(np.log(n_clusters)), D + 2), np.float32)
    distance = np.empty((len(factor), N), np.float32)
    closest, cumulative = np.full(N, np.inf, np.float32), np.empty(N)
    chosen = np.empty(n_clusters, np.intp)
    drawn = np.full(len(factor), random.randint(N))
    for k in range(n_clusters):
        factor[:, :D], factor[:, D + 1] = -2 * X[drawn], norms[drawn]
        np.matmul(factor, columns, out=distance)
        np.maximum(distance, 0, out=distance)
        np.minimum(distance, closest, out=distance)
        best = distance.sum(1).argmin()
        chosen[k], closest[:] = drawn[best], distance[best]
        np.cumsum(closest, dtype=np.float64, out=cumulative)
        draws = random.uniform(size=len(factor)) * cumulative[-1]
        drawn = np.minimum(np.searchsorted(cumulative, draws), N - 1)
    return chosen
