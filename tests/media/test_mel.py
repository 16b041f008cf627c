from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.errors import InputError
from selavi_ref.media import log_mel, mel_statistics
from tests.support.refusal import refused

psf = pytest.importorskip("python_speech_features")


def reference(samples: np.ndarray, rate: int, n_filters: int) -> np.ndarray:
    scaled = samples.astype(np.float64) * 32768
    return psf.logfbank(scaled, rate, winlen=0.02, winstep=0.01, nfilt=n_filters, nfft=1024, preemph=0.97).T


@pytest.mark.parametrize("rate", [16000, 22050, 24000, 48000])
@pytest.mark.parametrize("n_filters", [40, 257])
def test_equal_to_python_speech_features(rate: int, n_filters: int) -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.1, rate).astype(np.float32)
    samples[rate // 3 : rate // 2] = 0
    samples[rate // 2 :] *= 1e-4
    np.testing.assert_allclose(
        log_mel(samples, rate, n_filters=n_filters), reference(samples, rate, n_filters), atol=1e-4
    )


def kinds_of_sound(rate: int) -> dict[str, np.ndarray]:
    t, rng = np.arange(rate) / rate, np.random.default_rng(1)
    fading = rng.normal(0, 0.2, rate) * 10 ** (-9 * t)  # down to far below what 16 bits hold
    fading[rate // 4 : rate // 3] = 0
    impulse = np.zeros(rate)
    impulse[rate // 2] = 1
    found = {
        "a low tone": 0.5 * np.sin(2 * np.pi * 50 * t),
        "a tone with nulls at other bins": 0.9 * np.sin(2 * np.pi * 750 * t),
        "a tone near half the rate": 1e-3 * np.cos(2 * np.pi * (rate / 2 - 100) * t),
        "two tones, one 100 dB quieter": np.sin(2 * np.pi * 441.3 * t) + 1e-5 * np.sin(2 * np.pi * 9321.7 * t),
        "a sweep": np.sin(np.pi * rate / 2 * t**2),
        "a clipped square wave": np.clip(3 * np.sign(np.sin(2 * np.pi * 220 * t)), -1, 1),
        "an impulse": impulse,
        "a constant": np.full(rate, 0.25),
        "noise at full scale": rng.uniform(-1, 1, rate),
        "silence and quiet parts": fading,
        "noise of the last bit": rng.integers(-1, 2, rate) / 32768,
    }
    return {name: samples.astype(np.float32) for name, samples in found.items()}


@pytest.mark.parametrize("rate", [24000, 48000])
@pytest.mark.parametrize("n_filters", [40, 257])
@pytest.mark.parametrize("name", kinds_of_sound(100))
def test_any_kind_of_sound_is_within_a_ten_thousandth(name: str, n_filters: int, rate: int) -> None:
    samples = kinds_of_sound(rate)[name]
    wanted = reference(samples, rate, n_filters)
    np.testing.assert_allclose(log_mel(samples, rate, n_filters=n_filters), wanted, rtol=0, atol=1e-4)


def test_any_type_of_number_and_any_step_in_memory_is_taken() -> None:
    samples = np.random.default_rng(0).integers(-100, 100, (2, 4000))
    wanted = log_mel(samples / 128, 16000, n_filters=40)
    np.testing.assert_array_equal(log_mel((samples / 128).astype(np.float16), 16000, n_filters=40), wanted)
    np.testing.assert_array_equal(log_mel((samples / 128).tolist(), 16000, n_filters=40), wanted)
    np.testing.assert_array_equal(log_mel(np.asfortranarray(samples / 128), 16000, n_filters=40), wanted)
    whole = log_mel(samples, 16000, n_filters=40)
    np.testing.assert_array_equal(log_mel(samples.astype(np.int16), 16000, n_filters=40), whole)
    np.testing.assert_allclose(whole, wanted + 2 * np.log(128), atol=1e-5)


@pytest.mark.parametrize("rate", [24000, 48000])
def test_minutes_of_sound_are_their_seconds(rate: int) -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.1, 65 * rate + 7).astype(np.float32)
    together = log_mel(samples, rate, n_filters=40)
    np.testing.assert_allclose(together[:, -600:], reference(samples, rate, 40)[:, -600:], atol=1e-4)
    begin = 31 * rate  # only its first sample knows the one before
    np.testing.assert_array_equal(
        log_mel(samples[begin : begin + rate], rate, n_filters=40)[:, 1:], together[:, 3101:3199]
    )


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 3000), rate=st.sampled_from([8000, 11025, 24000]), seed=st.integers(0, 99))
def test_lengths_and_padding_follow_python_speech_features(n: int, rate: int, seed: int) -> None:
    samples = np.random.default_rng(seed).normal(0, 0.3, n)
    np.testing.assert_allclose(log_mel(samples, rate, n_filters=40), reference(samples, rate, 40), atol=1e-4)


def test_a_second_gives_99_windows_of_257_bands() -> None:
    for rate in (24000, 48000):
        energies = log_mel(np.zeros(rate, np.float32), rate)
        assert energies.shape == (257, 99)
        assert energies.dtype == np.float32
        np.testing.assert_allclose(energies, np.log(np.finfo(float).eps), rtol=1e-6)


def test_a_batch_is_its_sounds() -> None:
    sounds = np.random.default_rng(0).normal(0, 0.1, (2, 3, 5000)).astype(np.float32)
    together = log_mel(sounds, 16000, n_filters=64)
    assert together.shape[:3] == (2, 3, 64)
    np.testing.assert_array_equal(together[1, 2], log_mel(sounds[1, 2], 16000, n_filters=64))


def test_a_batch_of_none_has_the_shape_of_any() -> None:
    for shape in ((0,), (0, 3), (3, 0)):
        energies = log_mel(np.empty((*shape, 24000), np.float32), 24000)
        assert energies.shape == (*shape, 257, 99)
        assert energies.dtype == np.float32


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 4000),
    window=st.sampled_from([0.001, 0.02, 0.3]),
    step=st.sampled_from([0.001, 0.01, 0.07]),
    n_fft=st.sampled_from([64, 255, 1024]),
    n_filters=st.integers(1, 60),
    preemphasis=st.sampled_from([0.0, 0.5, 0.97]),
)
def test_any_settings_follow_python_speech_features(
    n: int, window: float, step: float, n_fft: int, n_filters: int, preemphasis: float
) -> None:
    samples = np.random.default_rng(n).normal(0, 0.1, n)
    wanted = psf.logfbank(
        samples * 32768, 8000, winlen=window, winstep=step, nfilt=n_filters, nfft=n_fft, preemph=preemphasis
    )
    energies = log_mel(
        samples, 8000, n_filters=n_filters, window=window, step=step, n_fft=n_fft, preemphasis=preemphasis
    )
    np.testing.assert_allclose(energies, wanted.T, atol=1e-4)


