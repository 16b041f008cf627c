"""Scaling of frames with and without antialiasing: the published program interpolates without."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selavi_ref.media import SquareCrops, read_clip
from selavi_ref.media.clip import read_video
from selavi_ref.media.frames import scale_bilinear
from tests.support.media_files import write_video


def plain_bilinear(frame, height, width):
    """The plainest version: one output pixel after the other, from four input pixels, in float64."""
    h, w, _ = frame.shape
    scaled = np.empty((height, width, 3))
    for y in range(height):
        for x in range(width):
            down, across = max((y + 0.5) * h / height - 0.5, 0), max((x + 0.5) * w / width - 0.5, 0)
            top, left = min(int(down), h - 1), min(int(across), w - 1)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            a, b = down - top, across - left
            above = (1 - b) * frame[top, left] + b * frame[top, right]
            below = (1 - b) * frame[bottom, left] + b * frame[bottom, right]
            scaled[y, x] = (1 - a) * above + a * below
    return scaled


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6))
def test_it_interpolates_between_four_pixels(h, w, height, width, seed):
    frame = np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)
    assert np.abs(scale_bilinear(frame, height, width) - plain_bilinear(frame, height, width)).max() <= 0.51


def test_it_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    frame = np.random.default_rng(0).integers(0, 256, (256, 340, 3)).astype(np.uint8)
    planes = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    theirs = torch.nn.functional.interpolate(planes, (112, 149), mode="bilinear")[0].permute(1, 2, 0).numpy()
    assert np.abs(scale_bilinear(frame, 112, 149) - theirs).max() <= 0.51


def energy(frames):
    """Mean squared difference of neighbouring pixels, where levels are from 0 to 1."""
    return np.mean(np.diff(frames / 255.0, axis=-2) ** 2)


@pytest.mark.parametrize(("width", "height"), [(340, 256), (1280, 720)])
def test_fine_detail_is_kept_only_without_antialiasing(tmp_path, width, height):
    noise = np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(np.uint8)
    path = write_video(tmp_path / "noise.mkv", n_frames=2, fps=4, size=(width, height), pictures=noise, codec="ffv1")
    options = {"fps": 4, "frames": 1, "size": 112, "sample_rate": 8000, "want_audio": False}
    smooth, sharp = (read_clip(path, 0.0, antialias=antialias, **options).frames for antialias in (True, False))
    assert smooth.shape == sharp.shape
    assert energy(sharp) > 2 * energy(smooth)
    crops = SquareCrops(112, ((0.0, 0.3),))
    cut = read_clip(path, 0.0, antialias=False, crops=crops, **options).frames
    assert np.array_equal(cut, crops.cut(sharp))
    whole = read_video(path, fps=4, size=112, sample_rate=8000, want_audio=False, antialias=False).frames
    assert np.array_equal(whole[:1], sharp)


@pytest.mark.parametrize("width", [318, 322, 324, 340, 344, 350])
def test_the_last_columns_of_frames_that_need_no_scaling_are_theirs(tmp_path, width):
    frame = np.full((1, 256, width, 3), (200, 50, 20), np.uint8)
    path = write_video(tmp_path / "plain.mkv", n_frames=1, fps=4, size=(width, 256), pictures=frame, codec="ffv1")
    frames = read_clip(path, 0.0, fps=4, frames=1, size=256, sample_rate=8000, want_audio=False).frames
    assert np.abs(frames.astype(int) - frame).max() < 5
