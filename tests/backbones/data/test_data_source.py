"""Videos in memory are decoded once for all steps of a job, unless one of them cannot be decoded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backbones.data.clips import Crop, StoredClips, StreamedClips
from backbones.data.data_source import DataSource, open_clips
from backbones.data.settings import ClipSettings
from selavi_ref.datasets import Manifest, scan
from selavi_ref.errors import MediaError
from tests.support.media_files import tone, write_video

CLIP = ClipSettings(frames=4, fps=10.0, decode_size=32, size=28, sample_rate=8000, n_filters=20)
CROP = Crop(32, 32)


@pytest.fixture
def videos(tmp_path: Path) -> Manifest:
    for number in range(3):
        write_video(tmp_path / f"{number}.mp4", n_frames=40, sound=tone(1.5, 300 + 100 * number))
    return scan(tmp_path)


def test_videos_in_memory_are_decoded_once(videos: Manifest) -> None:
    data_source = DataSource(workers=1, memory_gb=1.0)
    first = open_clips(videos, CLIP, data_source)
    for path in videos.paths:
        Path(path).unlink()
    measured = replace(CLIP, mel_mean=3.0)
    again = open_clips(videos, measured, data_source, modalities=[("video",)] * 3)
    assert isinstance(again, StoredClips)
    assert again.settings == measured
    assert again.modalities(0) == ("video",)
    for row in range(3):
        assert np.array_equal(first.clip(row, 0.5, CROP).frames, again.clip(row, 0.5, CROP).frames)


def test_other_videos_or_another_format_are_decoded_anew(videos: Manifest) -> None:
    data_source = DataSource(workers=1, memory_gb=1.0)
    open_clips(videos, CLIP, data_source)
    larger = open_clips(videos, replace(CLIP, decode_size=40), data_source)
    assert larger.clip(0, 0.0, Crop(40, 40)).frames.shape[2] == 40
    reverse = replace(videos, entries=videos.entries[::-1])
    first, last = (open_clips(each, CLIP, data_source).clip(0, 0.0, CROP) for each in (videos, reverse))
    assert not np.array_equal(first.mel, last.mel)
    without_memory = open_clips(videos, CLIP, DataSource(workers=1))
    assert isinstance(without_memory, StreamedClips)


def test_a_video_that_could_not_be_decoded_is_tried_again(videos: Manifest) -> None:
    data_source = DataSource(workers=1, memory_gb=1.0)
    path = Path(videos.paths[1])
    content = path.read_bytes()
    path.write_bytes(b"no video")
    with pytest.raises(MediaError):
        open_clips(videos, CLIP, data_source).clip(1, 0.0, CROP)
    path.write_bytes(content)
    assert len(open_clips(videos, CLIP, data_source).clip(1, 0.0, CROP).frames)
