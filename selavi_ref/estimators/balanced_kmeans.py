"""K-means whose clusters have prescribed sizes, with optimal assignments in every iteration."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import euclidean_distances
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from selavi_ref.errors import InputError
from selavi_ref.estimators.seeding import plus_plus

_FREE_CHANGE = 0.02  # share of changed labels below which iterations are no longer content with nearly optimal labels
_IDLE = 3  # iterations in a row without fewer changed labels than ever before after which it is the same
_FREE_STEPS = 5  # iterations without sizes after which it is decided which cluster gets which size
_SAME = 1e-12  # relative difference of two inertias that are taken for equal


class BalancedKMeans(TransformerMixin, ClusterMixin, BaseEstimator):
    """
    K-means clustering with clusters of equal, or of given, sizes.

    Lloyd's algorithm with another assignment step: labels are those of the smallest inertia among all labels with the
    prescribed cluster sizes (Bradley, Bennett and Demiriz, 2000, *Constrained k-means clustering*). They are found by
    the exact transport solver of `selavi_ref.transport`, which needs O(N + K^2) memory beside the N x K scores.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters K.
    sizes : array-like of shape (n_clusters,), default=None
        Sizes of the clusters, in any unit: shares, or numbers of samples; cluster k gets ``sizes[k]``, and the data
        decide which samples these are. By default all are equal: numbers of samples differ by one at most.
    n_init : int, default=1
        Number of starts by k-means++, of which the one with the smallest inertia is kept.
    max_iter : int, default=300
        Most iterations of a start.
    random_state : int, RandomState instance or None, default=None
        Determines the starts.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features)
        Means of the clusters.
    labels_ : ndarray of shape (n_samples,), int32
        Label of each sample.
    inertia_ : float
        Sum of squared distances of the samples to the centre of their cluster.
    n_iter_ : int
        Iterations of the start that was kept.
    n_features_in_ : int
        Number of features seen in `fit`.

    Examples
    --------
    >>> from selavi_ref.estimators import BalancedKMeans
    >>> X = [[0.0], [0.1], [0.2], [0.3], [9.0], [9.1]]
    >>> sorted(BalancedKMeans(n_clusters=2, random_state=0).fit(X).cluster_centers_.ravel().round(1).tolist())
    [0.1, 6.1]
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        sizes: ArrayLike | None = None,
        n_init: int = 1,
        max_iter: int = 300,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.n_clusters = n_clusters
        self.sizes = sizes
        self.n_init = n_init
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """
        Cluster samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples; float32 stays float32, all else becomes float64.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        InputError
            If there are fewer samples than clusters, or a parameter is out of range.
        """
        samples: NDArray[Any] = validate_data(self, X, dtype=[np.float64, np.float32], order="C")
        self._check_parameters(len(samples))
        sizes = self._sizes(len(samples))
        random = check_random_state(self.random_state)
        centred = samples - samples.mean(0)  # squared distances then lose few digits
        exponent = int(np.frexp(np.abs(centred).max())[1])
        centred = np.ldexp(centred, -exponent)  # no square is too large or too small for single precision
        coarse = centred.astype(np.float32, copy=False)
        best: tuple[float, NDArray[np.int32], int] | None = None
        for _ in range(self.n_init):
            start = _matched(coarse, coarse[plus_plus(coarse, self.n_clusters, random)], sizes)
            found = _lloyd(centred, coarse, start, sizes, self.max_iter)
            if best is None or found[0] < best[0]:
                best = found
        assert best is not None
        scaled_inertia, self.labels_, self.n_iter_ = best
        self.inertia_ = float(np.ldexp(scaled_inertia, 2 * exponent))
        if self.n_iter_ == self.max_iter:
            message = f"max_iter={self.max_iter} was reached before the labels stayed the same"
            warnings.warn(message, ConvergenceWarning, stacklevel=2)
        self.cluster_centers_ = _means(samples, self.labels_, sizes, samples[: self.n_clusters])
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.int32]:
        """
        Return the nearest centre of each sample, int32, shape (n_samples,); sizes are not prescribed here.

        On the samples of `fit` this can differ from ``labels_``.
        """
        return np.asarray(self.transform(X).argmin(1), np.int32)

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return the distances of samples to the centres, shape (n_samples, n_clusters)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return np.asarray(euclidean_distances(X, self.cluster_centers_))

    def _check_parameters(self, N: int) -> None:
        for name in ("n_clusters", "n_init", "max_iter"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise InputError(f"{name} must be a whole number of at least 1, not {value!r}")
        if self.n_clusters > N:
            raise InputError(f"n_samples={N} should be >= n_clusters={self.n_clusters}")

    def _sizes(self, N: int) -> NDArray[np.int64]:
        """Return the number of samples of each cluster."""
        from selavi_ref.transport import marginals
        from selavi_ref.transport.rounding import integer_sizes

        K = self.n_clusters
        marginal = marginals.uniform(K) if self.sizes is None else marginals.given(np.asarray(self.sizes), K)
        return integer_sizes(marginal, N)


def _lloyd(
    X: NDArray[Any], coarse: NDArray[np.float32], centres: NDArray[Any], sizes: NDArray[np.int64], max_iter: int
) -> tuple[float, NDArray[np.int32], int]:
    """
    Return labels (N,) of the prescribed sizes that no iteration changes any more, after their inertia.

    The last number is that of iterations. As long as many labels change, they are nearly optimal ones, from samples in
    single precision (``coarse``). Each iteration begins at the prices of the clusters that the one before has found:
    samples prefer the smallest ``|x - c_k|^2 / 2 - price_k``.
    """
    from selavi_ref.transport.exact import Problem, fit_potentials, repair, repair_greedily

    prices = np.zeros(len(sizes))
    scores: NDArray[Any] = np.empty((len(X), len(sizes)), np.float32)
    labels = np.full(len(X), -1, np.int32)
    lowest, fewest, idle, exact = np.inf, np.inf, 0, False
    for iteration in range(1, max_iter + 1):
        exact = exact or iteration == max_iter
        samples = X if exact else coarse
        if scores.dtype != samples.dtype:
            scores = np.empty(scores.shape, samples.dtype)
        np.matmul(samples, centres.T.astype(samples.dtype), out=scores)
        half = _half_norms(centres)
        problem = Problem.of(scores, sizes, prices - half)
        # The centres of the first iteration differ most from the next ones, so their prices would be of little use.
        state = fit_potentials(problem) if exact or iteration > 1 else problem.evaluate(problem.start)
        if exact:
            new, potentials = repair(problem, state)
        else:
            new, potentials = repair_greedily(problem, state), state.potentials
        prices = np.where(sizes > 0, potentials + half, 0.0)
        centres = _means(samples, new, sizes, centres)
        changed = float(np.mean(new != labels))
        if exact:
            inertia = _inertia(X, new, centres)
            if not changed or inertia >= lowest * (1 - _SAME):  # of several best labels any is as good
                return (inertia, new, iteration) if inertia < lowest else (lowest, labels, iteration)
            lowest = inertia
        labels = new
        fewest, idle = (changed, 0) if changed < fewest else (fewest, idle + 1)
        exact = exact or changed < _FREE_CHANGE or idle == _IDLE
    return lowest, labels, max_iter


def _half_norms(centres: NDArray[Any]) -> NDArray[np.float64]:
    """Return half of the squared length of each centre; the nearest one has the largest ``x . c - |c|^2 / 2``."""
    return np.asarray(0.5 * (centres.astype(np.float64) ** 2).sum(1))


def _matched(X: NDArray[np.float32], centres: NDArray[Any], sizes: NDArray[np.int64]) -> NDArray[Any]:
    """Return centres in such an order that those which most samples are near to get the largest sizes."""
    if (sizes == sizes[0]).all():
        return centres
    K = len(sizes)
    for _ in range(_FREE_STEPS):
        labels = (X @ centres.T - _half_norms(centres).astype(X.dtype)).argmax(1)
        counts = np.bincount(labels, minlength=K)
        centres = _means(X, labels, counts, centres)
    matched = np.empty_like(centres)
    matched[np.argsort(sizes, kind="stable")] = centres[np.argsort(counts, kind="stable")]
    return matched


def _means(X: NDArray[Any], labels: NDArray[np.int32], sizes: NDArray[np.int64], centres: NDArray[Any]) -> NDArray[Any]:
    """Return the mean of each cluster (K, D); an empty one keeps its centre."""
    from scipy.sparse import csr_array

    one = csr_array((np.ones(len(X), X.dtype), labels, np.arange(len(X) + 1)), shape=(len(X), len(sizes)))
    sums = one.T @ X
    return np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None].astype(X.dtype), centres)


def _inertia(X: NDArray[Any], labels: NDArray[np.int32], centres: NDArray[Any]) -> float:
    """Return the sum of squared distances to the centres of the clusters."""
    distance = centres.astype(np.float64)[labels]
    distance -= X
    return float(np.vdot(distance, distance))
