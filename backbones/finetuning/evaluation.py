"""Testing: the logits of several clips and squares of each video are averaged, and every video counts."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from backbones.data import augment
from backbones.data.clips import ClipSource
from backbones.data.loader import ClipSampling, eval_batches
from backbones.finetuning.classifier import Classifier
from backbones.finetuning.folds import Fold
from backbones.finetuning.settings import FineTuneSettings
from selavi_ref.runs.atomic import replacing

_TOP = 5


@dataclass(frozen=True)
class Predictions:
    """
    What a network says of the N videos of a test.

    Parameters
    ----------
    logits : array
        Mean over clips and squares, float32, shape (N, C); NaN for a video that cannot be decoded.
    labels : array
        True classes, int64, shape (N,).
    reasons : list of str
        Why a video cannot be decoded; "" where it can.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    reasons: list[str]

    @property
    def ranks(self) -> NDArray[np.int64]:
        """Place of the true class among all, 0 for the surest, shape (N,); C for a video that cannot be decoded."""
        order = np.argsort(-self.logits, axis=1, kind="stable")
        ranks = (order == self.labels[:, None]).argmax(1)
        return np.where(self._failed, self.logits.shape[1], ranks)

    def accuracy(self, top: int = 1) -> float:
        """Return the share of all videos whose true class is among the surest so many."""
        return float(np.mean(self.ranks < min(top, self.logits.shape[1])))

    @property
    def n_failed(self) -> int:
        """Number of videos that cannot be decoded, each of which counts as wrong."""
        return int(self._failed.sum())

    @property
    def top_1(self) -> float:
        """Share of the videos whose surest class is the true one."""
        return self.accuracy(1)

    @property
    def top_5(self) -> float:
        """Share of the videos whose true class is among the surest five."""
        return self.accuracy(_TOP)

    def write(self, path: Path, fold: Fold) -> None:
        """Write a row for each video: its class, the surest one, the place of the true one, and what went wrong."""
        classes = fold.classes
        with replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "class", "predicted", "rank", "reason"])
            for entry, logits, rank, reason in zip(fold.test, self.logits, self.ranks, self.reasons, strict=True):
                surest = "" if reason else classes[int(logits.argmax())]
                writer.writerow([entry.path, entry.class_name, surest, "" if reason else rank + 1, reason])

    @property
    def _failed(self) -> NDArray[np.bool_]:
        return np.array([bool(reason) for reason in self.reasons])


@torch.no_grad()
def evaluate(
    model: Classifier,
    settings: FineTuneSettings,
    fold: Fold,
    source: ClipSource,
    *,
    workers: int = 0,
    progress: Callable[[int], None] = lambda n: None,
) -> Predictions:
    """
    Test a network on a fold.

    Parameters
    ----------
    model : Classifier
        Left in evaluation mode.
    settings : FineTuneSettings
        How each video is looked at.
    fold : Fold
        The videos, of which those that cannot be used are counted without being looked at.
    source : ClipSource
        The clips of the usable ones.
    workers : int
        Processes that decode.
    progress : callable
        Hears the number of videos of each batch done.
    """
    model.eval()
    device = next(model.parameters()).device
    logits = np.full((len(fold.test), len(fold.classes)), np.nan, np.float32)
    reasons = [entry.skipped for entry in fold.test]
    places = np.array([place for place, entry in enumerate(fold.test) if not entry.skipped])
    sampling = ClipSampling(settings.test_clips, settings.test_crops)
    size = max(1, settings.eval_batch_size // (sampling.n_clips * sampling.n_crops))
    for look in eval_batches(source, range(len(source)), settings.augment, sampling, batch_size=size, workers=workers):
        clips = augment.video_input(look.frames.to(device), settings.clip, None, None)
        mean = model(clips).view(len(look.rows), -1, logits.shape[1]).mean(1).cpu().numpy()
        for row, why, present, found in zip(look.rows, look.reasons, look.present["video"], mean, strict=True):
            reasons[places[row]] = why or ("" if present else "no picture")
            if present:
                logits[places[row]] = found
        progress(len(look.rows))
    return Predictions(logits, fold.test_labels, reasons)
