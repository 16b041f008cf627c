"""Leading principal components of standardised features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError

_BLOCK_BYTES = 32 << 20
_LEAST_SPREAD = 1e-6
_WIDE = 2000  # features from which on only the leading eigenvectors are computed


class FeatureRows(Protocol):
    """Features of N videos that can be read in slices: an array, a memory map, an HDF5 data set."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, D)."""
        ...

    def __getitem__(self, rows: slice, /) -> Any:
        """Return features of consecutive videos, shape (rows, D); rows with NaN lack the modality."""
        ...


@dataclass(frozen=True)
class Components:
    """
    Standardisation and principal components of the features of one modality.

    Every feature gets mean 0 and standard deviation 1. The leading principal components keep their own scale (whitening
    would raise the noise of the last to the scale of the first), divided by one number, so that the standardised
    features have a total variance of 1 in every modality. A penalty on weights then means the same for any features.

    Parameters
    ----------
    mean, spread : array
        float32, shape (D,).
    vectors : array
        float32, shape (D, C), orthonormal columns, the largest variance first.
    variances : array
        float64, shape (C,): explained variance ratio of each component.
    total : float
        Square root of the total variance of the standardised features.
    """

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    vectors: NDArray[np.float32]
    variances: NDArray[np.float64]
    total: float

    def __call__(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Return the components of rows (n, D), float32, shape (n, C); zeros for rows that are not finite."""
        x = np.asarray(features, np.float32)
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise InputError(f"features have shape {x.shape}; expected (N, {len(self.mean)})")
        present = np.asarray(np.isfinite(x).all(1))
        x = np.where(present[:, None], x, self.mean)
        x -= self.mean
        x /= self.spread
        return np.asarray(x @ self.vectors / np.float32(self.total))


def fit_components(features: NDArray[np.float32], n_components: int) -> tuple[Components, NDArray[np.bool_]]:
    """
    Fit the leading principal components of the correlation matrix.

    Parameters
    ----------
    features : array
        float32, shape (N, D); rows with a value that is not finite are left out. The memory used besides is 16 D^2
        bytes, and 32 MiB.
    n_components : int
        Number of components at most; there are no more than features, or videos less one.

    Returns
    -------
    components, present : Components, array
        The components, and which rows have finite values, bool, shape (N,).

    Raises
    ------
    InputError
        If the shape is not (N, D), or fewer than two rows are finite.
    """
    check_rows(features)
    N, D = features.shape
    present = np.zeros(N, bool)
    products, sums = np.zeros((D, D)), np.zeros(D)
    origin: NDArray[np.float32] | None = None  # near the mean: keeps the products small
    for rows, block in iterate_blocks(features):
        present[rows] = np.isfinite(block).all(1)
        block = block[present[rows]]
        if not len(block):
            continue
        origin = block.mean(0) if origin is None else origin
        block = block - origin
        products += block.T @ block
        sums += block.sum(0, dtype=np.float64)
    n = int(present.sum())
    if n < 2 or origin is None:
        raise InputError(f"{n} of {N} videos have finite features; at least 2 are needed")
    shift = sums / n
    covariance = products / n - np.outer(shift, shift)
    spread = np.maximum(np.sqrt(np.maximum(np.diag(covariance), 0)), _LEAST_SPREAD)
    covariance /= spread
    covariance /= spread[:, None]
    total = max(float(np.trace(covariance)), 1e-12)
    values, vectors = _leading(covariance, min(n_components, D, n - 1))
    return (
        Components(
            (origin + shift).astype(np.float32),
            spread.astype(np.float32),
            vectors.astype(np.float32),
            np.maximum(values, 0) / total,
            float(np.sqrt(total)),
        ),
        present,
    )


def check_rows(features: FeatureRows) -> None:
    """Raise an `InputError` if features are not of shape (N, D) with N and D at least 1."""
    if len(features.shape) != 2 or 0 in features.shape:
        raise InputError(f"features have shape {tuple(features.shape)}; expected (N, D) with N and D at least 1")


def read_rows(features: FeatureRows, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return some rows, given in ascending order, float32, shape (n, D); the features are read once, in blocks."""
    chosen = np.empty((len(rows), features.shape[1]), np.float32)
    for block_rows, block in iterate_blocks(features):
        first, last = np.searchsorted(rows, (block_rows.start, block_rows.stop))
        chosen[first:last] = block[rows[first:last] - block_rows.start]
    return chosen


def iterate_blocks(features: FeatureRows) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield slices of rows and their features, float32, about 32 MiB each."""
    N, D = features.shape
    step = max(1, _BLOCK_BYTES // (4 * D))
    for first in range(0, N, step):
        rows = slice(first, min(first + step, N))
        yield rows, np.asarray(features[rows], np.float32)


def _leading(symmetric: NDArray[np.float64], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the n largest eigenvalues, falling, and their vectors (D, n), each with a positive largest entry."""
    D = len(symmetric)
    if D > _WIDE and n < D // 4:
        from scipy.sparse.linalg import eigsh

        values, vectors = eigsh(symmetric, n, v0=np.ones(D))
        order = np.argsort(-values)
    else:
        values, vectors = np.linalg.eigh(symmetric)
        order = np.argsort(-values)[:n]
    values, vectors = values[order], vectors[:, order]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return values, vectors * np.where(largest < 0, -1, 1)
