"""Log-probabilities from features that are held in memory are those that the working store would give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.learner import held_features
from backbones.learner.settings import BackboneSettings
from backbones.learner.torch_backbone import TorchBackbone
from selavi_ref.selflabel.backbone import working_datasets
from selavi_ref.selflabel.self_labelling import self_label
from selavi_ref.store import WorkingStore
from selavi_ref.store.joint_log_prob import joint_log_prob
from tests.support.small_training import N, collection

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")),
]


def learner_and_store(place: Path, device: str) -> tuple[TorchBackbone, WorkingStore]:
    settings = BackboneSettings(eval_batch_size=16)
    learner = TorchBackbone(settings, (3, 5), collection(settings), device=device)
    present = {"video": np.arange(N) % 4 != 0, "audio": np.arange(N) % 4 != 1}
    names = [str(row) for row in range(N)]
    store = WorkingStore.create(place / "working.h5", names, working_datasets(learner), present=present)
    learner.write_features(store, range(N), None)
    return learner, store


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("only", [None, "video", "audio"])
def test_they_are_those_of_the_store(tmp_path: Path, device: str, only: str | None) -> None:
    learner, store = learner_and_store(tmp_path, device)
    with store:
        for head, name in enumerate(("current3", "current5")):
            learner.write_log_prob(store, head, name)
            expected = joint_log_prob(store, name, only=only)
            found = learner.joint_log_prob(store, head, only)
            assert isinstance(found, np.ndarray)
            if device == "cpu":
                assert np.array_equal(found, expected)
            assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_features_are_those_of_the_last_self_labelling(tmp_path: Path, device: str) -> None:
    learner, store = learner_and_store(tmp_path, device)
    with store:
        before = learner.joint_log_prob(store, 0)
        learner.write_features(store, range(N), [1, 2])
        after = learner.joint_log_prob(store, 0)
        learner.write_log_prob(store, 0, "current3")
        assert not np.allclose(before, after)
        assert np.allclose(after, joint_log_prob(store, "current3"), atol=1e-5)


def test_without_room_the_store_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_features, "_MAX_BYTES", 1000)
    learner, store = learner_and_store(tmp_path, "cpu")
    with store:
        assert learner.joint_log_prob(store, 0) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_labels_as_the_cpu_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_features, "_ON_GPU", 1)
    learner, store = learner_and_store(tmp_path, "cuda")
    with store:
        log_prob = learner.joint_log_prob(store, 0)
        assert isinstance(log_prob, torch.Tensor)
        assert log_prob.device.type == "cuda"
        learner.write_log_prob(store, 0, "current3")
        sizes = np.array([0.5, 0.3, 0.2])
        held, marginal = self_label(store, "current3", sizes, log_prob=log_prob)
        read, expected = self_label(store, "current3", sizes)
        assert np.allclose(marginal, expected, atol=1e-6)
        assert (held.labels != read.labels).mean() < 0.05
