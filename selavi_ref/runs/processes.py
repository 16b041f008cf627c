"""Communication between the processes of one run: sums, gathered rows, and common failures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import ElsewhereError
from selavi_ref.transport import Sharded

Vector = NDArray[np.float64]


class Exchange(Protocol):
    """
    Communication of this process with the others of its run; `SingleProcess` is that of a run in one process.

    All processes call the same methods in the same order, with arrays of the same length where they are summed.
    `backbones.distributed.processes` implements it by ``torch.distributed``.
    """

    rank: int
    size: int

    def all_sum(self, numbers: Vector) -> Vector:
        """Return the sum of all processes' vectors (float64), the same to the last bit in each process."""

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of all processes in the order of the processes; their numbers may differ."""


class SingleProcess:
    """The exchange of a run that has one process."""

    rank = 0
    size = 1

    def all_sum(self, numbers: Vector) -> Vector:
        """Return the vector itself."""
        return numbers

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the rows themselves."""
        return rows


def local_rows(n: int, exchange: Exchange) -> range:
    """Return the consecutive part of n rows that belongs to this process."""
    return range(n * exchange.rank // exchange.size, n * (exchange.rank + 1) // exchange.size)


def engine(exchange: Exchange) -> str | Sharded:
    """Return the engine of `selavi_ref.transport.assign` for scores whose rows are divided among the processes."""
    return "auto" if exchange.size == 1 else Sharded(exchange.all_sum, exchange.rank, exchange.size)


@contextmanager
def raise_together(exchange: Exchange) -> Iterator[None]:
    """
    Raise an error in all processes if one of them raises one within the block.

    Raises
    ------
    ElsewhereError
        In the processes that did not fail themselves.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if exchange.size > 1:
        failed = np.zeros(exchange.size)
        failed[exchange.rank] = failure is not None
        failed = exchange.all_sum(failed)
        if failure is None and failed.any():
            raise ElsewhereError(f"process {int(failed.argmax())} cannot go on; see its error")
    if failure is not None:
        raise failure


def gather_lines(lines: Sequence[str], exchange: Exchange) -> list[str]:
    """Return the lines of text of all processes; a line must not contain a line break."""
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    everything = exchange.gather(np.frombuffer(text, np.uint8))
    return everything.tobytes().decode("utf-8", "surrogateescape").split("\n")[:-1]
