"""Still pictures as videos of one frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selavi_ref.errors import MediaError
from selavi_ref.media import SquareCrops, probe, read_clip, read_video

CLIP = {"fps": 4.0, "frames": 3, "size": 32, "sample_rate": 8000}


def picture(path: Path, mode: str = "RGB", turned: bool = False) -> Path:
    """A picture of 96 x 64 whose left half is bright; `turned`: to be shown after a quarter turn."""
    values = np.full((64, 96), 40, np.uint8)
    values[:, :48] = 200
    image = Image.fromarray(values).convert(mode)
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6  # a quarter turn clockwise
    image.save(path, exif=exif, **({"quality": 95} if path.suffix != ".png" else {}))
    return path


@pytest.mark.parametrize(("name", "mode"), [("a.jpg", "RGB"), ("a.jpg", "L"), ("a.png", "RGBA"), ("a.webp", "RGB")])
def test_a_picture_is_a_clip_of_equal_frames_without_sound(tmp_path: Path, name: str, mode: str) -> None:
    path = picture(tmp_path / name, mode)
    info = probe(path)
    assert (info.width, info.height, info.has_video, info.has_audio) == (96, 64, True, False)
    clip = read_clip(path, 5.0, **CLIP)
    assert clip.frames.shape == (3, 32, 48, 3)
    assert clip.samples.size == 0
    assert (clip.frames == clip.frames[0]).all()
    assert abs(float(clip.frames[0, :, :20].mean()) - 200) < 4
    assert abs(float(clip.frames[0, :, -20:].mean()) - 40) < 4
    crops = read_clip(path, 0.0, crops=SquareCrops(32, ((0.5, 0.0), (0.5, 1.0))), **CLIP).frames
    assert crops.shape == (2, 3, 32, 32, 3)
    assert read_video(path, fps=4.0, size=32, sample_rate=8000).frames.shape == (1, 32, 48, 3)


def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.jpg", turned=True)
    assert (probe(path).width, probe(path).height) == (64, 96)
    frames = read_clip(path, 0.0, **CLIP).frames
    assert frames.shape == (3, 48, 32, 3)
    assert frames[0, :20].mean() > 190
    assert frames[0, -20:].mean() < 50


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_damaged_pictures_raise_a_media_error_that_names_them(tmp_path: Path, content: bytes | None) -> None:
    path = picture(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    for read in (probe, lambda file: read_clip(file, 0.0, **CLIP)):
        with pytest.raises(MediaError) as error:
            read(path)
        assert "a.jpg" in str(error.value)
    with pytest.raises(MediaError):
        probe(tmp_path / "missing.png")
