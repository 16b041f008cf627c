"""Clustering of features by cross-fitted self-labelling, as an estimator of scikit-learn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from selavi_ref.crossfit import CrossfitModel, CrossfitSettings, fit_crossfit
from selavi_ref.crossfit.components import fit_components
from selavi_ref.crossfit.search import Round, SearchSummary
from selavi_ref.errors import InputError


class SelfLabeller(ClusterMixin, BaseEstimator):
    """
    Clusters samples by self-labelling with optimal transport, from the features of one or more modalities.

    Linear heads and labels are found in turn: the labels of each sample come from heads that were fitted on other
    samples, and optimal transport keeps the clusters near their prescribed sizes (Asano et al., 2020, *Labelling
    unlabelled videos from scratch*). Needs no PyTorch.

    Parameters
    ----------
    n_clusters : int or "auto", default=10
        Number of clusters K. ``"auto"`` estimates it, which needs two modalities and takes several times as long.
    sizes : array-like of shape (n_clusters,), default=None
        Target sizes of the clusters, in any unit; equal by default.
    size_penalty : float or None, default=0.3
        Penalty for missing the target sizes: the smaller, the more the data decide. None: sizes are met.
    n_runs : int, default=24
        Number of K-means starts, of which the better go on.
    n_rounds : int, default=36
        Self-labellings of each run.
    random_state : int, RandomState instance or None, default=None
        Determines starts and folds.
    callback : callable, default=None
        Called after each round with a `selavi_ref.crossfit.search.Round`, for progress bars.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,), int32
        Label of each sample; -1 where it has no features in any modality.
    n_clusters_ : int
        Number of clusters, estimated where ``n_clusters="auto"``.
    probabilities_ : ndarray of shape (n_samples, n_clusters), float32
        Posterior of each sample by heads that were not fitted on it.
    agreement_ : float
        Mean normalised mutual information between the best runs: where it is low, labels depend on chance.
    n_iter_ : int
        Rounds of self-labelling in all.
    n_features_in_ : int
        Number of features, of all modalities together.
    model_ : CrossfitModel
        The fitted heads.

    Examples
    --------
    >>> import numpy as np
    >>> from selavi_ref.estimators import SelfLabeller
    >>> rng = np.random.default_rng(0)
    >>> kinds = np.repeat([0, 1, 2], 40)
    >>> video, audio = (4 * np.eye(3, width)[kinds] + rng.normal(size=(120, width)) for width in (20, 10))
    >>> labels = SelfLabeller(3, random_state=0).fit_predict([video, audio])
    >>> np.bincount(labels)
    array([40, 40, 40])
    """

    def __init__(
        self,
        n_clusters: int | str = 10,
        *,
        sizes: ArrayLike | None = None,
        size_penalty: float | None = 0.3,
        n_runs: int = 24,
        n_rounds: int = 36,
        random_state: int | np.random.RandomState | None = None,
        callback: Callable[[Round], None] | None = None,
    ):
        self.n_clusters = n_clusters
        self.sizes = sizes
        self.size_penalty = size_penalty
        self.n_runs = n_runs
        self.n_rounds = n_rounds
        self.random_state = random_state
        self.callback = callback

    def fit(self, X: Any, y: object = None) -> Self:
        """
        Cluster samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or several of them
            Features. A list or tuple of two-dimensional arrays, or a mapping of names to them, holds one array for each
            modality, with samples in the same order; there, a row of NaN marks a sample that lacks the modality.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        InputError
            If there are fewer than two samples for each cluster, or a parameter is out of range.
        """
        features = self._features(X, reset=True)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        for name in ("n_runs", "n_rounds"):
            if not isinstance(getattr(self, name), (int, np.integer)) or getattr(self, name) < 1:
                raise InputError(
                    f"{name} must be a whole number of at least 1, not {getattr(self, name)!r}", option=name
                )
        settings = CrossfitSettings(runs=int(self.n_runs), rounds=int(self.n_rounds))
        self.n_clusters_ = self._number_of_clusters(features, settings, seed)
        if self.n_clusters_ == 1:
            self.model_, self.agreement_, self.n_iter_ = _one_cluster(features), 1.0, 1
        else:
            self.model_, search = fit_crossfit(
                features,
                self.n_clusters_,
                marginal=self.sizes,
                marginal_penalty=self.size_penalty,
                settings=settings,
                seed=seed,
                on_round=self.callback or (lambda _: None),
            )
            self.agreement_, self.n_iter_ = search.summary.agreement or 0.0, len(search.rounds)
        log_posterior = self.model_.log_posterior(features)
        self.probabilities_ = np.exp(log_posterior)
        self.labels_ = _labels(log_posterior)
        return self

    def predict(self, X: Any) -> NDArray[np.int32]:
        """
        Return the label of each sample, seen or not, int32, shape (n_samples,).

        The samples of `fit` are recognised by their features, and keep ``labels_``, by heads that had not seen them.
        """
        return _labels(self.predict_log_proba(X))

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return the posterior of the clusters, float32, shape (n_samples, n_clusters); NaN without any features."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> NDArray[np.float32]:
        """Return the logarithm of `predict_proba`."""
        check_is_fitted(self)
        log_posterior: NDArray[np.float32] = self.model_.log_posterior(self._features(X, reset=False))
        return log_posterior

    def _features(self, X: Any, *, reset: bool) -> dict[str, NDArray[np.float32]]:
        """Return the features of each modality, checked."""
        several = _modalities(X)
        if several is None:
            return {
                "features": validate_data(self, X, dtype=np.float32, ensure_min_samples=2 if reset else 1, reset=reset)
            }
        arrays = {
            name: check_array(x, dtype=np.float32, ensure_all_finite=False, ensure_min_samples=2 if reset else 1)
            for name, x in several.items()
        }
        if reset:
            self.n_features_in_ = sum(x.shape[1] for x in arrays.values())
        elif set(arrays) - set(self.model_.components):
            known = ", ".join(self.model_.components)
            raise InputError(f"features have modalities {', '.join(arrays)}; the estimator was fitted on {known}")
        return arrays

    def _number_of_clusters(
        self, features: dict[str, NDArray[np.float32]], settings: CrossfitSettings, seed: int
    ) -> int:
        if self.n_clusters != "auto":
            if not isinstance(self.n_clusters, (int, np.integer)):
                raise InputError(
                    f'n_clusters must be a whole number or "auto", not {self.n_clusters!r}', option="n_clusters"
                )
            return int(self.n_clusters)
        if len(features) < 2:
            raise InputError('n_clusters="auto" needs the features of two modalities', option="n_clusters")
        from selavi_ref.crossfit.pilot_store import write_pilot_store
        from selavi_ref.ensemble.n_clusters import estimate_n_clusters, pilot_n_clusters
        from selavi_ref.store import FeatureStore

        n_clusters = pilot_n_clusters(len(next(iter(features.values()))))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pilot.h5"
            write_pilot_store(path, features, n_clusters, settings=settings, seed=seed)
            with FeatureStore(path) as store:
                return estimate_n_clusters(store).clusters


def _one_cluster(features: Mapping[str, NDArray[np.float32]]) -> CrossfitModel:
    """Return the model that puts every sample into its only cluster."""
    components = {name: fit_components(x, 1)[0] for name, x in features.items()}
    weights = {name: np.zeros((c.vectors.shape[1] + 1, 1), np.float32) for name, c in components.items()}
    held_out = {name: np.zeros((0, 1), np.float32) for name in features}
    keys = {name: np.zeros(0, np.uint64) for name in features}
    summary = SearchSummary(0.0, "one cluster", {"one cluster": 0.0}, 1.0)
    return CrossfitModel(components, weights, np.zeros(1, np.float32), np.zeros(1), keys, held_out, summary)


def _modalities(X: Any) -> dict[str, Any] | None:
    """Return the arrays of several modalities by name; None for one array."""
    if issparse(X):  # one of its formats is a mapping
        return None
    if isinstance(X, Mapping):
        return dict(X)
    if isinstance(X, Sequence) and not isinstance(X, (str, bytes)) and all(np.ndim(x) == 2 for x in X) and len(X):
        return {f"features{index}": x for index, x in enumerate(X)}
    return None


def _labels(log_posterior: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the cluster of the largest posterior of each row; -1 for rows of NaN."""
    return np.where(np.isnan(log_posterior[:, 0]), -1, log_posterior.argmax(1)).astype(np.int32)
