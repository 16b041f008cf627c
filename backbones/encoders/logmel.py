"""Statistics of log mel energies as features of a sound, without a network and without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.encoders.encoder import ClipInput
from selavi_ref.errors import InputError
from selavi_ref.media.sound_features import N_FEATURES, SAMPLE_RATE, SECONDS, sound_statistics


class LogMel:
    """Mean, standard deviation and mean absolute difference over time of each of 128 log mel bands: 384 features."""

    name = "logmel"
    input = ClipInput(sample_rate=SAMPLE_RATE, seconds=SECONDS)
    n_features = N_FEATURES
    class_names: Sequence[str] = ()

    def encode(self, batch: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the statistics of each sound; see `Encoder`."""
        return np.stack([sound_statistics(samples) for samples in batch])

    def classify(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return nothing: there are no classes."""
        return features[:, :0]


def load(model: str, weights: str, device: str) -> LogMel:
    """Return the encoder; see `backbones.encoders.registry`."""
    if weights:
        raise InputError("has no weights")
    return LogMel()
