"""Processes that carry out a run together, started by ``torchrun``: their exchange by ``torch.distributed``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from selavi_ref.errors import ElsewhereError, InputError
from selavi_ref.exchange import Alone, Exchange

# Long: one process may scan a large collection while the others wait. A process that has died is noticed by torchrun.
_PATIENCE = timedelta(hours=24)


class TorchExchange:
    """
    `selavi_ref.exchange.Exchange` over the default group of ``torch.distributed``.

    Numbers travel through main memory (gloo), also where gradients take another way (NCCL).
    """

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def all_sum(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of the vectors of all processes."""
        total = torch.from_numpy(np.array(numbers, np.float64))
        with _others_alive():
            dist.all_reduce(total)
        return total.numpy()

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of all processes, one process after the other."""
        counts = np.zeros(self.size)
        counts[self.rank] = len(rows)
        counts = self.all_sum(counts).astype(np.int64)
        row_bytes = rows.dtype.itemsize * int(np.prod(rows.shape[1:]))
        mine = torch.zeros(int(counts.max()) * row_bytes, dtype=torch.uint8)
        mine[: len(rows) * row_bytes] = torch.from_numpy(
            np.frombuffer(np.ascontiguousarray(rows).tobytes(), np.uint8).copy()
        )
        everyones = [torch.empty_like(mine) for _ in range(self.size)]
        with _others_alive():
            dist.all_gather(everyones, mine)
        parts = [part[: count * row_bytes].numpy() for part, count in zip(everyones, counts, strict=True)]
        return np.frombuffer(np.concatenate(parts).tobytes(), rows.dtype).reshape(-1, *rows.shape[1:]).copy()


def local_size() -> int:
    """Return how many processes of the run this machine has."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def local_device(device: str) -> torch.device:
    """Return this process's own device where ``cuda`` is asked for: the GPU of its number on the machine."""
    if device != "cuda" or local_size() == 1:
        return torch.device(device)
    number = int(os.environ.get("LOCAL_RANK", 0))
    if number >= torch.cuda.device_count():
        raise InputError(
            f"{local_size()} processes on a machine with {torch.cuda.device_count()} GPUs: "
            "start as many as there are with --nproc-per-node, or compute with --device cpu"
        )
    return torch.device("cuda", number)


@contextmanager
def joined(device: str) -> Iterator[Exchange]:
    """
    Join the processes that ``torchrun`` has started; a process of its own is alone.

    Parameters
    ----------
    device : str
        Where gradients lie: ``"cuda"`` or ``"cpu"``.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Alone()
        return
    place = local_device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    with _others_alive():
        dist.init_process_group("cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield TorchExchange()
    finally:
        dist.destroy_process_group()


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum over all processes; gradients of the sum flow back to each."""
    from torch.distributed.nn.functional import all_reduce

    total: Tensor = all_reduce(values)
    return total


@contextmanager
def _others_alive() -> Iterator[None]:
    """Turn what ``torch.distributed`` raises when another process has gone into one line."""
    try:
        yield
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise ElsewhereError(f"another process of this run has ended or cannot be reached: {first}") from error
