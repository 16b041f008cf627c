"""The alternation of learning and self-labelling, written against a backbone that may be of any framework."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError, SelaviError
from selavi_ref.metrics import normalized_mutual_info_score
from selavi_ref.regroup import regroup, renumber
from selavi_ref.schedule import TrainingSettings
from selavi_ref.selflabel import ClusterSizes, align_modalities, predicted_mass, self_label
from selavi_ref.store import WorkingStore
from selavi_ref.transport import assign, marginals

WARM_UP_BATCHES = 20
_SIDE_SPREAD = 0.02  # of the sizes of side heads' clusters, whatever was asked for the others
# First entries of the seeds of independent random streams, so that no two ever meet.
_ORDER, _CLIPS, _LOOK, _SIZES, _WARM_UP = range(5)


class ClipBatch(Protocol):
    """What a backbone's loader gives for one step: opaque but for the rows and the failures."""

    rows: NDArray[np.int64]
    failures: list[tuple[int, str]]


class Backbone(Protocol):
    """
    What the training loop needs of a framework; `backbones.learner.TorchBackbone` says what each method does.

    N videos are known by their rows, H heads by their numbers; labels are int32.
    """

    clusters: tuple[int, ...]

    @property
    def n_videos(self) -> int:
        """Number of videos N."""

    def batches(self, batches: Sequence[NDArray[np.int64]], seed: Sequence[int]) -> Iterator[Any]:
        """Yield a batch for each array of numbers of clips: number n is a clip of video n modulo N, each its own."""

    def warm_up(self, batches: Iterator[Any]) -> None:
        """Let statistics settle without learning."""

    def train_step(self, batch: Any, labels: NDArray[np.int32], rate: float) -> float:
        """Learn labels (B, H) at a rate, and return the loss."""

    def datasets(self) -> dict[str, int]:
        """Return names and widths of the features' data sets."""

    def write_features(self, store: WorkingStore, seed: Sequence[int] | None) -> None:
        """Write the features of all videos; with a seed, of randomly varied clips."""

    def write_log_prob(self, store: WorkingStore, head: int, name: str) -> None:
        """Write one head's log-probabilities under the given name."""

    def permute(self, head: int, permutation: NDArray[np.int64]) -> None:
        """Reorder the outputs of one head of the second modality."""

    def save(self, path: Path, state: Mapping[str, Any]) -> None:
        """Write the whole state, the caller's included, atomically."""

    def load(self, path: Path) -> dict[str, Any]:
        """Take over a saved state and return the caller's."""


@dataclass
class Progress:
    """
    What is told after each step.

    Parameters
    ----------
    step, total : int
        Steps taken, and in all.
    epoch : int
        Epoch of the step, from 1.
    loss, rate : float
        Mean loss since the last self-labelling, and learning rate.
    labelling_seconds : float
        Duration of the last self-labelling.
    changed : float
        Share of the labels that it changed.
    """

    step: int
    total: int
    epoch: int
    loss: float
    rate: float
    labelling_seconds: float
    changed: float


