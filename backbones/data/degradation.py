"""Degradation of video or audio on purpose, to measure how far labels depend on each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from selavi_ref.errors import InputError

_MOST_DECIBELS = 200.0


@dataclass(frozen=True)
class Degradation:
    """
    Loss of quality that is applied to a clip before the networks see it.

    Parameters
    ----------
    shrink : int
        Factor by which frames are scaled down, and back up: 1 changes nothing, 64 leaves hardly a colour.
    attenuate : float
        Decibels by which the audio is attenuated before it is rounded to 16 bits, as a recorder does.
    noise : float
        Signal-to-noise ratio of added white noise, decibels; infinity for none.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    shrink: int = 1
    attenuate: float = 0.0
    noise: float = math.inf

    def __post_init__(self) -> None:
        if self.shrink < 1:
            raise InputError(f"--shrink {self.shrink}: a factor of at least 1", option="shrink")
        if not 0 <= self.attenuate <= _MOST_DECIBELS:
            raise InputError(f"--attenuate {self.attenuate:g}: decibels, 0 to {_MOST_DECIBELS:g}", option="attenuate")
        if not self.noise >= -_MOST_DECIBELS:
            raise InputError(
                f"--noise {self.noise:g}: decibels of the sound above the noise, {-_MOST_DECIBELS:g} or more",
                option="noise",
            )

    def __bool__(self) -> bool:
        return self != Degradation()

    def degrade_frames(self, squares: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Scale frames (P, T, S, S, 3) down, by averaging, and back up."""
        if self.shrink == 1 or not squares.size:
            return squares
        side = squares.shape[2]
        small = max(1, round(side / self.shrink))
        planes = torch.from_numpy(squares).permute(0, 1, 4, 2, 3).flatten(0, 1).float()
        planes = F.interpolate(planes, size=(small, small), mode="bilinear", antialias=True)
        planes = F.interpolate(planes, size=(side, side), mode="bilinear").round().clamp(0, 255).to(torch.uint8)
        return np.ascontiguousarray(planes.view(*squares.shape[:2], 3, side, side).permute(0, 1, 3, 4, 2).numpy())

    def degrade_samples(self, samples: NDArray[np.float32], seed: int | Sequence[int]) -> NDArray[np.float32]:
        """Attenuate samples (n,) in -1..1 and add noise, which depends on `seed` alone."""
        if self.noise < math.inf:
            power = float(np.mean(np.square(samples, dtype=np.float64)))
            white = np.random.default_rng(seed).standard_normal(len(samples))
            samples = (samples + math.sqrt(power * 10 ** (-self.noise / 10)) * white).astype(np.float32)
        if self.attenuate:
            scaled = samples * np.float32(10 ** (-self.attenuate / 20) * 32768)
            samples = np.round(scaled).clip(-32768, 32767).astype(np.float32) / np.float32(32768)
        return samples
