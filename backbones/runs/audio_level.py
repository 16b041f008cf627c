"""Measurement of the level of a collection's audio, by which log mel energies are normalised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from backbones.data.clips import ClipSource, mel_statistics
from backbones.runs.run_settings import RunSettings

_SAMPLE = 256  # videos
_FLOOR = 4  # standard deviations below the mean at which log mel energies are clamped


def measure_audio_level(settings: RunSettings, source: ClipSource) -> RunSettings:
    """
    Return settings with the mean, standard deviation and floor of a collection's log mel energies.

    They are measured on the centre clips of 256 random videos; settings that do not ask for it (``mel_normalise``) are
    returned unchanged.
    """
    if settings.backbone.mel_normalise != "collection":
        return settings
    rng = np.random.default_rng(settings.training.seed)
    mean, std = mel_statistics(source, rng.permutation(len(source))[:_SAMPLE].tolist())
    clip = replace(settings.backbone.clip, mel_mean=mean, mel_std=std, mel_floor=mean - _FLOOR * std)
    return replace(settings, backbone=replace(settings.backbone, clip=clip))
