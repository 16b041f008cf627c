"""The fine-tuning of one fold: epochs of learning, each followed by a test, that can be cut off anywhere and go on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.data import augment
from backbones.data.clips import ClipSource
from backbones.data.loader import Batch, TrainingLoader
from backbones.finetuning.classifier import Classifier, optimizer_of, set_rates
from backbones.finetuning.evaluation import Predictions, evaluate
from backbones.finetuning.folds import Fold
from backbones.finetuning.settings import FineTuneSettings
from backbones.learner.checkpoint import read_checkpoint, write_checkpoint
from selavi_ref.errors import DivergedError, InputError, StopRequest
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.reporter import SILENT, Reporter

_LOSS_STEPS = 50  # over so many steps the loss is averaged where it is shown
# First entries of the seeds of independent random streams.
_ORDER, _CLIPS, _WEIGHTS = range(3)


@dataclass
class FoldProgress:
    """What is told after each step: steps taken, and in all, epoch from 1, mean loss of late, and the two rates."""

    step: int
    total: int
    epoch: int
    loss: float
    rates: tuple[float, ...]


@dataclass
class FoldContext:
    """
    Where a fold is learnt, and what is done with its records.

    Parameters
    ----------
    checkpoints : Checkpoints
        Its state, after each epoch and every few minutes.
    device : str
        Of PyTorch's.
    workers : int
        Processes that decode.
    log : callable
        Gets a record (a mapping of plain values) of each epoch.
    reporter : Reporter
        Hears of what a user should know.
    """

    checkpoints: Checkpoints
    device: str = "cpu"
    workers: int = 0
    log: Callable[[Mapping[str, Any]], None] = lambda record: None
    reporter: Reporter = SILENT


@dataclass
class _State:
    """How far a fold is: steps taken, records of the epochs, losses of this one, and videos not decoded."""

    step: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


class FoldTraining:
    """
    The fine-tuning of one fold: create it, `restore` it if a checkpoint is there, and `run` it.

    Parameters
    ----------
    settings : FineTuneSettings
        How.
    fold : Fold
        The videos.
    train, test : ClipSource
        Clips of the videos to learn from, and of the usable ones of the test.
    base : mapping of str to Tensor, optional
        Weights of the network that the fold begins with; random ones by default.
    place : Place
        Where.
    """

    def __init__(
        self,
        settings: FineTuneSettings,
        fold: Fold,
        train: ClipSource,
        test: ClipSource,
        base: Mapping[str, Tensor] | None,
        place: FoldContext,
    ):
        self.settings, self.fold, self.place = settings, fold, place
        self.device = torch.device(place.device)
        self._test = test
        torch.manual_seed(int(np.random.default_rng([_WEIGHTS, settings.seed, fold.number]).integers(2**32)))
        self.model = Classifier(settings, len(fold.classes))
        if base is not None:
            self.model.base.load_state_dict(base)
        self.model.to(self.device)
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # all clips have one size
        self.optimizer = optimizer_of(self.model, settings)
        self._loader = TrainingLoader(train, settings.augment, place.workers, pin=self.device.type == "cuda")
        self._labels = torch.from_numpy(fold.train_labels)
        self.state = _State()
        self.answers: Predictions | None = None
        self._stop_asked = self._learning = False

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch: every clip is in one, and none has a single one."""
        n_clips = len(self.fold.train) * self.settings.clips_per_video
        return max(1, min(math.ceil(n_clips / self.settings.batch_size), n_clips // 2))

    @property
    def total_steps(self) -> int:
        """Steps in all."""
        return self.settings.epochs * self.per_epoch

    def restore(self) -> bool:
        """
        Take over the newest checkpoint that is whole, and tell whether there is one.

        Raises
        ------
        CheckpointError
            If all are damaged.
        InputError
            If it is of another network or collection.
        """
        newest = self.place.checkpoints.read_newest(read_checkpoint, reporter=self.place.reporter)
        if newest is None:
            return False
        path, checkpoint = newest
        try:
            self._take_over(checkpoint)
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(f"{path} does not fit this fold: {str(error).splitlines()[0]}") from error
        return True

    def request_stop(self) -> None:
        """Ask to end with a `StopRequest`: after this step, with the state saved, or at once while it is tested."""
        self._stop_asked = True
        if not self._learning:
            raise StopRequest

    def run(self, on_step: Callable[[FoldProgress], None] = lambda progress: None) -> Predictions:
        """
        Learn and test to the end, and return the answers to the last test.

        Raises
        ------
        DivergedError
            If the loss or the weights are no longer numbers.
        StopRequest
            If `request_stop` was called.
        """
        while len(self.state.epochs) < self.settings.epochs:
            if self.state.step < self.per_epoch * (len(self.state.epochs) + 1):
                self._learn_epoch(len(self.state.epochs), on_step)
            self._end_epoch()
        if self.answers is None:  # the last test was done before it went on
            self.answers = self._ask()
        return self.answers

    def _learn_epoch(self, epoch: int, on_step: Callable[[FoldProgress], None]) -> None:
        """Learn an epoch, or what is left of one, and save the state."""
        rates = set_rates(self.optimizer, self.settings, epoch)
        self._learning = True
        try:
            for batch in self._batches(epoch):
                loss = self._step(batch)
                self.state.step += 1
                self.state.losses.append(loss)
                self.state.failures.update((self.fold.train.paths[row], reason) for row, reason in batch.failures)
                recent = float(np.mean(self.state.losses[-_LOSS_STEPS:]))
                on_step(FoldProgress(self.state.step, self.total_steps, epoch + 1, recent, rates))
                done = self.state.step == self.per_epoch * (epoch + 1)
                if done or self._stop_asked or self.place.checkpoints.older_than(self.place.checkpoints.minutes):
                    self._save()
                if self._stop_asked:
                    raise StopRequest
        finally:
            self._learning = False

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches that are left of an epoch."""
        n_clips = len(self.fold.train) * self.settings.clips_per_video
        seed = [self.settings.seed, self.fold.number, epoch]
        clips = np.random.default_rng([_ORDER, *seed]).permutation(n_clips)
        left = np.array_split(clips, self.per_epoch)[self.state.step - epoch * self.per_epoch :]
        yield from self._loader.batches(left, [_CLIPS, *seed])

    def _step(self, batch: Batch) -> float:
        """Learn a batch, and return its loss."""
        self.model.train()
        frames, draw = batch.frames.to(self.device, non_blocking=True), augment.Draw(batch.draws.to(self.device))
        clips = augment.video_input(frames, self.settings.clip, self.settings.augment, draw)
        loss = F.cross_entropy(self.model(clips), self._labels[batch.rows].to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if not math.isfinite(value := float(loss.detach())):
            raise DivergedError(self._diverged(f"the loss became {value}"))
        return value

    def _end_epoch(self) -> None:
        """Test what was learnt in an epoch, and note and save that."""
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
            self.answers = self._ask()
            record |= {"top_1": self.answers.top_1, "top_5": self.answers.top_5}
        if state.failures:
            record |= {"not_decoded": len(state.failures)}
        state.epochs.append(record)
        state.losses.clear()
        self.place.log(record)
        self._save()

    def _ask(self) -> Predictions:
        with self.place.reporter.bar(len(self._test), f"testing fold {self.fold.number}", "video") as bar:
            workers = self.place.workers
            return evaluate(self.model, self.settings, self.fold, self._test, workers=workers, progress=bar.update)

    def _save(self) -> None:
        """Write a checkpoint, if the weights are numbers."""
        if not all(bool(torch.isfinite(value).all()) for value in self.model.state_dict().values()):
            raise DivergedError(self._diverged("the weights became infinite or NaN"))
        on_gpu = self.device.type == "cuda"
        state = {
            "step": self.state.step,
            "losses": torch.tensor(self.state.losses, dtype=torch.float64),
            "epochs": json.dumps(self.state.epochs),
            "failures": json.dumps(self.state.failures),
        }
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state(self.device) if on_gpu else None,
            "state": state,
        }
        write_checkpoint(self.place.checkpoints.next_path(self.state.step), content)
        self.place.checkpoints.prune()

    def _take_over(self, checkpoint: Mapping[str, Any]) -> None:
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        torch.set_rng_state(checkpoint["random"])
        if checkpoint["cuda_random"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(checkpoint["cuda_random"], self.device)
        state = checkpoint["state"]
        epochs, failures = json.loads(state["epochs"]), json.loads(state["failures"])
        self.state = _State(int(state["step"]), epochs, state["losses"].tolist(), failures)

    def _diverged(self, what: str) -> str:
        good = self.place.checkpoints.newest_first()
        last = f"the last good checkpoint is {good[0]}" if good else "there is no checkpoint yet"
        step = f"step {self.state.step} of fold {self.fold.number}"
        return f"{what} at {step}; {last}; try a lower --learning-rate and --base-learning-rate in another --out"
