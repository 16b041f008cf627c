"""Videos that have picture or sound alone: two views of what they have stand for the two modalities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from backbones.data.clips import StoredClips
from backbones.data.loader import TrainingLoader
from backbones.learner.loss import TrainingLoss
from backbones.learner.settings import BackboneSettings
from backbones.learner.torch_backbone import TorchBackbone
from backbones.learner.training_step import StepInputs, augmented_inputs
from selavi_ref.selflabel.self_labelling import align_modalities
from selavi_ref.store import WorkingStore
from tests.support.random_videos import random_videos

BOTH, VIDEO, AUDIO = ("video", "audio"), ("video",), ("audio",)
SETTINGS = BackboneSettings(eval_batch_size=16)


def source_of(rows):
    return StoredClips(random_videos(SETTINGS, len(rows)), SETTINGS.clip, rows)


def batch_of(rows, seed=3):
    source = source_of(rows)
    (batch,) = TrainingLoader(source, SETTINGS.augment, 0).batches([np.arange(len(rows))], [seed])
    return batch


def test_a_batch_has_two_views_of_each_video_with_a_single_modality():
    batch = batch_of([BOTH, VIDEO, AUDIO, BOTH, VIDEO])
    assert batch.second.tolist() == [1, 2, 4]
    assert batch.views["video"].tolist() == [0, 1, 3, 4, 5, 7]
    assert batch.views["audio"].tolist() == [0, 2, 3, 6]
    assert len(batch.frames) == 6
    assert len(batch.mel) == 4
    assert len(batch.draws) == 8
    assert len(np.unique(batch.draws.numpy(), axis=0)) == 8
    assert not torch.equal(batch.draws[1], batch.draws[5])


def test_clips_of_videos_with_both_are_the_same_whatever_is_beside_them():
    mixed, plain = batch_of([BOTH, VIDEO, BOTH]), batch_of([BOTH, BOTH, BOTH])
    assert torch.equal(mixed.mel, plain.mel[[0, 2]])
    assert torch.equal(mixed.frames[[0, 2]], plain.frames[[0, 2]])
    assert torch.equal(mixed.draws[:3], plain.draws)
    assert plain.second.size == 0


def test_every_video_weighs_the_same_in_the_loss():
    """Half of the cross-entropy of each of the two views, whatever their modalities, averaged over videos and heads."""
    backbone = TorchBackbone(SETTINGS, (3, 3), source_of([BOTH, VIDEO, AUDIO, BOTH]))
    backbone.model.eval()  # so that clips do not influence each other
    loss = TrainingLoss(backbone.model, "float32")
    batch = batch_of([BOTH, VIDEO, AUDIO, BOTH])
    labels = np.array([[0, 1], [1, 2], [2, 0], [0, 0]], np.int32)
    step = StepInputs.of_batch(batch, labels, backbone.modalities)
    inputs, targets = augmented_inputs(step, backbone.settings), step.labels
    of_view = torch.cat([torch.arange(4), torch.from_numpy(batch.second)])
    for modality, views in batch.views.items():
        assert np.array_equal(targets[modality].numpy(), labels[of_view[torch.from_numpy(views)]])
    per_video = torch.zeros(4)
    with torch.no_grad():
        for modality, clips in inputs.items():
            logits = backbone.model.logits(modality, backbone.model.network(modality)(clips))
            for place, view in enumerate(batch.views[modality]):
                for head in range(2):
                    target = targets[modality][place, head]
                    per_video[of_view[view]] += F.cross_entropy(logits[head][place][None], target[None]) / 4
        assert float(loss(inputs, targets, 4)) == pytest.approx(float(per_video.mean()), rel=1e-5)


def test_a_batch_with_one_sound_or_none_can_be_learnt():
    for rows in ([VIDEO, VIDEO, AUDIO], [VIDEO, VIDEO]):
        backbone = TorchBackbone(SETTINGS, (3,), source_of(rows))
        before = [p.clone() for p in backbone.model.network("audio").parameters()]
        (batch,) = backbone.batches([np.arange(len(rows))], [1])
        backbone.warm_up(iter([batch]))
        assert np.isfinite(backbone.train_step(batch, np.zeros((len(rows), 1), np.int32), 0.1))
        after = backbone.model.network("audio").parameters()
        moved = any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert moved == (AUDIO in rows)


def test_a_network_may_get_its_first_clips_after_others_have_learnt():
    source = source_of([VIDEO, VIDEO, BOTH, AUDIO])
    labels, losses = np.zeros((2, 1), np.int32), []
    backbone = TorchBackbone(SETTINGS, (3,), source)
    plain = TorchBackbone(SETTINGS, (3,), source)
    plain.optimizer.param_groups[0]["fused"] = None  # an implementation of PyTorch that allows for it
    for learner in (backbone, plain):
        batches = learner.batches([np.array(rows) for rows in ([0, 1], [2, 3], [0, 1], [3, 2])], [1])
        losses.append([learner.train_step(batch, labels, 0.1) for batch in batches])
    assert np.allclose(*losses, rtol=1e-5)


def test_with_several_processes_every_network_takes_part_in_every_step():
    backbone = TorchBackbone(SETTINGS, (3,), source_of([VIDEO, VIDEO]))
    (batch,) = backbone.batches([np.arange(2)], [1])
    labels = np.zeros((len(batch.rows), len(backbone.clusters)), np.int32)
    inputs = augmented_inputs(StepInputs.of_batch(batch, labels, backbone.modalities), backbone.settings)
    targets = {"video": torch.zeros(4, 1, dtype=torch.int64), "audio": torch.zeros(0, 1, dtype=torch.int64)}
    plain = TrainingLoss(backbone.model, "float32")(inputs, targets, 2)
    padded = TrainingLoss(backbone.model, "float32", padded=True)(inputs, targets, 2)
    assert padded.item() == pytest.approx(plain.item())
    padded.backward()
    gradients = [p.grad for p in backbone.model.parameters()]
    assert all(gradient is not None for gradient in gradients)
    assert all((p.grad == 0).all() for p in backbone.model.network("audio").parameters())


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_a_single_modality_has_one_network(modality):
    settings = replace(SETTINGS, modalities=modality)
    backbone = TorchBackbone(settings, (3, 3), source_of([(modality,)] * 6))
    assert {name[4] for name in backbone.model.state_dict() if name.startswith("mlp_")} == {modality[0]}
    assert list(backbone.datasets()) == [f"features/{modality}"]
    losses = []
    for _ in range(15):
        (batch,) = backbone.batches([np.arange(6)], [1])
        losses.append(backbone.train_step(batch, np.arange(12).reshape(6, 2).astype(np.int32) % 3, 0.05))
    assert losses[-1] < losses[0]


def test_videos_without_one_modality_do_not_align_the_heads(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20, 4)).astype(np.float32)
    permutation = np.array([2, 0, 3, 1])
    log_prob = values - np.log(np.exp(values).sum(1, keepdims=True))
    has = np.arange(20) < 8
    other = np.where(has[:, None], log_prob[:, np.argsort(permutation)], log_prob)  # as a stand-in would be: the same
    names = {"log_prob/video/0": 4, "log_prob/audio/0": 4}
    with WorkingStore.create(tmp_path / "w.h5", [str(i) for i in range(20)], names, present={"audio": has}) as store:
        store.replace("log_prob/video/0", log_prob)
        store.replace("log_prob/audio/0", other)
        assert align_modalities(store, "0").tolist() == permutation.tolist()
