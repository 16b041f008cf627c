"""A small fine-tuning: UCF-101 with three classes, a run of small random networks, and the command as users call it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from backbones.learner.checkpoint import read_checkpoint
from backbones.runs.convert import import_published
from selavi_ref.runs.checkpoints import Checkpoints
from tests.support.command_line import selavi
from tests.support.original_model import checkpoint, learnt_model
from tests.support.silent_videos import make_ucf101

_OPTIONS = (
    "--epochs 2 --clips 10 --batch-size 12 --warmup-epochs 0 --milestones 1 --gamma 0.2 --learning-rate 0.05 "
    "--base-learning-rate 0.05 --test-clips 3 --dropout 0.2 --workers 0"
)
SHORT = _OPTIONS.split()
UCF = ["run", "UCF-101", "--layout", "ucf101", *SHORT]
_SMALL_CLIP = {"sample_rate": 16_000, "n_filters": 64}


def make_place(place: Path) -> Path:
    """Fill a folder with UCF-101 and the run."""
    make_ucf101(place)
    torch.manual_seed(0)
    torch.save(checkpoint(learnt_model(4, 2, video="tiny", audio="tiny", hidden=256)), place / "published.pth")
    import_published(place / "published.pth", place / "run", clip=_SMALL_CLIP)
    return place


def finetune(place: Path, *arguments: Any) -> Any:
    """Call `selavi finetune` in a folder, within this process."""
    return selavi("finetune", *arguments, cwd=place)


def weights(folder: Path, fold: int = 1) -> dict[str, torch.Tensor]:
    """Return the weights in the newest checkpoint of a fold."""
    return read_checkpoint(Checkpoints(folder / f"fold{fold}" / "checkpoints").newest_first()[0])["model"]
