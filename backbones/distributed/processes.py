"""Exchange between the processes of a run that ``torchrun`` started, over ``torch.distributed``."""

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

# Long, since the others wait while one process scans a large collection; torchrun notices a process that has died.
_TIMEOUT = timedelta(hours=24)


class TorchExchange:
    """
    `selavi_ref.runs.processes.Exchange` over the default group of ``torch.distributed``.

    Numbers are exchanged through main memory (gloo), even where gradients use NCCL.
    """

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def all_sum(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of the vectors of all processes; see `Exchange`."""
        total = torch.from_numpy(np.array(numbers, np.float64))
        with _peer_errors():
            dist.all_reduce(total)
        return total.numpy()

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of all processes in the order of their ranks; see `Exchange`."""
        counts = np.zeros(self.size)
        counts[self.rank] = len(rows)
        counts = self.all_sum(counts).astype(np.int64)
        row_bytes = rows.dtype.itemsize * int(np.prod(rows.shape[1:]))
        mine = torch.zeros(int(counts.max()) * row_bytes, dtype=torch.uint8)
        mine[: len(rows) * row_bytes] = torch.from_numpy(
            np.frombuffer(np.ascontiguousarray(rows).tobytes(), np.uint8).copy()
        )
        everyones = [torch.empty_like(mine) for _ in range(self.size)]
        with _peer_errors():
            dist.all_gather(everyones, mine)
        parts = [part[: count * row_bytes].numpy() for part, count in zip(everyones, counts, strict=True)]
        return np.frombuffer(np.concatenate(parts).tobytes(), rows.dtype).reshape(-1, *rows.shape[1:]).copy()


def local_size() -> int:
    """Return the number of processes of the run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def local_device(device: str) -> torch.device:
    """Return the device of this process: ``cuda`` stands for the GPU of its local rank under torchrun."""
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
    Initialise the process group of ``torchrun`` and yield its exchange; without torchrun, yield a `SingleProcess`.

    Parameters
    ----------
    device : str
        Device of the gradients: ``"cuda"`` or ``"cpu"``.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield SingleProcess()
        return
    target = local_device(device)
    if target.type == "cuda":
        torch.cuda.set_device(target)
    with _peer_errors():
        store, rank, size = next(iter(dist.rendezvous("env://", timeout=_TIMEOUT)))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if target.type == "cuda" else "gloo",
            store=dist.PrefixStore(_agree_on_prefix(store, rank, size), store),
            rank=rank,
            world_size=size,
            timeout=_TIMEOUT,
        )
    try:
        yield TorchExchange()
    finally:
        dist.destroy_process_group()


class SumOverProcesses(torch.autograd.Function):
    """Differentiable sum of a tensor over all processes."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        """Return the sum."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """Return the sum of the gradients of all processes, each of which used the sum."""
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _agree_on_prefix(store: dist.Store, rank: int, size: int) -> str:
    """
    Return a key prefix that the processes of this start share, and no earlier start used.

    The store of torchrun outlives restarted processes and still holds the addresses of dead ones. So each process
    publishes a token, and rank 0 answers every token that it finds, old ones included, with the prefix until all ranks
    have arrived.
    """
    if rank > 0:
        token = uuid4().hex
        store.set(f"selavi/token/{rank}", token)
        name = store.get(f"selavi/answer/{token}").decode()
        store.add(f"{name}/arrived", 1)
        return name
    name, answered = f"selavi/{uuid4().hex}", set()
    while store.add(f"{name}/arrived", 0) < size - 1:
        for other in range(1, size):
            if store.check([f"selavi/token/{other}"]):
                token = store.get(f"selavi/token/{other}").decode()
                if token not in answered:
                    store.set(f"selavi/answer/{token}", name)
                    answered.add(token)
        time.sleep(0.02)
    return name


@contextmanager
def _peer_errors() -> Iterator[None]:
    """Raise errors of ``torch.distributed`` about lost processes as an `ElsewhereError` of one line."""
    try:
        yield
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise ElsewhereError(f"another process of this run has ended or cannot be reached: {first}") from error
