"""Fine-tuning on one fold: training epochs with an evaluation after each; it can be stopped and resumed at any step."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from backbones.data import augment
from backbones.data.clips import ClipSource
from backbones.data.loader import Batch, TrainingLoader
from backbones.distributed.processes import local_device
from backbones.distributed.sync_batch_norm import sync_batch_norms
from backbones.finetuning.classifier import Classifier, make_optimizer, set_learning_rates
from backbones.finetuning.evaluation import Predictions, evaluate
from backbones.finetuning.folds import Fold
from backbones.finetuning.results import checked_epochs
from backbones.finetuning.settings import FineTuneSettings
from backbones.learner.checkpoint import (
    first_line,
    random_states,
    read_checkpoint,
    restore_random_states,
    write_checkpoint,
)
from backbones.learner.optimizer import load_optimizer
from selavi_ref.errors import WRONG_CONTENT, DivergedError, InputError, StopRequest
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.processes import Exchange, SingleProcess, gather_lines, local_rows
from selavi_ref.runs.reporter import SILENT, Reporter

_LOSS_STEPS = 50  # steps over which the displayed loss is averaged
# First entries of the seeds of independent random streams.
_ORDER, _CLIPS, _WEIGHTS = range(3)


@dataclass
class FoldProgress:
    """
    State of the training after a step.

    Parameters
    ----------
    step, total : int
        Steps taken, and in all.
    epoch : int
        Epoch of the step, from 1.
    loss : float
        Mean loss of the last 50 steps of the epoch.
    learning_rates : tuple of float
        Learning rates of the classifier and of the network.
    """

    step: int
    total: int
    epoch: int
    loss: float
    learning_rates: tuple[float, ...]

    @property
    def summary(self) -> str:
        """Short text beside the progress bar."""
        return f"epoch {self.epoch}, loss {self.loss:.3f}, rate {self.learning_rates[0]:.3g}"


@dataclass
class FoldContext:
    """
    Device, checkpoints, processes, log and reporter of the training of a fold.

    Parameters
    ----------
    checkpoints : Checkpoints
        Checkpoints, written after each epoch and every few minutes.
    device : str
        PyTorch device.
    workers : int
        Loader processes.
    log : callable
        Receives a record (a mapping of plain values) of each epoch.
    exchange : Exchange
        The other processes of the run. Each learns its share of the clips of every step; gradients are averaged, and
        batch norms span the whole step, so that the result is that of one process but for rounding and dropout.
    reporter : Reporter
        Receives progress and warnings.
    """

    checkpoints: Checkpoints
    device: str = "cpu"
    workers: int = 0
    log: Callable[[Mapping[str, Any]], None] = lambda record: None
    exchange: Exchange = SingleProcess()  # noqa: RUF009
    reporter: Reporter = SILENT


@dataclass
class _FoldState:
    """Steps taken, records of the finished epochs, losses of the present epoch, and videos that were not decoded."""

    step: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


class FoldTraining:
    """
    Training on one fold: create it, `restore` it from its checkpoints, and `run` it.

    Parameters
    ----------
    settings : FineTuneSettings
        Settings.
    fold : Fold
        Training and test videos.
    train, test : ClipSource
        Clips of the training videos, and of the usable test videos.
    base : mapping of str to Tensor, optional
        Initial weights of the network; random by default.
    context : FoldContext
        Device, checkpoints, log and reporter.
    """

    def __init__(
        self,
        settings: FineTuneSettings,
        fold: Fold,
        train: ClipSource,
        test: ClipSource,
        base: Mapping[str, Tensor] | None,
        context: FoldContext,
    ):
        self.settings, self.fold, self.context, self.exchange = settings, fold, context, context.exchange
        if self.n_clips // self.per_epoch < self.exchange.size:
            raise InputError(
                f"--batch-size {settings.batch_size}: a step needs a clip for each of {self.exchange.size} processes",
                option="batch-size",
            )
        self.device = local_device(context.device)
        self._test = test
        torch.manual_seed(int(np.random.default_rng([_WEIGHTS, settings.seed, fold.number]).integers(2**32)))
        self.model = Classifier(settings, len(fold.classes))
        if base is not None:
            try:
                self.model.base.load_state_dict(base)
            except WRONG_CONTENT as error:
                raise InputError(f"begin.pt does not fit the network of this run: {first_line(error)}") from error
        self.model.to(self.device)
        self._network: nn.Module = self.model
        if self.exchange.size > 1:
            sync_batch_norms(self.model, self.device)
            self._network = DistributedDataParallel(self.model, gradient_as_bucket_view=True)
            torch.manual_seed(torch.initial_seed() + self.exchange.rank)  # dropout differs between processes
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # all clips have one size
        self.optimizer = make_optimizer(self.model, settings)
        self._loader = TrainingLoader(train, settings.augment, context.workers, pin=self.device.type == "cuda")
        self._labels = torch.from_numpy(fold.train_labels)
        self.state = _FoldState()
        self.predictions: Predictions | None = None
        self._stop_asked = self._learning = False

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.state.step

    @property
    def n_clips(self) -> int:
        """Clips of an epoch."""
        return len(self.fold.train) * self.settings.clips_per_video

    @property
    def per_epoch(self) -> int:
        """Steps per epoch: every clip is in one batch, and no batch has a single clip."""
        return max(1, min(math.ceil(self.n_clips / self.settings.batch_size), self.n_clips // 2))

    @property
    def total_steps(self) -> int:
        """Steps of all epochs."""
        return self.settings.epochs * self.per_epoch

    def restore(self) -> bool:
        """
        Load the newest checkpoint that is not damaged; return False if there is none.

        Raises
        ------
        CheckpointError
            If all checkpoints are damaged.
        InputError
            If it belongs to another network or collection.
        """
        checkpoints, reporter = self.context.checkpoints, self.context.reporter
        newest = checkpoints.read_newest(read_checkpoint, exchange=self.exchange, reporter=reporter)
        if newest is None:
            return False
        path, checkpoint = newest
        try:
            self._load_state(checkpoint)
        except WRONG_CONTENT as error:
            raise InputError(f"{path} does not fit this fold: {first_line(error)}", path=path) from error
        return True

    def covers(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record of the log is of another fold, or of an epoch that is finished."""
        epoch = record.get("epoch")
        taken = isinstance(epoch, int) and epoch <= len(self.state.epochs)
        return record.get("fold") != self.fold.number or taken

    def request_stop(self) -> None:
        """Ask for a `StopRequest`: after this step, with the state saved, or at once during an evaluation."""
        self._stop_asked = True
        if not self._learning:
            raise StopRequest

    def run(self, on_step: Callable[[FoldProgress], None] = lambda progress: None) -> Predictions:
        """
        Train and evaluate to the end, and return the predictions of the last evaluation.

        Raises
        ------
        DivergedError
            If the loss or the weights are no longer finite.
        StopRequest
            If `request_stop` was called.
        """
        while len(self.state.epochs) < self.settings.epochs:
            if self.state.step < self.per_epoch * (len(self.state.epochs) + 1):
                self._learn_epoch(len(self.state.epochs), on_step)
            self._end_epoch()
        if self.predictions is None:  # the last evaluation was before the training was resumed
            self.predictions = self._evaluate()
        return self.predictions

    def _learn_epoch(self, epoch: int, on_step: Callable[[FoldProgress], None]) -> None:
        """Train for the rest of an epoch, and save the state."""
        learning_rates = set_learning_rates(self.optimizer, self.settings, epoch)
        self._learning = True
        try:
            for batch, share in self._batches(epoch):
                loss, due, stop = self._combine(self._step(batch, share) * share)
                if not math.isfinite(loss):
                    raise DivergedError(self._diverged(f"the loss became {loss}"))
                self.state.step += 1
                self.state.losses.append(loss)
                self.state.failures.update((self.fold.train.paths[row], reason) for row, reason in batch.failures)
                recent = float(np.mean(self.state.losses[-_LOSS_STEPS:]))
                on_step(FoldProgress(self.state.step, self.total_steps, epoch + 1, recent, learning_rates))
                done = self.state.step == self.per_epoch * (epoch + 1)
                if done or due or stop:
                    self._save()
                if stop:
                    raise StopRequest
        finally:
            self._learning = False

    def _batches(self, epoch: int) -> Iterator[tuple[Batch, float]]:
        """Yield this process's clips of each remaining batch of an epoch, and their fraction of the batch."""
        seed = [self.settings.seed, self.fold.number, epoch]
        clips = np.random.default_rng([_ORDER, *seed]).permutation(self.n_clips)
        remaining = np.array_split(clips, self.per_epoch)[self.state.step - epoch * self.per_epoch :]
        own = [batch[self.exchange.rank :: self.exchange.size] for batch in remaining]
        shares = [len(part) / len(batch) for part, batch in zip(own, remaining, strict=True)]
        yield from zip(self._loader.batches(own, [_CLIPS, *seed]), shares, strict=True)

    def _combine(self, loss: float) -> tuple[float, bool, bool]:
        """Return the loss of a step over all processes, whether a checkpoint is due, and whether to stop."""
        due = self.context.checkpoints.older_than(self.context.checkpoints.minutes) and self.exchange.rank == 0
        loss, due, stop = self.exchange.all_sum(np.array([loss, due, self._stop_asked], np.float64)).tolist()
        return loss, bool(due), bool(stop)

    def _step(self, batch: Batch, share: float) -> float:
        """Take a step on this process's share of a batch, and return its mean loss."""
        self.model.train()
        frames, draw = batch.frames.to(self.device, non_blocking=True), augment.Draw(batch.draws.to(self.device))
        clips = augment.video_input(frames, self.settings.clip, self.settings.augment, draw)
        loss = F.cross_entropy(self._network(clips), self._labels[batch.rows].to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        # DistributedDataParallel averages gradients over processes regardless of their numbers of clips.
        (loss * (share * self.exchange.size) if self.exchange.size > 1 else loss).backward()
        self.optimizer.step()
        return float(loss.detach())

    def _end_epoch(self) -> None:
        """Evaluate after an epoch, and log and save the result."""
        state, s, epoch = self.state, self.settings, len(self.state.epochs)
        record = {
            "fold": self.fold.number,
            "epoch": epoch + 1,
            "step": state.step,
            "loss": float(np.mean(state.losses)),
        }
        record |= {"rate": s.learning_rate * s.factor(epoch)}
        if not s.linear_probe:
            record |= {"base_rate": s.base_learning_rate * s.factor(epoch)}
        if epoch + 1 == s.epochs or not s.test_last_only:
            self.predictions = self._evaluate()
            record |= {"top_1": self.predictions.top_1, "top_5": self.predictions.top_5}
        if state.failures:
            record |= {"not_decoded": len(state.failures)}
        state.epochs.append(record)
        state.losses.clear()
        self.context.log(record)
        self._save()

    def _evaluate(self) -> Predictions:
        n_own = len(local_rows(len(self._test), self.exchange))
        with self.context.reporter.bar(n_own, f"testing fold {self.fold.number}", "video") as bar:
            return evaluate(
                self.model,
                self.settings,
                self.fold,
                self._test,
                workers=self.context.workers,
                exchange=self.exchange,
                progress=bar.update,
            )

    def _save(self) -> None:
        """Write a checkpoint, in the first process; a `DivergedError` if the weights are not finite."""
        if not all(bool(torch.isfinite(value).all()) for value in self.model.state_dict().values()):
            raise DivergedError(self._diverged("the weights became infinite or NaN"))
        lines = [json.dumps(failure) for failure in self.state.failures.items()]
        self.state.failures = dict(json.loads(line) for line in gather_lines(lines, self.exchange))
        states = random_states(self.exchange, self.device)
        if self.exchange.rank != 0:
            return
        state = {
            "step": self.state.step,
            "losses": torch.tensor(self.state.losses, dtype=torch.float64),
            "epochs": json.dumps(self.state.epochs),
            "failures": json.dumps(self.state.failures),
        }
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **states,
            "state": state,
        }
        write_checkpoint(self.context.checkpoints.next_path(self.state.step), content)
        self.context.checkpoints.prune()

    def _load_state(self, checkpoint: Mapping[str, Any]) -> None:
        self.model.load_state_dict(checkpoint["model"])
        load_optimizer(self.optimizer, checkpoint["optimizer"])
        restore_random_states(checkpoint, self.exchange, self.device)
        state = checkpoint["state"]
        epochs, failures = checked_epochs(json.loads(state["epochs"])), json.loads(state["failures"])
        step, losses = state["step"], state["losses"]
        if type(step) is not int or not 0 <= step <= self.total_steps or losses.ndim != 1:
            raise ValueError("step or losses are wrong")
        if not isinstance(failures, dict) or not all(isinstance(why, str) for why in failures.values()):
            raise TypeError("failures are no reasons")
        self.state = _FoldState(step, epochs, losses.tolist(), failures)

    def _diverged(self, what: str) -> str:
        good = self.context.checkpoints.newest_first()
        last = f"the last good checkpoint is {good[0]}" if good else "there is no checkpoint yet"
        step = f"step {self.state.step} of fold {self.fold.number}"
        return f"{what} at {step}; {last}; try a lower --learning-rate and --base-learning-rate in another --out"
