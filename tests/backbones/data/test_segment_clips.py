"""Segments read in order: the same clips as from the decoded file, each part decoded once, in any order of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backbones.data.clips import Crop, StoredClips
from backbones.data.data_source import DataSource, open_clips
from backbones.data.segment_clips import SequentialClips
from backbones.data.settings import ClipSettings
from selavi_ref.datasets import scan
from selavi_ref.errors import MediaError
from tests.support.media_files import index_of, tone, write_video

CLIP = ClipSettings(frames=4, fps=10.0, decode_size=32, size=28, sample_rate=8000, n_filters=20)
CROP = Crop(32, 32)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Segments of a video of 12 s, a short video in between, and a file that is none."""
    root = tmp_path_factory.mktemp("videos")
    long = write_video(root / "long.mp4", n_frames=360, sound=tone(12.0, 440))
    short = write_video(root / "short.mp4", n_frames=60, sound=tone(2.0, 440))
    (root / "bad.mp4").write_text("no video")
    return [*(f"{long}#t={t},{t + 3}" for t in (0, 3)), str(short), f"{root}/bad.mp4", f"{long}#t=6,9", f"{long}#t=9"]


def source_of(paths: list[str]) -> SequentialClips:
    return SequentialClips(paths, CLIP, [3.0, 3.0, 2.0, None, 3.0, 3.0], 2)


@pytest.mark.parametrize("order", [[0, 1, 2, 4, 5], [5, 0, 4]])
def test_clips_are_those_of_the_decoded_segments(paths: list[str], order: list[int]) -> None:
    source, held = source_of(paths), StoredClips.in_memory(paths, CLIP, 1)
    for row in order:
        for start in (0.0, 1.0, 9.0):
            one, other = source.clip(row, start, CROP), held.clip(row, start, CROP)
            assert np.array_equal(one.frames, other.frames)
            assert np.allclose(one.mel, other.mel, atol=1e-3)
        assert source.seconds(row) == held.seconds(row)
    source.close()


def test_no_clip_shows_what_is_outside_of_its_segment(paths: list[str]) -> None:
    source = source_of(paths)
    first = [index_of(frame) for frame in source.clip(1, 0.0, CROP).frames[0]]
    assert first == [0, 3, 6, 9]
    last = [index_of(frame) for frame in source.clip(1, 9.0, CROP).frames[0]]
    assert last == [19, 22, 25, 28], "the last of 90 frames is number 29"
    source.close()


def test_a_file_that_cannot_be_read_has_a_reason(paths: list[str]) -> None:
    source = source_of(paths)
    with pytest.raises(MediaError):
        source.clip(3, 0.0, CROP)
    source.clip(4, 0.0, CROP)
    source.close()


def test_segments_are_read_in_order_where_clips_are(paths: list[str]) -> None:
    manifest = scan(Path(paths[2]).parent, segments=3).usable
    assert isinstance(open_clips(manifest, CLIP, DataSource(1), in_order=True), SequentialClips)
    assert not isinstance(open_clips(manifest, CLIP, DataSource(1)), SequentialClips)
    assert isinstance(open_clips(manifest, CLIP, DataSource(1, memory_gb=1), in_order=True), StoredClips)
