"""Strips and previews of real files of every shape show what the files hold, upright and small."""

import io

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from selavi_ref.browser import thumbnail_strip as strips
from selavi_ref.browser.previews import first_codec, preview, preview_size
from selavi_ref.browser.thumbnail_strip import NoPictureError, strip
from selavi_ref.errors import MediaError
from tests.support.drawn_pictures import frames_of, levels_of, streams_of
from tests.support.media_files import level_of, tone, write_video
from tests.support.refusal import refused


@pytest.mark.parametrize(
    ("settings", "width"),
    [
        ({"size": (64, 48)}, 171),
        ({"size": (48, 64)}, 96),
        ({"size": (64, 48), "rotation": 90}, 96),
        ({"size": (33, 47), "pix_fmt": "yuv444p"}, 90),
        ({"size": (320, 32)}, 256),
        ({"size": (32, 320)}, 64),
        ({"size": (32, 320), "rotation": -90}, 256),
        ({"size": (640, 360)}, 228),
        ({"size": (48, 48), "x264-params": "sar=3/2"}, 192),
        ({"size": (48, 48), "n_frames": 1}, 128),
        ({"size": (48, 48), "sound": tone(2.0, 440)}, 128),
    ],
)
def test_frames_of_a_strip_are_as_high_as_wanted_and_as_wide_as_the_picture_shows(tmp_path, settings, width):
    path = write_video(tmp_path / "a.mp4", **settings)
    assert frames_of(strip(path)).shape == (12, 128, width, 3)


def test_a_strip_shows_three_seconds_of_the_middle(tmp_path):
    path = write_video(tmp_path / "a.mp4", n_frames=40, fps=4)
    np.testing.assert_allclose(levels_of(strip(path)), [level_of(14 + t) for t in range(12)], atol=5)


def test_leaving_out_frames_that_no_other_needs_costs_a_strip_a_tenth_of_a_second_at_most(tmp_path):
    path = write_video(tmp_path / "a.mp4", n_frames=300, size=(320, 272), bf="3")
    shown = levels_of(strip(path))
    wanted = [105 + 7.5 * t for t in range(12)]
    for level, frame in zip(shown, wanted, strict=True):
        assert any(abs(level - level_of(int(frame) - late)) < 5 for late in range(5))


def test_a_key_frame_far_before_the_middle_of_a_large_video_is_begun_with(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", n_frames=40, fps=4, g="10", **{"x264-params": "scenecut=0"})
    monkeypatch.setattr(strips, "_MAX_DECODED", 0)
    assert levels_of(strip(path))[0] == pytest.approx(level_of(10), abs=5)


def test_a_short_video_stands_still_at_the_end_of_its_strip(tmp_path):
    levels = levels_of(strip(write_video(tmp_path / "a.mp4", n_frames=4, fps=4)))
    np.testing.assert_allclose(levels, [level_of(min(t, 3)) for t in range(12)], atol=5)


def test_a_rotated_video_is_shown_upright(tmp_path):
    frames = np.zeros((8, 48, 64, 3), np.uint8)
    frames[:, :, 32:] = 255  # bright on the right; upright, after a quarter turn anticlockwise, at the top
    path = write_video(tmp_path / "a.mp4", n_frames=8, pictures=frames, rotation=90)
    first = frames_of(strip(path))[0].mean(axis=(1, 2))
    assert first[:50].min() > 200
    assert first[-50:].max() < 50
    width, height, _, frames = streams_of(preview(path))["video"]
    assert (width, height) == (48, 64)
    small = frames[0].to_ndarray(format="gray").mean(1)
    assert small[:20].min() > 200
    assert small[-20:].max() < 50


def test_a_strip_of_usual_frames_is_small(tmp_path):
    assert len(strip(write_video(tmp_path / "a.mp4"))) < 20_000


def test_a_file_that_ends_before_its_middle_is_shown_from_its_beginning(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (200, 64, 64, 3), np.uint8)
    whole = write_video(
        tmp_path / "a.mp4", n_frames=200, size=(64, 64), pictures=noise, container={"movflags": "faststart"}
    )
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 4])
    assert frames_of(strip(cut)).std() > 20
    assert 20 < len(streams_of(preview(cut))["video"][2]) < 100


