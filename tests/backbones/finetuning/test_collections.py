"""Collections that are fine-tuned on: published and other forms, damaged videos, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from backbones.finetuning.folds import list_folds, scan_folds
from backbones.finetuning.training_run import settings_for, start
from tests.support.command_line import ROOT, refused, rows_of
from tests.support.silent_videos import make_folders, make_hmdb51, write_silent
from tests.support.small_finetuning import SHORT, UCF, finetune, make_place


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with UCF-101, and a run of small random networks."""
    return make_place(tmp_path_factory.mktemp("collections"))


def test_hmdb51_is_learnt_with_its_own_lists_and_tested_once_at_the_end(place):
    make_hmdb51(place)
    options = ["--layout", "hmdb51", "--fold", "1", "--last-only", "--norm", "l2", "--optimizer", "adam"]
    done = finetune(
        place,
        "run",
        "HMDB-51",
        *SHORT,
        *options,
        "--learning-rate",
        "0.01",
        "--base-learning-rate",
        "0.001",
        "--out",
        "hmdb",
    )
    assert done.exit_code == 0, done.output
    assert "fold 1: 6 videos to learn from, 6 to test, 3 classes" in done.stderr
    assert "best" not in done.stdout
    records = [json.loads(line) for line in (place / "hmdb" / "metrics.jsonl").read_text().splitlines()]
    assert ["top_1" in record for record in records] == [False, True]
    assert len(rows_of(place / "hmdb" / "results.csv")) == 1


def test_a_folder_of_parts_and_a_list_of_them_are_learnt_alike(place):
    make_folders(place / "parts")
    entries = sorted((place / "parts").glob("*/*/*.avi"))
    lines = [f"{path.relative_to(place)},{path.parent.name},{path.parent.parent.name}\n" for path in entries]
    (place / "parts.csv").write_text("path,class,split\n" + "".join(lines))
    for videos, out in (("parts", "folders"), ("parts.csv", "list")):
        done = finetune(place, "run", videos, *SHORT, "--epochs", "1", "--out", out)
        assert done.exit_code == 0, done.output
    answers = [rows_of(place / out / "fold1" / "predictions.csv") for out in ("folders", "list")]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 6


def test_damaged_videos_are_replaced_in_training_and_wrong_in_the_test_and_named(place):
    root = make_folders(place / "damaged")
    (root / "train" / "Plain" / "1.avi").write_bytes(b"no video")
    (root / "test" / "Down" / "1.avi").write_bytes(b"no video")
    (fold,) = scan_folds(list_folds(str(root)), "test")
    assert (len(fold.train), len(fold.skipped), len(fold.test)) == (5, 1, 6)
    settings = settings_for(str(place / "run"), str(root), layout="", folds=(1,), epochs=1, clips_per_video=3)
    start(place / "named", settings, [fold])
    for name in ("train/Across/1.avi", "test/Across/1.avi"):  # damaged after they were scanned
        (root / name).write_bytes(b"no video any more")
    done = finetune(place, "--resume", "--memory", "0", "--workers", "0", "--out", "named")
    assert done.exit_code == 0, done.output
    assert "some videos could not always be decoded" in done.stderr
    lines = (place / "named" / "fold1" / "not_decoded.txt").read_text().splitlines()
    assert len(lines) == 1
    assert "train/Across/1.avi" in lines[0]
    (row,) = rows_of(place / "named" / "results.csv")
    assert row["not_decoded"] == "2"
    answers = {Path(a["path"]).relative_to(root).as_posix(): a for a in rows_of(place / "named/fold1/predictions.csv")}
    wrong = [name for name, answer in answers.items() if answer["reason"]]
    assert wrong == ["test/Across/1.avi", "test/Down/1.avi"]
    assert not any(answers[name]["predicted"] or answers[name]["rank"] for name in wrong)
    assert float(row["top_1"]) == np.mean([answer["predicted"] == answer["class"] for answer in answers.values()])
    assert "counted as wrong: fold 1: " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([*UCF, "--fold", "4"], "ucf101 has no fold 4; expected 1 to 3"),
        ([*UCF, "--fold", "one"], "--fold one: whole numbers"),
        ([*UCF, "--milestones", "soon"], "--milestones soon: whole numbers"),
        ([*UCF, "--test-split", "val"], "--test-split goes without --layout"),
        ([*UCF, "--linear-probe"], "--base-learning-rate goes without --linear-probe"),
        ([*UCF, "--augment", "spin=1"], "--augment spin=1: write name=value"),
        (["heads", *UCF[1:]], "heads has learnt from features"),
        (["nowhere", *UCF[1:]], "nowhere is not a folder"),
        (["run", "nowhere", *SHORT], "nowhere does not exist"),
        (["run", "UCF-101", *SHORT], "UCF-101 has no video of the split train: it names no splits"),
        (["run", "parts", *SHORT, "--fold", "1"], "--fold goes with --layout"),
        (["run", "one.csv", *SHORT], "one.csv has no video of the split test: its splits are train"),
        (["run", "other.csv", *SHORT], "the class Down is tested, but has no usable video in the split train"),
        (["run", "same.csv", *SHORT], "learning needs two classes"),
        (["run", "lost.csv", *SHORT], "none of the 1 videos of the split test can be used"),
        (["run"], "name a run and the videos"),
        (["--resume"], "is not a folder"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(place, arguments, why, tmp_path):
    write_silent(place / "few" / "a.avi", "Across", 0)
    (place / "heads").mkdir(exist_ok=True)
    (place / "heads" / "config.toml").write_text('kind = "heads"\n')
    for name, lines in {
        "one": "few/a.avi,Across,train\n",
        "other": "few/a.avi,Across,train\nUCF-101/Plain/v_Plain_g01_c01.avi,Plain,train\n"
        "UCF-101/Down/v_Down_g01_c01.avi,Down,test\n",
        "same": "few/a.avi,Across,train\nUCF-101/Across/v_Across_g01_c01.avi,Across,test\n",
        "lost": "few/a.avi,Across,train\nfew/b.avi,Across,test\n",
    }.items():
        (place / f"{name}.csv").write_text("path,class,split\n" + lines)
    refused(finetune(place, *arguments, "--out", tmp_path / "new"), why)
    assert not (tmp_path / "new").exists()


def test_the_command_loads_no_pytorch_for_its_help():
    code = (
        "import click, sys; from click.testing import CliRunner; from backbones.commands.finetune import finetune\n"
        "done = CliRunner().invoke(finetune, ['--help'], prog_name='selavi finetune')\n"
        "assert not done.exit_code and 'selavi finetune RUN UCF-101' in done.output.partition('Examples')[2]\n"
        "assert not {'torch', 'numba', 'numpy', 'h5py', 'av'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
