"""The standardised features of the videos of a store that have both modalities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError, printable
from selavi_ref.store import FeatureStore

_MIN_STD = 1e-6


@dataclass(frozen=True)
class Standardizer:
    """
    Mean and standard deviation of each feature of each modality, the first modality first.

    Parameters
    ----------
    values : dict of str to (array, array)
        Mean and standard deviation of each modality, float32, shape (D,).
    """

    values: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]

    @property
    def widths(self) -> dict[str, int]:
        """Number of features D of each modality."""
        return {modality: len(mean) for modality, (mean, _) in self.values.items()}

    def transform(self, modality: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return features (N, D) minus the mean, divided by the standard deviation."""
        mean, std = self.values[modality]
        return (x - mean) / std


class PairedFeatures:
    """
    Standardised features of the videos of a store that have both modalities.

    Parameters
    ----------
    store : FeatureStore
        With ``features/{modality}`` of two modalities; it stays open as long as this object is used.
    max_bytes : float
        Features of at most so many bytes are held in memory; larger ones are read each time.

    Attributes
    ----------
    modalities : list of str
        The two modalities, video first.
    videos : array
        Rows of the store that have both, int64, shape (N,); all other row numbers of this class count in these.
    standardizer : Standardizer
        Mean and standard deviation over these videos.

    Raises
    ------
    InputError
        If the store has not exactly two modalities, or fewer than two videos that have both.
    """

    def __init__(self, store: FeatureStore, max_bytes: float = 8e9):
        self.store = store
        name = printable(store.path)
        self.modalities = [m for m in store.modalities if store.has(f"features/{m}")]
        if len(self.modalities) != 2:
            available = ", ".join(self.modalities) or "none"
            raise InputError(
                f"{name} has features of {available}; heads learn from exactly two modalities, such as video, audio"
            )
        self._widths = {m: store.width(f"features/{m}") for m in self.modalities}
        self.videos, self.standardizer = self._fit()
        if len(self.videos) < 2:
            raise InputError(f"{name}: {len(self.videos)} videos have features of both {' and '.join(self.modalities)}")
        self._in_memory: dict[str, NDArray[np.float32]] = {}
        if 4.0 * len(self.videos) * sum(self._widths.values()) <= max_bytes:
            self._in_memory = {m: self._read(m, np.arange(len(self.videos))) for m in self.modalities}

    @property
    def n_videos(self) -> int:
        """Number of videos N that have both modalities."""
        return len(self.videos)

    def rows(self, modality: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return standardised features of some videos, shape (rows, D)."""
        if modality in self._in_memory:
            return self._in_memory[modality][rows]
        return self._read(modality, rows)

    def _read(self, modality: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.standardizer.transform(modality, self.store.features(modality, self.videos[rows]))

    def _fit(self) -> tuple[NDArray[np.int64], Standardizer]:
        """Read all features once; return the rows that have both modalities, and their standardizer."""
        present = {m: self.store.present(m) for m in self.modalities}
        usable = np.zeros(self.store.n_videos, bool)
        sums = {m: np.zeros((2, width)) for m, width in self._widths.items()}
        origins: dict[str, NDArray[np.float64]] = {}
        for rows in self.store.blocks():
            values = {m: self.store.features(m, rows) for m in self.modalities}
            both = np.logical_and.reduce([present[m][rows] & np.isfinite(values[m]).all(1) for m in self.modalities])
            usable[rows] = both
            for m, x in values.items():
                if both.any():
                    # Sums of squares about a point near the mean lose no digits.
                    origin = origins.setdefault(m, x[both].mean(0, dtype=np.float64))
                    centred = x[both] - origin
                    sums[m] += centred.sum(0), (centred**2).sum(0)
        n = max(1, int(usable.sum()))
        fitted = {}
        for m, (total, squares) in sums.items():
            std = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0))
            mean = origins.get(m, np.zeros(self._widths[m])) + total / n
            fitted[m] = mean.astype(np.float32), np.maximum(std, _MIN_STD).astype(np.float32)
        return np.flatnonzero(usable), Standardizer(fitted)
