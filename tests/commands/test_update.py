"""`selavi update` as a user meets it: a collection that grows and is put in order, and a run that follows."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from selavi_ref import Run
from selavi_ref.browser.annotations import annotations_of
from selavi_ref.browser.collection import open_collection
from selavi_ref.browser.final_labels import final_labels
from selavi_ref.datasets import make_collection
from selavi_ref.runs.run import Run as RunFolder
from selavi_ref.store import FeatureStore
from tests.support.command_line import refused, rows_of, selavi, succeeded
from tests.support.growing import add_new, edit, learn_from_videos, restore, update_summary
from tests.support.kills import assert_kills_do_no_harm
from tests.support.media_files import write_video
from tests.support.small_runs import QUICK

SHORT = ["--config", "quick.toml", "--epochs", "3", "--workers", "0"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with 16 videos, 6 new ones, and a run on the 16."""
    folder = tmp_path_factory.mktemp("update")
    (folder / "quick.toml").write_text(QUICK)
    return learn_from_videos(folder, 16, 1.5, *SHORT)


@pytest.fixture
def place(kept):
    """The same folder, with videos and run as they were; new ones are in ``new``."""
    return restore(kept)


def update(place, *options):
    return selavi("update", "run", "videos", "--workers", "0", *options, cwd=place)


def state_of(folder, *, times=False):
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns if times else 0) for path in files}


def without_path(row):
    return {name: value for name, value in row.items() if name != "path"}


def labels_of(place):
    return {row["path"]: without_path(row) for row in rows_of(place / "run" / "labels.csv")}


def test_new_videos_are_labelled_as_label_does_and_all_others_keep_theirs(place):
    before, store_before = labels_of(place), (place / "run" / "features.h5").read_bytes()
    new = add_new(place)
    dry = update_summary(place, "--dry-run")
    assert dry["counts"] == {"new": 6, "changed": 0, "moved": 0, "copied": 0, "gone": 0, "unchanged": 16}
    assert sorted(dry["files"]["new"]) == new
    assert (place / "run" / "features.h5").read_bytes() == store_before
    assert labels_of(place) == before
    done = update_summary(place)
    assert sorted(done["labels"]) == new
    assert done["fit"]["new"] == 6
    after = labels_of(place)
    assert {path: after[path] for path in before} == before
    succeeded(selavi("label", "run", "videos/more", "--workers", "0", "--out", "alone.csv", "--force", cwd=place))
    alone = {row["path"]: without_path(row) for row in rows_of(place / "alone.csv")}
    assert {path: after[path] for path in new} == alone
    assert {path: str(values["label"]) for path, values in done["labels"].items()} == {
        path: row["label"] for path, row in alone.items()
    }
    assert not (place / "run" / "update").exists()


def test_a_second_update_finds_nothing_and_changes_nothing(place):
    add_new(place)
    succeeded(update(place))
    before = state_of(place / "run")
    done = update_summary(place)
    assert done["counts"] == {"new": 0, "changed": 0, "moved": 0, "copied": 0, "gone": 0, "unchanged": 22}
    assert state_of(place / "run") == before


def test_labels_names_and_edits_follow_moved_videos(place):
    old = [row["path"] for row in rows_of(place / "run" / "labels.csv")]
    edit(place, op="rename", cluster=1, name="bells")
    edit(place, op="move", videos=[old[0]], to=1)
    edit(place, op="wrong", videos=[old[1]], wrong=True)
    edit(place, op="move", videos=[old[2]], to="new", name="own")
    edit(place, op="undo")
    before = labels_of(place)
    os.rename(place / "videos", place / "elsewhere")
    try:
        done = update_summary(place, videos="elsewhere")
        assert done["counts"]["moved"] == 16
        moved = {before: after for after, before in done["files"]["moved"].items()}
        assert labels_of(place) == {moved[path]: row for path, row in before.items()}
        labels = final_labels(open_collection(place / "run"))
        assert dict(zip(labels.paths, labels.mark, strict=True))[moved[old[0]]] == "moved"
        assert dict(zip(labels.paths, labels.mark, strict=True))[moved[old[1]]] == "wrong"
        assert dict(zip(labels.paths, labels.cluster, strict=True))[moved[old[0]]] == 1
        assert Run.open(place / "run").names == {1: "bells"}
        edit(place, op="redo")
        assert annotations_of(RunFolder(place / "run")).read().edits_of("consensus").moved[moved[old[2]]] == 3
        assert [row["class"] for row in rows_of(place / "run" / "videos.csv")] == [
            Path(path).parent.name for path in moved.values()
        ]
    finally:
        os.rename(place / "elsewhere", place / "videos")


