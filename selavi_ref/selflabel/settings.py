"""How long, how fast and how often a run learns and labels: its settings, and what they mean for each step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from selavi_ref.ensemble.posterior import STRENGTH
from selavi_ref.errors import InputError
from selavi_ref.selflabel.self_labelling import ClusterSizes

_FINENESS, _LEAST_FINE = 5, 8  # side heads have so many times more clusters, of at least so many videos
_MOST_FINE = 2000  # fine clusters of all side heads together: their graph is that large, squared
_KNOWN = {
    "decay": ("cosine", "constant"),
    "warmup_by": ("step", "epoch"),
    "label_by": ("both", "video", "audio"),
    "labeller": ("transport", "kmeans"),
}
_LEAST = {
    "epochs": 1,
    "settle_epochs": 0,
    "batch_size": 1,
    "clips_per_video": 1,
    "learning_rate": 0,
    "warmup_epochs": 0,
    "warmup_from": 0,
    "bn_warmup_batches": 0,
    "labellings": 1,
    "labelling_power": 0,
    "groups": 1,
    "strength": 0,
    "overclustering_heads": 0,
    "seed": 0,
}


@dataclass(frozen=True)
class TrainingSettings:
    """
    How long, how fast, and how often.

    Parameters
    ----------
    epochs : int
        Passes over the collection; the most that there are, if `settle_epochs` is set.
    settle_epochs : int
        With side heads: the rate stays up until picture and sound agree (see `agreement`), and then falls to zero over
        so many epochs, which end the run. 0: the rate falls over all `epochs`.
    agreement : float
        Mean of the eigenvalues 2 to K of the side heads' graph from which on picture and sound are said to agree.
    batch_size : int
        Clips of one step in each process.
    clips_per_video : int
        Clips of each video in one epoch.
    rate : float
        Base learning rate.
    scale_learning_rate : bool
        Learn at `learning_rate` times the number of processes, each of which takes `batch_size` clips a step.
    warmup_epochs : float
        The rate rises linearly to its full height over these.
    warmup_from : float
        Times `learning_rate`: where it begins to rise. Published: 1.
    warmup_by : str
        ``"step"``, or ``"epoch"``: it stays within an epoch, as published.
    bn_warmup_batches : int
        Batches that the batch norms see before the first self-labelling.
    decay : str
        ``"cosine"`` falls to a thousandth at the end; ``"constant"`` stays.
    labellings : int
        Number of self-labellings, at steps ``total * linspace(0, 1, labellings + 1)[:-1] ** power``.
    labelling_power : float
        That power; above 1: dense at first, rare later.
    groups : int
        Heads are split into groups; each is labelled from a pass of its own, which is randomly varied if there are
        several groups.
    sizes : ClusterSizes
        Of the clusters.
    strength : float
        lambda / 2 of the transport.
    overclustering_heads : int
        The last so many heads of the backbone are side heads: they learn more clusters than are asked for.
    overclustering_from : float
        From this share of the run on (with `settle_epochs`: once picture and sound agree), the labels of all other
        heads are the side heads' fine clusters brought together (see `selavi_ref.selflabel.overclustering`), under the
        prescribed sizes.
        Without side heads, every head is labelled by itself. Sizes that may be missed at a price are met before.
    label_by : str
        ``"both"``, or the one modality (``"video"``, ``"audio"``) whose predictions the labels follow; the other learns
        them all the same.
    labeller : str
        ``"transport"``; or ``"kmeans"``, for comparison: K-means on the features of both modalities, in one process.
    align : bool
        Match the audio heads' outputs with the video heads' at the first self-labelling.
    seed : int
        Of everything random.
    """

    epochs: int = 100
    settle_epochs: int = 0
    agreement: float = 0.3
    batch_size: int = 64
    clips_per_video: int = 1
    learning_rate: float = 0.1
    scale_learning_rate: bool = False
    warmup_epochs: float = 3.0
    warmup_from: float = 0.0
    warmup_by: str = "step"
    bn_warmup_batches: int = 20
    decay: str = "cosine"
    labellings: int = 100
    labelling_power: float = 1.5
    groups: int = 1
    sizes: ClusterSizes = field(default_factory=ClusterSizes)
    strength: float = STRENGTH
    overclustering_heads: int = 0
    overclustering_from: float = 0.5
    label_by: str = "both"
    labeller: str = "transport"
    align: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in _KNOWN.items():
            if getattr(self, name) not in known:
                raise InputError(f"training.{name} is {getattr(self, name)!r}; known are {', '.join(known)}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= least):
                raise InputError(f"training.{name} is {value!r}; it must be a number of at least {least:g}")
        for name in ("learning_rate", "strength"):
            if not getattr(self, name) > 0:
                raise InputError(f"training.{name} is {getattr(self, name)!r}; it must be above 0")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingSettings:
        """Make settings of what `dataclasses.asdict` gave; a KeyError or TypeError where that does not fit."""
        sizes = values["sizes"]
        return cls(**{**values, "sizes": ClusterSizes(**{**sizes, "given": tuple(sizes["given"])})})

    @property
    def only(self) -> str | None:
        """The one modality that the labels follow, or None."""
        return None if self.label_by == "both" else self.label_by

    def steps_per_epoch(self, n_videos: int, processes: int = 1) -> int:
        """Return the number of steps of an epoch: every clip is in one, and no process is left with a single one."""
        n_clips = n_videos * self.clips_per_video
        return max(1, min(round(n_clips / (self.batch_size * processes)), n_clips // (2 * processes)))

    def learning_rate_at(self, step: int, n_videos: int, settle_from: int | None = None, processes: int = 1) -> float:
        """Return the learning rate of a step, counted from 0; `settle_from` is the epoch from which on it falls."""
        per_epoch = self.steps_per_epoch(n_videos, processes)
        done = step + 1 if self.warmup_by == "step" else step // per_epoch * per_epoch
        rise = min(1.0, done / max(1.0, self.warmup_epochs * per_epoch)) if self.warmup_epochs else 1.0
        full = self.learning_rate * processes if self.scale_learning_rate else self.learning_rate
        start = self.learning_rate * self.warmup_from
        learning_rate = start + (full - start) * rise
        if self.decay == "constant":
            return learning_rate
        if not self.settle_epochs:
            progress = step / (self.epochs * per_epoch)
        elif settle_from is None:
            progress = 0.0
        else:
            progress = max(0.0, (step / per_epoch - settle_from) / self.settle_epochs)
        return learning_rate * max(1e-3, 0.5 * (1 + math.cos(math.pi * progress)))

    def labelling_steps(self, n_videos: int, processes: int = 1) -> set[int]:
        """Return the steps before which the videos are labelled anew."""
        total = self.epochs * self.steps_per_epoch(n_videos, processes)
        shares = np.linspace(0, 1, max(2, self.labellings + 1))[:-1] ** self.labelling_power
        return set((total * shares).astype(int).tolist())


def overclustering_for(n_videos: int, clusters: int) -> tuple[int, int]:
    """Return how many side heads there should be, and how many clusters each; none where videos are too few."""
    overclusters = min(_FINENESS * clusters, n_videos // _LEAST_FINE)
    return (min(5, _MOST_FINE // overclusters) if overclusters >= 2 * clusters else 0), overclusters
