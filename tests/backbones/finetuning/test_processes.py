"""Fine-tuning by several processes of torchrun: the result of one process, written by one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from backbones.finetuning.fold_training import FoldContext, FoldTraining  # noqa: E402
from backbones.finetuning.folds import list_folds, scan_folds  # noqa: E402
from backbones.finetuning.training_run import settings_for  # noqa: E402
from selavi_ref.runs.checkpoints import Checkpoints  # noqa: E402
from tests.support.command_line import ROOT, rows_of  # noqa: E402
from tests.support.refusal import refused  # noqa: E402
from tests.support.small_finetuning import UCF, finetune, make_place, weights  # noqa: E402

_CALM = "--dropout 0 --norm batch --learning-rate 0.005 --base-learning-rate 0.005"  # so that rounding stays small
ARGUMENTS = [*UCF, *_CALM.split(), "--batch-size", "15", "--fold", "1", "--augment", "background=0"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with UCF-101, a run of small random networks, and its fine-tuning by one process and by three."""
    place = make_place(tmp_path_factory.mktemp("processes"))
    done = finetune(place, *ARGUMENTS, "--out", "one")
    assert done.exit_code == 0, done.output
    together(place, 3, *ARGUMENTS, "--out", "three")
    return place


def together(place, size, *arguments):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "selavi_ref", "finetune", *arguments]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.processes
def test_three_processes_come_to_what_one_does(place):
    one, three = place / "one", place / "three"
    assert [r["epoch"] for r in records(three)] == [1, 2]
    for alone, shared in zip(records(one), records(three), strict=True):
        assert shared == pytest.approx(alone, rel=2e-3)
    first, others = weights(one), weights(three)
    assert first.keys() == others.keys()
    for name, value in first.items():
        assert torch.allclose(others[name].float(), value.float(), rtol=1e-2, atol=2e-3), name
    answers = [rows_of(folder / "fold1" / "predictions.csv") for folder in (one, three)]
    assert answers[0] == answers[1]
    assert rows_of(one / "results.csv") == rows_of(three / "results.csv")
    assert not list(three.glob("**/*.partial"))


@pytest.mark.processes
def test_one_process_continues_what_three_began(place):
    before = rows_of(place / "three" / "fold1" / "predictions.csv")
    (place / "three" / "fold1" / "outcome.json").unlink()
    done = finetune(place, "--resume", "--workers", "0", "--out", "three")
    assert done.exit_code == 0, done.output
    assert rows_of(place / "three" / "fold1" / "predictions.csv") == before


@pytest.mark.processes
def test_what_one_process_refuses_ends_all_of_them_with_one_reason(place):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "selavi_ref"]
    command = [*launcher, "finetune", "run", "nowhere", "--out", "new"]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert done.stderr.count("nowhere does not exist") == 1
    assert not (place / "new").exists()


class _Processes:
    """The exchange of one of several processes, before it has exchanged anything."""

    def __init__(self, size):
        self.rank, self.size = 0, size


def test_more_processes_than_clips_of_a_step_are_refused(tmp_path):
    place = make_place(tmp_path)
    settings = settings_for(str(place / "run"), "", layout="ucf101", folds=(1,), batch_size=4, clips_per_video=1)
    (fold,) = scan_folds(list_folds(str(place / "UCF-101"), "ucf101"), "test")
    context = FoldContext(Checkpoints(tmp_path), exchange=_Processes(5))
    with refused(option="batch-size"):
        FoldTraining(settings, fold, None, None, None, context)


def test_older_checkpoints_with_the_random_state_of_one_process_are_read():
    from backbones.learner.checkpoint import random_states, restore_random_states
    from selavi_ref.runs.processes import SingleProcess

    device = torch.device("cpu")
    states = random_states(SingleProcess(), device)
    drawn = torch.rand(3)
    for random in (states["random"], states["random"][0]):
        restore_random_states({"random": random, "cuda_random": None}, SingleProcess(), device)
        assert torch.equal(torch.rand(3), drawn)