def test_copies_get_the_label_of_their_original_and_gone_videos_keep_theirs(place):
    rows = rows_of(place / "run" / "labels.csv")
    copied, gone = rows[0]["path"], rows[1]["path"]
    copy = str(place / "videos" / "copy.mp4")
    shutil.copy(copied, copy)
    os.unlink(gone)
    done = update_summary(place)
    assert done["counts"] == {"new": 0, "changed": 0, "moved": 0, "copied": 1, "gone": 1, "unchanged": 15}
    assert done["files"]["copied"] == {copy: copied}
    after = labels_of(place)
    assert len(after) == 17
    assert after[copy] == after[copied] == without_path(rows[0])
    assert after[gone] == without_path(rows[1])


def test_a_changed_video_is_labelled_anew_and_a_damaged_one_has_a_reason(place):
    rows = rows_of(place / "run" / "labels.csv")
    changed, damaged = rows[0]["path"], rows[1]["path"]
    other = next((place / "new").rglob("*.mp4"))
    shutil.copy(other, changed)
    Path(damaged).write_bytes(b"no video")
    (place / "videos" / "silent.mp4").parent.mkdir(exist_ok=True)
    silent = str(write_video(place / "videos" / "silent.mp4", n_frames=60, fps=30))
    copy = place / "copy"
    shutil.copytree(place / "run", copy)
    assert str(Path("copy", "labels.csv")) in succeeded(selavi("update", "copy", "videos", "--workers", "0", cwd=place))
    shutil.rmtree(copy)
    done = update_summary(place)
    assert done["labels"][damaged]["label"] is done["labels"][damaged]["fits"] is None
    assert done["labels"][damaged]["reason"]
    assert sorted(done["files"]["changed"]) == sorted([changed, damaged])
    assert done["files"]["new"] == [silent]
    after = labels_of(place)
    assert after[damaged]["label"] == ""
    assert after[damaged]["reason"]
    assert after[silent]["modalities"] == "video"
    with FeatureStore(place / "run" / "features.h5") as store:
        assert store.paths == list(after)
        assert np.isnan(store.features("audio", [store.paths.index(silent)])).all()
    assert update_summary(place)["counts"]["unchanged"] == 17


def test_the_page_check_and_evaluate_know_the_added_videos(place):
    new = add_new(place)
    done = Run.open(place / "run").update(place / "videos", workers=0)
    assert [done.labels.paths[row] for row in np.flatnonzero(done.new)] == new
    collection = open_collection(place / "run")
    assert set(new) <= set(collection.paths)
    assert set(new) <= set(collection.info)
    succeeded(selavi("check", "run", "--clips", "2", "--no-files", "--workers", "0", cwd=place))
    assert "22" in succeeded(selavi("evaluate", "run/labels.csv", cwd=place))


def test_training_on_a_grown_folder_names_the_command(place):
    add_new(place)
    done = selavi("train", "videos", *SHORT, "--resume", "--out", "run", cwd=place)
    assert "and 5 more are unknown to run" in done.stderr
    assert "selavi update run videos" in done.stderr
    shutil.rmtree(place / "videos" / "more")
    done = selavi("train", "videos", *SHORT, "--resume", "--out", "run", cwd=place)
    assert "selavi update" not in done.stderr


