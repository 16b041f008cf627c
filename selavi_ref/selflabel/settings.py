"""Settings of a training: schedule, learning rate, self-labellings and cluster sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from selavi_ref.ensemble.strength import STRENGTH
from selavi_ref.runs.setting_fields import check_settings, setting
from selavi_ref.selflabel.cluster_sizes import ClusterSizes

_OVERCLUSTERS, _MIN_SIZE = 5, 8  # over-clusters for each cluster, and videos of each over-cluster, at least
_MAX_OVERCLUSTERS = 2000  # of all over-clustering heads together; time and memory grow with the square


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training; the help of each field describes it."""

    epochs: int = setting(
        100,
        help="Passes over the videos",
        minimum=1,
        option="epochs",
        default_text="until picture and sound agree, then some more",
        published=200,
    )
    settle_epochs: int = setting(
        0,
        help="With over-clustering heads: the learning rate stays up until picture and sound agree (agreement), and "
        "then falls to zero over so many epochs, which end the run, after at most epochs; 0: it falls over all epochs",
        minimum=0,
    )
    stable_change: float = setting(
        0.0,
        help="With settle_epochs: after three self-labellings in a row that each changed at most this proportion of "
        "the labels, or a sixth of it of those of the main heads, the rest of the fall is shortened to a twelfth of "
        "settle_epochs; 0: never",
        minimum=0,
        maximum=1,
    )
    agreement: float = setting(
        0.3,
        help="Mean of eigenvalues 2 to K of the graph of over-clustering heads from which picture and sound agree",
    )
    batch_size: int = setting(
        64,
        help="Clips of one step in each process",
        minimum=2,
        option="batch-size",
        default_text="32 or 64, by the number of videos",
        published=16,
    )
    clips_per_video: int = setting(1, help="Clips of each video in an epoch", minimum=1, option="clips-per-video")
    learning_rate: float = setting(0.1, help="Base learning rate", above=0, option="learning-rate", published=0.01)
    scale_learning_rate: bool = setting(
        False,
        help="Multiply the learning rate by the number of processes, each of which takes a batch per step",
        option="scale-learning-rate",
        published=True,
    )
    warmup_epochs: float = setting(
        3.0,
        help="Epochs over which the learning rate rises linearly to its full value",
        minimum=0,
        option="warmup-epochs",
        published=10.0,
    )
    warmup_from: float = setting(
        0.0, help="Where the learning rate begins to rise, as a multiple of its full value", minimum=0, published=1.0
    )
    warmup_by: str = setting(
        "step",
        help="Whether the learning rate rises with every step, or with every epoch",
        choices=("step", "epoch"),
        published="epoch",
    )
    bn_warmup_batches: int = setting(
        20,
        help="Batches that the batch norms see before the first self-labelling",
        minimum=0,
        option="bn-warmup-batches",
    )
    decay: str = setting(
        "cosine",
        help="Course of the learning rate after its rise: cosine falls to a thousandth, constant stays",
        choices=("cosine", "constant"),
        option="decay",
        published="constant",
    )
    labellings: int = setting(
        100,
        help="Number of self-labellings",
        minimum=1,
        option="labellings",
        default_text="80, or at most 160 with over-clustering",
        published=99,  # 100 in the program, of which the last falls after the last step
    )
    labelling_power: float = setting(
        1.5,
        help="Power p of their schedule: steps total * linspace(0, 1, labellings + 1)[:-1] ** p; above 1: dense first",
        above=0,
        option="labelling-power",
    )
    labelling_stride: int = setting(
        1,
        help="With settle_epochs: of the scheduled self-labellings before picture and sound agree, make every n-th",
        minimum=1,
    )
    groups: int = setting(
        1,
        help="Groups of heads, each labelled from its own pass over the videos, randomly varied if there are several",
        minimum=1,
        option="groups",
        published=2,
    )
    sizes: ClusterSizes = field(default_factory=ClusterSizes)
    strength: float = setting(
        STRENGTH,
        help="How closely labels follow predictions: 1 / reg on costs -log p, lambda / 2 in the paper",
        above=0,
        option="strength",
    )
    overclustering_heads: int = setting(
        0,
        help="Further heads that learn more and finer clusters",
        minimum=0,
        option="overclustering-heads",
        default_text="5, or fewer where there are few videos",
        published=0,
    )
    overclustering_from: float = setting(
        0.5,
        help="Proportion of the run (with settle_epochs: agreement of picture and sound) from which on labels of all "
        "other heads are the merged fine clusters (see selavi_ref.selflabel.overclustering); sizes are met until then",
    )
    label_by: str = setting(
        "both",
        help="Modality whose predictions labels follow; the other learns them all the same. One alone goes without "
        "over-clustering heads",
        choices=("both", "video", "audio"),
        option="label-by",
    )
    labeller: str = setting(
        "transport",
        help="How labels are chosen. For comparison, in one process: kmeans, on the features of both modalities; "
        "published, by the published program's solver, which assigns the sizes at random and inverts them",
        choices=("transport", "kmeans", "published"),
        option="labeller",
    )
    align: bool = setting(
        True,
        help="Match the outputs of the audio heads to those of the video heads at the first self-labelling",
        option="align",
    )
    seed: int = setting(0, help="Seed of all random numbers", minimum=0, option="seed")

    def __post_init__(self) -> None:
        check_settings(self, "training.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingSettings:
        """Read settings from the result of `dataclasses.asdict`; raises a KeyError or TypeError for other keys."""
        sizes = values["sizes"]
        return cls(**{**values, "sizes": ClusterSizes(**{**sizes, "given": tuple(sizes["given"])})})

    @property
    def only(self) -> str | None:
        """The only modality that the labels follow; None for both."""
        return None if self.label_by == "both" else self.label_by

    def steps_per_epoch(self, n_videos: int, processes: int = 1) -> int:
        """Return the number of steps of an epoch; each process has at least two clips in each step."""
        n_clips = n_videos * self.clips_per_video
        return max(1, min(round(n_clips / (self.batch_size * processes)), n_clips // (2 * processes)))

    @property
    def finish_epochs(self) -> int:
        """Epochs of a run from where its labels are stable (`stable_change`) to its end."""
        return math.ceil(self.settle_epochs / 12)

    def learning_rate_at(
        self,
        step: int,
        n_videos: int,
        settle_from: int | None = None,
        processes: int = 1,
        finish_from: int | None = None,
    ) -> float:
        """
        Return the learning rate of a step, counted from 0.

        It falls from epoch `settle_from` on, and faster from epoch `finish_from` on.
        """
        per_epoch = self.steps_per_epoch(n_videos, processes)
        done = step + 1 if self.warmup_by == "step" else step // per_epoch * per_epoch
        rise = min(1.0, done / max(1.0, self.warmup_epochs * per_epoch)) if self.warmup_epochs else 1.0
        full = self.learning_rate * processes if self.scale_learning_rate else self.learning_rate
        start = self.learning_rate * self.warmup_from
        learning_rate = start + (full - start) * rise
        if self.decay == "constant":
            return learning_rate
        epoch, end = step / per_epoch, 1.0
        if not self.settle_epochs:
            return learning_rate * max(1e-3, _cosine(epoch / self.epochs))
        if settle_from is None:
            return learning_rate
        if finish_from is not None:
            end = _cosine(max(0.0, epoch - finish_from) / self.finish_epochs)
            epoch = min(epoch, finish_from)
        return learning_rate * max(1e-3, _cosine(max(0.0, epoch - settle_from) / self.settle_epochs) * end)

    def labelling_steps(self, n_videos: int, processes: int = 1, *, settled: bool = True) -> set[int]:
        """
        Return the steps that a self-labelling comes before.

        `settled` tells whether the modalities agree already; before that, `labelling_stride` leaves some out.
        """
        import numpy as np

        total = self.epochs * self.steps_per_epoch(n_videos, processes)
        fractions = np.linspace(0, 1, max(2, self.labellings + 1))[:-1] ** self.labelling_power
        stride = self.labelling_stride if self.settle_epochs and not settled else 1
        return set((total * fractions).astype(int).tolist()[::stride])


def _cosine(progress: float) -> float:
    """Return the factor that falls from 1 to 0 along a cosine while `progress` goes from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def overclustering_for(n_videos: int, clusters: int) -> tuple[int, int]:
    """Return the default number of over-clustering heads, 0 for few videos, and of clusters of each."""
    overclusters = min(_OVERCLUSTERS * clusters, n_videos // _MIN_SIZE)
    return (min(5, _MAX_OVERCLUSTERS // overclusters) if overclusters >= 2 * clusters else 0), overclusters
