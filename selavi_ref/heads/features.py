"""The features of a store, standardised: those that can be learnt from, and all that can be labelled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError, printable
from selavi_ref.store import FeatureStore

_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class Standardizer:
    """
    Mean and standard deviation of each feature of each modality, the first modality first.

    Parameters
    ----------
    values : dict of str to (array, array)
        float32, shape (D,).
    """

    values: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]

    @property
    def widths(self) -> dict[str, int]:
        """Features D of each modality."""
        return {modality: len(mean) for modality, (mean, _) in self.values.items()}

    def standardised(self, modality: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return features with mean 0 and standard deviation 1."""
        mean, spread = self.values[modality]
        return (x - mean) / spread


class PairedFeatures:
    """
    Features of two modalities, of the videos that have both.

    Parameters
    ----------
    store : FeatureStore
        With ``features/{modality}`` of two modalities; it stays open as long as this is used.
    most_bytes : float
        Features are kept in memory when they take no more, and read when they are needed otherwise.

    Attributes
    ----------
    modalities : list of str
        The two, video first.
    videos : array
        Rows of the store that have both, int64, shape (N,); everything else here counts in these.
    level : Level
        Of these.

    Raises
    ------
    InputError
        If the store has not two modalities, or too few videos that have both.
    """

    def __init__(self, store: FeatureStore, most_bytes: float = 8e9):
        self.store = store
        name = printable(store.path)
        self.modalities = [m for m in store.modalities if store.has(f"features/{m}")]
        if len(self.modalities) != 2:
            found = ", ".join(self.modalities) or "none"
            raise InputError(
                f"{name} has features of {found}; heads learn from exactly two modalities, such as video, audio"
            )
        self._widths = {m: store.width(f"features/{m}") for m in self.modalities}
        self.videos, self.level = self._looked_over()
        if len(self.videos) < 2:
            raise InputError(f"{name}: {len(self.videos)} videos have features of both {' and '.join(self.modalities)}")
        self._kept: dict[str, NDArray[np.float32]] = {}
        if 4.0 * len(self.videos) * sum(self._widths.values()) <= most_bytes:
            self._kept = {m: self._read(m, np.arange(len(self.videos))) for m in self.modalities}

    @property
    def n_videos(self) -> int:
        """Number of videos N that can be learnt from."""
        return len(self.videos)

    def rows(self, modality: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return standardised features of some videos, shape (rows, D)."""
        if modality in self._kept:
            return self._kept[modality][rows]
        return self._read(modality, rows)

    def _read(self, modality: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.level.standardised(modality, self.store.features(modality, self.videos[rows]))

    def _looked_over(self) -> tuple[NDArray[np.int64], Standardizer]:
        """Go over the features once: which videos have both modalities, and the level of these."""
        present = {m: self.store.present(m) for m in self.modalities}
        usable = np.zeros(self.store.n_videos, bool)
        sums = {m: np.zeros((2, width)) for m, width in self._widths.items()}
        first: dict[str, NDArray[np.float64]] = {}
        for rows in self.store.blocks():
            values = {m: self.store.features(m, rows) for m in self.modalities}
            here = np.logical_and.reduce([present[m][rows] & np.isfinite(values[m]).all(1) for m in self.modalities])
            usable[rows] = here
            for m, x in values.items():
                if here.any():
                    origin = first.setdefault(m, x[here].mean(0, dtype=np.float64))  # keeps the squares small
                    centred = x[here] - origin
                    sums[m] += centred.sum(0), (centred**2).sum(0)
        n = max(1, int(usable.sum()))
        level = {}
        for m, (total, squares) in sums.items():
            spread = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0))
            mean = first.get(m, np.zeros(self._widths[m])) + total / n
            level[m] = mean.astype(np.float32), np.maximum(spread, _LEAST_SPREAD).astype(np.float32)
        return np.flatnonzero(usable), Standardizer(level)


def standardised(x: NDArray[np.float32], level: tuple[NDArray[np.float32], NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return features with the mean 0 and the standard deviation 1 of the collection that was learnt from."""
    return (x - level[0]) / level[1]
