"""Fingerprints of picture and sound, which recognise a video in another size, codec or quality."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from selavi_ref.media import log_mel

FRAMES = 4  # spread over the video
_SIDE = 8  # cells of each frame, both ways
_BANDS, _SLICES = 16, 8  # of the sound
VIDEO_SIZE, AUDIO_SIZE = FRAMES * _SIDE * _SIDE, _BANDS * _SLICES

_ALL_BANDS = 20  # the highest four are left out: codecs and lower sample rates cut them off
_STEP = 0.01  # seconds between two energies
_SHORTEST = 0.1  # seconds of sound that have a fingerprint
_SILENT = 1e-4  # root mean square of samples in -1..1, that is -80 dB
_FLAT_PICTURE = 3.0  # grey levels (of 255, root mean square) by which a picture must vary to have a fingerprint
_FLAT_SOUND = 0.1  # the same of a sound, relative to its mean


def video_fingerprint(frames: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """
    Return the fingerprint of a picture: its frames as grey cells, centred, of length 1.

    Parameters
    ----------
    frames : array
        uint8, shape (4, h, w, 3) with h, w >= 8, spread evenly over the video.

    Returns
    -------
    array or None
        float32, shape (256,); None where there is no picture, or one of a single colour.
    """
    if len(frames) != FRAMES:
        return None
    grey = frames.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    cells = _means(_means(grey, 1), 2).reshape(-1)
    return _normalised(cells, _FLAT_PICTURE)


def audio_fingerprint(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32] | None:
    """
    Return the fingerprint of a sound: energies of 16 mel bands in 8 slices of time, centred, of length 1.

    The slices overlap by half, since copies of a sound may be shifted by about 60 ms (priming of codecs). The fourth
    root of the energies weights quiet moments more than the energies do, and less than their logarithms,
    to which codecs add noise.

    Parameters
    ----------
    samples : array
        float32 in -1..1, shape (n,).
    sample_rate : int
        Samples per second, 16,000.

    Returns
    -------
    array or None
        float32, shape (128,); None for less than a tenth of a second of sound, for silence, and for a constant sound.
    """
    if len(samples) < _SHORTEST * sample_rate or np.sqrt(np.mean(np.square(samples, dtype=np.float64))) < _SILENT:
        return None
    energies = np.exp(log_mel(samples, sample_rate, n_filters=_ALL_BANDS, step=_STEP, n_fft=512)[:_BANDS])
    places = (np.arange(energies.shape[1]) + 0.5) * (_SLICES / energies.shape[1])
    weights = np.clip(1 - np.abs(places[:, None] - np.arange(_SLICES) - 0.5), 0, None)
    cells = (energies @ (weights / weights.sum(0))) ** 0.25
    return _normalised(cells.reshape(-1).astype(np.float32), _FLAT_SOUND * float(cells.mean()))


def _means(grey: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return the means of equal parts of an axis."""
    edges = np.linspace(0, grey.shape[axis], _SIDE + 1).astype(int)
    shape = [1] * grey.ndim
    shape[axis] = _SIDE
    sums = np.add.reduceat(grey, edges[:-1], axis=axis, dtype=np.float32)
    return np.asarray(sums / np.diff(edges).reshape(shape).astype(np.float32))


def _normalised(cells: NDArray[np.float32], least: float) -> NDArray[np.float32] | None:
    """Subtract the mean and divide by the length; None if the cells vary by less than `least`."""
    centred = cells - cells.mean(dtype=np.float64)
    spread = float(np.sqrt(np.mean(np.square(centred))))
    if not spread > least:
        return None
    # Rounded to half precision, as in files, so that measured and stored fingerprints are equal.
    return (centred / (spread * math.sqrt(len(cells)))).astype(np.float16).astype(np.float32)
