"""The interface between the training loop and a deep-learning framework."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from selavi_ref.store import WorkingStore


class ClipBatch(Protocol):
    """
    The clips of one training step; the training loop reads only these two attributes.

    Attributes
    ----------
    rows : array
        Video of each clip, int64, shape (B,).
    failures : list of (int, str)
        Videos that could not be decoded, and why.
    """

    rows: NDArray[np.int64]
    failures: list[tuple[int, str]]


Batch = TypeVar("Batch", bound=ClipBatch)


class Backbone(Protocol[Batch]):
    """
    Networks, optimiser and data of a deep-learning framework, such as `TorchBackbone` in `backbones`.

    Rows are numbers of the N videos, heads are numbers from 0 to H - 1; labels are int32. With several processes, each
    has a backbone of its own, which learns its part of every batch; gradients are summed over all processes, so that
    all have the same weights.
    """

    clusters: tuple[int, ...]

    @property
    def n_videos(self) -> int:
        """Number of videos N, of all processes together."""

    def batches(self, batches: Sequence[NDArray[np.int64]], seed: Sequence[int]) -> Iterator[Batch]:
        """Yield a batch for each array of clip numbers; clip n is a random clip of video n modulo N."""

    def warm_up(self, batches: Iterator[Batch]) -> None:
        """Update the running statistics of the batch norms by some batches, without learning."""

    def train_step(self, batch: Batch, labels: NDArray[np.int32], learning_rate: float, share: float) -> float:
        """Take one step towards labels (B, H), and return the mean loss; the batch is a share of the step's clips."""

    def datasets(self) -> dict[str, int]:
        """Return names and widths of the data sets of features."""

    def write_features(self, store: WorkingStore, rows: range, seed: Sequence[int] | None) -> None:
        """Write the features of some videos to a store of these; with a seed, those of randomly augmented clips."""

    def write_log_prob(self, store: WorkingStore, head: int, name: str) -> None:
        """Write one head's log-probabilities for the features that `write_features` wrote last, as head `name`."""

    def joint_log_prob(self, store: WorkingStore, head: int, only: str | None = None) -> Any:
        """
        Return one head's log-probabilities for the features that `write_features` wrote last, as an array or a tensor.

        They are added up over the modalities that each video of the store has, or those of the modality `only`:
        float32, shape (N, K). None: they do not fit in memory; `write_log_prob` writes them.
        """

    def permute(self, head: int, permutation: NDArray[np.int64]) -> None:
        """Reorder the outputs of one head of the second modality."""

    def save(self, path: Path, state: Mapping[str, Any]) -> None:
        """
        Write a checkpoint with the caller's state, atomically; with several processes, the first one writes.

        Raises
        ------
        DivergedError
            If weights are not finite.
        """

    def load(self, path: Path) -> dict[str, Any]:
        """
        Load a checkpoint, and return the caller's state.

        Raises
        ------
        CheckpointError
            If the file is damaged.
        InputError
            If it is a checkpoint of other networks.
        """


def working_names(clusters: Sequence[int], overclustering_heads: int) -> list[str]:
    """
    Return the name under which each head's log-probabilities are written to the working store.

    Main heads are labelled one after the other and share a name; each over-clustering head has its own.
    """
    main = len(clusters) - overclustering_heads
    return [f"current{K}" for K in clusters[:main]] + [f"side{index}" for index in range(overclustering_heads)]


def working_datasets(backbone: Backbone[Any], overclustering_heads: int = 0) -> dict[str, int]:
    """Return names and widths of the data sets of a working store: features and log-probabilities."""
    datasets = backbone.datasets()
    modalities = [name.removeprefix("features/") for name in datasets]
    for name, K in zip(working_names(backbone.clusters, overclustering_heads), backbone.clusters, strict=True):
        datasets |= {f"log_prob/{modality}/{name}": K for modality in modalities}
    return datasets
