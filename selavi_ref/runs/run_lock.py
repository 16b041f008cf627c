"""The lock of a run folder: one job at a time writes into it, on this machine or on another one that sees it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from selavi_ref.errors import InputError, RunInUseError, SelaviError, printable
from selavi_ref.runs.processes import Exchange, SingleProcess, raise_together

LOCK_NAME = "run.lock"
HEARTBEAT = 30.0  # seconds between two signs of life: the holder touches its file
STALE_AFTER = 300.0  # seconds without a sign of life after which a lock of another machine is taken over

_HELD_BY_ANOTHER = {errno.EAGAIN, errno.EACCES}
_MAX_BYTES = 4096


@contextmanager
def locked(
    folder: str | os.PathLike[str],
    exchange: Exchange = SingleProcess(),  # noqa: B008
) -> Iterator[RunLock | None]:
    """
    Hold the lock of a run folder while the block runs; the folder is made if necessary.

    Within such a block, a further one of the same thread on the same folder has no effect.

    Parameters
    ----------
    folder : path
        The run folder.
    exchange : Exchange
        The processes of the run, all of which call this; the first one holds the lock for all.

    Yields
    ------
    RunLock or None
        The lock, in the first process.

    Raises
    ------
    RunInUseError
        If another job writes into the folder.
    InputError
        If the folder cannot be made, or the lock cannot be opened.
    """
    lock = None
    with raise_together(exchange):
        if exchange.rank == 0:
            lock = _take(Path(folder))
    try:
        yield lock
    finally:
        if lock is not None:
            _give_back(lock)


class RunLock:
    """
    The lock that this process holds on a run folder; made by `locked`.

    It is a POSIX record lock on the file ``run.lock`` in the folder. The system releases it when the process ends in
    any way, and NFS carries it to other machines. Where a file system has no such locks, or keeps them to one machine,
    the content of the file (who holds it) and its time (touched every `HEARTBEAT` seconds) take their place.

    Parameters
    ----------
    folder : Path
        The run folder.
    """

    def __init__(self, folder: Path):
        self.file = folder / LOCK_NAME
        self.thread, self.n_blocks = threading.get_ident(), 1
        self._process = os.getpid()
        self._token = uuid.uuid4().hex
        # Closing any other descriptor of the file would release a POSIX lock, so that it is read through this one.
        self._descriptor = -1
        self._taken_over_by: dict[str, Any] | None = None
        self._ended = threading.Event()
        self._made = _make_folders(folder)
        try:
            self._acquire()
        except BaseException:
            self._close()
            raise
        threading.Thread(target=self._show_life, daemon=True, name="selavi-run-lock").start()

    @property
    def holder(self) -> dict[str, Any]:
        """Who holds the lock, as the file says; empty if it does not."""
        return _holder(self._descriptor)

    def verify(self) -> None:
        """
        Raise an error if another job has taken the run over, as after this one was suspended for long.

        Raises
        ------
        RunInUseError
            If the lock is no longer that of this process.
        """
        if self._taken_over_by is not None:
            raise _in_use(self.file, self._taken_over_by)

    def release(self) -> None:
        """Give the run free; folders that were made for the lock and are still empty are removed."""
        if os.getpid() != self._process:  # a forked child, which has no part in the lock
            return
        if self._is_in_place():
            with suppress(OSError):
                self.file.unlink()
        self._close()

    def _acquire(self) -> None:
        for _ in range(100):
            self._descriptor = _open(self.file)
            certain = True
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in _HELD_BY_ANOTHER:
                    self._remove_if_stale()
                    continue
                certain = False  # ENOLCK, ENOTSUP and the like: the file system has no locks
            if self._is_in_place():
                self._claim(certain)
                return
            self._close_file()  # the holder has just removed the file
        raise SelaviError(f"{printable(self.file)} cannot be locked: other jobs keep removing it", path=self.file)

    def _remove_if_stale(self) -> None:
        """Remove a file whose lock a server keeps for another machine that has failed; raise an error otherwise."""
        holder, touched = self.holder, os.fstat(self._descriptor).st_mtime
        if not holder or holder.get("boot") == _boot() or _lives(holder, touched, self.file.parent, certain=False):
            raise _in_use(self.file, holder)
        if self._is_in_place():
            with suppress(OSError):
                self.file.unlink()
        self._close_file()

    def _claim(self, certain: bool) -> None:
        """Write who holds the lock, unless a living process does; `certain`: none on this machine does."""
        holder = self.holder
        if holder and _lives(holder, os.fstat(self._descriptor).st_mtime, self.file.parent, certain):
            raise _in_use(self.file, holder)
        me = {
            "process": os.getpid(),
            "machine": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "started": _start_of(os.getpid()),
            "boot": _boot(),
            "processes": _process_space(),
            "token": self._token,
        }
        with suppress(OSError):  # a full disk: the lock is held without a name
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, (json.dumps(me) + "\n").encode(), 0)
        if not certain:
            time.sleep(0.1)  # another job may have found the same stale lock: the last one to write has it
            if self.holder.get("token", self._token) != self._token:
                raise _in_use(self.file, self.holder)

    def _is_in_place(self) -> bool:
        """Return whether the file in the folder is the one that this process has opened."""
        try:
            return os.path.samestat(os.lstat(self.file), os.fstat(self._descriptor))
        except OSError:
            return False

    def _show_life(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            with suppress(OSError):
                if self._is_in_place() and self.holder.get("token", self._token) == self._token:
                    os.utime(self._descriptor)
                elif os.path.lexists(self.file):  # removed by hand: it is held all the same
                    self._taken_over_by = _holder_named_in(self.file)

    def _close_file(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _close(self) -> None:
        self._ended.set()
        self._close_file()
        for folder in self._made:
            with suppress(OSError):
                folder.rmdir()


_held: dict[tuple[int, int], RunLock] = {}  # the locks of this process, by device and inode of the folder
_guard = threading.Lock()


def _take(folder: Path) -> RunLock:
    with _guard:
        lock = _held.get(_identity(folder))
        if lock is None:
            lock = RunLock(folder)
            _held[_identity(folder)] = lock
        elif lock.thread == threading.get_ident():
            lock.n_blocks += 1
        else:
            raise _in_use(lock.file, lock.holder)
        return lock


def _give_back(lock: RunLock) -> None:
    with _guard:
        lock.n_blocks -= 1
        if lock.n_blocks == 0:
            for key in [key for key, each in _held.items() if each is lock]:
                del _held[key]
            lock.release()


def _identity(folder: Path) -> tuple[int, int]:
    try:
        found = os.stat(folder)
    except OSError:
        return (-1, -1)
    return (found.st_dev, found.st_ino)


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it, and return those that were missing, the innermost first."""
    missing = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = (
            "there is a file of this name; choose another one" if isinstance(error, FileExistsError) else error.strerror
        )
        raise InputError(f"{printable(folder)} cannot be made: {why}", path=folder) from error
    return missing


