"""Log mel filterbank energies of an audio signal, by the conventions of the package ``python_speech_features``."""

from __future__ import annotations

import math
import threading
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.errors import InputError

_EPS = np.finfo(np.float64).eps  # energy of an empty filter before the logarithm
_TINY = np.finfo(np.float32).tiny  # below any real energy: keeps the logarithm finite in float32
_FULL_SCALE = 32768.0  # samples are taken as 16-bit integers, not as -1..1
_BLOCK = 100  # windows transformed at once: a second, so that the cost of each call hardly counts


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
    Return the log mel filterbank energies of one or many signals.

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
    signals = np.asarray(samples)
    length, hop = math.floor(window * sample_rate + 0.5), math.floor(step * sample_rate + 0.5)
    if signals.ndim == 0 or signals.shape[-1] == 0:
        raise InputError(
            f"log_mel: samples of shape {signals.shape} hold no sample; expected (..., n) with n >= 1", option="samples"
        )
    if min(length, hop, n_filters, n_fft) < 1:
        raise InputError(
            f"log_mel: window {window} s, step {step} s, {n_filters} filters and n_fft {n_fft} "
            f"must each be at least 1 (sample) at {sample_rate} Hz"
        )
    batch = signals.reshape(-1, signals.shape[-1])
    n_frames = 1 + max(0, math.ceil((batch.shape[1] - length) / hop))
    bank = _mel_filters(n_filters, n_fft, float(sample_rate))
    _buffers.fit(length, hop, n_fft)
    out = np.empty((len(batch), n_filters, n_frames), np.float32)
    for signal, rows in zip(batch, out, strict=True):
        for first in range(0, n_frames, _BLOCK):
            block = rows[:, first : first + _BLOCK]
            start, n = first * hop, block.shape[1]
            samples = _preemphasise(signal, start, start + (n - 1) * hop + length, preemphasis)
            windows = np.ndarray((n, min(length, n_fft)), buffer=samples, strides=(hop * 8, 8))
            _log_energies(windows, bank, out=block)
    return out.reshape(*signals.shape[:-1], n_filters, n_frames)


class _Buffers(threading.local):
    """Memory for a block of windows, one per thread; reused, as allocation can take longer than the transforms."""

    shape: tuple[int, int, int] | None = None
    samples: NDArray[np.float64]
    windows: NDArray[np.float64]  # (_BLOCK, n_fft), zeros from `length` on
    spectra: NDArray[np.complex128]  # flat

    def fit(self, length: int, hop: int, n_fft: int) -> None:
        if self.shape != (length, hop, n_fft):
            self.samples = np.empty((2, (_BLOCK - 1) * hop + length))
            self.windows = np.zeros((_BLOCK, n_fft))
            self.spectra = np.empty((n_fft // 2 + 2) * _BLOCK, np.complex128)
            self.shape = length, hop, n_fft


_buffers = _Buffers()


def mel_statistics(mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """
    Return the mean, standard deviation and mean absolute change over time of each band of log mel energies.

    Parameters
    ----------
    mel : array
        float32, shape (..., F, T).

    Returns
    -------
    array
        float32, shape (..., 3 F).
    """
    change = np.abs(np.diff(mel, axis=-1)).mean(-1) if mel.shape[-1] > 1 else np.zeros_like(mel[..., 0])
    return np.concatenate([mel.mean(-1), mel.std(-1), change], -1).astype(np.float32)


def _preemphasise(signal: NDArray[Any], start: int, stop: int, preemphasis: float) -> NDArray[np.float64]:
    """Return samples `start` to `stop` of the pre-emphasised signal, zero-padded at its end, in the buffer."""
    chunk = signal[start:stop]
    n = len(chunk)
    samples, lost = _buffers.samples[:, : stop - start]
    samples[:n] = chunk
    samples[n:] = 0
    if n:
        np.multiply(samples[: n - 1], preemphasis, out=lost[1:n])
        lost[0] = preemphasis * float(signal[start - 1]) if start else 0.0
        samples[:n] -= lost[:n]
    return samples


def _log_energies(windows: NDArray[np.float64], bank: Any, out: NDArray[np.float32]) -> None:
    """Write the logarithm of the filters' energies of windows (T, length) to `out` (M, T); bins differ by 10^10."""
    padded = _buffers.windows[: len(windows)]
    padded[:, : windows.shape[1]] = windows
    spectra = _buffers.spectra[: bank.shape[1] * len(windows)].reshape(-1, len(windows))
    np.fft.rfft(padded, axis=1, out=spectra[:-1].T)  # in the order of the bins, as the filters need it
    spectra[-1] = 1
    parts = spectra.view(np.float64)  # real and imaginary parts in turn
    np.square(parts, out=parts)
    energies = bank.dot(parts)
    energies = energies[:, ::2] + energies[:, 1::2]
    logs = energies.astype(np.float32)
    if logs.min() < _TINY:
        energies[energies == 0] = _EPS
        logs = np.maximum(energies, _TINY).astype(np.float32)
    np.log(logs, out=out)


@lru_cache(maxsize=16)
def _mel_filters(n_filters: int, n_fft: int, sample_rate: float) -> Any:
    """
    Triangular filters over the powers of samples in -1..1, sparse (M, n_fft // 2 + 2): a bin lies in at most two.

    The last column is no bin but stands for a constant 1: what a filter without a bin holds.
    """
    from scipy import sparse

    top = 2595.0 * np.log10(1.0 + sample_rate / 2 / 700.0)
    hertz = 700.0 * (10.0 ** (np.linspace(0.0, top, n_filters + 2) / 2595.0) - 1.0)
    edges = np.floor((n_fft + 1) * hertz / sample_rate)
    bins = np.arange(n_fft // 2 + 1)
    left, peak, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = np.where((bins >= left) & (bins < peak), (bins - left) / np.maximum(peak - left, 1), 0.0)
    falling = np.where((bins >= peak) & (bins < right), (right - bins) / np.maximum(right - peak, 1), 0.0)
    weights = (rising + falling) * (_FULL_SCALE**2 / n_fft)
    empty = np.where(weights.any(axis=1), 0.0, _EPS)
    return sparse.csr_array(np.column_stack([weights, empty]))
