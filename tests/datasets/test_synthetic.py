from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selavi_ref.datasets import KINDS, find_videos, make_collection, scan
from selavi_ref.datasets.synthetic_audio import SYNTHESIZERS
from selavi_ref.datasets.synthetic_video import SCENES, Beat, draw
from selavi_ref.media import read_video
from tests.support.refusal import refused


def test_every_kind_has_a_picture_and_a_sound() -> None:
    assert set(SCENES) == set(SYNTHESIZERS) == set(KINDS)
    assert len(KINDS) == 8


def test_the_collection_is_usable_and_in_class_folders(tmp_path: Path) -> None:
    seen: list[int] = []
    made = make_collection(tmp_path, 17, progress=lambda done, total: seen.append(done))
    assert seen == list(range(1, 18))
    assert made.paths == find_videos(tmp_path).paths
    scanned = scan(tmp_path)
    assert len(scanned.usable) == 17
    assert scanned.classes == made.classes
    info = scanned.entries[0].info
    assert info is not None
    assert (info.width, info.height, info.fps, info.sample_rate) == (64, 64, 12.5, 24000)
    assert info.video_seconds == pytest.approx(2.0)
    assert info.audio_seconds == pytest.approx(2.0, abs=0.05)


def test_a_seed_gives_the_same_videos_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_collection(tmp_path / name, 8, seed=seed, workers=2 if name == "b" else 1)
    for kind in KINDS:
        a, b, c = (
            read_video(tmp_path / name / kind / f"{kind}_0000.mp4", fps=12.5, size=64, sample_rate=24000)
            for name in "abc"
        )
        np.testing.assert_array_equal(a.frames, b.frames)
        np.testing.assert_array_equal(a.samples, b.samples)
        assert np.abs(a.frames.astype(int) - c.frames).mean() > 5


@pytest.mark.parametrize("kind", KINDS)
def test_something_moves_in_every_second(kind: str) -> None:
    pictures = draw(kind, np.arange(25) / 12.5, 32, Beat(0.45, 0.2), np.random.default_rng(3)).astype(int)
    assert pictures.shape == (25, 32, 32, 3)
    assert all(np.abs(np.diff(pictures[t : t + 12], axis=0)).max() > 40 for t in (0, 6, 12))


def test_a_thud_is_heard_when_the_ball_touches_the_floor(tmp_path: Path) -> None:
    make_collection(tmp_path, 1, seed=4, fps=50.0)
    video = read_video(tmp_path / "ball" / "ball_0000.mp4", fps=50, size=64, sample_rate=24000)
    rough = np.abs(video.frames.astype(float) - np.median(video.frames, axis=0)).sum(axis=(2, 3))
    lowest = (rough * np.arange(64)).sum(axis=1) / rough.sum(axis=1)  # mean row of what moves: large near the floor
    level = np.abs(video.samples[: 100 * 480]).reshape(100, 480).max(axis=1)
    assert np.corrcoef(lowest, level)[0, 1] > 0.3


def test_impossible_settings_are_input_errors(tmp_path: Path) -> None:
    for settings in ({"n_videos": 0}, {"size": 33}, {"seconds": 0}):
        with refused():
            make_collection(tmp_path, **settings)
