"""The contract of an encoder: which clips it takes, and the features that it makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClipInput:
    """
    The clips that an encoder takes: pictures (one frame), frames of a clip, or sound.

    Parameters
    ----------
    frames : int
        Frames T of a clip; 1 for single pictures, 0 for sound.
    fps : float
        Frames per second, where there are several.
    size : int
        Pixels of either side of the frames, which are the middle squares of the video's.
    sample_rate : int
        Samples per second of the sound, mono; 0 for frames.
    seconds : float
        Length of the sound at most; a shorter video gives all that it has.
    """

    frames: int = 0
    fps: float = 1.0
    size: int = 0
    sample_rate: int = 0
    seconds: float = 0.0

    @property
    def is_audio(self) -> bool:
        """Whether the encoder takes sound."""
        return self.sample_rate > 0

    @property
    def length(self) -> float:
        """Seconds of a video that a clip covers; 0 for a single picture."""
        if self.is_audio:
            return self.seconds
        return self.frames / self.fps if self.frames > 1 else 0.0


class Encoder(Protocol):
    """
    A pretrained model as the extraction of features uses it.

    Attributes
    ----------
    name : str
        What ``--encoder`` was called with; kept in the provenance of stores.
    input : ClipInput
        The clips it takes.
    n_features : int
        D.
    class_names : sequence of str
        Names of the C classes that the model can tell apart; empty for a model without a classifier.
    """

    name: str
    input: ClipInput
    n_features: int
    class_names: Sequence[str]

    def encode(self, batch: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """
        Return features, float32, shape (B, D).

        Parameters
        ----------
        batch : sequence of B arrays
            Frames, RGB, uint8, shape (T, S, S, 3); or samples in -1..1, float32, shape (n,), where n may differ.
        """

    def classify(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits of the classes, shape (B, C), of features that `encode` made; called if there are classes."""


@runtime_checkable
class TextEncoder(Encoder, Protocol):
    """
    An encoder whose features share their space with those of texts, such as CLIP, SigLIP and CLAP.

    Attributes
    ----------
    text_scale : float
        Factor of cosine similarities that makes logits of them, as the model was trained.
    """

    text_scale: float

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return features of texts, float32, shape (len(texts), D)."""
