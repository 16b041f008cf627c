"""Sounds as pictures: log-mel energies over time, in colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import FilePath
from selavi_ref.media.clip import read_clip
from selavi_ref.media.mel import log_mel
from selavi_ref.media.probing import probe

_SAMPLE_RATE, _BANDS = 16_000, 64
_SHOWN = 12.0  # natural logarithm of the energy, below the loudest, that is still told from silence
_COLOURS = np.array([[16, 18, 40], [70, 40, 120], [190, 60, 95], [245, 150, 60], [252, 250, 200]], np.float64)


def spectrogram(path: FilePath, seconds: float, height: int, width: int) -> NDArray[np.uint8]:
    """
    Return the log-mel energies of the middle of a sound, low bands at the bottom: uint8, RGB, shape (h, w, 3).

    Parameters
    ----------
    path
        A sound file, or a video.
    seconds
        Length of the interval shown; a shorter file is shown as a whole.
    height, width
        Pixels.

    Raises
    ------
    MediaError
        If it has no sound, or cannot be read.
    """
    length = probe(path).audio_seconds
    shown = max(0.1, min(seconds, length))
    start = max(0.0, (length - shown) / 2)
    clip = read_clip(path, start, shown, fps=1.0, frames=1, size=16, sample_rate=_SAMPLE_RATE, want_video=False)
    if not clip.samples.size:
        return np.full((height, width, 3), _COLOURS[0], np.uint8)
    energies = log_mel(clip.samples, _SAMPLE_RATE, n_filters=_BANDS)[::-1]
    loudest = float(energies.max())
    level = np.clip((energies - loudest) / _SHOWN + 1, 0, 1) * (len(_COLOURS) - 1)
    rows = np.linspace(0, len(level) - 1, height).round().astype(int)
    columns = np.linspace(0, level.shape[1] - 1, width).round().astype(int)
    level = level[rows][:, columns]
    steps = np.arange(len(_COLOURS))
    return np.stack([np.interp(level, steps, _COLOURS[:, c]) for c in range(3)], -1).round().astype(np.uint8)
