"""Runs whose processes are killed, stopped or restarted end with the same labels."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selavi_ref.datasets import make_collection
from selavi_ref.runs.checkpoints import Checkpoints

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
SETTINGS = ["--clusters", "3", "--epochs", "4", "--heads", "2", "--labellings", "5", "--rate", "0.02"]
LIMITS = ["--memory", "1", "--workers", "2"]
ALONE = [sys.executable, "-m", "cli"]
TWO = [
    *[sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"],
    *["--max-restarts=2", "-m", "cli"],
]


def begin(command, place, out, log=None):
    arguments = ["train", "videos", *SETTINGS, *LIMITS, "--batch-size", "8", "--resume", "--out", out]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=place,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=log or subprocess.DEVNULL,
        start_new_session=True,
    )


def complete(command, place, out):
    with open(place / f"{out}.log", "w") as log:
        assert begin(command, place, out, log).wait(timeout=240) == 0, (place / f"{out}.log").read_text()
    return (place / out / "labels.csv").read_bytes(), (place / out / "metrics.jsonl").read_text()


def without_times(log):
    import json

    return [{k: v for k, v in json.loads(line).items() if "seconds" not in k} for line in log.splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("faults")
    make_collection(place / "videos", 32, seed=0)
    return place


@pytest.fixture(scope="module")
def whole(place):
    began = time.monotonic()
    labels, log = complete(ALONE, place, "whole")
    return labels, without_times(log), time.monotonic() - began


def killed_and_resumed(place, out, moment, command=ALONE):
    running = begin(command, place, out)
    time.sleep(moment)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    return complete(command, place, out)


def assert_same(found, whole):
    assert found[0] == whole[0]
    assert without_times(found[1]) == whole[1]


@pytest.mark.processes
def test_a_run_that_is_killed_while_it_learns_ends_with_the_same_labels(place, whole):
    running = begin(ALONE, place, "killed")
    saved = Checkpoints(place / "killed" / "checkpoints")
    while not saved.newest_first() and running.poll() is None:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    (place / "killed" / "checkpoints" / "000002-step-2.pt.partial").write_bytes(b"half a checkpoint")
    assert_same(complete(ALONE, place, "killed"), whole)
    assert not list((place / "killed" / "checkpoints").glob("*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_killed_at_any_moment_it_ends_with_the_same_labels(place, whole, number):
    moment = random.Random(number).uniform(0.02, 0.98) * whole[2]
    assert_same(killed_and_resumed(place, f"killed-{number}", moment), whole)
    shutil.rmtree(place / f"killed-{number}")


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_asked_to_stop_it_saves_and_ends_with_a_status_that_says_go_on(place, whole, number):
    out = f"asked-{number}"
    with open(place / f"{out}.err", "w") as log:
        running = begin(ALONE, place, out, log)
        saved = Checkpoints(place / out / "checkpoints")
        while not saved.newest_first() and running.poll() is None:
            time.sleep(0.01)
        running.send_signal(number)
        assert running.wait(timeout=60) == 75
    err = (place / f"{out}.err").read_text()
    assert f"stopped by a signal; continue with: selavi train --resume --out {out}" in err
    assert "Traceback" not in err
    assert_same(complete(ALONE, place, out), whole)


@pytest.mark.processes
def test_a_killed_rank_is_restarted_and_the_run_goes_on(place):
    labels, log = complete(TWO, place, "two")
    running = begin(TWO, place, "killed-rank")
    saved = Checkpoints(place / "killed-rank" / "checkpoints")
    while not saved.newest_first() and running.poll() is None:
        time.sleep(0.01)
    ranks = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(ranks[-1]), signal.SIGKILL)
    assert running.wait(timeout=240) == 0
    assert (place / "killed-rank" / "labels.csv").read_bytes() == labels
    assert without_times((place / "killed-rank" / "metrics.jsonl").read_text()) == without_times(log)


SLURM = {
    # The job's processes get a signal from scancel; a job that is to be queued again is noted down.
    "scancel": 'echo "$@" >> scancel.log; kill -TERM "$(cat torchrun.pid)"',
    "scontrol": '[ "$1" = show ] && echo localhost || echo "$@" >> scontrol.log',
    "srun": 'echo $$ > torchrun.pid; exec "$@"',
    "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
}


@pytest.mark.processes
def test_a_slurm_job_is_queued_again_when_its_time_is_over_and_then_goes_on(place, tmp_path):
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in SLURM.items():
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)
    environment = ENVIRONMENT | {"PATH": f"{commands}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    environment |= {"SLURM_NNODES": "1", "SLURM_GPUS_ON_NODE": "2", "SLURM_JOB_NODELIST": "localhost"}

    def submit():
        arguments = [str(place / "videos"), *SETTINGS, *LIMITS, "--batch-size", "8", "--out", "run"]
        command = ["bash", str(ROOT / "backbones" / "runs" / "train.slurm"), *arguments]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)

    job = submit()
    saved = Checkpoints(tmp_path / "run" / "checkpoints")
    while not saved.newest_first() and job.poll() is None:
        time.sleep(0.01)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=120) == 0
    assert (tmp_path / "scancel.log").read_text() == "--signal=TERM 7\n"
    assert (tmp_path / "scontrol.log").read_text() == "requeue 7\n"
    assert not (tmp_path / "run" / "labels.csv").exists()
    assert submit().wait(timeout=240) == 0
    labels, _ = complete(TWO, place, "two-again")
    assert sorted((tmp_path / "run" / "labels.csv").read_bytes().splitlines()) == sorted(labels.splitlines())
