"""Decorators of Numba kernels: the compiler flags, and a cache on disk wherever one can be written.

Importing this module imports Numba: import it only where kernels are. Numba notices a change of the file of a kernel,
but not of functions in other files that it calls: after a change there, change the callers too, or delete their caches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import config, njit
from numba.core.caching import FunctionCache

# With NUMBA_DISABLE_JIT=1 kernels run as plain Python: very slowly, but with the same results.
IS_DISABLED = bool(config.DISABLE_JIT)


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator like ``numba.njit(cache=True, **options)`` that does without a cache where there can be none.

    ``cache=True`` raises an error if neither the package, nor the home folder, nor ``NUMBA_CACHE_DIR`` can be written,
    as in many containers, or if the disk is full.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        if IS_DISABLED:
            return np.errstate(all="ignore")(function)
        kernel = njit(**options)(function)
        with contextlib.suppress(RuntimeError, OSError):  # raised if no folder can be written
            kernel._cache = _Cache(function)
        return kernel

    return decorate


class _Cache(FunctionCache):
    """A cache of compiled code that is never a reason to fail."""

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return super().load_overload(*arguments)
        except Exception:  # a damaged or unreadable file: compile anew
            return None

    def save_overload(self, *arguments: Any) -> None:
        try:
            super().save_overload(*arguments)
        except Exception:  # a full disk, or one that has become read-only
            return


# Sums may be reordered, so that they vectorise, but not in `exact_kernel`, which also compares infinities and NaN.
_FAST: dict[str, Any] = {"fastmath": {"reassoc", "contract", "nsz", "nnan"}, "error_model": "numpy", "nogil": True}
kernel = compiled(**_FAST)
exact_kernel = compiled(error_model="numpy", nogil=True)
# For functions inlined into kernels, in which no operation may be moved: ``(x * scale - shift) + f`` loses all its
# digits if the two large numbers are not subtracted first.
STRICT: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "forceinline": True}


def inner(function: Callable[..., Any]) -> Any:
    """Decorate a function that kernels of its file call: compiled with them, it has no entry and no cache of its own.

    Literal integers in a call would compile it once more: write ``np.int64(1)``.
    """
    options: dict[str, Any] = {**_FAST, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return function if IS_DISABLED else njit(**options)(function)


def n_threads() -> int:
    """Return the number of threads that Numba is set to use (``NUMBA_NUM_THREADS``)."""
    return int(config.NUMBA_NUM_THREADS)
