"""Nearest files of a run to any video, sound or picture, without classes."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from selavi_ref import Run
from selavi_ref.api.page_search import PageSearch
from selavi_ref.browser.collection import open_collection
from selavi_ref.errors import InputError
from selavi_ref.report.neighbours import similar_files
from selavi_ref.store import FeatureStore
from tests.support.command_line import refused, selavi, succeeded
from tests.support.media_files import tone, write_video
from tests.support.small_runs import small_place

WORKERS = ["--workers", "0"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    with small_place(tmp_path_factory.mktemp("neighbours")) as folder:
        yield folder


def test_a_video_of_the_run_finds_others_by_each_space(place: Path) -> None:
    query = str((place / "run").resolve().parent / "videos" / "ball" / "ball_0000.mp4")
    with FeatureStore(place / "run" / "features.h5") as store:
        query = next(path for path in store.paths if Path(path).name == Path(query).name)
        features, paths = store.features("video"), store.paths
    out = succeeded(selavi("retrieve", "run", query, "--neighbours", "3", "--format", "json", *WORKERS, cwd=place))
    rows = json.loads(out)["rows"]
    assert [(row["by"], row["rank"]) for row in rows] == [
        (by, rank) for by in ("video", "audio", "clusters") for rank in (1, 2, 3)
    ]
    assert query not in {row["found"] for row in rows}
    distances = np.linalg.norm(features - features[paths.index(query)], axis=1)
    nearest = [paths[row] for row in np.argsort(distances) if paths[row] != query][:3]
    assert [row["found"] for row in rows[:3]] == nearest


def test_a_sound_finds_videos_through_the_clusters(place: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "sound.wav", n_frames=0, sound=tone(1.5, 700), audio_codec="pcm_s16le")
    out = succeeded(selavi("retrieve", "run", tmp_path / "sound.wav", "--format", "csv", *WORKERS, cwd=place))
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["by"] for row in rows} == {"audio", "clusters"}
    assert [row["rank"] for row in rows if row["by"] == "clusters"] == [str(rank) for rank in range(1, 11)]
    far = [float(row["distance"]) for row in rows if row["by"] == "clusters"]
    assert far == sorted(far)
    assert 0 <= far[0] <= far[-1] <= 1


def test_the_same_from_python(place: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "silent.mp4", fps=8, n_frames=12)
    table = Run.open(place / "run").neighbours(tmp_path / "silent.mp4", 2, workers=0)
    assert [row["by"] for row in table.rows] == ["video", "video", "clusters", "clusters"]
    with pytest.raises(InputError) as error:
        Run.open(place / "run").neighbours(tmp_path / "silent.mp4", 0)
    assert error.value.option == "n"


def test_blocks_do_not_change_what_is_found(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FeatureStore(place / "run" / "features.h5") as store:
        whole = similar_files(store, store, 4).rows
        blocks = store.blocks
        monkeypatch.setattr(store, "blocks", lambda: blocks(5))
        again = similar_files(store, store, 4).rows
        assert [row["found"] for row in again] == [row["found"] for row in whole]
        assert np.allclose([row["distance"] for row in again], [row["distance"] for row in whole], atol=1e-5)
        asked = [row for row in whole if row["by"] == "video"]
        assert len(asked) == 4 * store.n_videos
        assert all(row["query"] != row["found"] for row in whole)


def test_what_cannot_be_compared_is_refused_in_one_line(place: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    refused(selavi("retrieve", "run", tmp_path / "text.mp4", *WORKERS, cwd=place), "text.mp4")
    refused(selavi("retrieve", "run", "missing.mp4", *WORKERS, cwd=place), "missing.mp4")
    refused(selavi("retrieve", "run", cwd=place), "name a video")
    refused(selavi("retrieve", "run", "new", "--pool", "max", cwd=place), "--pool")


def test_long_videos_are_asked_for_in_segments_and_parts_by_their_names(place: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "long.mp4", fps=8, n_frames=70 * 8, sound=tone(70, 500))
    run = Run.open(place / "run")
    table = run.neighbours(tmp_path / "long.mp4", 1, workers=0)
    queries = [f"{tmp_path / 'long.mp4'}#t={start},{start + 10}" for start in range(0, 70, 10)]
    assert list(dict.fromkeys(row["query"] for row in table.rows)) == queries
    command = ("retrieve", "run", "--neighbours", "1", "--format", "json", *WORKERS)
    one = json.loads(succeeded(selavi(*command, queries[2], cwd=place)))["rows"]
    assert [row["found"] for row in one] == [row["found"] for row in table.rows if row["query"] == queries[2]]
    whole = json.loads(succeeded(selavi(*command, tmp_path / "long.mp4", "--segments", "whole", cwd=place)))["rows"]
    assert {row["query"] for row in whole} == {str(tmp_path / "long.mp4")}
    refused(selavi("retrieve", "run", f"{tmp_path}/long.mp4#t=90,99", *WORKERS, cwd=place), "long.mp4#t=90,99")
    for times, what in (("5,1", "start"), ("5,", "end"), ("1:99:00", "start"), ("-1,4", "start")):
        refused(selavi("retrieve", "run", f"{tmp_path}/long.mp4#t={times}", *WORKERS, cwd=place), what, times)
        refused(selavi("retrieve", place / "run", f"long.mp4#t={times}", *WORKERS, cwd=tmp_path), what, times)
    refused(selavi("retrieve", "run", f"{tmp_path}/other.mp4#t=0,9", *WORKERS, cwd=place), "other.mp4#t=0,9")


def test_a_run_that_is_not_finished_is_named_with_how_to_go_on(place: Path, tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    shutil.copy(place / "run" / "config.toml", tmp_path / "begun")
    query = next((place / "videos").rglob("*.mp4"))
    refused(selavi("retrieve", "begun", query, *WORKERS, cwd=tmp_path), "train --resume --out begun")


def test_the_page_finds_the_same_videos(place: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "silent.mp4", fps=8, n_frames=12)
    table = Run.open(place / "run").neighbours(tmp_path / "silent.mp4", 3, workers=0)
    collection = open_collection(place / "run")
    found = PageSearch(collection).by_file(tmp_path / "silent.mp4", 3)
    named = [(by, collection.paths[row]) for by, videos in found.items() for row, _ in videos]
    assert named == [(row["by"], row["found"]) for row in table.rows]
    assert PageSearch(collection).refusals()["file"] == ""


def test_a_run_of_heads_finds_neighbours_by_its_encoders(place: Path, tmp_path: Path) -> None:
    videos = place / "videos"
    succeeded(selavi("extract", videos, "--encoder", "logmel", "--out", "f.h5", "--workers", "1", cwd=tmp_path))
    succeeded(selavi("train-heads", "f.h5", "--clusters", "4", "--out", "heads", cwd=tmp_path))
    query = next((videos / "ball").iterdir())
    table = Run.open(tmp_path / "heads").neighbours(query, 3, workers=1)
    assert [(row["by"], row["rank"]) for row in table.rows] == [
        (by, rank) for by in ("logmel", "clusters") for rank in (1, 2, 3)
    ]
    FeatureStore.from_arrays(tmp_path / "a.h5", {"x": np.eye(8, dtype=np.float32)}, paths=list("abcdefgh")).close()
    succeeded(selavi("train-heads", "a.h5", "--clusters", "2", "--out", "arrays", cwd=tmp_path))
    refused(selavi("retrieve", "arrays", query, *WORKERS, cwd=tmp_path), "a.h5")
