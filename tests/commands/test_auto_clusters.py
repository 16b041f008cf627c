"""`--clusters auto`: a pilot run inside the run's folder estimates the number, and is resumed like any run."""

import json
import shutil
import signal
import time

import numpy as np
import pytest

from selavi_ref.datasets import make_collection
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore, StoreWriter
from tests.support.command_line import refused, rows_of, selavi, start_process

pytestmark = pytest.mark.processes  # each trains runs

AUTO = ["--clusters", "auto:2", "--epochs", "1", "--labellings", "2", "--heads", "2", "--workers", "0"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("auto")
    make_collection(folder / "videos", 40, seed=1)
    done = selavi("train", "videos", *AUTO, "--out", "run", cwd=folder)
    assert done.exit_code == 0, done.stderr
    assert "about 2 clusters" in done.stderr
    return folder


def test_a_pilot_is_trained_and_then_the_run_with_its_networks(place):
    run, pilot = Run(place / "run"), Run(place / "run" / "pilot")
    assert (pilot.config["clusters"], pilot.config["heads"], pilot.config["training"]["overclustering_heads"]) == (
        4,
        5,
        0,
    )
    assert pilot.config["training"]["sizes"]["marginal_penalty"] == 0
    assert (run.config["clusters"], run.config["heads"], run.config["training"]["epochs"]) == (2, 2, 1)
    assert run.config["init"] == str(pilot.folder.resolve())
    assert len(rows_of(run.labels_file)) == 40
    assert json.loads((run.folder / "clusters_counted.json").read_text())["estimate"] == 2
    assert (run.folder / "clusters_counted.svg").exists()


@pytest.mark.processes
def test_one_that_was_stopped_ends_with_the_same_labels(place, tmp_path):
    with start_process("train", place / "videos", *AUTO, "--out", "run", cwd=tmp_path) as running:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "counting.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        message = running.communicate()[1]
    assert running.returncode == 130, message
    assert not (tmp_path / "run" / "config.toml").exists()
    refused(selavi("train", place / "videos", "--clusters", "2", "--out", "run", cwd=tmp_path), "holds a run already")
    done = selavi("train", "--resume", "--out", "run", "--workers", "0", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    labels = [[row["label"] for row in rows_of(folder / "run" / "labels.csv")] for folder in (place, tmp_path)]
    assert labels[0] == labels[1]


def test_one_that_was_killed_before_the_run_was_started_goes_on(place, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    names = ["config.toml", "videos.csv", "skipped.csv", "features.h5", "labels.csv", "metrics.jsonl", "checksums.json"]
    for name in names:
        (tmp_path / "run" / name).unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    done = selavi("train", "--resume", "--out", "run", "--workers", "0", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert len(rows_of(tmp_path / "run" / "labels.csv")) == 40


@pytest.mark.parametrize(
    ("clusters", "words"),
    [
        ("auto:40", ["needs at least 640 videos, but there are 40"]),
        ("auto:1", ["--clusters", "auto:1"]),
        ("auto:x", ["--clusters", "'auto:x' is not a whole number of at least 2, auto"]),
        ("0", ["--clusters", "'0' is not"]),
        ("1", ["--clusters"]),
        ("many", ["--clusters", "'many' is not"]),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(place, clusters, words):
    refused(selavi("train", "videos", "--clusters", clusters, "--out", "other", cwd=place), *words)
    assert not (place / "other" / "config.toml").exists()


def test_sizes_for_a_number_of_clusters_are_refused(place):
    (place / "sizes.txt").write_text("1\n2\n")
    done = selavi("train", "videos", "--clusters", "auto", "--distribution", "sizes.txt", "--out", "other", cwd=place)
    refused(done, "sizes.txt", "give --clusters this number")


@pytest.mark.parametrize("cut", [False, True])
def test_kinds_are_counted_on_features_too(tmp_path, cut):
    rng = np.random.default_rng(0)
    kinds = rng.permutation(240) % 4
    datasets = {"features/video": 12, "features/audio": 12}
    with StoreWriter(tmp_path / "f.h5", [f"{i}.mp4" for i in range(240)], datasets) as writer:
        noise = {name: rng.normal(0, 0.7, (240, 12)) for name in datasets}
        writer.write(slice(0, 240), {name: rng.normal(0, 2, (4, 12))[kinds] + x for name, x in noise.items()})
        writer.finish()
    command = ["train-heads", "f.h5", "--clusters", "auto", "--out", "run"]
    if cut:
        with start_process(*command, cwd=tmp_path) as running:
            deadline = time.monotonic() + 120
            while not (tmp_path / "run" / "counting.json").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            running.kill()
        command = ["train-heads", "--resume", "--out", "run"]
    done = selavi(*command, cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "about 4 clusters" in done.stderr
    with FeatureStore(tmp_path / "run" / "features.h5") as store:
        assert store.n_clusters == 4
