"""No command writes into a run folder while another job does."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest

from selavi_ref import label_videos
from selavi_ref.datasets import make_collection
from selavi_ref.errors import RunInUseError
from selavi_ref.runs.run_lock import LOCK_NAME, locked
from tests.support.command_line import refused, rows_of, selavi, start_process, succeeded
from tests.support.small_runs import QUICK


@contextlib.contextmanager
def another_job(folder):
    """A job that writes into a run folder."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with locked(folder):
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(
    ("command", "config"),
    [
        (["train", "videos", "-k", "2"], None),
        (["train", "videos", "-k", "auto"], None),
        (["train", "videos", "-k", "2", "--encoder", "logmel"], None),
        (["train", "videos", "-k", "2", "--resume"], "clusters = 2"),
        (["train", "--resume"], "clusters = 2"),
        (["train", "videos", "--resume", "--encoder", "logmel"], 'kind = "heads"'),
        (["train-heads", "f.h5", "-k", "2"], None),
        (["train-heads", "f.h5", "-k", "auto"], None),
        (["train-heads", "--resume"], 'kind = "heads"'),
        (["finetune", "other", "videos"], None),
        (["finetune", "--resume"], 'kind = "finetune"'),
        (["convert", "x.pth"], None),
        (["demo"], None),
    ],
)
def test_a_command_ends_at_once_in_one_line(tmp_path, command, config):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_text("")
    (tmp_path / "run").mkdir()
    if config is not None:
        (tmp_path / "run" / "config.toml").write_text(config)
    with another_job(tmp_path / "run"):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        line = refused(selavi(*command, "--out", "run", cwd=tmp_path), "run is in use", f"process {os.getpid()}")
        assert "since" in line
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_update_waits_for_its_turn(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text("clusters = 2")
    with another_job(tmp_path / "run"):
        refused(selavi("update", "run", "videos", cwd=tmp_path), "run is in use", f"process {os.getpid()}")


def test_python_callers_get_an_error_with_the_holder(tmp_path):
    with another_job(tmp_path / "run"), pytest.raises(RunInUseError) as caught:
        label_videos(tmp_path / "videos", 2, out=tmp_path / "run")
    assert caught.value.process == os.getpid()


@pytest.mark.parametrize("command", [["train", "none", "-k", "2"], ["train-heads", "none.h5", "-k", "2"]])
def test_a_refused_command_leaves_no_folder(tmp_path, command):
    refused(selavi(*command, "--out", "a/run", cwd=tmp_path), "none")
    assert not list(tmp_path.iterdir())


@pytest.mark.processes
def test_a_job_that_was_queued_twice_runs_once(tmp_path):
    make_collection(tmp_path / "videos", 16, seed=3, seconds=1.5, size=48, fps=8)
    (tmp_path / "quick.toml").write_text(QUICK)
    options = ["videos", "-k", "2", "--config", "quick.toml", "--workers", "0", "--epochs", "20", "--resume"]
    with start_process("train", *options, "--out", "run", cwd=tmp_path) as first:
        while first.poll() is None and not (tmp_path / "run" / LOCK_NAME).exists():
            pass
        with start_process("train", *options, "--out", "run", cwd=tmp_path) as second:
            assert f"process {first.pid}" in second.communicate()[1]
        assert second.returncode == 2
        first.kill()
    with start_process("train", *options, "--out", "run", cwd=tmp_path) as third:
        third.communicate()
    assert third.returncode == 0
    assert len(rows_of(tmp_path / "run" / "labels.csv")) == 16
    succeeded(selavi("check", "run", cwd=tmp_path))
