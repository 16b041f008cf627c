"""Engines by name, each as a function of in-memory data, so that one suite runs over all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from selavi_ref.transport import Assignment, Blocks, Sharded, assign, blocks, engines
from selavi_ref.transport.plan_pass import PlanPass

ENGINES = ["numpy", "numba", "store", "torch", "sharded"]


def plan_pass(engine: str, x: np.ndarray, strength: float, weight: np.ndarray | None = None) -> PlanPass:
    """Return a pass by any engine; ``store`` goes over small blocks, ``sharded`` over one process that holds all."""
    if engine == "store":
        return engines.create("store", InBlocks(x), strength, weight)
    if engine == "sharded":
        return engines.create(Sharded(lambda v: v.copy(), 0, 1, "numba"), x, strength, weight)
    return engines.create(engine, x, strength, weight)


def solved(engine: str, x: np.ndarray, r: np.ndarray | None = None, **options: Any) -> Assignment:
    """Return `assign` by any engine."""
    if engine == "store":
        return assign(InBlocks(x), r, engine="store", **options)
    if engine == "sharded":
        return assign(x, r, engine=Sharded(lambda v: v.copy(), 0, 1, "numba"), **options)
    return assign(x, r, engine=engine, **options)


class InBlocks(Blocks):
    """An array that passes through memory in blocks of 37 rows."""

    def __init__(self, x: np.ndarray) -> None:
        super().__init__(np.ascontiguousarray(x))
        self.slices = [slice(lo, min(lo + 37, len(x))) for lo in range(0, len(x), 37)]


@contextmanager
def small_blocks(n_bytes: int) -> Iterator[None]:
    """Let blocks be of another size."""
    before, blocks._BYTES = blocks._BYTES, n_bytes
    try:
        yield
    finally:
        blocks._BYTES = before


def write_h5(path: Path, x: np.ndarray, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("scores", data=x, **options)
    return path


class Processes:
    """``n`` threads that stand for processes: each runs ``task(rank, all_sum)``; results come in order of rank."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._barrier = threading.Barrier(n)
        self._boards: list[Any] = [None] * n
        self.sums = 0

    def run(self, task: Callable[[int, Callable[[np.ndarray], np.ndarray]], Any]) -> list[Any]:
        results: list[Any] = [None] * self.n

        def work(rank: int) -> None:
            try:
                results[rank] = task(rank, lambda numbers: self._all_sum(rank, numbers))
            except BaseException as error:
                results[rank] = error

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads), "the processes wait for each other"
        return results

    def _all_sum(self, rank: int, numbers: np.ndarray) -> np.ndarray:
        self._boards[rank] = numbers.copy()
        self._barrier.wait(30)
        total = np.sum(self._boards, axis=0)
        self._barrier.wait(30)
        self.sums += rank == 0
        return total
