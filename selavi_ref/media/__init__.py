"""Decoding of media files to NumPy arrays: their properties, exact clips, whole videos, log mel energies."""

from __future__ import annotations

from selavi_ref.media.clip import Clip, SquareCrops, read_clip, read_video
from selavi_ref.media.container import VideoInfo
from selavi_ref.media.decoder import Decoder
from selavi_ref.media.mel import log_mel, mel_statistics
from selavi_ref.media.probing import probe
from selavi_ref.media.sound_features import read_sound_statistics, sound_statistics

__all__ = [
    "Clip",
    "Decoder",
    "SquareCrops",
    "VideoInfo",
    "log_mel",
    "mel_statistics",
    "probe",
    "read_clip",
    "read_sound_statistics",
    "read_video",
    "sound_statistics",
]
