"""Random numbers that depend only on a seed, a clip and a column, not on the batch in which the clip is learnt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_INCREMENT = 0x9E3779B97F4A7C15  # of the generator splitmix64: 2 ** 64 over the golden ratio


def hash_seeds(*seeds: int | Sequence[int]) -> int:
    """Return 64 bits that differ for different seeds."""
    numbers = [int(number) for seed in seeds for number in ([seed] if isinstance(seed, int) else seed)]
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def uniform16(key: int, clips: NDArray[np.int64], width: int) -> NDArray[np.uint16]:
    """
    Return uniform random integers from 0 to 65,535, shape (B, width).

    Parameters
    ----------
    key : int
        64 bits; see `hash_seeds`.
    clips : array
        Clip numbers, int64, shape (B,).
    width : int
        Number of columns.
    """
    words = -(-width // 4)
    starts = _splitmix64(np.uint64(key) + np.asarray(clips).astype(np.uint64) * np.uint64(_INCREMENT))
    counters = np.arange(1, words + 1, dtype=np.uint64) * np.uint64(_INCREMENT)
    return _splitmix64(starts[:, None] + counters).view(np.uint16)[:, :width]


def dropout_mask(key: int, clips: NDArray[np.int64], width: int, dropout: float) -> NDArray[np.bool_]:
    """Return which entries (B, width) a dropout of this probability keeps; parameters are those of `uniform16`."""
    return uniform16(key, clips, width) >= np.uint16(min(round(dropout * 65536), 65535))


def _splitmix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the output of the generator splitmix64 for each state (Steele, Lea and Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
