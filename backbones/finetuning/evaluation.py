"""Evaluation on test videos: logits are averaged over several clips and crops of each video, and every video counts."""

from __future__ import annotations

import json
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
from selavi_ref.runs.csv_file import write_rows
from selavi_ref.runs.processes import Exchange, SingleProcess, gather_lines, local_rows, raise_together

_TOP = 5


@dataclass(frozen=True)
class Predictions:
    """
    Predictions for the N test videos of a fold.

    Parameters
    ----------
    logits : array
        Mean logits over clips and crops, float32, shape (N, C); NaN for a video that cannot be decoded.
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
        """Rank of the true class, 0 for the largest logit, shape (N,); C for a video that cannot be decoded."""
        order = np.argsort(-self.logits, axis=1, kind="stable")
        ranks = (order == self.labels[:, None]).argmax(1)
        return np.where(self._failed, self.logits.shape[1], ranks)

    def accuracy(self, top: int = 1) -> float:
        """Return the fraction of all videos whose true class is among the `top` largest logits."""
        return float(np.mean(self.ranks < min(top, self.logits.shape[1])))

    @property
    def n_failed(self) -> int:
        """Number of videos that cannot be decoded; they count as wrong."""
        return int(self._failed.sum())

    @property
    def top_1(self) -> float:
        """Top-1 accuracy."""
        return self.accuracy(1)

    @property
    def top_5(self) -> float:
        """Top-5 accuracy."""
        return self.accuracy(_TOP)

    def write(self, path: Path, fold: Fold) -> None:
        """Write a table of each video's class, predicted class, rank of the true class, and reason of a failure."""
        classes = fold.classes
        with replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = (
                [
                    entry.path,
                    entry.class_name,
                    "" if reason else classes[int(logits.argmax())],
                    "" if reason else int(rank) + 1,
                    reason,
                ]
                for entry, logits, rank, reason in zip(fold.test, self.logits, self.ranks, self.reasons, strict=True)
            )
            write_rows(file, ("path", "class", "predicted", "rank", "reason"), rows, ("path", "class", "predicted"))

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
    exchange: Exchange = SingleProcess(),  # noqa: B008
    progress: Callable[[int], None] = lambda n: None,
) -> Predictions:
    """
    Evaluate a network on the test videos of a fold.

    Parameters
    ----------
    model : Classifier
        The network; it is left in evaluation mode.
    settings : FineTuneSettings
        Settings of the clips and crops of each video.
    fold : Fold
        The fold; test videos that cannot be used count as failed.
    source : ClipSource
        Clips of the usable test videos.
    workers : int
        Loader processes.
    exchange : Exchange
        The other processes of the run: each evaluates its share of the videos, and gets the predictions for all.
    progress : callable
        Called with the number of videos of each finished batch.
    """
    model.eval()
    device = next(model.parameters()).device
    logits = np.full((len(fold.test), len(fold.classes)), np.nan, np.float32)
    reasons = [entry.skipped for entry in fold.test]
    rows = np.array([row for row, entry in enumerate(fold.test) if not entry.skipped])
    own = local_rows(len(source), exchange)
    own_logits, own_reasons = logits[rows[own.start : own.stop]], [""] * len(own)
    sampling = ClipSampling(settings.test_clips, settings.test_crops, from_start=True)
    size = max(1, settings.eval_batch_size // (sampling.n_clips * sampling.n_crops))
    with raise_together(exchange):
        for batch in eval_batches(source, own, settings.augment, sampling, batch_size=size, workers=workers):
            clips = augment.video_input(batch.frames.to(device), settings.clip, None, None)
            mean = model(clips).view(len(batch.rows), -1, logits.shape[1]).mean(1).cpu().numpy()
            places = (batch.rows - own.start).tolist()
            for place, reason, present, values in zip(places, batch.reasons, batch.present["video"], mean, strict=True):
                own_reasons[place] = reason or ("" if present else "no picture")
                if present:
                    own_logits[place] = values
            progress(len(batch.rows))
    logits[rows] = exchange.gather(own_logits)
    for row, line in zip(rows, gather_lines([json.dumps(reason) for reason in own_reasons], exchange), strict=True):
        reasons[row] = json.loads(line)
    return Predictions(logits, fold.test_labels, reasons)
