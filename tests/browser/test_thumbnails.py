"""Strips and previews of real files of every shape; what cannot be shown says so, and nothing is made twice."""

import io
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from selavi_ref.browser import thumbnail_strip as strips
from selavi_ref.browser import thumbnails
from selavi_ref.browser.previews import first_codec, preview, preview_size
from selavi_ref.browser.thumbnail_strip import NoPictureError, placeholder, strip
from selavi_ref.browser.thumbnails import ThumbnailCache
from selavi_ref.errors import MediaError, SelaviError
from tests.support import broken_decoders
from tests.support.media_files import level_of, tone, write_video
from tests.support.refusal import refused

NAMES = ["a b'c\"d.mp4", "новый 🎬.MP4", "two\nlines.mp4", "\u202egpj.mp4", "שלום.mp4", "b\udcff.mp4", "#?%20&.mkv"]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("pictures") / "a.mp4", sound=tone(2.0, 440))


@pytest.fixture
def made(tmp_path: Path, video: Path):
    """Pictures of files that a test puts into a folder."""
    opened = []

    def of(*paths: Path | str, **settings: object) -> ThumbnailCache:
        opened.append(ThumbnailCache(tmp_path / "kept", [os.fspath(path) for path in paths], **settings))
        return opened[-1]

    yield of
    for one in opened:
        one.close()


def frames_of(data: bytes | Path) -> np.ndarray:
    """Frames of a strip, (12, 128, width, 3)."""
    picture = np.asarray(Image.open(io.BytesIO(data) if isinstance(data, bytes) else data))
    assert picture.shape[1] % strips.FRAMES == 0
    return np.stack(np.split(picture, strips.FRAMES, axis=1))


def levels_of(data: bytes | Path) -> list[float]:
    return [float(frame.mean()) for frame in frames_of(data)]


def streams_of(data: bytes) -> dict[str, tuple]:
    """Width, height and times of the frames of a file's picture, and the number of samples of its sound."""
    with av.open(io.BytesIO(data)) as file:
        found = {}
        if file.streams.video:
            frames = list(file.decode(video=0))
            found["video"] = (frames[0].width, frames[0].height, [frame.time for frame in frames], frames)
    with av.open(io.BytesIO(data)) as file:
        if file.streams.audio:
            found["audio"] = (sum(frame.samples for frame in file.decode(audio=0)),)
    return found


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


def test_a_strip_of_usual_framesis_small(video):
    assert len(strip(video)) < 20_000


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


def test_a_thumbnail_is_made_once_and_kept(made, video):
    many = made(video, video)
    first = many.thumbnail(0)
    stamp = first.stat().st_mtime_ns
    assert first.suffix == ".webp"
    assert many.thumbnail(1) == first == made(video).thumbnail(0)
    assert first.stat().st_mtime_ns == stamp
    assert many.preview(0).suffix == ".mp4"
    assert many.reason(0) == many.reason(0, "preview") == ""


@pytest.mark.parametrize("name", NAMES)
def test_any_name_has_its_framesinside_of_the_folder(tmp_path, made, video, name):
    shutil.copy(video, tmp_path / name)
    many = made(tmp_path / name)
    for file in (many.thumbnail(0), many.preview(0)):
        assert file.resolve().is_relative_to(tmp_path / "kept")
        assert file.name.isascii()
    assert len([file for file in (tmp_path / "kept").rglob("*") if file.is_file()]) == 2


def test_what_is_no_video_file_is_never_opened(tmp_path, made, video):
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    shutil.copy(video, tmp_path / "passwd")
    os.symlink(tmp_path / "nowhere.mp4", tmp_path / "link.mp4")
    hostile = f"{tmp_path}/folder.mp4/../passwd", "../../../../etc/passwd", "/dev/zero", "", "nul\0.mp4", "x" * 5000
    names = ["folder.mp4", "pipe.mp4", "gone.mp4", "link.mp4"]
    many = made(*(tmp_path / name for name in names), *hostile)
    for i in range(len(many.paths)):
        assert many.thumbnail(i) == placeholder("missing")
        assert many.preview(i) is None
        assert many.reason(i) == "the file is missing"
    assert not (tmp_path / "kept").exists()


def test_what_cannot_be_read_says_why_and_is_not_tried_again(tmp_path, made, video):
    (tmp_path / "text.mp4").write_text("no video at all\n" * 100)
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:4000])  # what tells where everything is lies at the end
    (tmp_path / "empty.mp4").write_bytes(b"")
    write_video(tmp_path / "sound.mp4", n_frames=0, sound=tone(1.0, 440))
    many = made(*(tmp_path / name for name in ("text.mp4", "cut.mp4", "empty.mp4", "sound.mp4")))
    for i in range(3):
        assert many.thumbnail(i) == placeholder("unreadable")
        assert many.preview(i) is None
        assert many.reason(i)
        assert str(tmp_path) not in many.reason(i)
    assert many.thumbnail(3) == placeholder("no picture")
    assert set(streams_of(many.preview(3).read_bytes())) == {"audio"}
    assert frames_of(many.thumbnail(0)).shape == (12, 128, 128, 3)


