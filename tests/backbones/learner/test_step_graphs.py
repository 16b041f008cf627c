"""Training steps recorded as CUDA graphs change the weights as steps that are computed one kernel after the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.data import augment
from backbones.data.loader import Batch
from backbones.data.settings import AugmentSettings
from backbones.learner.settings import BackboneSettings
from backbones.learner.torch_backbone import TorchBackbone
from selavi_ref.runs.reporter import Reporter
from tests.support.small_training import collection

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Warnings(Reporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def backbone(
    record: bool,
    precision: str = "float32",
    reporter: Reporter | None = None,
    optimizer: str = "muon",
    **changes: float,
):
    augment_settings = replace(AugmentSettings(), **changes)
    settings = replace(BackboneSettings(), precision=precision, optimizer=optimizer, augment=augment_settings)
    return TorchBackbone(
        settings, (3, 5), collection(settings), device="cuda", reporter=reporter or Warnings(), record_steps=record
    )


def steps(learner: TorchBackbone, n: int, first: int = 0) -> list[float]:
    """Learn batches of 20 and of 21 videos in turn, at a rate that changes."""
    losses = []
    for step in range(first, first + n):
        rows = np.random.default_rng(step).permutation(41)[: 20 + step % 2]
        batch: Batch = next(learner.batches([rows], [step]))
        labels = np.stack([rows % 3, rows % 5], 1).astype(np.int32)
        losses.append(learner.train_step(batch, labels, 0.01 * (1 + step % 3)))
    return losses


@NO_GPU
@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_recorded_steps_learn_as_others_do(precision: str, optimizer: str) -> None:
    warnings = Warnings()
    plain = steps(backbone(False, precision, optimizer=optimizer), 24)
    recorded = steps(backbone(True, precision, warnings, optimizer), 24)
    assert not warnings.warnings
    assert np.allclose(plain[:12], recorded[:12], rtol=2e-3 if precision == "float32" else 3e-2)
    assert np.mean(recorded[-4:]) < 0.8 * np.mean(recorded[:4])


@NO_GPU
def test_steps_are_recorded_anew_after_a_checkpoint_was_loaded(tmp_path: Path) -> None:
    learner = backbone(True)
    steps(learner, 12)
    learner.save(tmp_path / "saved.pt", {"labels": np.zeros((41, 2), np.int32)})
    went_on = steps(learner, 12, first=12)
    other = backbone(True)
    steps(other, 12)
    other.load_state(torch.load(tmp_path / "saved.pt", weights_only=True), tmp_path / "saved.pt")
    assert np.allclose(steps(other, 12, first=12), went_on, rtol=5e-3)


@NO_GPU
@pytest.mark.parametrize("changes", [{"jitter": 0.4}, {"blur": 0.5}, {"rotation": 0, "zoom": 0, "shift": 0}])
def test_every_augmentation_learns(changes: dict[str, float]) -> None:
    warnings = Warnings()
    losses = steps(backbone(True, reporter=warnings, **changes), 12)
    assert np.isfinite(losses).all()
    assert not warnings.warnings


def test_the_flip_mirrors_the_chosen_clips_only() -> None:
    settings = BackboneSettings()
    change = replace(AugmentSettings(), rotation=0, zoom=0, shift=0, flip=0.5, colour=0, brightness=0, grey=0)
    rng = np.random.default_rng(0)
    side = settings.clip.size
    frames = torch.from_numpy(rng.integers(0, 256, (16, 2, side, side, 3), np.uint8))
    draws = torch.from_numpy(rng.random((16, len(augment.DRAWS)), np.float32))
    plain = augment.video_input(frames, settings.clip, None, None)
    varied = augment.video_input(frames, settings.clip, change, augment.Draw(draws))
    mirrored = draws[:, augment.DRAWS.index("flip")] < 0.5
    assert 0 < mirrored.sum() < 16
    assert torch.allclose(varied[mirrored], plain[mirrored].flip(-1), atol=1e-5)
    assert torch.allclose(varied[~mirrored], plain[~mirrored], atol=1e-5)
