"""Statistics of whole sounds, read from files."""

import numpy as np
import pytest

from selavi_ref.errors import MediaError
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
    np.testing.assert_allclose(read_sound_statistics(video), sound_statistics(sound), atol=0.02)


@pytest.mark.parametrize(("part", "second"), [("#t=0,2", 0), ("#t=2,4", 2)])
def test_segments_have_those_of_their_part(sound, video, part, second):
    plain = sound_statistics(sound[second * RATE : (second + 2) * RATE])
    np.testing.assert_allclose(read_sound_statistics(f"{video}{part}"), plain, atol=0.1)


def test_samples_are_changed_before_they_are_measured(sound, video):
    quieter = read_sound_statistics(video, lambda samples: samples / 4)
    np.testing.assert_allclose(quieter, sound_statistics(sound / 4), atol=0.02)


def test_without_sound_there_are_none(tmp_path):
    assert np.isnan(read_sound_statistics(write_video(tmp_path / "silent.mp4"))).all()
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(MediaError):
        read_sound_statistics(tmp_path / "text.mp4")
