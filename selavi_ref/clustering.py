"""K-means on features: what labels are compared with, and, in ablations, what takes the place of transport."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError
from selavi_ref.store import FeatureStore

_COMPONENTS = 100  # leading principal components that stand for a video of more than _WIDE numbers
_WIDE = 2000


def kmeans(values: NDArray[np.float32], K: int, *, seed: int = 0, starts: int = 10) -> NDArray[np.int32]:
    """
    Cluster rows by K-means (scikit-learn's, Lloyd's iterations from k-means++).

    Parameters
    ----------
    values : array
        Shape (N, D), with N >= K.
    K : int
        Number of clusters.
    seed : int
        Of the random starts.
    starts : int
        Of which the best is kept.

    Returns
    -------
    array
        Labels, int32, shape (N,).

    Raises
    ------
    InputError
        If there are fewer rows than clusters.
    """
    from sklearn.cluster import KMeans

    if len(values) < K:
        raise InputError(f"K-means with {K} clusters needs as many videos; there are {len(values)}")
    found: NDArray[np.int32] = KMeans(K, n_init=starts, random_state=seed).fit_predict(values).astype(np.int32)
    return found


def standardised(values: NDArray[np.float32], *, seed: int = 0) -> NDArray[np.float32]:
    """
    Give every column mean 0 and standard deviation 1; of wide rows, return the leading principal components.

    Parameters
    ----------
    values : array
        Shape (N, D); with D above 2,000, 100 components take the place of the columns.
    seed : int
        Of the randomised decomposition.
    """
    spread = np.maximum(values.std(0), 1e-6)
    values = (values - values.mean(0)) / spread
    if values.shape[1] > _WIDE:
        from sklearn.decomposition import PCA

        values = PCA(min(_COMPONENTS, *values.shape), random_state=seed).fit_transform(values)
    return values.astype(np.float32)


def together(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Put the columns of several modalities side by side, each modality with a total variance of 1."""
    return np.concatenate([part / np.sqrt(max(float(part.var(0).sum()), 1e-12)) for part in parts], 1)


def kmeans_of_each(
    values: Mapping[str, NDArray[np.float32]], K: int, *, seed: int = 0, both: str = "both"
) -> dict[str, NDArray[np.int32]]:
    """
    Cluster by each modality alone, and, if there are several, by all of them together.

    Parameters
    ----------
    values : mapping
        Of each modality, float32, shape (N, D).
    K, seed
        As in `kmeans`.
    both : str
        What the labels by all modalities are called.
    """
    scaled = {name: standardised(part, seed=seed) for name, part in values.items()}
    found = {name: kmeans(part, K, seed=seed) for name, part in scaled.items()}
    if len(scaled) > 1:
        found[both] = kmeans(together(list(scaled.values())), K, seed=seed)
    return found


def kmeans_labels(store: FeatureStore, K: int, *, seed: int = 0) -> NDArray[np.int32]:
    """Label all videos of a store, which have all modalities, by K-means on the features of all, from one start."""
    values = [standardised(store.features(modality), seed=seed) for modality in store.modalities]
    return kmeans(together(values), K, seed=seed, starts=1)
