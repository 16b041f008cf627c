"""Statistics of the log mel energies of a whole sound: features that no network has learnt."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from selavi_ref.media.clip import read_clip
from selavi_ref.media.mel import log_mel, mel_statistics
from selavi_ref.media.probing import probe

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
    path: str | os.PathLike[str], change: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
) -> NDArray[np.float32]:
    """
    Return `sound_statistics` of the sound of a file or segment, or of the middle minute of a longer one.

    Parameters
    ----------
    path : path
        A video, a sound, or a segment of one.
    change : callable, optional
        Degrades the samples before they are measured.

    Returns
    -------
    array
        float32, shape (384,); NaN without sound.

    Raises
    ------
    MediaError
        If it cannot be decoded.
    """
    nothing = np.full(N_FEATURES, np.nan, np.float32)
    info = probe(os.fspath(path))
    if not info.has_audio:
        return nothing
    length = min(SECONDS, info.audio_seconds)
    start = (info.audio_seconds - length) / 2
    clip = read_clip(
        os.fspath(path),
        start,
        max(length, 1e-3),
        fps=1.0,
        frames=1,
        size=1,
        sample_rate=SAMPLE_RATE,
        want_video=False,
    )
    samples = clip.samples
    if not samples.size:
        return nothing
    return sound_statistics(samples if change is None else change(samples))
