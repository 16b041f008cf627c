from __future__ import annotations

import os
from pathlib import Path

import pytest

from selavi_ref.datasets import Manifest, ManifestEntry, find_videos, read_manifest, scan, write_manifest
from selavi_ref.datasets.manifest import is_scan_list
from selavi_ref.errors import InputError, SelaviError
from tests.support.listening import Listening
from tests.support.media_files import tone, write_video
from tests.support.refusal import refused


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_videos_are_found_at_any_depth_with_the_parent_folder_as_class(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "top.mp4",
        "dog/b.MKV",
        "dog/a.webm",
        "train/cat/c.avi",
        "dog/notes.txt",
        "dog/.hidden.mp4",
        ".h/x.mp4",
    )
    found = find_videos(tmp_path)
    assert [os.path.relpath(entry.path, tmp_path) for entry in found] == [
        "dog/a.webm", "dog/b.MKV", "top.mp4", "train/cat/c.avi",
    ]  # fmt: skip
    assert found.classes == ["dog", "dog", "", "cat"]
    assert find_videos(f"{tmp_path}/").classes == found.classes


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path, "root/dog/a.mp4", "else/cat/b.mp4")
    (tmp_path / "root/loop").symlink_to(tmp_path / "root")
    (tmp_path / "root/cat").symlink_to(tmp_path / "else/cat")
    (tmp_path / "root/dog/link.mp4").symlink_to(tmp_path / "else/cat/b.mp4")
    assert [Path(path).name for path in find_videos(tmp_path / "root").paths] == ["b.mp4", "a.mp4", "link.mp4"]


def test_folders_without_videos_and_missing_ones_are_input_errors(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt")
    with refused(path=tmp_path):
        scan(tmp_path)
    with refused(path=tmp_path / "nothing"):
        scan(tmp_path / "nothing")


def test_scan_sorts_out_what_cannot_be_used_with_reasons(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    write_video(root / "good.mp4", n_frames=60, sound=tone(2.0, 440))
    write_video(root / "silent.mp4", n_frames=60)
    write_video(root / "pictureless.mp4", n_frames=0, sound=tone(2.0, 440))
    write_video(root / "short_picture.mp4", n_frames=20, sound=tone(2.0, 440))
    write_video(root / "short_sound.mp4", n_frames=60, sound=tone(0.8, 440))
    touch(root, "text.mp4")
    heard = Listening()
    manifest = scan(root, workers=2, reporter=heard)
    assert [(bar.done, bar.total) for bar in heard.bars] == [(6, 6)]
    assert [Path(path).stem for path in manifest.usable.paths] == ["good"]
    reasons = {Path(entry.path).stem: entry.skipped for entry in manifest.skipped}
    assert reasons.pop("text").startswith("not a video: ")
    assert reasons == {
        "silent": "no sound",
        "pictureless": "no picture",
        "short_picture": "picture shorter than 1.1 s",
        "short_sound": "sound shorter than 1.1 s",
    }
    assert len(scan(root, require="any").usable) == 5
    assert [entry.skipped for entry in scan(root / "silent.mp4")] == ["no sound"]


def test_lists_of_several_forms_are_read(tmp_path: Path) -> None:
    forms = {
        "header.csv": "class,path,extra\ndog,a.mp4,1\n,b.mp4,2\n",
        "pairs.csv": "a.mp4,dog\nb.mp4,\n",
        "byte_order_mark.csv": "\ufeffpath,class\r\na.mp4,dog\r\nb.mp4,\r\n",
        "tabs.tsv": "path\tclass\na.mp4\tdog\nb.mp4\t\n",
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        manifest = read_manifest(tmp_path / name)
        assert manifest.paths == [str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")], name
        assert manifest.classes == ["dog", ""], name
    (tmp_path / "plain.txt").write_text(f"a.mp4\n\n{tmp_path}/b.mp4\n")
    assert read_manifest(tmp_path / "plain.txt").paths == [str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")]


def test_lists_that_do_not_fit_are_input_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("path,class\n")
    (tmp_path / "other.csv").write_text("class,title\ndog,rex\n")
    for name, option in {"empty.csv": None, "other.csv": "path"}.items():
        with pytest.raises(InputError) as error:
            read_manifest(tmp_path / name)
        assert (error.value.path, error.value.option) == (tmp_path / name, option)


def test_a_missing_file_of_a_list_is_skipped_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("gone.mp4,dog\n")
    assert "No such file" in scan(tmp_path / "list.csv").skipped.entries[0].skipped


def test_hostile_names_survive_writing_and_reading(tmp_path: Path) -> None:
    names = [
        "a b.mp4",
        "q\"uo,te's.mp4",
        "new\nline.mp4",
        "carriage\rreturn.mp4",
        os.fsdecode(b"\xff\xfe.mp4"),
        " space .mp4",
    ]
    entries = [
        ManifestEntry(str(tmp_path / "videos" / name), f"class of {n}", skipped="no sound")
        for n, name in enumerate(names)
    ]
    write_manifest(Manifest([*entries, ManifestEntry("/elsewhere/x.mp4")]), tmp_path / "list.csv")
    again = read_manifest(tmp_path / "list.csv")
    assert again.paths == [*(entry.path for entry in entries), "/elsewhere/x.mp4"]
    assert again.entries[:-1] == entries


def test_what_was_scanned_is_read_back(tmp_path: Path) -> None:
    write_video(tmp_path / "dog.mp4", n_frames=45, sound=tone(1.5, 440))
    manifest = scan(tmp_path)
    write_manifest(manifest, tmp_path / "list.csv")
    assert read_manifest(tmp_path / "list.csv").entries == manifest.entries


@pytest.mark.parametrize("name", ["file/l.csv", "none/l.csv", "taken"])
def test_a_list_that_cannot_be_written_is_one_error_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "file", "taken/x.mp4")
    with refused(SelaviError, path=tmp_path / name):
        write_manifest(Manifest([ManifestEntry("/a.mp4")]), tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "taken"]


def test_a_list_with_a_hostile_name_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SelaviError) as caught:
        write_manifest(Manifest(), tmp_path / "no\nfolder" / "l.csv")
    assert str(caught.value).isprintable()


def test_a_list_that_version_0_1_wrote_is_read_and_continued(tmp_path: Path) -> None:
    header = "path,class,split,picture_seconds,sound_seconds,fps,width,height,sample_rate,skipped,stamp"
    old = tmp_path / "old.csv"
    old.write_text(f"{header}\na.mp4,dog,train,2.0,1.5,25.0,64,48,24000,,9-9\n")
    (entry,) = read_manifest(old)
    assert entry.info is not None
    assert (entry.info.video_seconds, entry.info.audio_seconds, entry.stamp) == (2.0, 1.5, "9-9")
    assert is_scan_list(old)
    write_manifest(read_manifest(old), tmp_path / "new.csv")
    assert is_scan_list(tmp_path / "new.csv")
    assert read_manifest(tmp_path / "new.csv").entries == [entry]