def test_threads_and_settings_do_not_disturb_each_other() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 30000)
    jobs = [(rate, m, n_fft) for rate in (24000, 16000, 48000) for m in (40, 64) for n_fft in (1024, 2048)] * 4
    alone = [log_mel(samples * k, rate, n_filters=m, n_fft=n) for k, (rate, m, n) in enumerate(jobs)]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(
            lambda k, job: log_mel(samples * k, job[0], n_filters=job[1], n_fft=job[2]),
            *zip(*enumerate(jobs), strict=True),
        )
        for ours, wanted in zip(together, alone, strict=True):
            np.testing.assert_array_equal(ours, wanted)


def test_what_was_returned_stays_as_it_is() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 24000)
    kept = log_mel(samples, 24000)
    copy = kept.copy()
    log_mel(samples[::-1], 24000)
    np.testing.assert_array_equal(kept, copy)


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, selavi_ref.media.mel; print([m for m in ('scipy', 'numba', 'av', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_no_samples_and_impossible_settings_are_input_errors() -> None:
    with refused(option="samples"):
        log_mel(np.zeros((3, 0)), 16000)
    with pytest.raises(InputError):
        log_mel(np.zeros(100), 16000, window=0)


def test_statistics_of_sounds_are_those_of_plain_lines():
    mel = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    for clip, found in zip(mel, mel_statistics(mel), strict=True):
        steps = [abs(clip[:, t + 1] - clip[:, t]) for t in range(6)]
        plain = np.concatenate([clip.mean(1), clip.std(1), np.mean(steps, 0)])
        np.testing.assert_allclose(found, plain, atol=1e-6)
    assert mel_statistics(mel[:, :, :1]).shape == (3, 15)