def test_a_video_that_takes_the_place_of_another_has_its_own_thumbnail(tmp_path, made, video):
    path = tmp_path / "a.mp4"
    path.write_text("not yet a video")
    many = made(path)
    assert many.thumbnail(0) == placeholder("unreadable")
    shutil.copy(video, path)
    first = many.thumbnail(0)
    write_video(path, size=(48, 64))
    assert many.thumbnail(0) != first
    assert frames_of(many.thumbnail(0)).shape[2] == 96
    assert many.reason(0) == ""


def counted(path: str) -> bytes:
    """Tell in a file beside a video that it was read."""
    time.sleep(0.2)
    with open(f"{path}.log", "a") as log:
        log.write("read\n")
    return b"strip"


def test_many_who_ask_at_once_have_a_thumbnail_made_once(tmp_path, made, video, monkeypatch):
    monkeypatch.setitem(thumbnails._KINDS, "thumbnail", thumbnails._Kind(counted, ".webp"))
    paths = [Path(shutil.copy(video, tmp_path / f"{i}.mp4")) for i in range(3)]
    many = made(*paths)
    with ThreadPoolExecutor(24) as pool:
        files = list(pool.map(many.thumbnail, [i % 3 for i in range(24)]))
    assert len(set(files)) == 3
    assert all(Path(f"{path}.log").read_text() == "read\n" for path in paths)


def test_no_more_wait_than_there_is_room_for(tmp_path, made, video, monkeypatch):
    monkeypatch.setitem(thumbnails._KINDS, "thumbnail", thumbnails._Kind(counted, ".webp"))
    monkeypatch.setattr(thumbnails, "_MAX_WAITING", 1)
    many = made(*(shutil.copy(video, tmp_path / f"{i}.mp4") for i in range(6)), workers=1)
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(many.thumbnail, i) for i in range(6)]
    errors = [future.exception() for future in asked]
    assert any(isinstance(error, thumbnails.BusyError) for error in errors)
    assert sum(error is None for error in errors) >= 2
    assert all(isinstance(many.thumbnail(i), Path) for i in range(6))


@pytest.mark.parametrize(
    ("call", "why"), [(broken_decoders.crash, "crashed"), (broken_decoders.hang, "longer than 0.5 s")]
)
def test_a_file_that_breaks_its_decoder_is_given_up(tmp_path, made, video, monkeypatch, call, why):
    many = made(video, workers=1, limit=0.5)
    with monkeypatch.context() as patch:
        patch.setitem(thumbnails._KINDS, "thumbnail", thumbnails._Kind(call, ".webp"))
        assert many.thumbnail(0) == placeholder("unreadable")
    assert why in many.reason(0)
    many.limit = 60.0  # a busy machine needs longer than 0.5 s for what is not broken
    assert many.thumbnail(0) == placeholder("unreadable")  # not tried again
    assert isinstance(many.preview(0), Path)


def test_making_all_goes_on_where_it_was_stopped(tmp_path, made, video):
    paths = [shutil.copy(video, tmp_path / f"{i}.mp4") for i in range(40)]
    paths[7] = str(tmp_path / "gone.mp4")

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(*paths).make_all(progress=stop)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").rglob("*.webp")}
    assert 2 <= len(before) < 39
    heard: list[tuple[int, int]] = []
    many = made(*paths)
    assert many.make_all(progress=lambda *numbers: heard.append(numbers)) == {7: "the file is missing"}
    assert heard == [(i + 1, 40) for i in range(40)]
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in before.items())
    files = [file for file in (tmp_path / "kept").rglob("*") if file.is_file()]
    assert len(files) == 39
    assert all(file.suffix == ".webp" for file in files)


def test_making_all_makes_previews_if_asked(tmp_path, made, video):
    many = made(video, tmp_path / "gone.mp4")
    assert set(many.make_all(previews=True)) == {1}
    assert len(list((tmp_path / "kept").rglob("*.mp4"))) == 1


def test_a_folder_that_cannot_be_written_costs_the_keeping_only(tmp_path, video):
    (tmp_path / "file").write_text("")
    with ThumbnailCache(tmp_path / "file" / "kept", [str(video)]) as many:
        assert frames_of(many.thumbnail(0)).shape == (12, 128, 171, 3)
        assert set(streams_of(many.preview(0))) == {"video", "audio"}
        with refused(SelaviError, path=tmp_path / "file" / "kept"):
            many.make_all()


def test_closing_ends_the_decoders_and_whoever_waits(made, video, monkeypatch):
    monkeypatch.setitem(thumbnails._KINDS, "thumbnail", thumbnails._Kind(broken_decoders.hang, ".webp"))
    many = made(video, video, workers=1)
    many.preview(0)
    process = many._decoders[0]._process
    errors = []

    def ask(kind: str) -> None:
        try:
            getattr(many, kind)(0)
        except SelaviError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=["thumbnail"]) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    many.close()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 3
    assert process.wait(5) != 0
    assert many.reason(0) == ""
    with refused(SelaviError):
        many.thumbnail(0)


def test_settings_out_of_range_are_refused(tmp_path):
    with refused(option="workers"):
        ThumbnailCache(tmp_path, [], workers=0)


def test_files_that_are_no_videos_are_refused_by_strip_and_preview(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    for make in (strip, preview):
        with refused(MediaError, path=tmp_path / "a.mp4"):
            make(tmp_path / "a.mp4")