def _open(file: Path) -> int:
    """Open the file of a lock, which is made if necessary; links and anything but a file are refused."""
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(file, flags, 0o666)
    except OSError as error:
        raise InputError(f"{printable(file)} cannot be opened: {error.strerror}", path=file) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{printable(file)} is not a file; remove it", path=file)
    return descriptor


def _holder(descriptor: int) -> dict[str, Any]:
    try:
        values = json.loads(os.pread(descriptor, _MAX_BYTES, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _holder_named_in(file: Path) -> dict[str, Any]:
    """Return who holds a lock that is not that of this process, whose file must not be opened twice."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return _holder(descriptor)
    finally:
        os.close(descriptor)


def _lives(holder: Mapping[str, Any], touched: float, folder: Path, certain: bool) -> bool:
    """Return whether the process that a lock names is alive, as far as can be known."""
    same_machine = holder.get("boot") == _boot()
    if same_machine and certain:
        return False
    if same_machine and holder.get("processes") == _process_space():
        process = holder.get("process")
        return type(process) is int and _start_of(process) is not None and _start_of(process) == holder.get("started")
    return _time_at(folder) - touched < STALE_AFTER


def _in_use(file: Path, holder: Mapping[str, Any]) -> RunInUseError:
    process, machine, since = holder.get("process"), str(holder.get("machine", "")), str(holder.get("since", ""))
    who = "another process"
    if type(process) is int:
        who = f"process {process} on {printable(machine)}, since {printable(since)}"
    message = f"{printable(file.parent)} is in use by {who}; wait for it to end, or stop it"
    if machine and machine != socket.gethostname():
        message += f" (should that machine have failed, the run is free {STALE_AFTER / 60:.0f} minutes later)"
    return RunInUseError(
        message, path=file.parent, process=process if type(process) is int else None, machine=machine, since=since
    )


def _boot() -> str:
    """Return what tells this start of this machine from others."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return socket.gethostname()


def _process_space() -> str:
    """Return what tells containers apart whose processes have numbers of their own."""
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _start_of(process: int) -> str | None:
    """Return when a process of this machine was started, "" if the system does not say; None if there is none."""
    with suppress(OSError, IndexError):
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = text.rpartition(")")[2].split()
        return None if state == "Z" else fields[18]
    if os.path.exists("/proc/self/stat"):
        return None
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:
        pass
    return ""


def _time_at(folder: Path) -> float:
    """Return the time by the clock of the folder's file system, seconds."""
    with suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime
    return time.time()
