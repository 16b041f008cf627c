"""Mono samples of a time interval at a given rate, from decoded audio frames."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

PREROLL = 0.1  # seconds decoded before the interval: codecs need them (overlap, bit reservoir)
_RATES = range(1000, 768001)  # samples per second; others are damage
_SLACK = 0.02  # seconds by which a frame may start before or after the end of the last one and still be contiguous
_FORMATS: dict[str, tuple[Any, float]] = {
    "u8": (np.uint8, 2.0**-7),
    "s16": (np.int16, 2.0**-15),
    "s32": (np.int32, 2.0**-31),
    "s64": (np.int64, 2.0**-63),
    "flt": (np.float32, 1.0),
    "dbl": (np.float64, 1.0),
}
_ZEROS, _KAISER, _CUTOFF = 24, 8.0, 0.93  # of the resampling filter: half width in samples, window, pass band
_OUTPUTS = 64  # samples that one row of the resampling product makes, at least: enough for a fast product
_LARGEST_KERNEL = 1 << 20
_SERIAL_PRODUCT = 1 << 18  # multiplications


class _Chunk(NamedTuple):
    time: float  # seconds
    samples: NDArray[np.float32]


class AudioTrack:
    """
    Receives audio frames in the order of their times, and returns any segment of them.

    Parameters
    ----------
    start, end
        Time interval that segments will lie in, seconds; math.inf for the end of the track.
    sample_rate
        Samples per second of the segments.

    Attributes
    ----------
    end
        End of the last frame received, seconds; NaN without one.
    decodes_all
        Whether all packets are decoded, also those before the interval. FFmpeg 9 drops the first samples that it
        decodes in a file whose beginning was cut off by an edit list, whichever they are.
    """

    def __init__(self, start: float, end: float, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.first, self.last = start - PREROLL, end + 0.01
        self.end = math.nan
        self.decodes_all = False
        self.rate = 0  # of the source, known with the first frame
        self._chunks: list[_Chunk] = []
        self._runs: list[_Chunk] | None = None  # of these chunks, once they are needed

    @property
    def done(self) -> bool:
        """Whether all frames needed have been received."""
        return self.end >= self.last

    @property
    def begin(self) -> float:
        """Start of the first frame received, seconds; NaN without one."""
        return self._chunks[0].time if self._chunks else math.nan

    def needs(self, packet_end: float) -> bool:
        """Tell whether a packet that ends at `packet_end` (seconds) must be decoded."""
        return not self.done and (self.decodes_all or not packet_end < self.first)

    def push(self, time: float, frame: Any) -> None:
        """Receive the next frame, which starts at `time` (seconds); NaN means at the end of the last one."""
        if frame.sample_rate not in _RATES:
            return
        samples = mono(frame)
        self.rate = self.rate or frame.sample_rate
        if frame.sample_rate != self.rate:  # a broadcast that changes its rate: rare, and good enough
            n = round(len(samples) * self.rate / frame.sample_rate)
            samples = np.interp(np.arange(n) * frame.sample_rate / self.rate, np.arange(len(samples)), samples)
            samples = samples.astype(np.float32)
        if math.isnan(time):
            time = 0.0 if math.isnan(self.end) else self.end
        if len(samples):
            self.end = time + len(samples) / self.rate
            if not self.end < self.first:
                self._chunks.append(_Chunk(time, samples))
                self._runs = None

    def segment(self, start: float, count: int) -> NDArray[np.float32]:
        """Return `count` samples from `start` (seconds) on; zeros where there is no audio."""
        if not self._chunks or count == 0:
            return np.zeros(count, np.float32)
        # Resampling starts where a source sample and an output sample coincide, so that any two segments of one file
        # agree where they overlap.
        common = math.gcd(self.rate, self.sample_rate)
        source_step, wanted_step = self.rate // common, self.sample_rate // common
        margin = math.ceil(_ZEROS * max(1.0, self.rate / self.sample_rate)) + 1
        first = round(start * self.sample_rate)
        step = first // wanted_step - math.ceil(margin / source_step)
        skip = first - step * wanted_step
        length = math.ceil((skip + count) * self.rate / self.sample_rate) + margin
        source = self._samples_from(step * source_step, length)
        return resample(source, self.rate, self.sample_rate)[skip : skip + count]

    def _samples_from(self, first: int, length: int) -> NDArray[np.float32]:
        """Return `length` samples at the source's rate from sample number `first` on, counted from time 0."""
        out = np.zeros(length, np.float32)
        if self._runs is None:
            self._runs = self._contiguous_runs()
        for time, samples in self._runs:
            begin = round(time * self.rate) - first
            source = samples[max(0, -begin) : max(0, length - begin)]
            begin = max(0, begin)
            out[begin : begin + len(source)] = source
        return out

    def _contiguous_runs(self) -> list[_Chunk]:
        """Join contiguous frames to runs; the median of its frames' times sets the time of a run."""
        runs: list[list[_Chunk]] = []
        expected = math.nan
        for chunk in self._chunks:
            if abs(chunk.time - expected) <= _SLACK:
                runs[-1].append(chunk)
            else:
                runs.append([chunk])
                expected = chunk.time
            expected += len(chunk.samples) / self.rate
        return [self._join(run) for run in runs]

    def _join(self, run: list[_Chunk]) -> _Chunk:
        lengths = np.array([len(chunk.samples) for chunk in run])
        starts = [chunk.time for chunk in run] - (np.cumsum(lengths) - lengths) / self.rate
        return _Chunk(float(np.median(starts)), np.concatenate([chunk.samples for chunk in run]))


