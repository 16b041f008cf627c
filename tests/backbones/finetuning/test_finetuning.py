"""Fine-tuning as a user meets it: small collections in the forms of the published ones, real files and processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from backbones.learner.checkpoint import read_checkpoint, read_newest  # noqa: E402
from backbones.networks import registry  # noqa: E402
from selavi_ref.runs.checkpoints import Checkpoints  # noqa: E402
from selavi_ref.runs.run import Run  # noqa: E402
from tests.support.command_line import ROOT, refused, rows_of  # noqa: E402
from tests.support.silent_videos import CLASSES  # noqa: E402
from tests.support.small_finetuning import UCF, finetune, make_place, weights  # noqa: E402

PROGRAM = "import cli; cli.main()"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with UCF-101, and a run of small random networks."""
    return make_place(tmp_path_factory.mktemp("finetuning"))


@pytest.fixture(scope="module")
def whole(place):
    """The three folds, carried out at one go."""
    done = finetune(place, *UCF, "--out", "whole")
    assert done.exit_code == 0, done.output
    return done


def process(place, *arguments):
    """Start the program as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, "finetune", *arguments]
    return subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True)


def everything(folder):
    """What must be equal, bit for bit, however a fine-tuning came to its end."""
    names = ["results.txt", "results.csv", "results.json", "metrics.jsonl", "accuracy.svg"]
    names += [f"fold{fold}/{name}" for fold in (1, 2, 3) for name in ("predictions.csv", "outcome.json")]
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.processes
def test_three_folds_are_learnt_above_chance_and_leave_tables_figure_and_answers(place, whole):
    rows = rows_of(place / "whole" / "results.csv")
    assert [row["fold"] for row in rows] == ["1", "2", "3", "mean"]
    assert [(row["train_videos"], row["test_videos"]) for row in rows[:3]] == [("12", "6")] * 3
    top_1 = [float(row["top_1"]) for row in rows]
    assert top_1[3] == pytest.approx(np.mean(top_1[:3]))
    assert top_1[3] > 0.5  # chance: a third
    assert {row["top_5"] for row in rows} == {"1.0"}
    facts = json.loads((place / "whole" / "results.json").read_text())
    for row, fold in zip(rows, facts["folds"], strict=False):
        tested = [record["top_1"] for record in fold["epochs"]]
        assert float(row["top_1"]) == tested[-1]
        assert float(row["best_top_1"]) == max(tested)
        answers = rows_of(place / "whole" / f"fold{row['fold']}" / "predictions.csv")
        assert np.mean([answer["class"] == answer["predicted"] for answer in answers]) == tested[-1]
        assert np.mean([answer["rank"] == "1" for answer in answers]) == tested[-1]
    assert "chosen on the test set" in whole.stdout
    assert "mean" in (place / "whole" / "results.txt").read_text()
    for figure in ("accuracy.png", "accuracy.svg"):
        assert (place / "whole" / figure).stat().st_size > 5000
    records = [json.loads(line) for line in (place / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [(r["fold"], r["epoch"]) for r in records] == [(fold, epoch) for fold in (1, 2, 3) for epoch in (1, 2)]
    assert [r["rate"] for r in records[:2]] == [0.05, pytest.approx(0.01)]
    config = tomllib.loads((place / "whole" / "config.toml").read_text())
    assert config["kind"] == "finetune"
    assert (config["clips_per_video"], config["dropout"], config["folds"]) == (10, 0.2, [1, 2, 3])


def test_each_video_is_tested_in_the_fold_of_its_list(place, whole):
    for fold in (1, 2, 3):
        tested = {Path(row["path"]).name for row in rows_of(place / "whole" / f"fold{fold}" / "predictions.csv")}
        groups = [group for group in range(1, 7) if group % 3 == fold - 1]
        assert tested == {f"v_{kind}_g{group:02d}_c01.avi" for kind in CLASSES for group in groups}


def test_finished_folds_are_not_repeated_and_other_settings_are_refused(place, whole):
    before = {path: path.stat().st_mtime_ns for path in (place / "whole").glob("fold*/**/*")}
    for arguments in ([*UCF, "--out", "whole"], ["--resume", "--out", "whole"]):
        done = finetune(place, *arguments)
        assert done.exit_code == 0, done.output
        assert done.stdout == whole.stdout
    assert {path: path.stat().st_mtime_ns for path in (place / "whole").glob("fold*/**/*")} == before
    done = finetune(place, *UCF, "--learning-rate", "0.2", "--clips", "3", "--out", "whole")
    refused(done, "started with another --clips, --learning-rate")
    refused(finetune(place, "--resume", "--epochs", "3", "--out", "whole"), "--epochs cannot be changed with --resume")


STOPS = [  # a signal in each fold: exit status, and what is said
    (signal.SIGTERM, 75, "stopped by a signal; continue with: selavi finetune --resume --out stopped"),
    (signal.SIGINT, 130, "stopped; continue with: selavi finetune --resume --out stopped"),
    (signal.SIGKILL, -9, ""),
]


@pytest.mark.processes
def test_stopped_within_each_fold_it_ends_with_the_same_results_bit_for_bit(place, whole):
    for fold, (number, status, says) in enumerate(STOPS, 1):
        running = process(place, *UCF, "--checkpoint-minutes", "1e-9", "--out", "stopped")  # it saves after each step
        saved = Checkpoints(place / "stopped" / f"fold{fold}" / "checkpoints")
        while not (steps := [int(path.stem.split("-")[2]) for path in saved.newest_first()]) or max(steps) < 3:
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.005)
        running.send_signal(number)
        err = running.communicate(timeout=60)[1]
        assert running.returncode == status, err
        assert says in err
        assert "Traceback" not in err
        assert not (place / "stopped" / f"fold{fold}" / "outcome.json").exists()
    done = finetune(place, "--resume", "--out", "stopped")
    assert done.exit_code == 0, done.output
    assert everything(place / "stopped") == everything(place / "whole")
    for fold in (1, 2, 3):
        first, again = weights(place / "whole", fold), weights(place / "stopped", fold)
        assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(place, whole):
    shutil.copytree(place / "whole", place / "broken")
    (place / "broken" / "fold3" / "outcome.json").unlink()
    newest = Checkpoints(place / "broken" / "fold3" / "checkpoints").newest_first()[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 255
    newest.write_bytes(content)
    done = finetune(place, "--resume", "--workers", "0", "--out", "broken")
    assert done.exit_code == 0, done.output
    assert "is damaged; using the checkpoint before it" in done.stderr
    assert everything(place / "broken") == everything(place / "whole")


def test_a_linear_probe_leaves_the_network_as_it_was_bit_for_bit(place):
    options = ["--linear-probe", "--norm", "batch", "--optimizer", "adam", "--fold", "2", "--epochs", "1"]
    arguments = [
        *UCF[:4],
        "--clips",
        "4",
        "--test-clips",
        "1",
        "--test-crops",
        "1",
        "--learning-rate",
        "0.1",
        "--workers",
        "0",
    ]
    done = finetune(place, *arguments, *options, "--out", "probe")
    assert done.exit_code == 0, done.output
    begun = {name: v for name, v in read_newest(Run(place / "run"))["model"].items() if name.startswith("video_net")}
    learnt = weights(place / "probe", 2)
    for name, value in begun.items():
        assert torch.equal(value, learnt[name.replace("video_network", "base")])
    assert len([name for name in learnt if name.startswith("base.")]) == len(begun)
    assert learnt["norm.num_batches_tracked"] > 0
    assert "base_rate" not in (place / "probe" / "metrics.jsonl").read_text()


def test_fine_tuning_changes_the_network_and_from_scratch_it_begins_with_others(place, whole):
    done = finetune(place, *UCF, "--fold", "1", "--epochs", "1", "--from-scratch", "--out", "scratch")
    assert done.exit_code == 0, done.output
    assert "random weights" in done.stdout
    assert not (place / "scratch" / "begin.pt").exists()
    name = "base.base.0.weight"
    begun = read_checkpoint(place / "whole" / "begin.pt")["model"][name.removeprefix("base.")]
    for folder, near in (("whole", True), ("scratch", False)):
        learnt = weights(place / folder)[name]
        assert not torch.equal(learnt, begun)
        assert (torch.cosine_similarity(learnt.flatten(), begun.flatten(), 0) > 0.7) == near


def test_it_begins_with_a_file_of_weights(place):
    torch.manual_seed(5)
    weights = registry.find("video", "tiny").build().state_dict()
    torch.save({**weights, "fc.weight": torch.zeros(4, 192)}, place / "supervised.pth")
    options = ["--fold", "1", "--epochs", "1", "--video-weights", "supervised.pth"]
    done = finetune(place, *UCF, *options, "--out", "supervised")
    assert done.exit_code == 0, done.output
    assert "supervised.pth" in done.stdout
    begun = read_checkpoint(place / "supervised" / "begin.pt")["model"]
    assert all(torch.equal(begun[f"base.{name}"], value) for name, value in weights.items())
    refused(finetune(place, *UCF, *options, "--from-scratch", "--out", "both"), "--from-scratch")
    wrong = finetune(place, *UCF, "--video-weights", "published.pth", "--out", "wrong")
    refused(wrong, "does not fit the video network tiny")
