"""Statistics of whole sounds, read from files."""

import numpy as np
import pytest

from selavi_ref.media import read_sound_statistics, sound_statistics
from tests.support.media_files import write_video

RATE = 24_000


@pytest.fixture(scope="module")
def sound():
    """Two seconds of noise, then two of a tone."""
    noise = np.random.default_rng(0).normal(scale=0.1, size=2 * RATE)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    return np.concatenate([noise, tone]).astype(np.float32)


@pytest.fixture(scope="module")
def video(sound, tmp_path_factory):
    """A file of that sound without loss."""
    path = tmp_path_factory.mktemp("sounds") / "a.mkv"
    return write_video(path, n_frames=120, sound=sound, sample_rate=RATE, audio_codec="flac")


def test_they_are_those_of_the_whole_sound(sound, video):
    np.testing.assert_allclose(read_sound_statistics(video)[0], sound_statistics(sound), atol=0.02)


def test_segments_have_those_of_their_part_alone_and_together(sound, video):
    parts = [f"{video}#t={start},{start + 2}" for start in (0, 1, 2)]
    together = read_sound_statistics(video, parts)
    for start, part, found in zip((0, 1, 2), parts, together, strict=True):
        plain = sound_statistics(sound[start * RATE : (start + 2) * RATE])
        np.testing.assert_allclose(found, plain, atol=0.1)
        np.testing.assert_allclose(found, read_sound_statistics(video, [part])[0], atol=0.02)


def test_of_a_long_sound_the_middle_minute_counts(tmp_path):
    sound = np.random.default_rng(0).normal(scale=np.repeat([0.3, 0.05, 0.3], [10 * RATE, 60 * RATE, 20 * RATE]))
    video = write_video(
        tmp_path / "a.mkv", n_frames=0, sound=sound.astype(np.float32), sample_rate=RATE, audio_codec="flac"
    )
    plain = sound_statistics(sound[15 * RATE : 75 * RATE].astype(np.float32))
    assert np.abs(read_sound_statistics(video)[0] - plain).max() < 0.02
    parts = [f"{video}#t=0,70", f"{video}#t=5,85"]
    plain = sound_statistics(sound[5 * RATE : 65 * RATE].astype(np.float32))
    assert np.abs(read_sound_statistics(video, parts)[0] - plain).max() < 0.02


def test_samples_are_changed_before_they_are_measured(sound, video):
    quieter = read_sound_statistics(video, change=lambda number, samples: samples / 4)
    np.testing.assert_allclose(quieter[0], sound_statistics(sound / 4), atol=0.02)


def test_without_sound_and_of_damaged_files_there_are_none(tmp_path):
    assert np.isnan(read_sound_statistics(write_video(tmp_path / "silent.mp4"))).all()
    (tmp_path / "text.mp4").write_text("no video")
    parts = [f"{tmp_path}/text.mp4#t={start},{start + 1}" for start in (0, 1)]
    for names in (None, parts[:1], parts):
        statistics = read_sound_statistics(tmp_path / "text.mp4", names)
        assert np.isnan(statistics).all()
        assert statistics.shape == (len(names or [0]), 384)
