"""K-means on features: a baseline for the labels, and in ablations a replacement of the optimal transport."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError
from selavi_ref.store import FeatureStore

_COMPONENTS = 100  # leading principal components that stand for a video of more than _WIDE numbers
_WIDE = 2000


def kmeans(values: NDArray[np.float32], K: int, *, seed: int = 0, starts: int = 10) -> NDArray[np.int32]:
    """Return the labels of `kmeans_centres`, int32, shape (N,)."""
    return kmeans_centres(values, K, seed=seed, starts=starts)[0]


def kmeans_centres(
    values: NDArray[np.float32], K: int, *, seed: int = 0, starts: int = 10
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """
    Cluster rows by K-means (scikit-learn's, Lloyd's iterations from k-means++).

    Parameters
    ----------
    values : array
        Shape (N, D), with N >= K.
    K : int
        Number of clusters.
    seed : int
        Seed of the random starts.
    starts : int
        Number of random starts, of which the best result is returned.

    Returns
    -------
    labels, centres : array
        int32, shape (N,), and float32, shape (K, D).

    Raises
    ------
    InputError
        If there are fewer rows than clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if len(values) < K:
        raise InputError(
            f"K-means with {K} clusters needs as many videos; there are {len(values)}", option="K", value=K
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters
        result = KMeans(K, n_init=starts, random_state=seed).fit(values)
    return result.labels_.astype(np.int32), result.cluster_centers_.astype(np.float32)


def nearest_centre(values: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the index of the nearest centre (K, D) for each row (N, D), int32, shape (N,)."""
    squares = (centres**2).sum(1) - 2 * values @ centres.T
    nearest: NDArray[np.int32] = squares.argmin(1).astype(np.int32)
    return nearest


@dataclass(frozen=True)
class FeatureScaler:
    """
    Scaling that gives several modalities equal weight in distances, fitted on some videos.

    Features get mean 0 and standard deviation 1; more than 2,000 features of a modality are reduced to their 100
    leading principal components; each modality is divided so that its total variance is 1.

    Parameters
    ----------
    parts : mapping
        For each modality: mean and standard deviation (D,), components (C, D) or None, and the divisor.
    """

    parts: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None, np.float32]]

    @classmethod
    def fit(cls, values: Mapping[str, NDArray[np.float32]], *, seed: int = 0) -> FeatureScaler:
        """Fit to features (N, D) of each modality; the seed is that of the randomised decomposition."""
        parts = {}
        for name, x in values.items():
            mean = x.mean(0)
            spread: NDArray[np.float32] = np.maximum(x.std(0), np.float32(1e-6))
            components = None
            x = (x - mean) / spread
            if x.shape[1] > _WIDE:
                from sklearn.decomposition import PCA

                components = PCA(min(_COMPONENTS, *x.shape), random_state=seed).fit(x).components_.astype(np.float32)
                x = x @ components.T
            total = np.float32(np.sqrt(max(float(x.var(0).sum()), 1e-12)))
            parts[name] = (mean, spread, components, total)
        return cls(parts)

    def __call__(self, values: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the scaled features of some modalities side by side, float32, shape (N, sum of D or C)."""
        scaled = []
        for name, x in values.items():
            mean, spread, components, total = self.parts[name]
            x = (x - mean) / spread
            scaled.append((x if components is None else x @ components.T) / total)
        return np.concatenate(scaled, 1).astype(np.float32)


def kmeans_of_each(
    values: Mapping[str, NDArray[np.float32]], K: int, *, seed: int = 0, both: str = "both"
) -> dict[str, NDArray[np.int32]]:
    """
    Cluster the features of each modality, and those of all modalities together if there are several.

    Parameters
    ----------
    values : mapping
        Features of each modality, float32, shape (N, D).
    K, seed
        See `kmeans`.
    both : str
        Name of the labels by all modalities in the result.
    """
    scaling = FeatureScaler.fit(values, seed=seed)
    labels = {name: kmeans(scaling({name: part}), K, seed=seed) for name, part in values.items()}
    if len(values) > 1:
        labels[both] = kmeans(scaling(values), K, seed=seed)
    return labels


def kmeans_labels(store: FeatureStore, K: int, *, seed: int = 0) -> NDArray[np.int32]:
    """Cluster all videos of a store, which have all modalities, by one start of K-means on their scaled features."""
    values = {modality: store.features(modality) for modality in store.modalities}
    return kmeans(FeatureScaler.fit(values, seed=seed)(values), K, seed=seed, starts=1)
