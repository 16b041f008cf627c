"""`selavi label --timeline`: stretches that tile the video, in its user's formats, and the same after a kill."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from selavi_ref import Run, train_heads
from selavi_ref.errors import InputError
from tests.support.command_line import refused, rows_of, selavi, succeeded
from tests.support.composed_videos import compose, videos_by_kind
from tests.support.media_files import write_video
from tests.support.small_runs import small_place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    with small_place(tmp_path_factory.mktemp("place")) as folder:
        (folder / "long").mkdir()
        videos = videos_by_kind(folder / "videos")
        compose(videos, folder / "long" / "a.mp4", ["ball", "rain", "ball"], [11, 14, 9])
        compose(videos, folder / "long" / "b.mp4", ["train"], [2])
        options = ("--encoder", "logmel", "--clusters", 4, "--workers", 1)
        succeeded(selavi("train", folder / "videos", *options, "--out", folder / "heads"))
        yield folder


@pytest.mark.parametrize("run", ["run", "heads"])
def test_stretches_tile_each_video(place: Path, tmp_path: Path, run: str) -> None:
    out = tmp_path / "t.csv"
    succeeded(selavi("label", place / run, place / "long", "--timeline", "--workers", 1, "--out", out))
    rows = rows_of(out)
    for name, seconds in (("a.mp4", 34.0), ("b.mp4", 2.0)):
        parts = [row for row in rows if row["path"].endswith(name)]
        assert float(parts[0]["start"]) == 0
        assert float(parts[-1]["end"]) == pytest.approx(seconds, abs=0.1)
        assert [row["end"] for row in parts[:-1]] == [row["start"] for row in parts[1:]]
        assert all(a["label"] != b["label"] for a, b in pairwise(parts))
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    found = Run.open(place / run).timelines(place / "long", workers=1)
    assert [one.label for timeline in found for one in timeline.stretches] == [int(row["label"]) for row in rows]
    refused(selavi("label", place / run, place / "long", "--timeline", "--out", out), "t.csv")


def test_a_folder_gets_a_track_for_each_video(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "tracks"
    options = ("--timeline", "--segments", 4, "--workers", 1, "--out", out, "--format", "audacity")
    succeeded(selavi("label", place / "run", place / "long", *options))
    assert sorted(path.name for path in out.iterdir()) == ["a.txt", "b.txt"]
    assert np.loadtxt(out / "a.txt", usecols=(0, 1), ndmin=2, delimiter="\t")[-1, 1] == pytest.approx(34, abs=0.1)


@pytest.mark.parametrize(
    "options",
    [
        ["--timeline", "--head", "99"],
        ["--timeline", "--out", "t.vtt"],
        ["--timeline", "--out", "t.doc"],
        ["--timeline", "--out", "nowhere/t.csv"],
        ["--timeline", "--out", "nowhere/tracks/"],
        ["--timeline", "--segments", "scenes"],
        ["--timeline", "--out", "-"],
        ["--timeline", "--balanced"],
        ["--format", "vtt"],
    ],
)
def test_what_does_not_go_together_is_refused(place: Path, tmp_path: Path, monkeypatch, options: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert selavi("label", place / "run", place / "long", *options).exit_code == 2
    assert not list(tmp_path.iterdir())


def test_what_heads_cannot_do_is_refused_before_the_work(place: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(selavi("label", place / "heads", place / "long", "--timeline", "--clips", 2), "--clips", "heads")
    arrays = {"x": np.random.default_rng(0).normal(size=(20, 4))}
    run = train_heads(arrays, 2, out=tmp_path / "arrays", paths=[f"{row}.mp4" for row in range(20)])
    refused(selavi("label", run.folder, place / "long", "--timeline"), "input.h5")
    with pytest.raises(InputError) as caught:
        run.timelines(place / "long")
    assert Path(str(caught.value.path)) == run.folder / "input.h5"
    assert [path.name for path in tmp_path.iterdir()] == ["arrays"]


def test_videos_without_what_the_encoders_take_are_named_or_counted(place: Path, tmp_path: Path) -> None:
    silent = [write_video(tmp_path / f"silent{number}.mp4", n_frames=50, fps=10) for number in range(7)]
    out = tmp_path / "t.csv"
    command = ("label", place / "heads", tmp_path, "--timeline", "--workers", 1, "--out", out)
    refused(selavi(*command), str(silent[0]))
    assert not out.exists()
    shutil.copy(place / "long" / "b.mp4", tmp_path)
    done = selavi(*command)
    assert done.exit_code == 0
    assert sum(str(path) in done.stderr for path in silent) == 5
    assert {row["path"] for row in rows_of(out)} == {str(tmp_path / "b.mp4")}


@pytest.mark.processes
@pytest.mark.parametrize("run", ["run", "heads"])
def test_a_killed_timeline_goes_on_to_the_same_result(place: Path, tmp_path: Path, run: str) -> None:
    videos = videos_by_kind(place / "videos")
    (tmp_path / "long").mkdir()
    compose(videos, tmp_path / "long" / "c.mp4", ["ball", "rain", "train"], [60, 70, 50])
    command = [sys.executable, "-m", "selavi_ref", "label", place / run, tmp_path / "long", "--timeline"]
    command += ["--segments", "1", "--workers", "1", "--out"]
    begin = time.monotonic()
    subprocess.run([*command, tmp_path / "whole.csv"], check=True)
    whole = time.monotonic() - begin
    rng = np.random.default_rng(0)
    for _ in range(10):
        process = subprocess.Popen([*command, tmp_path / "killed.csv"])
        time.sleep(rng.uniform(0.3, 1.0) * whole)
        process.kill()
        process.wait()
        if (tmp_path / "killed.csv").exists():
            break
    if not (tmp_path / "killed.csv").exists():
        subprocess.run([*command, tmp_path / "killed.csv"], check=True)
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not list(tmp_path.glob("killed*.h5.partial"))
