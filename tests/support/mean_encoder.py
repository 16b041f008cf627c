"""An encoder without a network, as another package could offer it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.encoders import ClipInput


class MeanEncoder:
    """Mean and standard deviation of all numbers of a clip; its two classes are dark and bright."""

    name = ""
    n_features = 2
    class_names: Sequence[str] = ("dark", "bright")

    def __init__(self, clip: ClipInput):
        self.input = clip
        self.batches: list[list[tuple[int, ...]]] = []

    def encode(self, batch: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        self.batches.append([clip.shape for clip in batch])
        return np.array([[clip.mean(), clip.std()] for clip in batch], np.float32)

    def classify(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([-features[:, 0], features[:, 0]], axis=1) / 100


def load(model: str, weights: str, device: str) -> MeanEncoder:
    """Load the encoder, as the entry point of a package does."""
    if model != "mean":
        raise ValueError(f"no model {model}\nand a long explanation")
    return MeanEncoder(ClipInput(frames=1, size=32))
