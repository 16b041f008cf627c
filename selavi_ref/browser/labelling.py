"""One labelling of a collection, and its cache file, as computing it takes minutes for large stores."""

from __future__ import annotations

import os
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import SelaviError
from selavi_ref.runs.atomic import replacing

CONSENSUS = "consensus"  # name of the labelling by all heads together
_CACHE_VERSION = 1  # raise when labels or their order change, so that cached ones are computed again
_ARRAYS = ("label", "runner_up", "confidence", "entropy", "order", "heads")


@dataclass(frozen=True)
class Labelling:
    """
    Labels of N videos by one head or by the consensus of all, without edits.

    Parameters
    ----------
    name, title : str
        ``"consensus"`` or the name of the head, and its title on the page.
    clusters : int
        Number K of learnt clusters.
    label, runner_up : array
        int32, shape (N,); -1 without label.
    confidence : array
        Posterior of `label`, float32, shape (N,); NaN where unknown.
    entropy : array or None
        Entropy of the posterior, nats, float32, shape (N,); None if the posterior is unknown.
    order : array
        Row numbers of the labelled videos, the most typical of their clusters first, int64.
    heads : array
        Label of each head in its own numbering, as in a table of labels, int32, shape (N, H).
    """

    name: str
    title: str
    clusters: int
    label: NDArray[np.int32]
    runner_up: NDArray[np.int32]
    confidence: NDArray[np.float32]
    entropy: NDArray[np.float32] | None
    order: NDArray[np.int64]
    heads: NDArray[np.int32]


def read_labelling(file: Path, state: list[int], name: str, title: str) -> Labelling | None:
    """Return a cached labelling; None if there is none, or if the store has changed since."""
    try:
        with np.load(file, allow_pickle=False) as data:
            if data["key"].tolist() == state and str(data["name"]) == name:
                return Labelling(name, title, int(data["clusters"]), *(data[array] for array in _ARRAYS))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        pass
    return None


def save_labelling(labelling: Labelling, file: Path, state: list[int]) -> None:
    """Cache a labelling with the state of its store, if the file can be written."""
    with suppress(SelaviError, OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(labelling, name) for name in _ARRAYS}
        with replacing(file) as out:
            np.savez(out, key=np.array(state), name=labelling.name, clusters=labelling.clusters, **arrays)


def store_state(store: Path) -> list[int]:
    """Return numbers that change when a store changes."""
    state = os.stat(store)
    return [_CACHE_VERSION, state.st_size, state.st_mtime_ns]
