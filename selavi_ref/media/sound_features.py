"""Statistics of the log mel energies of a whole sound: features that no network has learnt."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import FilePath, MediaError
from selavi_ref.media.clip import read_clip
from selavi_ref.media.mel import log_mel, mel_statistics
from selavi_ref.media.probing import probe
from selavi_ref.media.segment_reader import read_segments

SAMPLE_RATE = 24_000
SECONDS = 60.0  # of a longer sound, the middle
_BANDS = 128
_FFT = 2048  # so that each of the lowest bands has a frequency of its own
N_FEATURES = 3 * _BANDS
_FLOOR = -5.0  # of log energies: below the rounding of 16-bit samples, where only silence and codecs differ


def sound_statistics(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """
    Return the mean, standard deviation and mean absolute change over time of 128 log mel bands.

    Parameters
    ----------
    samples : array
        Mono, 24,000 a second, in -1..1, float32, shape (n,).

    Returns
    -------
    array
        float32, shape (384,).

    Raises
    ------
    InputError
        If there is no sample.
    """
    return mel_statistics(np.maximum(log_mel(samples, SAMPLE_RATE, n_filters=_BANDS, n_fft=_FFT), np.float32(_FLOOR)))


def read_sound_statistics(
    path: FilePath,
    names: Sequence[str] | None = None,
    change: Callable[[int, NDArray[np.float32]], NDArray[np.float32]] | None = None,
) -> NDArray[np.float32]:
    """
    Return `sound_statistics` of the sounds of a file, or of segments of one file, which is decoded once.

    Of a sound of more than a minute, its middle minute counts.

    Parameters
    ----------
    path : path
        A video or sound.
    names : sequence of n str, optional
        Segments of it, in ascending order of their starts.
    change : callable, optional
        Gets the position of each name and its samples, and returns those to be measured.

    Returns
    -------
    array
        float32, shape (n, 384); NaN for those without sound, and where the sound cannot be decoded.
    """
    names = [os.fspath(path)] if names is None else names
    try:
        sounds = [_middle_minute(names[0])] if len(names) == 1 else _sounds_of_segments(names)
    except MediaError:
        sounds = [_NO_SOUND] * len(names)
    statistics = np.full((len(names), N_FEATURES), np.nan, np.float32)
    for number, samples in enumerate(sounds):
        if samples.size:
            statistics[number] = sound_statistics(samples if change is None else change(number, samples))
    return statistics


_NO_SOUND = np.empty(0, np.float32)
_OPTIONS: dict[str, Any] = {"fps": 1.0, "size": 1, "sample_rate": SAMPLE_RATE, "want_video": False}


def _middle_minute(name: str) -> NDArray[np.float32]:
    info = probe(name)
    if not info.has_audio:
        return _NO_SOUND
    length = min(SECONDS, info.audio_seconds)
    start = (info.audio_seconds - length) / 2
    return read_clip(name, start, max(length, 1e-3), frames=1, **_OPTIONS).samples


def _sounds_of_segments(names: Sequence[str]) -> list[NDArray[np.float32]]:
    longest, sounds = round(SECONDS * SAMPLE_RATE), []
    for part in read_segments(names, **_OPTIONS):
        samples = _NO_SOUND if isinstance(part, MediaError) else part.samples
        start = max(0, len(samples) - longest) // 2
        sounds.append(samples[start : start + longest])
    return sounds
