"""Random draws that depend on a key, a clip and a column alone: the same in whichever batch and process a clip is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_STRIDE = 0x9E3779B97F4A7C15  # 2 ** 64 over the golden ratio: what `splitmix64` counts by


def key_of(*seeds: int | Sequence[int]) -> int:
    """Return 64 bits that differ for different seeds."""
    flat = [int(number) for seed in seeds for number in ([seed] if isinstance(seed, int) else seed)]
    return int(np.random.SeedSequence(flat).generate_state(1, np.uint64)[0])


def uniform16(key: int, clips: NDArray[np.int64], width: int) -> NDArray[np.uint16]:
    """
    Return uniform numbers from 0 to 65,535, shape (B, width).

    Parameters
    ----------
    key : int
        64 bits.
    clips : array
        Numbers of the clips, int64, shape (B,).
    width : int
        Numbers for each clip.
    """
    words = -(-width // 4)
    starts = _mixed(np.uint64(key) + np.asarray(clips).astype(np.uint64) * np.uint64(_STRIDE))
    counters = np.arange(1, words + 1, dtype=np.uint64) * np.uint64(_STRIDE)
    return _mixed(starts[:, None] + counters).view(np.uint16)[:, :width]


def kept(key: int, clips: NDArray[np.int64], width: int, dropout: float) -> NDArray[np.bool_]:
    """Return which entries of (B, width) a dropout of this probability leaves as they are."""
    return uniform16(key, clips, width) >= np.uint16(min(round(dropout * 65536), 65535))


def normal(key: int, clips: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """Return nearly normal numbers (B, width) of mean 0 and variance 1: sums of four uniform ones."""
    parts = uniform16(key, clips, 4 * width).reshape(len(clips), width, 4).sum(2, dtype=np.float32)
    return (parts - np.float32(2 * 65535)) * np.float32(np.sqrt(3) / 65536)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the bits of each number mixed, as by the generator `splitmix64` (Steele, Lea and Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
