"""Limit BLAS to one thread for small problems, in which several would wait for each other and for other libraries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

_FEW = 20_000_000  # numbers from which several threads are worth their start


@contextmanager
def blas_threads(n_numbers: int) -> Iterator[None]:
    """Let NumPy and SciPy compute with one thread if a computation is on fewer than 20,000,000 numbers."""
    if n_numbers >= _FEW:
        yield
        return
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _libraries() -> ThreadpoolController:
    """Return the libraries that this process has loaded; looking for them takes milliseconds."""
    return ThreadpoolController()
