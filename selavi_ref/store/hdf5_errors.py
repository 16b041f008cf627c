"""Translation of errors of HDF5 and of the system into a `StoreError` of one line."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selavi_ref.errors import SelaviError, StoreError, StoreProblem

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LOCKED = {errno.EAGAIN, errno.EWOULDBLOCK}
_RAISED = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, OverflowError)
_NO_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextlib.contextmanager
def guarded(path: Path, name: str | None = None) -> Iterator[None]:
    """
    Turn what h5py raises inside the block into a `StoreError`.

    h5py raises OSError, RuntimeError, ValueError or KeyError for one cause, depending on where HDF5 detects it.

    Parameters
    ----------
    path : Path
        The file, for the message.
    name : str, optional
        The data set that is read or written, for the message.
    """
    try:
        yield
    except SelaviError:
        raise
    except _RAISED as error:
        raise explain(path, error, name) from error


def explain(path: Path, error: Exception, name: str | None = None) -> StoreError:
    """Return the `StoreError` that says in one line what `error` means for the file `path`.

    Only content that HDF5 has read and found to be wrong counts as damaged, not what the system refuses to read.
    """
    text = " ".join(str(error).split())
    stated = re.search(r"errno = (\d+)", text)
    code = getattr(error, "errno", None) or (int(stated.group(1)) if stated else 0)
    message, problem = _diagnose(path, code, text, name)
    return StoreError(message, problem=problem, path=path, dataset=name)


def _diagnose(path: Path, code: int, text: str, name: str | None) -> tuple[str, StoreProblem]:
    if code in _FULL:
        return f"{path} cannot be written: no space left ({os.strerror(code)}); make room and run it again", "full"
    if "unable to lock" in text and code not in {*_LOCKED, 0}:
        hint = "if no other process uses it, set HDF5_USE_FILE_LOCKING=FALSE"
        return f"{path} cannot be locked: {os.strerror(code)}; {hint}", "system"
    if code in _LOCKED or "unable to lock" in text:
        return f"{path} is in use by another process; wait for it to end, or stop it", "in use"
    if code == errno.ENOENT:
        return f"{path} does not exist, or its folder does not", "missing"
    if code:
        action = "opened" if name is None else f"read or written ({name})"
        return f"{path} cannot be {action}: {os.strerror(code)}", "system"
    if "file signature not found" in text:
        return f"{path} is not an HDF5 file; name a store, as selavi extract writes it", "foreign"
    if name is not None:
        # The only filter of a store is the checksum.
        why = "its checksum does not match" if "filter returned failure" in text else text[:160]
        return f"{path} is damaged in {name}: {why}; make the store anew", "damaged"
    return f"{path} is damaged or cut off ({text[:160]}); make the store anew", "damaged"


def flush_to_disk(descriptor: int) -> None:
    """Call ``fsync``, but do without it on file systems that do not support it, as some network disks."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def sync(file: Any) -> None:
    """Flush everything written to `file` to the disk."""
    file.flush()
    flush_to_disk(file.id.get_vfd_handle())


def sync_folder(folder: Path) -> None:
    """Flush a folder, and with it the new name of a renamed file, to the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def abandon(file: Any) -> None:
    """
    Close a file whose writing has failed.

    HDF5 cannot close a file that it cannot write: the close fails, and a second one ends the process with a
    segmentation fault. So the descriptor is first redirected to the null device, which also frees the disk and the
    lock, and then the file is closed once.
    """
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        descriptor = file.id.get_vfd_handle()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, descriptor)
        os.close(null)
        file.close()
