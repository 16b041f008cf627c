"""No command writes over a file of the user, whichever option names it."""

from __future__ import annotations

import csv
import json
import shutil

import h5py
import numpy as np
import pytest

from selavi_ref.errors import InputError, StoreError
from selavi_ref.report.table import Table
from selavi_ref.runs.run import Run
from selavi_ref.store import StoreWriter
from tests.support.command_line import refused, selavi, succeeded

N, K = 24, 3
MINE = b"mine\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store with true classes, its labels, features as arrays, and a folder of two files called videos."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    kinds = np.arange(N) % K
    logits = rng.normal(size=(N, K)) + 6 * np.eye(K)[kinds]
    log_prob = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
    sets = {f"{kind}/{m}{head}": K for m in ("video", "audio") for kind, head in (("features", ""), ("log_prob", "/0"))}
    paths = [f"/videos/{'abc'[kind]}/{row}.mp4" for row, kind in enumerate(kinds)]
    with StoreWriter(folder / "f.h5", paths, sets, classes=["abc"[kind] for kind in kinds]) as writer:
        writer.write(range(N), dict.fromkeys(sets, log_prob))
        writer.finish()
    np.save(folder / "x.npy", logits.astype(np.float32))
    (folder / "list.csv").write_text("path\n" + "".join(f"{path}\n" for path in paths))
    (folder / "videos").mkdir()
    (folder / "videos" / "a.mp4").write_text("no video")
    succeeded(selavi("label", "f.h5", "--out", "labels.csv", cwd=folder))
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ["label", "f.h5", "--out", "OUT.csv"],
        ["scan", "videos", "--out", "OUT.csv"],
        ["export", "labels.csv", "--out", "OUT.csv"],
        ["export", "f.h5", "--out", "OUT.json"],
        ["export", "f.h5", "--out", "OUT.parquet"],
        ["export", "f.h5", "--embeddings", "OUT.npz"],
        ["export", "f.h5", "--to", "coco", "OUT.json"],
        ["extract", "--embeddings", "x.npy", "list.csv", "--out", "OUT.h5"],
        ["extract", "no such videos", "--encoder", "logmel", "--out", "OUT.h5"],
        ["extract", "no such run", "no such videos", "--out", "OUT.h5"],
        ["convert", "run", "--to", "OUT.pth"],
        ["train-heads", "f.h5", "-k", "3", "--out", "OUT"],
        ["demo", "--out", "OUT"],
    ],
)
def test_a_file_of_the_user_stays(place, tmp_path, command):
    for name in ("f.h5", "labels.csv", "x.npy", "list.csv", "videos"):
        (tmp_path / name).symlink_to(place / name)
    out = tmp_path / next(part for part in command if part.startswith("OUT"))
    out.write_bytes(MINE)
    refused(selavi(*command, cwd=tmp_path), out.name)
    assert out.read_bytes() == MINE
    left = {"f.h5", "labels.csv", "x.npy", "list.csv", "videos", out.name}
    assert {path.name for path in tmp_path.iterdir()} == left


@pytest.mark.parametrize(
    "command",
    [
        ["label", "f.h5", "--force", "--out"],
        ["scan", "videos", "--force", "--out"],
        ["export", "f.h5", "--force", "--to", "coco"],
        ["export", "f.h5", "--force", "--embeddings"],
        ["extract", "--embeddings", "x.npy", "list.csv", "--out"],
        ["check", "f.h5", "--log-file"],
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "B.WAV", "c.png"])
def test_a_video_sound_or_picture_is_never_replaced(place, tmp_path, command, name):
    (tmp_path / name).write_bytes(MINE)
    for one in ("f.h5", "labels.csv", "x.npy", "list.csv", "videos"):
        (tmp_path / one).symlink_to(place / one)
    refused(selavi(*command, name, cwd=tmp_path), name)
    assert (tmp_path / name).read_bytes() == MINE


@pytest.mark.parametrize(
    "outputs",
    [
        ["--links", "OUT", "--cut", "OUT"],
        ["--links", "OUT", "--cut", "./OUT/"],
        ["--out", "OUT/a.csv", "--links", "OUT"],
        ["--out", "OUT.csv", "--out", "OUT.csv"],
        ["--to", "coco", "OUT.json", "--out", "OUT.json"],
        ["--to", "cvat", "OUT", "--cut", "OUT/clips"],
    ],
)
def test_an_export_writes_no_output_over_another(place, tmp_path, outputs):
    refused(selavi("export", place / "f.h5", *outputs, cwd=tmp_path), "OUT")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "labels.csv", "--out", "OUT"],
        ["check", "f.h5", "--out", "OUT"],
        ["retrieve", "f.h5", "--out", "OUT"],
        ["baseline", "f.h5", "-k", "3", "--out", "OUT"],
    ],
)
def test_tables_of_the_user_stay_in_a_folder_of_results_and_own_ones_are_replaced(place, tmp_path, command):
    for name in ("f.h5", "labels.csv"):
        (tmp_path / name).symlink_to(place / name)
    for _ in range(2):
        succeeded(selavi(*command, cwd=tmp_path))
    tables = [path for path in (tmp_path / "OUT").rglob("*.csv") if path.with_suffix(".json").exists()]
    assert tables
    for table in tables:
        for ending in (".csv", ".txt", ".json"):
            shutil.rmtree(tmp_path / "OUT")
            mine = table.with_suffix(ending)
            mine.parent.mkdir(parents=True)
            mine.write_bytes(MINE)
            refused(selavi(*command, cwd=tmp_path), mine.name)
            assert mine.read_bytes() == MINE


@pytest.mark.parametrize("name", ["videos.csv", "labels.csv", "features.h5", "annotations.json", "metrics.jsonl"])
def test_a_run_is_not_started_over_files_of_the_user(place, tmp_path, name):
    (tmp_path / name).write_bytes(MINE)
    with pytest.raises(InputError) as caught:
        Run.prepare(tmp_path)
    assert caught.value.path == tmp_path / name
    refused(selavi("train-heads", place / "f.h5", "-k", 3, "--out", ".", cwd=tmp_path), name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_store_is_not_written_over_something_else(tmp_path):
    (tmp_path / "x.h5").write_bytes(MINE)
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["mine"] = 1
    for name in ("x.h5", "y.h5"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(StoreError) as caught:
            StoreWriter(tmp_path / name, ["a"], {"features/video": 2})
        assert caught.value.problem == "foreign"
        assert (tmp_path / name).read_bytes() == before


def test_cells_of_reports_are_no_formulas_but_paths_stay_as_they_are(tmp_path):
    rows = [{"path": "=a.mp4", "class": "-c", "reason": "=1+1", "x": -1.5}, {"path": "b", "reason": None}]
    Table("t", {name: name for name in ("path", "class", "reason", "x")}, rows).write(tmp_path / "t")
    with open(tmp_path / "t.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {"path": "=a.mp4", "class": "-c", "reason": "'=1+1", "x": "-1.5"}
    assert second["reason"] == ""
    assert json.loads((tmp_path / "t.json").read_text())["rows"][0]["reason"] == "=1+1"
