"""One job at a time writes into a run folder, whatever has become of the one before, and wherever it ran."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from selavi_ref.errors import RunInUseError
from selavi_ref.runs import run_lock
from selavi_ref.runs.processes import SingleProcess
from selavi_ref.runs.run import Run
from selavi_ref.runs.run_lock import LOCK_NAME, STALE_AFTER, locked
from selavi_ref.runs.session import training_session
from tests.support.command_line import ROOT
from tests.support.refusal import refused

HOLD = """
import sys, time
from selavi_ref.runs.run_lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
NO_LOCKS = [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL]


@contextlib.contextmanager
def another_process(folder):
    """A process that holds the lock of a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def without_locks(monkeypatch, request):
    """A file system that has no locks."""

    def refuse(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "lockf", refuse)


def left_behind(folder, age=0.0, **fields):
    """The file of a lock, touched some seconds ago."""
    values = {
        "process": 4_000_000,
        "machine": socket.gethostname(),
        "since": "2026-01-01 00:00:00",
        "started": "1",
        "boot": run_lock._boot(),
        "processes": run_lock._process_space(),
        "token": "another",
    }
    file = folder / LOCK_NAME
    file.write_text(json.dumps(values | fields))
    os.utime(file, (time.time() - age, time.time() - age))


def taken(folder):
    with locked(folder):
        assert json.loads((folder / LOCK_NAME).read_text())["process"] == os.getpid()
    return not (folder / LOCK_NAME).exists()


def test_a_second_process_is_refused_with_the_holder_until_that_one_is_killed(tmp_path):
    before = time.strftime("%Y-%m-%d %H:%M:%S")
    with another_process(tmp_path) as other:
        for _ in range(2):
            with pytest.raises(RunInUseError) as caught, locked(tmp_path):
                pass
            error = caught.value
            assert (error.path, error.process, error.machine) == (tmp_path, other.pid, socket.gethostname())
            assert before <= error.since <= time.strftime("%Y-%m-%d %H:%M:%S")
            assert str(error).isprintable()
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (tmp_path / LOCK_NAME).exists()
        assert taken(tmp_path)


@pytest.mark.parametrize("without_locks", NO_LOCKS, indirect=True)
def test_without_locks_of_the_system_the_named_process_counts(tmp_path, without_locks):
    with another_process(tmp_path) as other:  # it writes who it is, too
        with pytest.raises(RunInUseError) as caught, locked(tmp_path):
            pass
        assert caught.value.process == other.pid
        started = json.loads((tmp_path / LOCK_NAME).read_text())["started"]
        left_behind(tmp_path, process=other.pid, started=f"{started}0")  # its number was that of an earlier process
        assert taken(tmp_path)
    left_behind(tmp_path, process=other.pid, started=started)
    assert taken(tmp_path)


@pytest.mark.parametrize("without_locks", NO_LOCKS[:1], indirect=True)
def test_of_two_that_find_the_same_stale_lock_one_has_it(tmp_path, without_locks, monkeypatch):
    left_behind(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda _: left_behind(tmp_path, token="quicker"))
    with pytest.raises(RunInUseError), locked(tmp_path):
        pass


@pytest.mark.parametrize("elsewhere", [{"boot": "another", "machine": "node7"}, {"boot": "another"}])
@pytest.mark.parametrize("certain", [True, False])
def test_another_machine_holds_its_lock_as_long_as_it_shows_life(tmp_path, monkeypatch, elsewhere, certain):
    if not certain:
        monkeypatch.setattr(fcntl, "lockf", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "no locks")))
    left_behind(tmp_path, age=STALE_AFTER - 20, **elsewhere)
    with pytest.raises(RunInUseError) as caught, locked(tmp_path):
        pass
    assert caught.value.machine == elsewhere.get("machine", socket.gethostname())
    left_behind(tmp_path, age=STALE_AFTER + 1, **elsewhere)
    assert taken(tmp_path)


def test_a_container_with_its_own_numbers_of_processes_counts_as_another_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "lockf", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "no locks")))
    left_behind(tmp_path, processes="pid:[1]")
    with pytest.raises(RunInUseError), locked(tmp_path):
        pass
    left_behind(tmp_path, age=STALE_AFTER + 1, processes="pid:[1]")
    assert taken(tmp_path)


def test_a_server_that_keeps_the_lock_of_a_failed_machine_is_outlived(tmp_path, monkeypatch):
    left_behind(tmp_path, age=STALE_AFTER + 1, boot="another")
    kept = os.stat(tmp_path / LOCK_NAME).st_ino

    def server(descriptor, _):
        if os.fstat(descriptor).st_ino == kept:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    # Another file is held open under the old one's inode, which a file system may give out again.
    with open(tmp_path / LOCK_NAME):
        monkeypatch.setattr(fcntl, "lockf", server)
        assert taken(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 4000, b"[1]", b'{"process": "x", "since": 3}', b"{"])
def test_an_unreadable_name_does_not_matter_where_the_lock_is_free(tmp_path, content):
    (tmp_path / LOCK_NAME).write_bytes(content)
    os.utime(tmp_path / LOCK_NAME, (0, 0))
    assert taken(tmp_path)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("elsewhere", path)])
def test_what_is_no_file_is_refused_in_one_line(tmp_path, make):
    make(tmp_path / LOCK_NAME)
    with refused(path=tmp_path / "run.lock"), locked(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_does_not_stop_the_lock(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with locked(tmp_path):
        pass


def test_blocks_within_a_block_are_one_lock_but_not_those_of_another_thread(tmp_path):
    errors = []

    def other():
        try:
            with locked(tmp_path):
                pass
        except RunInUseError as error:
            errors.append(error.process)

    with locked(tmp_path):
        with locked(tmp_path / ".." / tmp_path.name), training_session(Run(tmp_path), tensorboard=False):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert (tmp_path / LOCK_NAME).exists()
    assert errors == [os.getpid()]
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_forked_child_neither_ends_nor_inherits_the_lock(tmp_path):
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException), locked(tmp_path):
                pass
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(subprocess.CalledProcessError):
            subprocess.run([sys.executable, "-c", HOLD, tmp_path], cwd=ROOT, check=True, capture_output=True)


def test_the_folder_of_a_run_that_was_not_started_goes_with_the_lock(tmp_path):
    with locked(tmp_path / "a" / "run"):
        assert (tmp_path / "a" / "run").is_dir()
    assert not (tmp_path / "a").exists()
    with locked(tmp_path / "a" / "run"):
        (tmp_path / "a" / "run" / "config.toml").write_text("")
    assert os.listdir(tmp_path / "a" / "run") == ["config.toml"]


def test_a_job_that_was_suspended_notices_that_its_run_was_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "HEARTBEAT", 0.01)
    with locked(tmp_path) as lock:
        os.utime(tmp_path / LOCK_NAME, (0, 0))
        wait_until(lambda: os.stat(tmp_path / LOCK_NAME).st_mtime > 0)
        (tmp_path / LOCK_NAME).unlink()  # by hand
        time.sleep(0.05)
        lock.verify()
        left_behind(tmp_path, machine="node7")
        wait_until(lambda: lock._taken_over_by)
        with pytest.raises(RunInUseError) as caught:
            lock.verify()
        assert caught.value.machine == "node7"
    assert (tmp_path / LOCK_NAME).exists()  # it is that of the other


def wait_until(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError


def test_the_first_process_of_a_run_holds_the_lock_for_all(tmp_path):
    class Second(SingleProcess):
        rank = 1

    with locked(tmp_path), locked(tmp_path, Second()) as lock:
        assert lock is None
