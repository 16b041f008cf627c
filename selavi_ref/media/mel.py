"""Log mel energies of a sound, by the conventions of the package ``python_speech_features``."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.errors import InputError

_EPS = np.finfo(np.float64).eps  # what an empty filter holds before the logarithm
_TINY = np.finfo(np.float32).tiny  # what no sound comes near: keeps the logarithm finite in float32
_FULL_SCALE = 32768.0  # samples are taken as 16-bit integers, not as -1..1
_BLOCK = 50  # windows transformed at once: more of them only wait for memory


def log_mel(
    samples: ArrayLike,
    sample_rate: float,
    *,
    n_filters: int = 257,
    window: float = 0.02,
    step: float = 0.01,
    n_fft: int = 1024,
    preemphasis: float = 0.97,
) -> NDArray[np.float32]:
    """
    Log mel filterbank energies of one or of many sounds.

    Equal to ``python_speech_features.logfbank`` of the samples times 32,768 (transposed): rectangular window, power
    spectrum divided by `n_fft`, triangular filters between 0 Hz and half the sample rate, natural logarithm, zeros
    replaced by the machine epsilon of float64 (so that a filter without a bin holds -36.04 everywhere).

    Parameters
    ----------
    samples
        Real numbers in -1..1, shape (..., n) with n >= 1; leading axes are a batch.
    sample_rate
        Samples per second.
    n_filters
        Mel bands M.
    window, step
        Length of a window and distance of two windows, seconds; rounded half up to whole samples.
    n_fft
        Length of the Fourier transform; a longer window is cut off at it, a shorter one padded with zeros.
    preemphasis
        Each sample loses this times its predecessor.

    Returns
    -------
    NDArray[np.float32]
        Shape (..., M, T), with T = 1 + ceil((n - window) / step) in samples (at least 1; the end is padded with
        zeros): (257, 99) for one second with the settings of SeLaVi (24 or 48 kHz).

    Raises
    ------
    InputError
        If there is no sample, or a setting is not positive.
    """
    sounds = np.asarray(samples)
    length, hop = math.floor(window * sample_rate + 0.5), math.floor(step * sample_rate + 0.5)
    if sounds.ndim == 0 or sounds.shape[-1] == 0:
        raise InputError(f"log_mel: samples of shape {sounds.shape} hold no sample; expected (..., n) with n >= 1")
    if min(length, hop, n_filters, n_fft) < 1:
        raise InputError(
            f"log_mel: window {window} s, step {step} s, {n_filters} filters and n_fft {n_fft} "
            f"must each be at least 1 (sample) at {sample_rate} Hz"
        )
    batch = sounds.reshape(-1, sounds.shape[-1])
    n_frames = 1 + max(0, math.ceil((batch.shape[1] - length) / hop))
    bank = _mel_filters(n_filters, n_fft, float(sample_rate))
    out = np.empty((len(batch), n_filters, n_frames), np.float32)
    for sound, rows in zip(batch, out, strict=True):
        frames = _frames(sound, n_frames, length, hop, preemphasis)
        for first in range(0, n_frames, _BLOCK):
            rows[:, first : first + _BLOCK] = _log_energies(frames[first : first + _BLOCK], n_fft, bank)
    return out.reshape(*sounds.shape[:-1], n_filters, n_frames)


def _frames(sound: NDArray[Any], n_frames: int, length: int, hop: int, preemphasis: float) -> NDArray[np.float64]:
    """Overlapping windows of the pre-emphasised sound, padded with zeros at its end: a view of shape (T, length)."""
    padded = np.zeros(max((n_frames - 1) * hop + length, len(sound)))
    np.multiply(sound, _FULL_SCALE, out=padded[: len(sound)])
    padded[1 : len(sound)] -= preemphasis * padded[: len(sound) - 1]
    stride = padded.strides[0]
    return np.lib.stride_tricks.as_strided(padded, (n_frames, length), (hop * stride, stride), writeable=False)


def _log_energies(frames: NDArray[np.float64], n_fft: int, bank: Any) -> NDArray[np.float32]:
    """Logarithm of the filters' energies, shape (M, T), of windows (T, length); bins differ by 10^10, hence float64."""
    from scipy import fft

    spectrum = fft.rfft(frames, n_fft, axis=1).T
    power = np.empty(spectrum.shape)  # in the order of the bins, as the filters need it
    np.square(spectrum.real, out=power)
    power += np.square(spectrum.imag)
    energies: NDArray[np.float64] = bank @ power
    energies[energies == 0] = _EPS
    logs = np.maximum(energies, _TINY).astype(np.float32)
    return np.log(logs, out=logs)


@lru_cache(maxsize=16)
def _mel_filters(n_filters: int, n_fft: int, sample_rate: float) -> Any:
    """Triangular filters divided by `n_fft`, sparse (M, n_fft // 2 + 1): a bin lies in at most two."""
    from scipy import sparse

    top = 2595.0 * np.log10(1.0 + sample_rate / 2 / 700.0)
    hertz = 700.0 * (10.0 ** (np.linspace(0.0, top, n_filters + 2) / 2595.0) - 1.0)
    edges = np.floor((n_fft + 1) * hertz / sample_rate)
    bins = np.arange(n_fft // 2 + 1)
    left, peak, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = np.where((bins >= left) & (bins < peak), (bins - left) / np.maximum(peak - left, 1), 0.0)
    falling = np.where((bins >= peak) & (bins < right), (right - bins) / np.maximum(right - peak, 1), 0.0)
    return sparse.csr_array((rising + falling) / n_fft)
