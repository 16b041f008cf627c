"""Processes that carry out a run together, started by ``torchrun``: their exchange by ``torch.distributed``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from selavi_ref.errors import ElsewhereError, InputError
from selavi_ref.runs.processes import Exchange, SingleProcess

# Long: one process may scan a large collection while the others wait. A process that has died is noticed by torchrun.
_PATIENCE = timedelta(hours=24)


class TorchExchange:
    """
    `selavi_ref.runs.processes.Exchange` over the default group of ``torch.distributed``.

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
    """Return the device of this process, of those that torchrun has started: ``cuda`` is the GPU of its number."""
    if device != "cuda" or "LOCAL_RANK" not in os.environ:
        return torch.device(device)
    number = int(os.environ["LOCAL_RANK"])
    if number >= torch.cuda.device_count():
        raise InputError(
            f"{local_size()} processes on a machine with {torch.cuda.device_count()} GPUs: "
            "start as many as there are with --nproc-per-node, or compute with --device cpu"
        )
    return torch.device("cuda", number)


@contextmanager
def process_group(device: str) -> Iterator[Exchange]:
    """
    Join the processes that ``torchrun`` has started; a process of its own is alone.

    Parameters
    ----------
    device : str
        Where gradients lie: ``"cuda"`` or ``"cpu"``.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield SingleProcess()
        return
    place = local_device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    with _others_alive():
        store, rank, size = next(iter(dist.rendezvous("env://", timeout=_PATIENCE)))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo",
            store=dist.PrefixStore(_met(store, rank, size), store),
            rank=rank,
            world_size=size,
            timeout=_PATIENCE,
        )
    try:
        yield TorchExchange()
    finally:
        dist.destroy_process_group()


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; gradients of the sum flow back to each."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        """Return the sum."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """Return the sum of the processes' gradients: each of them has used the sum."""
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _met(store: dist.Store, rank: int, size: int) -> str:
    """
    Return a name that these processes share with each other, and not with any that were there before.

    The store of torchrun outlives processes that it restarts, and still has the addresses of those that have died. So
    each process shows a token, and the first answers with the name to every token that it sees, old ones included,
    until all have come.
    """
    if rank > 0:
        token = uuid4().hex
        store.set(f"selavi/token/{rank}", token)
        name = store.get(f"selavi/answer/{token}").decode()
        store.add(f"{name}/come", 1)
        return name
    name, answered = f"selavi/{uuid4().hex}", set()
    while store.add(f"{name}/come", 0) < size - 1:
        for other in range(1, size):
            if store.check([f"selavi/token/{other}"]):
                token = store.get(f"selavi/token/{other}").decode()
                if token not in answered:
                    store.set(f"selavi/answer/{token}", name)
                    answered.add(token)
        time.sleep(0.02)
    return name


@contextmanager
def _others_alive() -> Iterator[None]:
    """Turn what ``torch.distributed`` raises when another process has gone into one line."""
    try:
        yield
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise ElsewhereError(f"another process of this run has ended or cannot be reached: {first}") from error
