"""Errors of HDF5 and of the system turned into one line that names the file and says what to do."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selavi_ref.errors import SelaviError, StoreError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_LOCKED = {errno.EAGAIN, errno.EWOULDBLOCK}


@contextlib.contextmanager
def guarded(path: Path, name: str | None = None) -> Iterator[None]:
    """
    Turn what h5py raises inside the block into a `StoreError`.

    h5py raises OSError, RuntimeError, ValueError or KeyError for one cause, depending on where HDF5 has met it.

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
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise explain(path, error, name) from error


def explain(path: Path, error: Exception, name: str | None = None) -> StoreError:
    """Return the `StoreError` that says in one line what `error` means for the file `path`."""
    text = " ".join(str(error).split())
    stated = re.search(r"errno = (\d+)", text)
    code = getattr(error, "errno", None) or (int(stated.group(1)) if stated else 0)
    if code in _FULL:
        return StoreError(f"{path} cannot be written: no space left ({os.strerror(code)}); make room and run it again")
    if code in _LOCKED or "unable to lock" in text:
        return StoreError(f"{path} is in use by another process; wait for it to end, or stop it")
    if code == errno.ENOENT:
        return StoreError(f"{path} does not exist, or its folder does not")
    if code in _DENIED:
        return StoreError(f"{path} cannot be opened: {os.strerror(code)}")
    if "file signature not found" in text:
        return StoreError(f"{path} is not an HDF5 file")
    if name is not None:
        # The only filter of a store is the checksum.
        why = "its checksum does not match" if "filter returned failure" in text else text[:160]
        return StoreError(f"{path} is damaged in {name}: {why}; make the store anew")
    return StoreError(f"{path} is damaged or cut off ({text[:160]}); make the store anew")


def sync(file: Any) -> None:
    """Bring all that was written to `file` onto the disk."""
    file.flush()
    os.fsync(file.id.get_vfd_handle())


def sync_folder(folder: Path) -> None:
    """Bring a renamed file's new name onto the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def abandon(file: Any) -> None:
    """
    Let go of a file whose writing has failed.

    HDF5 cannot close a file that it cannot write: the close fails, and a second one ends the process with a
    segmentation fault. So the file's descriptor is first led to the null device, which also frees the disk and the
    lock, and the file then closed once.
    """
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        descriptor = file.id.get_vfd_handle()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, descriptor)
        os.close(null)
        file.close()
