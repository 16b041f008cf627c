"""What the processes of one run tell each other: sums, and the rows that each of them has."""

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
    One of the processes that carry out a run together; `SingleProcess` is the only one of its run.

    Every process calls the same methods in the same order, with arrays of the same length where they are summed.
    `backbones.distributed.processes` makes one of ``torch.distributed``.
    """

    rank: int
    size: int

    def all_sum(self, numbers: Vector) -> Vector:
        """Return the sum of all processes' vectors (float64), the same to the last bit in each process."""

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of all processes, one process after the other; their numbers may differ."""


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
    """Return which of n rows are this process's: consecutive ones, so that every row belongs to one process."""
    return range(n * exchange.rank // exchange.size, n * (exchange.rank + 1) // exchange.size)


def barrier(exchange: Exchange) -> None:
    """Wait until all processes have come here."""
    exchange.all_sum(np.zeros(1))


def engine(exchange: Exchange) -> str | Sharded:
    """Return the engine of `selavi_ref.transport.assign` for scores of which each process has its share of the rows."""
    return "auto" if exchange.size == 1 else Sharded(exchange.all_sum, exchange.rank, exchange.size)


@contextmanager
def raise_together(exchange: Exchange) -> Iterator[None]:
    """
    Let all processes leave the block, or raise in all of them if one of them raises in it.

    Raises
    ------
    ElsewhereError
        In the processes that could have gone on.
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
    """Return the lines of text of all processes; they hold no line breaks."""
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    everything = exchange.gather(np.frombuffer(text, np.uint8))
    return everything.tobytes().decode("utf-8", "surrogateescape").split("\n")[:-1]
