"""Keep memory that PyTorch frees on a CPU for its next tensors."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt in glibc
_KEPT = 256 << 20  # bytes of freed memory that the process keeps
_LARGEST = 32 << 20  # bytes of the largest block that is kept: the most that the manual of glibc names
# Environment variables by which a user sets these limits.
_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """
    Make the C library keep up to 256 MiB that are freed, and return whether it does.

    By default it returns memory at the top of the heap to the system, and each step of a training gets it back page by
    page, which the system fills with zeros first: a tenth of the time of small networks. Only glibc is asked, and only
    where the environment does not set its limits.
    """
    if any(name in os.environ for name in _OWN):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(_TRIM_THRESHOLD, _KEPT)) and bool(libc.mallopt(_MMAP_THRESHOLD, _LARGEST))
    except (OSError, AttributeError):  # another C library, or another system
        return False
