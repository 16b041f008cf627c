"""`selavi export`, and `selavi label` after clusters were named and joined."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from selavi_ref.browser.annotations import annotations_of
from selavi_ref.browser.collection import open_collection
from selavi_ref.runs.run import Run
from tests.support.browser_run import K, make_run, make_videos
from tests.support.command_line import refused, rows_of, selavi, succeeded
from tests.support.small_runs import small_place


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finishing")
    make_videos(folder / "videos", 16)
    return folder


@pytest.fixture
def place(videos, tmp_path):
    """A run of which a cluster is named, two are joined, one video is moved and one is wrong."""
    run = make_run(tmp_path / "run", videos / "videos")
    kept = annotations_of(run)
    found = open_collection(run.folder)
    kept.apply({"op": "rename", "cluster": 0, "name": "../../<dogs>"})
    kept.apply({"op": "merge", "clusters": [1], "into": 2})
    kept.apply({"op": "move", "videos": [found.paths[0]], "to": "new", "name": "new"})
    kept.apply({"op": "wrong", "videos": [found.paths[1]], "wrong": True})
    return tmp_path


def test_tables_say_what_people_have_said(place):
    succeeded(selavi("export", "run", "--out", "a.csv", "--out", "a.json", "--out", "a.parquet", cwd=place))
    rows, before = rows_of(place / "a.csv"), rows_of(place / "run" / "labels.csv")
    assert [row["path"] for row in rows] == [row["path"] for row in before]
    joined = {"1": "2"}
    for number, (row, old) in enumerate(zip(rows, before, strict=True)):
        assert row["learnt"] == old["label"]
        assert row["label"] == (str(K) if number == 0 else joined.get(old["label"], old["label"]))
        assert row["name"] == {"0": "../../<dogs>", str(K): "new"}.get(row["label"], "")
        assert row["mark"] == {0: "moved", 1: "wrong"}.get(number, "")
        assert [row["head_0"], row["head_1"]] == [old["head_0"], old["head_1"]]
        if old["label"] in ("1", "2"):
            assert float(row["confidence"]) >= float(old["confidence"]) - 1e-4
    data = json.loads((place / "a.json").read_text(encoding="utf-8"))
    assert [video["label"] for video in data["videos"]] == [int(r["label"]) if r["label"] else None for r in rows]
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(place / "a.parquet").to_pydict()
    assert table["label"] == [int(row["label"]) if row["label"] else None for row in rows]


def test_a_written_table_goes_on_into_other_commands(place):
    succeeded(selavi("export", "run", "--out", "a.csv", cwd=place))
    assert "NMI" in succeeded(selavi("evaluate", "a.csv", cwd=place))
    succeeded(selavi("export", "a.csv", "--out", "b.csv", cwd=place))
    first, second = rows_of(place / "a.csv"), rows_of(place / "b.csv")
    assert [(row["path"], row["label"], row["name"]) for row in first] == [
        (row["path"], row["label"], row["name"]) for row in second
    ]


def test_links_lead_to_the_videos_and_nowhere_else(place):
    printed = succeeded(selavi("export", "run", "--links", "sorted", cwd=place))
    assert "symbolic links" in printed
    rows = rows_of(place / "sorted" / "labels.csv")
    for row in rows:
        link = place / "sorted" / row["link"]
        assert Path(os.path.normpath(link)).is_relative_to(place / "sorted")
        assert os.readlink(link) == os.path.abspath(row["path"])
    assert {Path(row["link"]).parent.name for row in rows if row["label"] == "2"} == {"cluster-002"}
    succeeded(selavi("export", "run", "--links", "sorted", cwd=place))


def test_videos_of_a_run_are_found_from_any_folder(place, tmp_path):
    succeeded(selavi("export", str(place / "run"), "--links", "sorted", cwd=tmp_path))
    rows = rows_of(tmp_path / "sorted" / "labels.csv")
    there = [(tmp_path / "sorted" / row["link"]).exists() for row in rows]
    assert any(there)
    assert there == [os.path.exists(place / row["path"]) for row in rows]


def test_links_to_nothing_are_refused(place, tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\ngone/a.mp4,0\ngone/b.mp4,1\n")
    refused(selavi("export", "labels.csv", "--links", "sorted", cwd=tmp_path), "--videos", "2 videos")
    assert not (tmp_path / "sorted").exists()


def test_one_head_is_exported_as_it_was_learnt(place):
    succeeded(selavi("export", "run", "--head", "1", "--out", "a.csv", cwd=place))
    assert not any(row["name"] or row["mark"] for row in rows_of(place / "a.csv"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], ["--out"]),
        (["run", "--out", "labels.xlsx"], ["labels.xlsx", ".parquet"]),
        (["run", "--head", "7", "--out", "a.csv"], ["--head 7", "consensus, 0, 1"]),
        (["run", "--out", "run/labels.csv"], ["--out run/labels.csv"]),
        (["run/labels.csv", "--out", "run/annotations.json"], ["--out run/annotations.json"]),
        (["nothing", "--out", "a.csv"], ["nothing", "does not exist"]),
        (["run", "--out", "nowhere/a.csv"], ["nowhere/a.csv"]),
        (["run", "--links", "."], []),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(place, arguments, words):
    refused(selavi("export", *arguments, cwd=place), *words)


def test_browse_refuses_what_does_not_fit(place):
    refused(selavi("browse", "nothing", cwd=place), "nothing")
    refused(selavi("browse", "run", "--thumbnails-only", cwd=place), "--thumbnails-only")
    refused(selavi("browse", "run", "--export", "page", "--port", "5", cwd=place), "--port")
    refused(selavi("browse", "run", "--export", "run", cwd=place), "run", "other files")
    refused(selavi("browse", "run", "--port", "1", "--truth", "nothing.csv", cwd=place), "nothing.csv")
    (place / "run" / "annotations.json").write_text("{")
    refused(selavi("browse", "run", cwd=place), "annotations.json")


def test_new_videos_are_labelled_by_the_names(tmp_path):
    with small_place(tmp_path):
        run = tmp_path / "own"
        run.mkdir()
        for path in (tmp_path / "run").iterdir():
            (run / path.name).symlink_to(path)
        succeeded(selavi("label", "own", "new", "--out", "before.csv", cwd=tmp_path))
        before = rows_of(tmp_path / "before.csv")
        assert "name" not in before[0]
        kept, into = annotations_of(Run(run)), int(before[0]["label"])
        other = (into + 1) % 4
        kept.apply({"op": "rename", "cluster": into, "name": "dogs"})
        kept.apply({"op": "merge", "clusters": [other], "into": into})
        succeeded(selavi("label", "own", "new", "--out", "after.csv", cwd=tmp_path))
        after = rows_of(tmp_path / "after.csv")
        for old, new in zip(before, after, strict=True):
            assert new["label"] == (str(into) if old["label"] == str(other) else old["label"])
            assert new["name"] == ("dogs" if new["label"] == str(into) else "")
        succeeded(selavi("label", "own", "new", "--as-learnt", "--out", "again.csv", cwd=tmp_path))
        assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "before.csv").read_bytes()
        succeeded(selavi("label", "own", "new", "--head", "0", "--out", "head.csv", cwd=tmp_path))
        assert "name" not in rows_of(tmp_path / "head.csv")[0]
        refused(selavi("label", "own/features.h5", "--as-learnt", cwd=tmp_path), "--as-learnt")
        (run / "annotations.json").write_text("[]")
        refused(selavi("label", "own", "new", cwd=tmp_path), "annotations.json")