class Training:
    """
    A training run: create it, `restore` it if a checkpoint is there, and `run` it.

    Parameters
    ----------
    backbone : Backbone
        Learns.
    settings : TrainingSettings
        How.
    store : WorkingStore
        Where features and log-probabilities are handed over; see `working_datasets`.
    checkpoint : Path
        Written after each epoch.
    log : callable
        Gets a record (a mapping of plain values) of each self-labelling and each epoch.
    """

    def __init__(
        self,
        backbone: Backbone,
        settings: TrainingSettings,
        store: WorkingStore,
        checkpoint: Path,
        log: Callable[[Mapping[str, Any]], None],
    ):
        self.backbone = backbone
        self.settings = settings
        self.store = store
        self.checkpoint = checkpoint
        self.log = log
        N, H = backbone.n_videos, len(backbone.clusters)
        if max(backbone.clusters) > N:
            raise InputError(f"{max(backbone.clusters)} clusters need as many videos, but only {N} can be used")
        self.epoch = 0
        self.settle_from: int | None = None
        self.finished = False
        self.labels = np.full((N, H), -1, np.int32)
        self.potentials: list[NDArray[np.float64] | None] = [None] * H
        rng = np.random.default_rng([_SIZES, settings.seed])
        main = H - settings.side_heads
        self.sizes = [
            (settings.sizes if head < main else ClusterSizes("gaussian", _SIDE_SPREAD)).draw(K, N, rng)
            for head, K in enumerate(backbone.clusters)
        ]
        self.failures: dict[int, str] = {}
        self._losses: list[float] = []
        self._last_labelling = (0.0, 0.0)
        self._spectrum: NDArray[np.float64] | None = None

    @property
    def total_steps(self) -> int:
        """Steps of the whole run, or the most that there can be as long as it has not settled."""
        s = self.settings
        epochs = s.epochs if self.settle_from is None else self.settle_from + s.settle_epochs
        return epochs * self.settings.steps_per_epoch(self.backbone.n_videos)

    @property
    def step(self) -> int:
        """Steps taken when the current epoch began."""
        return self.epoch * self.settings.steps_per_epoch(self.backbone.n_videos)

    def restore(self) -> None:
        """Go on from the checkpoint."""
        state = self.backbone.load(self.checkpoint)
        if state["labels"].shape != self.labels.shape:
            raise InputError(f"{self.checkpoint} is of another number of videos or heads")
        self.epoch = int(state["epoch"])
        self.settle_from = int(state["settle_from"]) if int(state["settle_from"]) >= 0 else None
        self.finished = bool(state["finished"])
        self.labels = state["labels"].astype(np.int32)
        self.potentials = [state.get(f"potentials_{head}") for head in range(len(self.potentials))]
        self.sizes = [state[f"sizes_{head}"] for head in range(len(self.sizes))]

    def run(self, told: Callable[[Progress], None] | None = None) -> None:
        """
        Learn to the end, writing a checkpoint after each epoch; `told` hears of each step.

        Raises
        ------
        SelaviError
            If the loss is no longer a number.
        """
        s, N = self.settings, self.backbone.n_videos
        labelling_steps = s.labelling_steps(N)
        if self.epoch == 0:
            self._warm_up()
        while self.step < self.total_steps:
            if s.settle_epochs and self.settle_from is None and self.epoch >= s.epochs - s.settle_epochs:
                self.settle_from = self.epoch
            clips = np.random.default_rng([_ORDER, s.seed, self.epoch]).permutation(N * s.clips_per_video)
            batches = np.array_split(clips, s.steps_per_epoch(N))
            step = self.step
            epoch_losses = []
            failures: dict[int, str] = {}
            for batch in self.backbone.batches(batches, [_CLIPS, s.seed, self.epoch]):
                if step in labelling_steps:
                    self._relabel(step)
                failures.update(batch.failures)
                rate = s.rate_at(step, N, self.settle_from)
                loss = self.backbone.train_step(batch, self.labels[batch.rows], rate)
                if not math.isfinite(loss):
                    raise SelaviError(
                        f"the loss became {loss} at step {step} (rate {rate:.3g}); the last good state is "
                        f"{self.checkpoint}; try a lower --rate"
                    )
                step += 1
                epoch_losses.append(loss)
                self._losses.append(loss)
                if told is not None:
                    told(self._progress(step, rate))
            self.epoch += 1
            record = {"step": step, "epoch": self.epoch, "loss": float(np.mean(epoch_losses)), "rate": rate}
            self.log(record | {"not_decoded": len(failures)} if failures else record)
            self.failures.update(failures)
            self._save()

    def label_now(self, step: int) -> None:
        """Label all videos anew with every head, from the networks as they are."""
        s, H = self.settings, len(self.backbone.clusters)
        regrouping = self._regroups(step)
        heads = range(H - s.side_heads, H) if regrouping else range(H)
        for group in range(self.settings.groups):
            varied = None if s.groups == 1 else [_LOOK, s.seed, step, group]
            self.backbone.write_features(self.store, varied)
            for head in heads:
                if head % s.groups == group:
                    self._label_head(head)
        if s.side_heads:
            self._bring_together(step, regrouping)

    def finish(self) -> None:
        """Label once more from the final networks, looking at the videos as they are, and keep that."""
        self.backbone.write_features(self.store, None)
        for head in range(len(self.backbone.clusters)):
            self._label_head(head)
        self.finished = True
        self._save()

    def _label_head(self, head: int) -> None:
        name = self._working_name(head)
        self.backbone.write_log_prob(self.store, head, name)
        if self.settings.align and self.potentials[head] is None:
            permutation = align_modalities(self.store, name)
            self.backbone.permute(head, permutation)
            self.backbone.write_log_prob(self.store, head, name)
        found, _ = self_label(
            self.store,
            name,
            self.sizes[head],
            strength=self.settings.strength,
            potentials=self.potentials[head],
        )
        self.labels[:, head] = found.labels
        self.potentials[head] = found.potentials

    def _regroups(self, step: int) -> bool:
        """Tell whether the labelling heads get the labels that the side heads agree on."""
        s = self.settings
        if not s.side_heads:
            return False
        if s.settle_epochs:
            return self.settle_from is not None
        return step >= s.regroup_from * self.total_steps

    def _bring_together(self, step: int, regrouping: bool) -> None:
        """Look at how far the side heads' clusters come together, and label the other heads by them if it is time."""
        s, H = self.settings, len(self.backbone.clusters)
        main = range(H - s.side_heads)
        found = regroup(self.store, [self._working_name(h) for h in range(len(main), H)], self.backbone.clusters[0])
        self._spectrum = found.spectrum
        if regrouping:
            coarse = renumber(found.posterior, self.labels[:, 0])
            log_prob = np.log(np.maximum(coarse, np.float32(1e-12)))
            marginal = marginals.match(self.sizes[0], predicted_mass(log_prob))
            labels = assign(log_prob, marginal, strength=s.strength, tol=1e-5).labels
            self.labels[:, main] = labels[:, None]
        elif s.settle_epochs and agreement_of(found.spectrum) >= s.agreement:
            self.settle_from = step // s.steps_per_epoch(self.backbone.n_videos) + 1

    def _working_name(self, head: int) -> str:
        return working_names(self.backbone.clusters, self.settings.side_heads)[head]

    def _relabel(self, step: int) -> None:
        started = time.perf_counter()
        before = self.labels.copy()
        self.label_now(step)
        seconds = time.perf_counter() - started
        changed = float(np.mean(before != self.labels))
        self._last_labelling = (seconds, changed)
        self._losses.clear()
        record: dict[str, Any] = {"step": step, "labelling_seconds": seconds, "changed": changed}
        if self.labels.shape[1] > 1 and not self._regroups(step):
            record["agreement_of_heads"] = normalized_mutual_info_score(self.labels[:, 0], self.labels[:, 1])
        if self._spectrum is not None:
            record["spectrum"] = self._spectrum.tolist()
        self.log(record)

    def _warm_up(self) -> None:
        s = self.settings
        rng = np.random.default_rng([_WARM_UP, s.seed])
        size = min(s.batch_size, self.backbone.n_videos)
        rows = [rng.permutation(self.backbone.n_videos)[:size] for _ in range(WARM_UP_BATCHES)]
        self.backbone.warm_up(self.backbone.batches(rows, [_WARM_UP, s.seed]))

    def _progress(self, step: int, rate: float) -> Progress:
        per_epoch = self.settings.steps_per_epoch(self.backbone.n_videos)
        loss = float(np.mean(self._losses))
        return Progress(step, self.total_steps, (step - 1) // per_epoch + 1, loss, rate, *self._last_labelling)

    def _save(self) -> None:
        state: dict[str, Any] = {"epoch": self.epoch, "finished": self.finished, "labels": self.labels}
        state["settle_from"] = -1 if self.settle_from is None else self.settle_from
        for head, (sizes, potentials) in enumerate(zip(self.sizes, self.potentials, strict=True)):
            state[f"sizes_{head}"] = sizes
            if potentials is not None:
                state[f"potentials_{head}"] = potentials
        self.backbone.save(self.checkpoint, state)


def agreement_of(spectrum: NDArray[np.float64]) -> float:
    """Return how far picture and sound agree: the mean of the eigenvalues 2 to K of K + 1, or 1 for a single kind."""
    return float(np.mean(spectrum[1:-1])) if len(spectrum) > 2 else 1.0


def working_names(clusters: Sequence[int], side_heads: int) -> list[str]:
    """
    Return the names under which each head's log-probabilities are handed over.

    The labelling heads share one, since they are looked at one after the other; each side head has its own.
    """
    main = len(clusters) - side_heads
    return [f"current{K}" for K in clusters[:main]] + [f"side{index}" for index in range(side_heads)]


def working_datasets(backbone: Backbone, side_heads: int = 0) -> dict[str, int]:
    """Return the data sets that the store of a training run needs: features, and log-probabilities in hand."""
    datasets = backbone.datasets()
    for name, K in zip(working_names(backbone.clusters, side_heads), backbone.clusters, strict=True):
        datasets |= {f"log_prob/{modality}/{name}": K for modality in ("video", "audio")}
    return datasets
