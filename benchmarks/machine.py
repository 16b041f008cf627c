"""The machine and the versions on which a benchmark ran, and how fast it can read memory at best."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

_TYPES = (np.float32, np.float64)


def processor() -> str:
    """Return the model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine(*packages: str) -> str:
    """Return date, processor, cores, and the versions of Python and of packages, in one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", *packages))
    return f"{date.today()}, {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def most_memory() -> float:
    """Return how many MB this process has had at most; `resource` would count those of the one that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def reading_rate(n_bytes: int, threads: int, repeats: int = 9) -> tuple[float, str]:
    """
    Return the GB/s of the fastest reader of an array, and its name.

    A share of bandwidth is only as honest as the bandwidth: the sum of a plain loop reads a third of what the machine
    can. So the best of several is taken: sums by NumPy, PyTorch (if it is installed) and Numba, of both float types.

    Parameters
    ----------
    n_bytes : int
        Size of the array. Arrays that fit in a cache are read from there.
    threads : int
        Threads, each of which reads a part.
    repeats : int
        Runs of each reader, of which the fastest counts.
    """
    best = 0.0, ""
    with ThreadPoolExecutor(threads) as pool, _one_torch_thread():
        for dtype in _TYPES:
            parts = np.array_split(np.ones(n_bytes // np.dtype(dtype).itemsize, dtype), threads)
            for name, read in _readers().items():
                seconds = fastest(lambda: list(pool.map(read, parts)), repeats)  # noqa: B023
                best = max(best, (n_bytes / seconds / 1e9, f"{name}, {np.dtype(dtype).name}"))
    return best


def clock() -> float:
    """Return the clock of the processor under load in GHz, from a chain of operations of two cycles each."""
    n = 20_000_000
    return 2e-9 * n / fastest(lambda: _chain(n, 1), 9)


def fastest(run: Callable[[], Any], n: int) -> float:
    """Return the shortest of the seconds of ``n`` runs, after one that does not count."""
    run()
    times = []
    for _ in range(n):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _readers() -> dict[str, Callable[[NDArray[Any]], Any]]:
    readers: dict[str, Callable[[NDArray[Any]], Any]] = {"NumPy sum": np.sum, "Numba sum": _sum}
    try:
        import torch

        readers["torch.sum"] = lambda part: torch.from_numpy(part).sum()
    except ImportError:
        pass
    return readers


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Let PyTorch, if it is there, use one thread for each part."""
    try:
        import torch
    except ImportError:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@numba.njit(nogil=True, fastmath=True)
def _sum(part: NDArray[Any]) -> Any:
    """Return the sum of an array in wide vectors, from four places at a time."""
    n = part.size // 4
    a, b, c, d = part[:n], part[n : 2 * n], part[2 * n : 3 * n], part[3 * n : 4 * n]
    s0 = s1 = s2 = s3 = part.dtype.type(0)
    for i in range(n):
        s0 += a[i]
        s1 += b[i]
        s2 += c[i]
        s3 += d[i]
    return s0 + s1 + s2 + s3


@numba.njit(nogil=True)
def _chain(n: int, start: int) -> int:
    x = start
    for i in range(n):
        x = (x * 3) ^ i  # x + 2 x is one address calculation
    return x
