"""The alternation of learning and self-labelling, written against a backbone that may be of any framework."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import CheckpointError, DivergedError, InputError, StopRequest
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.processes import Exchange, SingleProcess, gather_lines
from selavi_ref.selflabel.backbone import Backbone
from selavi_ref.selflabel.pseudo_labels import PseudoLabels
from selavi_ref.selflabel.settings import TrainingSettings
from selavi_ref.store import WorkingStore

_LOSS_STEPS = 50  # every so many steps the loss is logged
_LABELLING_SECONDS = 60.0  # what was learnt is saved before a self-labelling if the last checkpoint is as old as this
# First entries of the seeds of independent random streams, so that no two ever meet; 2 and 3 are `Labelling`'s.
_ORDER, _CLIPS, _WARM_UP = 0, 1, 4


@dataclass
class TrainingProgress:
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
    learning_rate: float
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
        Where features and log-probabilities are handed over, those of this process's share of the videos; see
        `selavi_ref.selflabel.backbone.working_datasets`.
    checkpoints : Checkpoints
        Where the state is kept: after each epoch, every few minutes, and when the run is asked to stop.
    log : callable
        Gets a record (a mapping of plain values) of each self-labelling, each epoch, and the loss now and then.
    exchange : Exchange
        With the other processes of the run.
    classes : sequence of str, optional
        True classes, which are compared with the labels for the log, and nothing else.
    warn : callable
        Hears of what a user should know, such as a damaged checkpoint.
    """

    def __init__(
        self,
        backbone: Backbone,
        settings: TrainingSettings,
        store: WorkingStore,
        checkpoints: Checkpoints,
        log: Callable[[Mapping[str, Any]], None],
        *,
        exchange: Exchange = SingleProcess(),  # noqa: B008
        classes: Sequence[str] | None = None,
        warn: Callable[[str], None] = lambda message: None,
    ):
        self.backbone = backbone
        self.settings = settings
        self.checkpoints = checkpoints
        self.log = log
        self.exchange = exchange
        self.warn = warn
        N, size = backbone.n_videos, exchange.size
        if max(backbone.clusters) > N:
            raise InputError(f"{max(backbone.clusters)} clusters need as many videos, but only {N} can be used")
        if 2 * size > N * settings.clips_per_video:
            raise InputError(f"{size} processes need at least {2 * size} videos to learn from, but there are {N}")
        self.per_epoch = settings.steps_per_epoch(N, size)
        self.labelling_steps = settings.labelling_steps(N, size)
        self.step = 0
        self.settle_from: int | None = None
        self.finished = False
        self.pseudo_labels = PseudoLabels(backbone, settings, store, exchange, classes)
        self.failures: dict[int, str] = {}
        self._losses: list[float] = []  # of the steps of this epoch
        self._last_labelling = (0.0, 0.0)
        self._saved: tuple[int, bool] | None = None  # step of the last checkpoint
        self._stop_asked = False
        self._learning = False

    @property
    def labels(self) -> NDArray[np.int32]:
        """Labels of all videos by every head, int32, shape (N, H)."""
        return self.pseudo_labels.labels

    @property
    def epoch(self) -> int:
        """Whole epochs learnt."""
        return self.step // self.per_epoch

    @property
    def total_steps(self) -> int:
        """Steps of the whole run, or the most that there can be as long as it has not settled."""
        s = self.settings
        return self.per_epoch * (s.epochs if self.settle_from is None else self.settle_from + s.settle_epochs)

    def restore(self) -> bool:
        """
        Go on from the newest checkpoint that is whole; return False if there is none at all.

        Raises
        ------
        CheckpointError
            If all that there are are damaged.
        InputError
            If it is of another run.
        """
        damaged: CheckpointError | None = None
        for path in self.checkpoints.newest_first():
            state: dict[str, Any] | None = None
            try:
                state = self.backbone.load(path)
            except CheckpointError as error:
                damaged = error
            everywhere = self.exchange.all_sum(np.array([float(state is not None)]))[0] == self.exchange.size
            if state is not None and everywhere:
                self._take_over(state, path)
                if damaged is not None:
                    self.warn(f"{damaged}; going on from the one before, {path.name}")
                return True
            damaged = damaged or CheckpointError(f"{path} cannot be read by every process")
        if damaged is not None:
            raise damaged
        return False

    def request_stop(self) -> None:
        """
        Ask the run to keep what it has learnt and end with a `StopRequest`: after this step, or at once between them.

        It may be called by the handler of a signal.
        """
        self._stop_asked = True
        if not self._learning:
            raise StopRequest

    def run(self, on_step: Callable[[TrainingProgress], None] | None = None) -> None:
        """
        Learn to the end, or until it is asked to stop; `on_step` hears of each step.

        Raises
        ------
        DivergedError
            If the loss is no longer a number.
        StopRequest
            If `request_stop` was called; the state is saved.
        """
        if self.step == 0:
            self._warm_up()
        while self.step < self.total_steps:
            self._learn_epoch(on_step or (lambda progress: None))

    def finish(self) -> None:
        """Label once more from the final networks, looking at the videos as they are, and keep that."""
        self.pseudo_labels.label_finally()
        self.finished = True
        self._save(self.epoch)

    def _learn_epoch(self, on_step: Callable[[TrainingProgress], None]) -> None:
        """Learn an epoch, or what is left of one."""
        s, epoch = self.settings, self.epoch
        if s.settle_epochs and self.settle_from is None and epoch >= s.epochs - s.settle_epochs:
            self.settle_from = epoch
        self._learning = True
        try:
            for batch, part in self._batches(epoch):
                if self.step in self.labelling_steps:
                    self._relabel()
                learning_rate = s.learning_rate_at(
                    self.step, self.backbone.n_videos, self.settle_from, self.exchange.size
                )
                loss = self.backbone.train_step(batch, self.labels[batch.rows], learning_rate, part)
                self.failures.update(batch.failures)
                loss, save, stop = self._agree(loss * part)
                if not math.isfinite(loss):
                    raise DivergedError(self._diverged(f"the loss became {loss}", learning_rate))
                self.step += 1
                self._losses.append(loss)
                if len(self._losses) % _LOSS_STEPS == 0:
                    self.log(
                        {"step": self.step, "loss": float(np.mean(self._losses[-_LOSS_STEPS:])), "rate": learning_rate}
                    )
                on_step(self._progress(learning_rate))
                if self.epoch > epoch:
                    self._end_epoch(learning_rate)
                elif save:
                    self._save(None, learning_rate)
                if stop:
                    raise StopRequest
        finally:
            self._learning = False

    def _batches(self, epoch: int) -> Iterator[tuple[Any, float]]:
        """Yield what this process has of each batch that is left of an epoch, and which part of the batch that is."""
        s, N = self.settings, self.backbone.n_videos
        clips = np.random.default_rng([_ORDER, s.seed, epoch]).permutation(N * s.clips_per_video)
        whole = np.array_split(clips, self.per_epoch)[self.step % self.per_epoch :]
        own = [batch[self.exchange.rank :: self.exchange.size] for batch in whole]
        parts = [len(mine) / len(batch) for mine, batch in zip(own, whole, strict=True)]
        yield from zip(self.backbone.batches(own, [_CLIPS, s.seed, epoch]), parts, strict=True)

    def _agree(self, loss: float) -> tuple[float, bool, bool]:
        """Return the loss of the whole step, whether to save the state after it, and whether to stop then."""
        age = _LABELLING_SECONDS / 60 if self.step + 1 in self.labelling_steps else self.checkpoints.minutes
        due = self.checkpoints.older_than(min(age, self.checkpoints.minutes))
        on_step = np.array([loss, self._stop_asked, due and self.exchange.rank == 0], np.float64)
        loss, stop, save = self.exchange.all_sum(on_step).tolist()
        return loss, bool(save or stop), bool(stop)

    def _end_epoch(self, learning_rate: float) -> None:
        record: dict[str, Any] = {"step": self.step, "epoch": self.epoch, "loss": float(np.mean(self._losses))}
        self._losses.clear()
        self._gather_failures()
        not_decoded = {"not_decoded": len(self.failures)} if self.failures else {}
        self.log(record | {"rate": learning_rate} | not_decoded)
        self._save(self.epoch, learning_rate)

    def _relabel(self) -> None:
        if self.exchange.all_sum(np.array([float(self._stop_asked)]))[0]:
            self._save(None)
            raise StopRequest
        self._learning = False
        settled = self._settled()
        record = self.pseudo_labels.relabel(self.step, settled and self.settings.overclustering_heads > 0, settled)
        self._learning = True
        self._last_labelling = record["labelling_seconds"], record["changed"]
        self.log({"step": self.step} | record)
        spectrum = self.pseudo_labels.spectrum
        waiting = self.settings.settle_epochs and self.settle_from is None
        if waiting and spectrum is not None and modality_agreement(spectrum) >= self.settings.agreement:
            self.settle_from = self.epoch + 1

    def _settled(self) -> bool:
        """Tell whether labelling heads get the labels that the side heads agree on, and sizes may bend."""
        s = self.settings
        if s.settle_epochs:
            return self.settle_from is not None
        return self.step >= s.overclustering_from * self.total_steps

    def _warm_up(self) -> None:
        s, exchange = self.settings, self.exchange
        rng = np.random.default_rng([_WARM_UP, s.seed])
        size = min(s.batch_size * exchange.size, self.backbone.n_videos)
        rows = [rng.permutation(self.backbone.n_videos)[:size] for _ in range(s.bn_warmup_batches)]
        own = [batch[exchange.rank :: exchange.size] for batch in rows]
        self.backbone.warm_up(self.backbone.batches(own, [_WARM_UP, s.seed]))

    def _progress(self, learning_rate: float) -> TrainingProgress:
        loss = float(np.mean(self._losses[-_LOSS_STEPS:]))
        return TrainingProgress(
            self.step,
            self.total_steps,
            (self.step - 1) // self.per_epoch + 1,
            loss,
            learning_rate,
            *self._last_labelling,
        )

    def _gather_failures(self) -> None:
        """Let all processes know which videos could not be decoded."""
        lines = [json.dumps([row, reason]) for row, reason in self.failures.items()]
        self.failures = dict(json.loads(line) for line in gather_lines(lines, self.exchange))

    def _save(self, epoch: int | None, learning_rate: float = 0.0) -> None:
        """Write a checkpoint, which ends an epoch if one is given, unless the step has one."""
        if self._saved == (self.step, self.finished):
            return
        self._gather_failures()
        state: dict[str, Any] = {
            "step": self.step,
            "epoch": self.epoch,
            "per_epoch": self.per_epoch,
            "finished": self.finished,
            "settle_from": -1 if self.settle_from is None else self.settle_from,
            "losses": np.array(self._losses, np.float64),
            "failures": json.dumps(sorted(self.failures.items())),
        } | self.pseudo_labels.state()
        path = self.checkpoints.place(self.step, epoch)
        try:
            self.backbone.save(path, state)
        except DivergedError as error:
            raise DivergedError(self._diverged(str(error), learning_rate)) from error
        self._saved = self.step, self.finished
        if self.exchange.rank == 0:
            self.checkpoints.tidy()

    def _take_over(self, state: Mapping[str, Any], path: Path) -> None:
        if state["labels"].shape != self.labels.shape:
            raise InputError(f"{path} is of another number of videos or heads")
        self.pseudo_labels.restore(state)
        # With another number of processes, a step has another number of clips.
        self.step = int(state["step"]) * self.per_epoch // int(state["per_epoch"])
        self.settle_from = int(state["settle_from"]) if int(state["settle_from"]) >= 0 else None
        self.finished = bool(state["finished"])
        self._losses = state["losses"].tolist() if self.step % self.per_epoch else []
        self._saved = self.step, self.finished
        self.failures = {int(row): str(reason) for row, reason in json.loads(str(state["failures"]))}

    def _diverged(self, what: str, learning_rate: float) -> str:
        good = self.checkpoints.newest_first()
        last = f"the last good checkpoint is {good[0]}" if good else "there is no checkpoint yet"
        return f"{what} at step {self.step} (learning rate {learning_rate:.3g}); {last}; try a lower --learning-rate"


def modality_agreement(spectrum: NDArray[np.float64]) -> float:
    """Return how far picture and sound agree: the mean of the eigenvalues 2 to K of K + 1, or 1 for a single kind."""
    return float(np.mean(spectrum[1:-1])) if len(spectrum) > 2 else 1.0