def test_a_preview_is_ten_seconds_of_the_middle_with_its_sound(tmp_path):
    path = write_video(tmp_path / "a.mp4", n_frames=400, fps=20, sound=tone(20.0, 440), g="100")
    data = preview(path)
    found = streams_of(data)
    width, height, times, frames = found["video"]
    assert (width, height, len(times)) == (64, 48, 200)
    np.testing.assert_allclose(times, np.arange(200) / 20, atol=0.002)
    assert float(frames[0].to_ndarray(format="rgb24").mean()) == pytest.approx(level_of(100), abs=5)
    assert found["audio"][0] == pytest.approx(480_000, abs=4096)
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(("n_frames", "seconds"), [(200, 10.0), (0, 10.0), (800, 40.0)])
def test_the_sound_of_a_preview_is_whole_where_the_beginning_of_the_file_was_cut_off(tmp_path, n_frames, seconds):
    sound = tone(seconds + 0.5, 440)
    uncut = {"avoid_negative_ts": "disabled"}
    path = write_video(tmp_path / "a.mp4", n_frames=n_frames, fps=20, sound=sound, audio_offset=-0.5, container=uncut)
    with av.open(str(path)) as file:
        assert next(file.demux(audio=0)).pts < -0.4 * 48000
    with av.open(io.BytesIO(preview(path))) as file:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    assert len(heard) == pytest.approx(480_000, abs=4096)
    assert np.abs(heard[: len(heard) // 2400 * 2400]).reshape(-1, 2400).max(axis=1)[1:-1].min() > 0.3


@pytest.mark.parametrize(
    ("settings", "streams", "size", "n_frames"),
    [
        ({"n_frames": 30}, {"video"}, (64, 48), 30),
        ({"n_frames": 1}, {"video"}, (64, 48), 1),
        ({"n_frames": 0, "sound": tone(1.0, 440)}, {"audio"}, None, 0),
        ({"n_frames": 60, "fps": 60, "sound": tone(1.0, 440)}, {"video", "audio"}, (64, 48), 30),
        ({"n_frames": 10, "size": (33, 47), "pix_fmt": "yuv444p"}, {"video"}, (32, 48), 10),
        ({"n_frames": 10, "size": (848, 480)}, {"video"}, (424, 240), 10),
        ({"n_frames": 10, "size": (360, 640), "rotation": 90}, {"video"}, (426, 240), 10),
        ({"n_frames": 10, "size": (48, 48), "x264-params": "sar=3/2"}, {"video"}, (72, 48), 10),
        ({"n_frames": 2, "times": [0.0, 3.0]}, {"video"}, (64, 48), 2),
    ],
)
def test_previews_of_every_shape_are_even_small_and_hold_what_there_is(tmp_path, settings, streams, size, n_frames):
    found = streams_of(preview(write_video(tmp_path / "a.mp4", **settings)))
    assert set(found) == streams
    if size:
        assert found["video"][:2] == size
        assert len(found["video"][2]) == n_frames


@pytest.mark.nightly
@given(st.floats(1, 20_000), st.floats(1, 20_000))
def test_a_preview_is_even_and_never_large(width, height):
    across, down = preview_size(width, height)
    assert across % 2 == down % 2 == 0
    assert 16 <= min(across, down) <= 240
    assert max(across, down) <= 640


def test_the_next_encoder_is_taken_where_one_is_missing():
    assert first_codec({"no such encoder": {}, "mpeg4": {"q": "6"}, "aac": {}}) == ("mpeg4", {"q": "6"})


def test_sound_alone_has_no_strip(tmp_path):
    with refused(NoPictureError):
        strip(write_video(tmp_path / "a.mp4", n_frames=0, sound=tone(1.0, 440)))


def test_sound_files_and_pictures_have_a_strip_and_a_preview(tmp_path):
    write_video(tmp_path / "a.wav", n_frames=0, sound=tone(2.0, 440), audio_codec="pcm_s16le")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn
    Image.new("RGB", (200, 100), (200, 30, 30)).save(tmp_path / "a.jpg", exif=exif)
    for name, width in (("a.wav", strips.HEIGHT), ("a.jpg", strips.HEIGHT // 2)):
        with Image.open(io.BytesIO(strip(tmp_path / name))) as image:
            assert image.size == (strips.FRAMES * width, strips.HEIGHT)
            frames = np.split(np.asarray(image.convert("RGB")).astype(int), strips.FRAMES, axis=1)
        moves = abs(frames[0] - frames[6]).max() > 100
        assert moves == (name == "a.wav")
        assert len(preview(tmp_path / name)) > 500
    assert abs(frames[0].mean((0, 1)) - (200, 30, 30)).max() < 12
    assert strip(f"{tmp_path / 'a.wav'}#t=0,1")


def test_files_that_are_no_videos_are_refused_by_strip_and_preview(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    for make in (strip, preview):
        with refused(MediaError, path=tmp_path / "a.mp4"):
            make(tmp_path / "a.mp4")
