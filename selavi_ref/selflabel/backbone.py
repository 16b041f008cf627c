"""What the training loop asks of a framework: the contract that a backbone carries out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from selavi_ref.store import WorkingStore


class ClipBatch(Protocol):
    """What a backbone's loader gives for one step: opaque but for the rows and the failures."""

    rows: NDArray[np.int64]
    failures: list[tuple[int, str]]


class Backbone(Protocol):
    """
    The contract between the training loop and a deep-learning framework, such as `TorchBackbone` in `backbones`.

    N videos are known by their rows, H heads by their numbers; labels are int32. With several processes each has a
    backbone of its own, which learns its part of every batch and brings its gradients together with the others'; all
    then have the same weights.
    """

    clusters: tuple[int, ...]

    @property
    def n_videos(self) -> int:
        """Number of videos N of the whole collection."""

    def batches(self, batches: Sequence[NDArray[np.int64]], seed: Sequence[int]) -> Iterator[Any]:
        """Yield a batch for each array of numbers of clips: number n is a clip of video n modulo N, each its own."""

    def warm_up(self, batches: Iterator[Any]) -> None:
        """Let statistics settle without learning."""

    def train_step(self, batch: Any, labels: NDArray[np.int32], learning_rate: float, share: float) -> float:
        """Learn labels (B, H) at a rate; return the mean loss. The batch is this share of the step's clips."""

    def datasets(self) -> dict[str, int]:
        """Return names and widths of the features' data sets."""

    def write_features(self, store: WorkingStore, rows: range, seed: Sequence[int] | None) -> None:
        """Write the features of some videos, as all that the store holds; with a seed, of randomly varied clips."""

    def write_log_prob(self, store: WorkingStore, head: int, name: str) -> None:
        """Write one head's log-probabilities of the videos of a store under the given name."""

    def permute(self, head: int, permutation: NDArray[np.int64]) -> None:
        """Reorder the outputs of one head of the second modality."""

    def save(self, path: Path, state: Mapping[str, Any]) -> None:
        """
        Write the whole state, the caller's included, atomically; with several processes, one writes for all.

        Raises a `DivergedError` where weights are no longer finite.
        """

    def load(self, path: Path) -> dict[str, Any]:
        """Take over a saved state and return the caller's; raises a `CheckpointError` where it is damaged."""


def working_names(clusters: Sequence[int], overclustering_heads: int) -> list[str]:
    """
    Return the names under which each head's log-probabilities are handed over.

    The labelling heads share one, since they are looked at one after the other; each side head has its own.
    """
    main = len(clusters) - overclustering_heads
    return [f"current{K}" for K in clusters[:main]] + [f"side{index}" for index in range(overclustering_heads)]


def working_datasets(backbone: Backbone, overclustering_heads: int = 0) -> dict[str, int]:
    """Return the data sets that the store of a training run needs: features, and log-probabilities in hand."""
    datasets = backbone.datasets()
    modalities = [name.removeprefix("features/") for name in datasets]
    for name, K in zip(working_names(backbone.clusters, overclustering_heads), backbone.clusters, strict=True):
        datasets |= {f"log_prob/{modality}/{name}": K for modality in modalities}
    return datasets
