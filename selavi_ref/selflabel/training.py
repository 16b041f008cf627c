"""The training loop: learning pseudo-labels and finding them anew in turns, with a backbone of any framework."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import DivergedError, InputError, StopRequest
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.processes import Exchange, SingleProcess, gather_lines
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.selflabel.backbone import Backbone
from selavi_ref.selflabel.constraints import Constraints
from selavi_ref.selflabel.pseudo_labels import PseudoLabels
from selavi_ref.selflabel.settings import TrainingSettings
from selavi_ref.store import WorkingStore

_LOSS_STEPS = 50  # steps between two records of the loss
_STABLE = 3  # self-labellings in a row that must change few labels
_STABLE_MAIN = 6  # labels of the main heads, stable before those of over-clusters, must change so many times less
_LABELLING_SECONDS = 60.0  # a checkpoint of at least this age is renewed before a self-labelling, which takes long
# First entries of the seeds of independent random streams; 2 and 3 are those of `selavi_ref.selflabel.pseudo_labels`.
_ORDER, _CLIPS, _WARM_UP = 0, 1, 4


@dataclass
class TrainingProgress:
    """
    State of a training after a step, as its callback receives it.

    Parameters
    ----------
    step, total : int
        Steps taken, and steps of the whole run as far as it is known.
    epoch : int
        Epoch of the step, counted from 1.
    loss : float
        Mean loss of the last 50 steps of this epoch.
    learning_rate : float
        Learning rate of the step.
    labelling_seconds : float
        Duration of the last self-labelling.
    changed : float
        Fraction of the pseudo-labels that it changed, 0 to 1.
    """

    step: int
    total: int
    epoch: int
    loss: float
    learning_rate: float
    labelling_seconds: float
    changed: float

    @property
    def summary(self) -> str:
        """Short text beside the progress bar."""
        return (
            f"epoch {self.epoch}, loss {self.loss:.3f}, rate {self.learning_rate:.3g}, "
            f"labelling {self.labelling_seconds:.1f} s ({self.changed:.0%} changed)"
        )


class Training:
    """
    Alternating training: learn the pseudo-labels for some steps, then find them anew by optimal transport.

    Call `restore` to resume from a checkpoint if there is one, then `run` and `finish`.

    Parameters
    ----------
    backbone : Backbone
        Networks, optimiser and data of a deep-learning framework.
    settings : TrainingSettings
        Schedule, cluster sizes and solver.
    store : WorkingStore
        Scratch store for features and log-probabilities of this process's rows; see
        `selavi_ref.selflabel.backbone.working_datasets`.
    checkpoints : Checkpoints
        Files of the state, which is saved after each epoch, every few minutes, and when the run is asked to stop.
    log : callable
        Called with a record (a mapping of plain values) of each self-labelling, of each epoch, and of the loss every
        50 steps.
    exchange : Exchange
        The other processes of the run.
    classes : sequence of str, optional
        True classes; only the log compares them with the labels.
    constraints : Constraints, optional
        Corrections of people, which all pseudo-labels by transport meet.
    reporter : Reporter
        Receives warnings, such as of a damaged checkpoint.

    Raises
    ------
    InputError
        If there are fewer videos than clusters, or too few for so many processes.
    """

    def __init__(
        self,
        backbone: Backbone[Any],
        settings: TrainingSettings,
        store: WorkingStore,
        checkpoints: Checkpoints,
        log: Callable[[Mapping[str, Any]], None],
        *,
        exchange: Exchange = SingleProcess(),  # noqa: B008
        classes: Sequence[str] | None = None,
        constraints: Constraints | None = None,
        reporter: Reporter = SILENT,
    ):
        self.backbone = backbone
        self.settings = settings
        self.checkpoints = checkpoints
        self.log = log
        self.exchange = exchange
        self.reporter = reporter
        N, size = backbone.n_videos, exchange.size
        if max(backbone.clusters) > N:
            K = max(backbone.clusters)
            raise InputError(f"{K} clusters need as many videos, but only {N} can be used", option="clusters", value=K)
        if 2 * size > N * settings.clips_per_video:
            message = f"{size} processes need at least {2 * size} videos to learn from, but there are {N}"
            raise InputError(message, option="processes", value=size)
        self.per_epoch = settings.steps_per_epoch(N, size)
        self._labelling_steps = {
            settled: settings.labelling_steps(N, size, settled=settled) for settled in (False, True)
        }
        self.step = 0
        self.settle_from: int | None = None
        self.finish_from: int | None = None
        self.finished = False
        self.pseudo_labels = PseudoLabels(backbone, settings, store, exchange, classes, constraints)
        self.failures: dict[int, str] = {}  # reasons by row
        self._losses: list[float] = []  # of the steps of this epoch
        self._n_stable = 0  # self-labellings in a row that changed few labels
        self._last_labelling = (0.0, 0.0)  # seconds, and fraction of labels changed
        self._saved: tuple[int, bool] | None = None  # step of the last checkpoint, and whether it was final
        self._stop_requested = False
        self._learning = False

    @property
    def labels(self) -> NDArray[np.int32]:
        """Pseudo-labels of all videos and heads, int32, shape (N, H)."""
        return self.pseudo_labels.labels

    @property
    def epoch(self) -> int:
        """Number of complete epochs."""
        return self.step // self.per_epoch

    @property
    def total_steps(self) -> int:
        """Steps of the whole run; the largest possible number until the modalities agree (see `settle_epochs`)."""
        s = self.settings
        if self.settle_from is None:
            return self.per_epoch * s.epochs
        last = self.settle_from + s.settle_epochs
        return self.per_epoch * (last if self.finish_from is None else min(last, self.finish_from + s.finish_epochs))

    def restore(self) -> bool:
        """
        Load the newest checkpoint that is not damaged; return False if there is none.

        Raises
        ------
        CheckpointError
            If all checkpoints are damaged.
        InputError
            If the checkpoint is of another run.
        """
        newest = self.checkpoints.read_newest(self.backbone.load, exchange=self.exchange, reporter=self.reporter)
        if newest is not None:
            self._load_state(newest[1], newest[0])
        return newest is not None

    def covers(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record of the log is of steps taken; a self-labelling belongs to the step after it."""
        return bool(record["step"] < self.step or (record["step"] == self.step and "changed" not in record))

    def request_stop(self) -> None:
        """
        Make the run save its state and raise a `StopRequest`: after the current step, or at once between steps.

        A signal handler may call it.
        """
        self._stop_requested = True
        if not self._learning:
            raise StopRequest

    def run(self, on_step: Callable[[TrainingProgress], None] | None = None) -> None:
        """
        Train to the end.

        Parameters
        ----------
        on_step : callable, optional
            Called after each step.

        Raises
        ------
        DivergedError
            If the loss or the weights are no longer finite.
        StopRequest
            If `request_stop` was called; the state is saved.
        """
        if self.step == 0:
            self._warm_up()
        while self.step < self.total_steps:
            self._learn_epoch(on_step or (lambda progress: None))

    def finish(self) -> None:
        """Find the final labels from undistorted clips, and save them; nothing happens if that was done before."""
        if self.finished:
            return
        self.pseudo_labels.label_finally()
        self.finished = True
        self._save(self.epoch)

    def _learn_epoch(self, on_step: Callable[[TrainingProgress], None]) -> None:
        """Train for the rest of the current epoch."""
        s, epoch = self.settings, self.epoch
        if s.settle_epochs and self.settle_from is None and epoch >= s.epochs - s.settle_epochs:
            self.settle_from = epoch
        self._learning = True
        try:
            for batch, weight in self._batches(epoch):
                if self._is_labelling_due(self.step) or self.labels[0, 0] < 0:
                    self._relabel()
                learning_rate = s.learning_rate_at(
                    self.step, self.backbone.n_videos, self.settle_from, self.exchange.size, self.finish_from
                )
                loss = self.backbone.train_step(batch, self.labels[batch.rows], learning_rate, weight)
                self.failures.update(batch.failures)
                loss, save, stop = self._combine(loss * weight)
                if not math.isfinite(loss):
                    raise self._diverged(f"the loss became {loss}", learning_rate)
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
        """Yield this process's clips of each remaining batch of an epoch, and their fraction of the batch."""
        s, N = self.settings, self.backbone.n_videos
        clips = np.random.default_rng([_ORDER, s.seed, epoch]).permutation(N * s.clips_per_video)
        remaining = np.array_split(clips, self.per_epoch)[self.step % self.per_epoch :]
        own = [batch[self.exchange.rank :: self.exchange.size] for batch in remaining]
        weights = [len(part) / len(batch) for part, batch in zip(own, remaining, strict=True)]
        yield from zip(self.backbone.batches(own, [_CLIPS, s.seed, epoch]), weights, strict=True)

    def _combine(self, loss: float) -> tuple[float, bool, bool]:
        """Return the loss of the step over all processes, whether to save the state after it, and whether to stop."""
        age = _LABELLING_SECONDS / 60 if self._is_labelling_due(self.step + 1) else self.checkpoints.minutes
        due = self.checkpoints.older_than(min(age, self.checkpoints.minutes))
        values = np.array([loss, self._stop_requested, due and self.exchange.rank == 0], np.float64)
        loss, stop, save = self.exchange.all_sum(values).tolist()
        return loss, bool(save or stop), bool(stop)

    def _end_epoch(self, learning_rate: float) -> None:
        record: dict[str, Any] = {"step": self.step, "epoch": self.epoch, "loss": float(np.mean(self._losses))}
        self._losses.clear()
        self._gather_failures()
        not_decoded = {"not_decoded": len(self.failures)} if self.failures else {}
        self.log(record | {"rate": learning_rate} | not_decoded)
        self._save(self.epoch, learning_rate)

    def _relabel(self) -> None:
        if self.exchange.all_sum(np.array([float(self._stop_requested)]))[0]:
            self._save(None)
            raise StopRequest
        self._learning = False
        settled = self._has_settled()
        record = self.pseudo_labels.relabel(self.step, settled and self.settings.overclustering_heads > 0, settled)
        self._learning = True
        self._last_labelling = record["labelling_seconds"], record["changed"]
        self.log({"step": self.step} | record)
        spectrum = self.pseudo_labels.spectrum
        undecided = self.settings.settle_epochs and self.settle_from is None
        if undecided and spectrum is not None and modality_agreement(spectrum) >= self.settings.agreement:
            self.settle_from = self.epoch + 1
        most = self.settings.stable_change
        if most and settled and self.settings.settle_epochs and self.finish_from is None:
            stable = record["changed"] <= most or record["main_changed"] <= most / _STABLE_MAIN
            self._n_stable = self._n_stable + 1 if stable else 0
            if self._n_stable == _STABLE:
                self.finish_from = self.epoch + 1

    def _is_labelling_due(self, step: int) -> bool:
        """Return whether a self-labelling comes before a step."""
        return step in self._labelling_steps[self.settle_from is not None]

    def _has_settled(self) -> bool:
        """Return whether merged over-clusters label the main heads now, and cluster sizes are soft."""
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
        """Collect from all processes which videos could not be decoded."""
        lines = [json.dumps([row, reason]) for row, reason in self.failures.items()]
        self.failures = dict(json.loads(line) for line in gather_lines(lines, self.exchange))

    def _save(self, epoch: int | None, learning_rate: float = 0.0) -> None:
        """Write a checkpoint, unless this step has one; `epoch` is that which has just ended, if any."""
        if self._saved == (self.step, self.finished):
            return
        self._gather_failures()
        state: dict[str, Any] = {
            "step": self.step,
            "epoch": self.epoch,
            "per_epoch": self.per_epoch,
            "finished": self.finished,
            "settle_from": -1 if self.settle_from is None else self.settle_from,
            "finish_from": -1 if self.finish_from is None else self.finish_from,
            "n_stable": self._n_stable,
            "losses": np.array(self._losses, np.float64),
            "failures": json.dumps(sorted(self.failures.items())),
        } | self.pseudo_labels.state()
        path = self.checkpoints.next_path(self.step, epoch)
        try:
            self.backbone.save(path, state)
        except DivergedError as error:
            raise self._diverged(str(error), learning_rate) from error
        self._saved = self.step, self.finished
        if self.exchange.rank == 0:
            self.checkpoints.prune()

    def _load_state(self, state: Mapping[str, Any], path: Path) -> None:
        if state["labels"].shape != self.labels.shape:
            raise InputError(f"{path} is a checkpoint of another number of videos or heads", path=path)
        self.pseudo_labels.restore(state)
        # A run that is resumed with more processes has more clips in a step.
        self.step = int(state["step"]) * self.per_epoch // int(state["per_epoch"])
        self.settle_from = int(state["settle_from"]) if int(state["settle_from"]) >= 0 else None
        self.finish_from = int(state["finish_from"]) if int(state["finish_from"]) >= 0 else None
        self._n_stable = int(state["n_stable"])
        self.finished = bool(state["finished"])
        self._losses = state["losses"].tolist() if self.step % self.per_epoch else []
        self._saved = self.step, self.finished
        self.failures = {int(row): str(reason) for row, reason in json.loads(str(state["failures"]))}

    def _diverged(self, problem: str, learning_rate: float) -> DivergedError:
        """Return an error with the last good checkpoint as its path, and the learning rate as the value to lower."""
        good = self.checkpoints.newest_first()
        last = f"the last good checkpoint is {good[0]}" if good else "there is no checkpoint yet"
        return DivergedError(
            f"{problem} at step {self.step} (learning rate {learning_rate:.3g}); {last}; try a lower --learning-rate",
            path=good[0] if good else None,
            option="learning-rate",
            value=learning_rate,
        )


def modality_agreement(spectrum: NDArray[np.float64]) -> float:
    """Return the agreement of the modalities: the mean of the eigenvalues 2 to K of K + 1; 1 for a single cluster."""
    return float(np.mean(spectrum[1:-1])) if len(spectrum) > 2 else 1.0