def mono(frame: Any) -> NDArray[np.float32]:
    """Return the mean over the channels of a decoded frame, scaled to -1..1, shape (n,), float32."""
    dtype, scale = _FORMATS[frame.format.name.removesuffix("p")]
    planes = frame.planes
    channels = frame.layout.nb_channels
    if frame.format.is_planar or channels == 1:
        total = np.frombuffer(planes[0], dtype, frame.samples).astype(np.float32)
        for plane in planes[1:channels]:
            total += np.frombuffer(plane, dtype, frame.samples)
    else:
        packed = np.frombuffer(planes[0], dtype, frame.samples * channels)
        total = packed.reshape(-1, channels).sum(axis=1, dtype=np.float32)
    if scale != channels:
        total *= scale / channels
    return total - 1.0 if dtype is np.uint8 else total


def resample(samples: NDArray[np.float32], rate: int, new_rate: int) -> NDArray[np.float32]:
    """
    Resample a signal to another sample rate; the time of the first sample stays the same.

    By a windowed sinc, flat up to 0.85 of the lower of both Nyquist frequencies and 80 dB down a little above it,
    applied as a matrix product to overlapping blocks of the signal, which counts as zero outside of its ends.

    Parameters
    ----------
    samples
        float32, shape (n,).
    rate, new_rate
        Samples per second, whole numbers.

    Returns
    -------
    NDArray[np.float32]
        Shape (ceil(n * new_rate / rate),).
    """
    if rate == new_rate:
        return samples
    common = math.gcd(rate, new_rate)
    up, down = new_rate // common, rate // common
    count = math.ceil(len(samples) * up / down)
    if up * down > _LARGEST_KERNEL:
        return _interpolated(samples, count, down / up)
    kernel, reach, hop, outputs = _sinc_kernel(up, down)
    # Products too small for BLAS to split over threads, which would wait for each other on a busy machine.
    batch = max(1, _SERIAL_PRODUCT // kernel.size)
    rows = math.ceil(count / outputs / batch) * batch
    padded = np.zeros((rows - 1) * hop + len(kernel), np.float32)
    used = min(len(samples), len(padded) - reach)
    padded[reach : reach + used] = samples[:used]
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel))[::hop]
    return (windows.reshape(-1, batch, len(kernel)) @ kernel).reshape(-1)[:count]


@lru_cache(maxsize=8)
def _sinc_kernel(up: int, down: int) -> tuple[NDArray[np.float32], int, int, int]:
    """
    Return the matrix that maps a block of source samples to `outputs` samples, and the layout of the blocks.

    Returns
    -------
    tuple
        Kernel (reach + hop + reach, outputs); `reach`, source samples used to either side; `hop`, source samples from
        one block to the next; `outputs`, samples computed from each.
    """
    repeats = math.ceil(_OUTPUTS / up)
    reach, hop, outputs = math.ceil(_ZEROS * max(1.0, down / up)), down * repeats, up * repeats
    distance = np.arange(-reach, hop + reach)[:, None] - np.arange(outputs) * (down / up)
    kernel = _windowed_sinc(distance, reach, min(1.0, up / down))
    return kernel.astype(np.float32), reach, hop, outputs


def _windowed_sinc(distance: NDArray[np.float64], reach: int, band: float) -> NDArray[np.float64]:
    """Return weights of source samples at these distances; columns sum to 1; `band`: fraction of the band kept."""
    kaiser = np.i0(_KAISER * np.sqrt(np.clip(1.0 - (distance / reach) ** 2, 0.0, None)))
    weights = np.where(np.abs(distance) <= reach, kaiser * np.sinc(_CUTOFF * band * distance), 0.0)
    return np.asarray(weights / weights.sum(axis=0))


def _interpolated(samples: NDArray[np.float32], count: int, step: float) -> NDArray[np.float32]:
    """Resample between rates without a useful common divisor, whose matrix would be huge: output by output."""
    reach = math.ceil(_ZEROS * max(1.0, step))
    padded = np.pad(samples, (reach, reach + 2))
    out = np.empty(count, np.float32)
    for first in range(0, count, block := 4096):
        position = np.arange(first, min(count, first + block)) * step
        index = np.floor(position).astype(np.int64) + np.arange(-reach + 1, reach + 1)[:, None]
        weights = _windowed_sinc(index - position, reach, min(1.0, 1.0 / step))
        out[first : first + block] = (padded[np.minimum(index + reach, len(padded) - 1)] * weights).sum(axis=0)
    return out
