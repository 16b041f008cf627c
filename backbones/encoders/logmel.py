"""Statistics of log mel energies as features of a sound, without a network and without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.encoders.encoder import ClipInput
from selavi_ref.errors import InputError
from selavi_ref.media import log_mel, mel_statistics

_BANDS = 64
_LOUDNESS_FLOOR = -5.0  # of log energies: below the rounding of 16-bit samples, where only silence and codecs differ


class LogMel:
    """Mean, standard deviation and mean absolute difference over time of each log mel band: 192 features."""

    name = "logmel"
    input = ClipInput(sample_rate=16_000, seconds=60.0)
    n_features = 3 * _BANDS
    class_names: Sequence[str] = ()

    def encode(self, batch: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the statistics of each sound; see `Encoder`."""
        return np.stack([self._statistics(samples) for samples in batch])

    def classify(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return nothing: there are no classes."""
        return features[:, :0]

    def _statistics(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        bands = np.maximum(log_mel(samples, self.input.sample_rate, n_filters=_BANDS), _LOUDNESS_FLOOR)
        return mel_statistics(bands)


def load(model: str, weights: str, device: str) -> LogMel:
    """Return the encoder; see `backbones.encoders.registry`."""
    if weights:
        raise InputError("has no weights")
    return LogMel()
