"""Thumbnails and previews of a collection: what cannot be shown says so, and each is made once, in its own folder."""

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from selavi_ref.browser import thumbnails
from selavi_ref.browser.thumbnail_strip import placeholder
from selavi_ref.browser.thumbnails import ThumbnailCache
from selavi_ref.errors import SelaviError
from tests.support import broken_decoders
from tests.support.drawn_pictures import frames_of, streams_of
from tests.support.media_files import tone, write_video
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
def test_any_name_has_its_frames_inside_of_the_folder(tmp_path, made, video, name):
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
