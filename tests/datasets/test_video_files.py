"""Which files of a folder are taken for videos, and what is ignored."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from selavi_ref.browser.static_site import SITE_MARKER
from selavi_ref.datasets import find_videos, scan
from selavi_ref.datasets.layouts import list_layout
from selavi_ref.datasets.video_files import VIDEO_EXTENSIONS, describe_ignored, left_out_media
from selavi_ref.errors import InputError
from selavi_ref.report.export import FinalLabels
from selavi_ref.report.links import write_links
from selavi_ref.report.summaries import manifest_summary
from tests.support.command_line import rows_of, selavi
from tests.support.media_files import tone, write_video
from tests.support.refusal import refused


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def names_in(folder: Path) -> list[str]:
    return [os.path.relpath(path, folder) for path in find_videos(folder).paths]


def test_a_link_to_itself_and_folders_that_may_not_be_entered_do_no_harm(tmp_path: Path) -> None:
    touch(tmp_path, "dog/a.mp4", "closed/b.mp4")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "into").symlink_to(tmp_path / "closed" / "deeper")
    (tmp_path / "closed").chmod(0)
    try:
        manifest = scan(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o755)
    skipped = {Path(entry.path).name: entry.skipped for entry in manifest}
    assert skipped["loop.mp4"] == os.strerror(40)
    assert "a.mp4" in skipped


@pytest.mark.parametrize("extension", [".vob", ".mxf", ".asf", ".f4v", ".divx", ".m2t", ".tp", ".mod", ".qt", ".gif"])
def test_videos_of_any_usual_extension_are_read(tmp_path: Path, extension: str) -> None:
    formats = {".vob": "vob", ".asf": "asf", ".m2t": "ts", ".tp": "ts", ".mod": "vob", ".gif": "gif"}
    codecs = {".vob": "mpeg2video", ".mod": "mpeg2video", ".gif": "gif", ".mxf": "mpeg2video", ".asf": "mpeg4"}
    made = tmp_path / f"a.{formats.get(extension, 'mxf' if extension == '.mxf' else 'mov')}"
    codec = codecs.get(extension, "libx264")
    sound = None if extension == ".gif" else tone(2.0, 440)
    audio = (
        {"audio_codec": "pcm_s16le"} if extension == ".mxf" else {"audio_codec": "mp2"} if codec == "mpeg2video" else {}
    )
    options = {"pix_fmt": "rgb8"} if extension == ".gif" else {}
    write_video(made, fps=25, n_frames=50, codec=codec, sound=sound, **audio, **options)
    (tmp_path / "in").mkdir()
    made.rename(tmp_path / "in" / f"A{extension.upper()}")
    (entry,) = scan(tmp_path / "in", require="picture")
    assert entry.skipped == ""
    assert entry.info is not None
    assert entry.info.video_seconds == pytest.approx(2.0, abs=0.5)


def test_ignored_files_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "notes.txt", "b.jpg", "c.JPG", ".hidden.jpg", "README")
    manifest = find_videos(tmp_path)
    assert manifest.ignored == {".txt": 1, ".jpg": 2, "without extension": 1}
    assert "ignored: 2 .jpg" in manifest_summary(scan(tmp_path))
    for name in ("a.mp4", "b.jpg", "c.JPG"):
        (tmp_path / name).unlink()
    with pytest.raises(InputError) as error:
        find_videos(tmp_path)
    assert error.value.path == tmp_path
    assert "1 .txt" in str(error.value)
    assert describe_ignored({f".{i}": 10 - i for i in range(10)}).endswith(", 10 others")


@pytest.mark.parametrize(
    "folder",
    ["@eaDir", "#recycle", "$RECYCLE.BIN", ".Trash", "System Volume Information", "x/Previews.lrdata/deep", "__MACOSX"],
)
def test_folders_of_the_system_are_not_entered(tmp_path: Path, folder: str) -> None:
    touch(tmp_path, "dog/a.mp4", f"{folder}/b.mp4")
    assert names_in(tmp_path) == ["dog/a.mp4"]


def test_what_this_program_has_written_is_no_input(tmp_path: Path) -> None:
    touch(tmp_path, "dog/a.mp4", "cat/b.mp4")
    paths = [str(tmp_path / "cat/b.mp4"), str(tmp_path / "dog/a.mp4")]
    one = np.zeros(2, np.int32)
    labels = FinalLabels(paths, one, ["", ""], one, np.ones(2, np.float32), one, ["", ""], ["", ""], ["", ""], ["", ""])
    write_links(labels, tmp_path / "sorted")
    assert (tmp_path / "sorted/cluster-000/a.mp4").exists()
    touch(tmp_path, f"page/{SITE_MARKER}", "page/media/preview/0.mp4", "labels.browser/preview/0a/0a.mp4")
    touch(tmp_path, "run/config.toml", "run/checkpoints/1.pt", "run/browser/preview/0a/0a.mp4")
    manifest = find_videos(tmp_path)
    assert manifest.paths == paths
    assert manifest.ignored["folders that selavi wrote"] == 4
    # One that is asked for by its name is read.
    assert len(find_videos(tmp_path / "sorted")) == 2


def test_folders_of_splits_are_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/dog/a.mp4", "train/cat/b.mp4", "val/dog/c.mp4", "test/cat/d.mp4", "test/e.mp4")
    manifest = find_videos(tmp_path)
    assert [(entry.split, entry.class_name) for entry in manifest] == [
        *(("test", "cat"), ("test", ""), ("train", "cat"), ("train", "dog"), ("val", "dog")),
    ]
    assert [Path(path).name for path in manifest.only("train").paths] == ["b.mp4", "a.mp4"]
    touch(tmp_path / "single", "train/dog/a.mp4")
    assert find_videos(tmp_path / "single").entries[0].split == "train"
    touch(tmp_path / "classes", "train/a.mp4", "bell/b.mp4")
    assert find_videos(tmp_path / "classes").classes == ["bell", "train"]
    assert {entry.split for entry in find_videos(tmp_path / "classes")} == {""}
    touch(tmp_path / "alone", "train/a.mp4")
    assert find_videos(tmp_path / "alone").classes == ["train"]


def test_splits_are_never_mixed_in_silence(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "videos" / split / "dog").mkdir(parents=True)
        write_video(tmp_path / "videos" / split / "dog" / "a.mp4", n_frames=45, sound=tone(1.5, 440))
    done = selavi("scan", "videos", "--split", "train", cwd=tmp_path)
    assert (done.exit_code, done.stderr.count("splits")) == (0, 0)
    (row,) = rows_of(tmp_path / "manifest.csv")
    assert (row["path"], row["class"], row["split"]) == ("videos/train/dog/a.mp4", "dog", "train")
    done = selavi("scan", "videos", "--out", "all.csv", cwd=tmp_path)
    assert done.exit_code == 0
    assert "test (1" in done.stderr
    assert "train (1" in done.stderr
    assert len(rows_of(tmp_path / "all.csv")) == 2
    assert selavi("scan", "videos", "--split", "val", cwd=tmp_path).exit_code == 2


def test_kinetics_sound_is_found_by_the_names_of_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/playing_piano/a.mp4", "train/abseiling/b.mp4", "test/tap dancing/c.mp4")
    manifest = list_layout(tmp_path, "kinetics-sound")
    assert [(Path(entry.path).name, entry.split) for entry in manifest] == [("c.mp4", "test"), ("a.mp4", "train")]
    assert list_layout(tmp_path, "kinetics-sound", split="train").classes == ["playing_piano"]
    with pytest.raises(InputError):
        list_layout(tmp_path, "kinetics")


def test_paths_do_not_depend_on_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "videos/dog/a.mp4")
    (tmp_path / "list.csv").write_text("path\nvideos/dog/a.mp4\n")
    monkeypatch.chdir(tmp_path)
    for source in ("videos", "list.csv", "videos/dog/a.mp4"):
        assert scan(source).paths == [str(tmp_path / "videos/dog/a.mp4")]


def test_every_extension_is_in_lower_case_and_named_once() -> None:
    assert len(set(VIDEO_EXTENSIONS)) == len(VIDEO_EXTENSIONS)
    assert all(extension == extension.lower() and extension[0] == "." for extension in VIDEO_EXTENSIONS)


def test_videos_come_before_sounds_and_sounds_before_pictures(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.WAV", "c.jpg", "d.png")
    assert names_in(tmp_path) == ["a.mp4"]
    assert left_out_media(find_videos(tmp_path).ignored) == {".wav": 1, ".jpg": 1, ".png": 1}
    taken = find_videos(tmp_path, ["videos", "pictures"])
    assert [Path(path).name for path in taken.paths] == ["a.mp4", "c.jpg", "d.png"]
    (tmp_path / "a.mp4").unlink()
    assert names_in(tmp_path) == ["b.WAV"]
    (tmp_path / "b.WAV").unlink()
    assert names_in(tmp_path) == ["c.jpg", "d.png"]
    with pytest.raises(InputError):
        find_videos(tmp_path, ["sounds"])


def test_pictures_in_the_folder_of_a_run_are_not_videos_to_label(tmp_path: Path) -> None:
    touch(tmp_path, "run/config.toml", "run/checkpoints/1.pt", "run/clusters.png", "run/plots/map.png")
    touch(tmp_path, "run/browser/preview/0.mp4")
    for types in (None, ["pictures"], ["videos", "sounds", "pictures"]):
        with refused(path=tmp_path / "run"):
            find_videos(tmp_path / "run", types)
    touch(tmp_path, "run/mine.mp4", "run/films/browser/b.mp4")  # a run may be made in the folder of its videos
    assert names_in(tmp_path / "run") == ["films/browser/b.mp4", "mine.mp4"]
    assert len(find_videos(tmp_path / "run", ["videos", "pictures"])) == 2
    touch(tmp_path, "poster.jpg")
    assert names_in(tmp_path) == ["poster.jpg"]