@pytest.mark.processes
def test_parts_of_files_follow_their_file_and_new_ones_are_labelled(tmp_path):
    make_collection(tmp_path / "videos", 5, seed=3, seconds=3.0, size=48, fps=8)
    files = sorted((tmp_path / "videos").rglob("*.mp4"))

    def listed(files, *parts):
        rows = [f"{file},{start},{start + 1.4}" for file in files for start in parts]
        (tmp_path / "list.csv").write_text("\n".join(["path,start,end", *rows]))

    (tmp_path / "quick.toml").write_text(QUICK)
    listed(files[:4], 0, 1.5)
    options = ["--clusters", "2", "--config", "quick.toml", "--epochs", "1", "--workers", "0"]
    succeeded(selavi("train", "list.csv", *options, "--out", "run", cwd=tmp_path))

    def parts():
        rows = rows_of(tmp_path / "run" / "labels.csv")
        return {(row["path"], float(row["start"])): without_path(row) for row in rows}

    before = parts()
    assert len(before) == 8
    moved = tmp_path / "moved.mp4"
    os.rename(files[0], moved)
    copy = tmp_path / "copy.mp4"
    shutil.copy(files[1], copy)
    listed([moved, *files[1:], copy], 0, 0.7, 1.5)
    done = update_summary(tmp_path, videos="list.csv")
    assert done["counts"] == {"new": 7, "changed": 0, "moved": 1, "copied": 1, "gone": 0, "unchanged": 3}
    after = parts()
    assert len(after) == 6 * 3
    for start in (0, 1.5):
        assert after[str(moved), start] == before[str(files[0]), start]
        assert after[str(copy), start] == after[str(files[1]), start] == before[str(files[1]), start]
        assert after[str(files[4]), start]["label"]
    assert after[str(files[1]), 0.7]["label"]
    assert after[str(files[4]), 0.7]["label"]
    make_collection(tmp_path / "long", 1, seed=5, seconds=3.0, size=48, fps=8)
    cut = ("--segments", "1.5")
    assert update_summary(tmp_path, *cut, videos="long")["counts"]["new"] == 1
    assert sorted(start for path, start in parts() if "long" in path) == [0, 1.5]
    assert all(row["label"] for (path, _), row in parts().items() if "long" in path)
    assert update_summary(tmp_path, *cut, videos="long")["counts"]["new"] == 0


def test_what_cannot_be_updated_is_refused_in_one_line(place, tmp_path):
    refused(selavi("update", "run", "nowhere", cwd=place), "nowhere", "does not exist")
    refused(selavi("update", "nowhere", "videos", cwd=place), "nowhere", "selavi train")
    refused(selavi("update", "run", "quick.toml", cwd=place), "quick.toml", "not a video")
    os.rename(place / "videos", place / "away")
    try:
        refused(selavi("update", "run", "new", cwd=place), "run", "new", "no video in common")
    finally:
        os.rename(place / "away", place / "videos")
    (place / "run" / "features.h5").unlink()
    refused(update(place), "not finished", "selavi train --resume --out run")
    succeeded(selavi("train-heads", "kept-run/features.h5", "--clusters", "3", "--out", tmp_path / "heads", cwd=place))
    refused(selavi("update", tmp_path / "heads", "videos", cwd=place), "selavi extract", "NEW.h5")


def test_a_damaged_annotations_file_is_refused_before_the_work(place):
    add_new(place)
    (place / "run" / "annotations.json").write_text("{}")
    before = state_of(place / "run")
    refused(update(place), "annotations.json")
    assert state_of(place / "run") == before


@pytest.mark.processes
def test_killed_at_any_moment_nothing_is_lost_and_the_result_is_the_same(place):
    def grow():
        restore(place)
        add_new(place)
        first = rows_of(place / "run" / "labels.csv")[0]["path"]
        os.rename(first, place / "videos" / "moved.mp4")
        edit(place, op="move", videos=[first], to=1)

    def content():
        names = ("labels.csv", "videos.csv", "added.csv", "skipped.csv")
        files = {name: (place / "run" / name).read_bytes() for name in names}
        edits = annotations_of(RunFolder(place / "run")).read().edits_of("consensus")
        with FeatureStore(place / "run" / "features.h5") as store:
            return files | {name: store.get(name).tobytes() for name in store.names} | {"moved": edits.moved}

    before = labels_of(place)

    def check():  # the table is whole, as it was or as it will be
        now = labels_of(place)
        assert now == before or len(now) == len(before) + 6

    command = ["update", "run", "videos", "--workers", "0"]
    assert_kills_do_no_harm(command, place, restore=grow, content=content, check=check)
    assert not (place / "run" / "update").exists()
