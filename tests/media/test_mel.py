from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.errors import InputError
from selavi_ref.media import log_mel

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
    assert log_mel(np.empty((0, 500)), 16000).shape[0] == 0


def test_no_samples_and_impossible_settings_are_input_errors() -> None:
    with pytest.raises(InputError, match="no sample"):
        log_mel(np.zeros((3, 0)), 16000)
    with pytest.raises(InputError, match="window"):
        log_mel(np.zeros(100), 16000, window=0)
