"""One labelling of a collection, and how it is kept, since of large stores it takes minutes to be worked out."""

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

CONSENSUS = "consensus"  # the name of the labelling that all heads make together
_VERSION = 1  # to be raised when labels or their order change, so that those kept are worked out anew
_ARRAYS = ("label", "runner_up", "confidence", "entropy", "order", "heads")


@dataclass(frozen=True)
class Labelling:
    """
    The labels of N videos by one head, or by the consensus of all; as learnt, before anybody has edited them.

    Parameters
    ----------
    name, title : str
        ``"consensus"`` or the name of the head, and what it is called on the page.
    clusters : int
        Number K of learnt clusters.
    label, runner_up : array
        int32, shape (N,); -1 without.
    confidence : array
        Posterior of `label`, float32, shape (N,); NaN where it is not known.
    entropy : array or None
        Of the posterior, in nats, float32, shape (N,); None where the posterior is not known.
    order : array
        The labelled videos, those most typical of their clusters first, int64.
    heads : array
        Label of each head in its own numbers, as in a table of labels, int32, shape (N, H).
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
    """Return a labelling that is kept in a file; None if there is none, or it is of another state of the store."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            if kept["key"].tolist() == state and str(kept["name"]) == name:
                return Labelling(name, title, int(kept["clusters"]), *(kept[array] for array in _ARRAYS))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        pass
    return None


def keep_labelling(found: Labelling, file: Path, state: list[int]) -> None:
    """Keep a labelling in a file, if that can be written, with the state of the store that it is of."""
    with suppress(SelaviError, OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(found, name) for name in _ARRAYS}
        with replacing(file) as out:
            np.savez(out, key=np.array(state), name=found.name, clusters=found.clusters, **arrays)


def state_of(store: Path) -> list[int]:
    """Return what tells a store from what it was before."""
    state = os.stat(store)
    return [_VERSION, state.st_size, state.st_mtime_ns]
