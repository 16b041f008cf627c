"""Long videos in the commands: they are cut unless the user forbids it, and each segment gets a label."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest

from selavi_ref import Run
from selavi_ref.media import read_video
from tests.support.command_line import refused, rows_of, selavi, succeeded
from tests.support.composed_videos import compose, videos_by_kind
from tests.support.growing import edit
from tests.support.small_runs import small_place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    with small_place(tmp_path_factory.mktemp("place")) as folder:
        (folder / "long").mkdir()
        videos = videos_by_kind(folder / "videos")
        compose(videos, folder / "long" / "a.mp4", ["ball", "rain", "ball"], [25, 20, 20])
        yield folder


def test_a_long_video_gets_a_label_for_each_segment(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    result = selavi("label", place / "run", place / "long", "--workers", 1, "--out", out)
    succeeded(result)
    assert "6 segments" in result.output
    rows = rows_of(out)
    assert [(row["start"], row["end"]) for row in rows] == [
        (f"{10 * n}.000", f"{10 * n + 10 if n < 5 else 65}.000") for n in range(6)
    ]
    assert all(row["label"] for row in rows)
    succeeded(selavi("label", place / "run", place / "long", "--segments", "whole", "--workers", 1, "--out", out))
    (row,) = rows_of(out)
    assert "start" not in row


@pytest.mark.processes
def test_a_list_of_segments_is_trained_on_exported_and_evaluated(place: Path, tmp_path: Path) -> None:
    listed, run = tmp_path / "list.csv", tmp_path / "run"
    with open(listed, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "start", "end", "class"])
        for n in range(32):
            start = 2 * n
            writer.writerow([place / "long" / "a.mp4", start, start + 2, "rain" if 25 <= start < 45 else "ball"])
    options = ("--clusters", 2, "--config", place / "quick.toml", "--epochs", 1, "--workers", 1)
    succeeded(selavi("train", listed, "--out", run, *options, "--cache", tmp_path / "cache"))
    assert len(rows_of(run / "labels.csv")) == 32
    assert rows_of(run / "videos.csv")[3]["start"] == "6.0"
    outs = ("--out", tmp_path / "out.csv", "--out", tmp_path / "out.json", "--links", tmp_path / "t")
    succeeded(selavi("export", run, *outs))
    exported = rows_of(tmp_path / "out.csv")
    assert (exported[3]["start"], exported[3]["end"], exported[3]["class"]) == ("6.000", "8.000", "ball")
    assert any(path.name == "a_6-8.mp4" for path in (tmp_path / "t").rglob("*.mp4"))
    assert selavi("export", run, "--to", "coco", tmp_path / "coco.json").exit_code == 2, "it knows no segments"
    clips = tmp_path / "clips"
    succeeded(selavi("export", run, "--cut", clips))
    cut = [read_video(path, fps=4, size=32, sample_rate=8000) for path in clips.rglob("*.mp4")]
    assert len(cut) == 32
    assert all(len(clip.frames) >= 8 and len(clip.samples) >= 15000 for clip in cut)
    assert all((clips / row["link"]).exists() for row in rows_of(clips / "labels.csv"))
    before = {path: path.stat().st_mtime_ns for path in clips.rglob("*.mp4")}
    succeeded(selavi("export", run, "--cut", clips))
    assert before == {path: path.stat().st_mtime_ns for path in clips.rglob("*.mp4")}
    assert selavi("export", run, "--cut", place / "long").exit_code == 2, "it holds something else"
    links = tmp_path / "links"
    succeeded(selavi("export", run, "--links", links))
    assert selavi("export", run, "--cut", links).exit_code == 2, "a folder of links"
    edit(tmp_path, op="rename", cluster=int(rows_of(run / "labels.csv")[0]["label"]), name="first")
    os.utime(place / "long" / "a.mp4")
    succeeded(selavi("export", run, "--cut", clips))
    after = {path: path.stat().st_mtime_ns for path in clips.rglob("*.mp4")}
    assert after.keys() == {clips / row["link"] for row in rows_of(clips / "labels.csv")} != before.keys()
    assert not after.items() & before.items(), "the video is younger than the clips"
    succeeded(selavi("evaluate", run / "labels.csv", "--truth", listed))
    succeeded(selavi("check", run, "--out", tmp_path / "check"))


@pytest.mark.processes
@pytest.mark.parametrize("how", [["--config", "quick.toml", "--epochs", 1], ["--encoder", "logmel"]])
def test_a_run_keeps_its_segments_for_new_videos_and_for_its_settings_file(
    place: Path, tmp_path: Path, how: list[str | int]
) -> None:
    shutil.copy(place / "quick.toml", tmp_path)
    shutil.copytree(place / "long", tmp_path / "long")
    command = ("train", "long", "--clusters", 2, "--workers", 1)
    succeeded(selavi(*command, *how, "--segments", 5, "--out", "run", cwd=tmp_path))
    assert len(rows_of(tmp_path / "run" / "labels.csv")) == 13
    compose(videos_by_kind(place / "videos"), tmp_path / "long" / "b.mp4", ["rain"], [20])
    succeeded(selavi("update", "run", "long", "--workers", 1, cwd=tmp_path))
    ends = [row["end"] for row in rows_of(tmp_path / "run" / "labels.csv") if row["path"].endswith("b.mp4")]
    assert ends == ["5.000", "10.000", "15.000", "20.000"]
    succeeded(selavi("label", "run", "long/b.mp4", "--workers", 1, "--out", "b.csv", cwd=tmp_path))
    assert [row["end"] for row in rows_of(tmp_path / "b.csv")] == ends
    assert len(Run.open(tmp_path / "run").predict(tmp_path / "long" / "b.mp4", workers=1)) == 4
    succeeded(selavi("label", "run", "long/b.mp4", "--segments", "whole", "--out", "whole.csv", cwd=tmp_path))
    assert len(rows_of(tmp_path / "whole.csv")) == 1
    if "--config" in how:
        succeeded(selavi(*command, "--config", "run/config.toml", "--out", "again", cwd=tmp_path))
        assert len(rows_of(tmp_path / "again" / "labels.csv")) == 17


@pytest.mark.parametrize("command", ["scan", "train", "label", "extract"])
def test_a_segmentation_that_there_is_not_is_refused(place: Path, tmp_path: Path, command: str) -> None:
    sources = {"scan": [], "train": ["--clusters", 2], "label": [], "extract": []}[command]
    run = [place / "run"] if command in ("label", "extract") else []
    result = selavi(command, *run, place / "long", "--segments", "ten", "--out", tmp_path / "out", *sources)
    assert result.exit_code == 2
    assert "--segments" in result.output


@pytest.mark.parametrize("asked", ["often", "0.5", "nan", "-2"])
@pytest.mark.parametrize(
    "command", [["label", "run", "videos"], ["scan", "videos"], ["extract", "run", "videos", "--out", "x.h5"]]
)
def test_segments_that_are_none_are_refused_before_anything_is_read(tmp_path, command, asked):
    line = refused(selavi(*command, "--segments", asked, cwd=tmp_path), f"--segments {asked}")
    assert line.startswith(f"selavi {command[0]}: ")
    assert not list(tmp_path.iterdir())
