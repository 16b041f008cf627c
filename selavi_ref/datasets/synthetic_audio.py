"""Sounds of the synthetic data set, one synthesizer for each kind of object."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from selavi_ref.datasets.synthetic_video import Beat

Wave = NDArray[np.float64]

_OCTAVES = 1.5  # range over which the pitch of every kind varies
_LOUDNESS = (-36.0, -16.0)  # root mean square of the object's sound, decibels relative to full scale
_BACKGROUND = (-26.0, -6.0)  # root mean square of the background noise, decibels relative to the object's sound


def synthesize(
    kind: str, seconds: float, sample_rate: int, beat: Beat, rng: np.random.Generator
) -> NDArray[np.float32]:
    """
    Return the audio signal of a video of a kind.

    Parameters
    ----------
    kind
        A key of `SYNTHESIZERS`.
    seconds
        Length.
    sample_rate
        Samples per second.
    beat
        The beats of the video.
    rng
        Draws all that is independent of the kind: pitch, loudness, level and colour of the background noise.

    Returns
    -------
    NDArray[np.float32]
        Mono, -1..1, shape (seconds * sample_rate,).
    """
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    pitch = 2.0 ** rng.uniform(-_OCTAVES / 2, _OCTAVES / 2)
    wave = SYNTHESIZERS[kind](time, beat, pitch, rng)
    wave *= 10 ** (rng.uniform(*_LOUDNESS) / 20) / _rms(wave)
    noise = _tilted_noise(len(time), rng.uniform(-1.2, 0.6), rng)
    wave += noise * (_rms(wave) * 10 ** (rng.uniform(*_BACKGROUND) / 20) / _rms(noise))
    return (wave / max(1.0, np.abs(wave).max() / 0.98)).astype(np.float32)


def _ball(time: Wave, beat: Beat, pitch: float, rng: np.random.Generator) -> Wave:
    """Make a thud at each beat: a tone that falls by two octaves while it dies away."""
    since = _since_beat(time, beat)
    cycles = 160 * pitch * (since + 3 * 0.03 * (1 - np.exp(-since / 0.03)))
    return np.asarray(np.sin(2 * np.pi * cycles) * np.exp(-since / 0.06))


def _bell(time: Wave, beat: Beat, pitch: float, rng: np.random.Generator) -> Wave:
    """Make a strike at each beat: inharmonic partials, the higher the sooner gone."""
    since = _since_beat(time, beat)
    wave = np.zeros(len(time))
    for ratio, level, decay in ((1.0, 1.0, 0.2), (2.0, 0.8, 0.15), (2.4, 0.7, 0.13), (3.0, 0.6, 0.1), (4.5, 0.5, 0.08)):
        wave += level * np.exp(-since / decay) * np.sin(2 * np.pi * 480 * pitch * ratio * since)
    return wave


def _bird(time: Wave, beat: Beat, pitch: float, rng: np.random.Generator) -> Wave:
    """Make two chirps a beat: tones that rise by an octave in a tenth of a second."""
    since = (beat.phase(time) * 2 % 1.0) * beat.period / 2
    length = 0.09
    cycles = 1500 * pitch * (since + since**2 / (2 * length))
    return np.asarray(np.sin(2 * np.pi * cycles) * np.sin(np.pi * np.clip(since / length, 0, 1)) ** 2)


def _clock(time: Wave, beat: Beat, pitch: float, rng: np.random.Generator) -> Wave:
    """Make a tick at each beat: a click of a few milliseconds with all frequencies, high ones above all."""
    since = _since_beat(time, beat)
    click = rng.standard_normal(len(time)) * np.exp(-since / 0.004)
    ring = np.sin(2 * np.pi * 2600 * pitch * since) * np.exp(-since / 0.008)
    return np.asarray(click + ring)


def _windmill(time: Wave, beat: Beat, pitch: float, rng: np.random.Generator) -> Wave:
    """Make a hum with all harmonics that flutters four times a beat."""
    wave = np.zeros(len(time))
    for harmonic in range(1, 16):
        wave += np.sin(2 * np.pi * (110 * pitch * harmonic * time + rng.random())) / harmonic**0.7
    return np.asarray(wave * (0.55 + 0.45 * np.cos(2 * np.pi * 4 * beat.phase(time))))


def _lamp(time: Wave, beat: Beat, pitch: float, rng: np.random.Generator) -> Wave:
    """Make a beep that warbles between two pitches, a hollow square wave, for the first half of every beat."""
    hertz = 560 * pitch * np.where(12 * time % 1.0 < 0.5, 1.0, 1.3)
    cycles = np.cumsum(hertz) * (time[1] - time[0])
    wave = sum(np.sin(2 * np.pi * odd * cycles) / odd**0.6 for odd in (1, 3, 5, 7, 9))
    phase = beat.phase(time) % 1.0 * beat.period
    gate = np.clip(np.minimum(phase, beat.period / 2 - phase) / 0.005, 0, 1)
    return np.asarray(wave * gate)


def _rain(time: Wave, beat: Beat, pitch: float, rng: np.random.Generator) -> Wave:
    """Make drops at random moments, about thirty a second: each a short ping of its own pitch."""
    step = time[1] - time[0]
    wave = np.zeros(len(time))
    ping = np.arange(round(0.03 / step)) * step
    for start in rng.integers(0, len(time) - len(ping), max(1, round(30 * len(time) * step))):
        hertz = 1800 * pitch * 2 ** rng.uniform(-1, 1)
        drop = np.sin(2 * np.pi * hertz * ping * (1 + 4 * ping)) * np.exp(-ping / 0.006)
        wave[start : start + len(ping)] += rng.uniform(0.3, 1.0) * drop
    return wave


def _train(time: Wave, beat: Beat, pitch: float, rng: np.random.Generator) -> Wave:
    """Make a rumble, and two clacks of noise shortly one after the other at each beat."""
    noise = rng.standard_normal(len(time))
    rumble = _band(noise, 250 * pitch, time)
    clack = _band(rng.standard_normal(len(time)), 1100 * pitch, time)
    since = _since_beat(time, beat)
    second = np.where(since > 0.1, since - 0.1, np.inf)
    hits = np.exp(-since / 0.025) + 0.8 * np.exp(-second / 0.025)
    return np.asarray(rumble / _rms(rumble) * 0.5 + clack / _rms(clack) * hits)


SYNTHESIZERS: dict[str, Callable[[Wave, Beat, float, np.random.Generator], Wave]] = {
    "ball": _ball,
    "bell": _bell,
    "bird": _bird,
    "clock": _clock,
    "windmill": _windmill,
    "lamp": _lamp,
    "rain": _rain,
    "train": _train,
}


def _since_beat(time: Wave, beat: Beat) -> Wave:
    """Return the seconds since the last beat."""
    return beat.phase(time) % 1.0 * beat.period


def _rms(wave: Wave) -> float:
    return float(np.sqrt(np.mean(wave**2)) + 1e-12)


def _tilted_noise(n: int, slope: float, rng: np.random.Generator) -> Wave:
    """Return noise whose amplitude grows with frequency to the power `slope`: 0 is white, -1 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum *= np.maximum(np.arange(len(spectrum)), len(spectrum) / 100) ** slope
    return np.fft.irfft(spectrum, n)


def _band(noise: Wave, centre: float, time: Wave) -> Wave:
    """Keep the octave around a frequency, hertz."""
    spectrum = np.fft.rfft(noise)
    hertz = np.fft.rfftfreq(len(noise), time[1] - time[0])
    spectrum *= np.exp(-0.5 * (np.log2(np.maximum(hertz, 1.0) / centre) / 0.5) ** 2)
    return np.fft.irfft(spectrum, len(noise))
