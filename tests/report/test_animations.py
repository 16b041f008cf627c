"""Animated GIF and PNG files show at a time, and in a clip that is cut from it, the pictures of that time."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from selavi_ref.errors import MediaError
from selavi_ref.media import read_clip, read_video
from selavi_ref.report.cuts import cut

ENDINGS = ["gif", "apng"]
HEIGHT, WIDTH = 32, 48
MILLISECONDS = [100, 300, 50, 50, 200, 100, 700, 100, 100, 300] * 3


def picture(number: int) -> NDArray[np.uint8]:
    """A bar that grows over a picture that stays, of which encoders store the changes only."""
    found = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    found[: HEIGHT // 2, :, 1] = np.arange(WIDTH) * 2
    found[:, : number + 1, 0] = 200
    return found


def animated(path: Path, pictures: list[Image.Image], milliseconds: list[int]) -> Path:
    form = "GIF" if path.suffix == ".gif" else "PNG"
    pictures[0].save(path, form, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)
    return path


@pytest.fixture(params=ENDINGS)
def animation(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    pictures = [Image.fromarray(picture(number)) for number in range(len(MILLISECONDS))]
    return animated(tmp_path / f"a.{request.param}", pictures, MILLISECONDS)


def shown_at(time: float) -> int:
    """Which picture is shown at a time, seconds."""
    return int(np.searchsorted(np.cumsum(MILLISECONDS), round(1000 * time), side="right"))


def numbers(frames: NDArray[np.uint8]) -> list[int]:
    return [round(float((frame[..., 0] > 100).mean()) * WIDTH) - 1 for frame in frames]


@pytest.mark.parametrize("start", [0.0, 0.2, 0.5, 1.9, 3.3, 5.0])
def test_a_clip_shows_the_pictures_of_its_time(animation: Path, start: float) -> None:
    clip = read_clip(animation, start, seconds=1.0, fps=10, frames=8, size=HEIGHT, sample_rate=8000)
    assert numbers(clip.frames) == [shown_at(start + step / 10) for step in range(8)]


@pytest.mark.parametrize(("start", "end"), [(0.0, 2.0), (0.25, 2.0), (1.9, 2.3), (3.35, 6.0), (2.05, 2.2)])
def test_a_clip_that_is_cut_has_the_pictures_of_its_segment(animation: Path, start: float, end: float) -> None:
    target = animation.with_name(f"clip{animation.suffix}")
    cut(f"{animation}#t={start},{end}", target)
    with av.open(str(target)) as file:
        frames = list(file.decode(video=0))
    count = shown_at(end - 0.001) - shown_at(start) + 1
    expected = [picture(shown_at(start) + number) for number in range(count)]
    assert np.array_equal([frame.to_ndarray(format="rgb24") for frame in frames], expected)
    whole = read_video(target, fps=20, size=HEIGHT, sample_rate=8000).frames
    assert numbers(whole) == [shown_at(start + step / 20) for step in range(round((end - start) * 20))]


def test_a_whole_file_is_copied_and_nothing_is_left_of_one_that_ends_before(animation: Path) -> None:
    target = animation.with_name(f"clip{animation.suffix}")
    cut(animation, target)
    assert target.read_bytes() == animation.read_bytes()
    target.unlink()
    with pytest.raises(MediaError) as caught:
        cut(f"{animation}#t=100,110", target)
    assert caught.value.path == Path(f"{animation}#t=100,110")
    assert [path.name for path in animation.parent.iterdir()] == [animation.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_transparent_pixels_stay(tmp_path: Path, ending: str) -> None:
    layers = [np.dstack([picture(number), np.full((HEIGHT, WIDTH), 255, np.uint8)]) for number in range(6)]
    for layer in layers:
        layer[HEIGHT // 2 :, WIDTH // 2 :] = 0
    source = animated(tmp_path / f"a.{ending}", [Image.fromarray(layer) for layer in layers], [100] * 6)
    cut(f"{source}#t=0.3,0.5", tmp_path / f"b.{ending}")
    with av.open(str(tmp_path / f"b.{ending}")) as file:
        alpha = [frame.to_ndarray(format="rgba")[..., 3] for frame in file.decode(video=0)]
    assert np.array_equal(alpha, [layer[..., 3] for layer in layers[3:5]])


def test_a_picture_of_many_colours_is_reduced_to_those_of_a_gif(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, HEIGHT, WIDTH, 3), np.uint8)
    # The upper half is of the first picture, the lower one of later ones: together they have more than 256 colours.
    pictures = [noise[0], *(np.concatenate([noise[0, :16], later[16:]]) for later in noise[1:])]
    quantized = [Image.fromarray(each).quantize(256) for each in pictures]
    source = animated(tmp_path / "a.gif", quantized, [100] * 12)
    cut(f"{source}#t=0.6,0.9", tmp_path / "b.gif")
    before, after = (
        read_video(name, fps=10, size=HEIGHT, sample_rate=8000).frames
        for name in (f"{source}#t=0.6,0.9", tmp_path / "b.gif")
    )
    assert before.shape == after.shape
    assert np.abs(before.astype(int) - after).mean() < 20
