"""Networks with the published names and shapes, and the learner's single steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from backbones.data.clips import StoredClips, n_mel_steps
from backbones.data.loader import Batch, ClipSampling
from backbones.learner.checkpoint import read_checkpoint
from backbones.learner.optimizer import load_optimizer
from backbones.learner.settings import BackboneSettings
from backbones.learner.torch_backbone import TorchBackbone
from backbones.networks import registry
from backbones.networks.model import Head, LinearHead, SelaviModel
from selavi_ref.errors import CheckpointError
from selavi_ref.media.video_cache import DecodedVideo
from selavi_ref.selflabel.backbone import working_datasets
from selavi_ref.store import FeatureStore, StoreWriter, WorkingStore
from tests.support.random_videos import random_videos
from tests.support.refusal import refused
from tests.support.training_states import training_state


def tiny_backbone(n=12, clusters=(3, 3), kept=None, seed=0, batch=16):
    settings = BackboneSettings(eval_batch_size=batch)
    source = StoredClips(random_videos(settings, n) if kept is None else kept, settings.clip)
    return TorchBackbone(settings, clusters, source, seed=seed)


@pytest.fixture(scope="module")
def published():
    settings = BackboneSettings.for_networks("r2plus1d_18", "resnet9")
    clip = settings.clip
    assert (clip.frames, clip.size, clip.n_filters, n_mel_steps(clip)) == (30, 112, 257, 99)
    short = replace(settings, clip=replace(clip, frames=4))  # a step takes an eighth of the time
    source = StoredClips(random_videos(short, 2, seconds=1.2), short.clip)
    return TorchBackbone(short, [309] * 10, source)


def test_published_networks_have_the_published_names_and_shapes(published):
    state = published.model.state_dict()
    assert len(state) == 454
    assert sum(p.numel() for p in published.model.parameters()) == pytest.approx(44.6e6, rel=2e-3)
    shapes = {
        "video_network.base.stem.0.weight": (45, 3, 1, 7, 7),
        "audio_network.base.conv1.weight": (64, 1, 7, 7),
        "mlp_v9.block_forward.2.weight": (512, 512),
        "mlp_a0.block_forward.4.running_mean": (512,),
        "mlp_a9.block_forward.8.weight": (309, 512),
        "mlp_a9.block_forward.8.bias": (309,),
    }
    for name, shape in shapes.items():
        assert tuple(state[name].shape) == shape
    assert "video_network.base.layer1.0.conv1.0.0.weight" in state
    assert "audio_network.base.layer1.0.conv1.weight" in state
    assert not any(".fc." in name or name == "mlp_v0.block_forward.2.bias" for name in state)
    roots = {name.split(".")[0] for name in state}
    assert roots == {"video_network", "audio_network", *(f"mlp_{m}{h}" for m in "va" for h in range(10))}


def test_one_training_step_of_the_published_networks_runs(published):
    batch = next(published.batches([np.array([0, 1])], [0]))
    before = published.model.state_dict()["mlp_a9.block_forward.8.bias"].clone()
    loss = published.train_step(batch, np.zeros((2, 10), np.int32), 0.01)
    assert loss == pytest.approx(np.log(309), rel=0.3)
    assert not torch.equal(before, published.model.state_dict()["mlp_a9.block_forward.8.bias"])


def test_a_single_head_has_no_number():
    tiny = registry.find("video", "tiny"), registry.find("audio", "tiny")
    roots = {name.split(".")[0] for name in SelaviModel(*tiny, [5]).state_dict()}
    assert roots == {"video_network", "audio_network", "mlp_v", "mlp_a"}


def test_heads_without_a_hidden_layer_are_single_linear_layers():
    tiny = registry.find("video", "tiny"), registry.find("audio", "tiny")
    model = SelaviModel(*tiny, [5, 5], mlp=False)
    heads = {name: tuple(v.shape) for name, v in model.state_dict().items() if name.startswith("mlp_")}
    shapes = {"weight": (5, 192), "bias": (5,)}
    assert heads == {f"mlp_{m}{h}.{kind}": shape for m in "va" for h in (0, 1) for kind, shape in shapes.items()}
    assert {"mlp_v.weight", "mlp_a.bias"} <= SelaviModel(*tiny, [5], mlp=False).state_dict().keys()
    assert [logits.shape for logits in model.logits("audio", torch.zeros(3, 192))] == [(3, 5)] * 2


@pytest.mark.parametrize("made", [lambda: Head(8, 16, 5), lambda: LinearHead(8, 5)], ids=["mlp", "linear"])
def test_permuting_a_head_permutes_its_logits(made):
    head = made().eval()
    features = torch.randn(3, 8)
    before = head(features)
    head.permute([4, 2, 0, 1, 3])
    assert torch.allclose(head(features), before[:, [4, 2, 0, 1, 3]], atol=1e-6)  # order changes the last bit


def test_unknown_networks_are_refused_with_those_known():
    with refused(option="video_net", value="vgg"):
        registry.find("video", "vgg")
    assert {"resnet9", "resnet18", "tiny"} <= set(registry.names("audio"))


@pytest.mark.parametrize("layers", ["resnet9", "resnet18"])
def test_audio_networks_give_features_of_a_second_of_sound(layers):
    spec = registry.find("audio", layers)
    with torch.no_grad():
        assert spec.build().eval()(torch.zeros(1, 1, 257, 99)).shape == (1, spec.n_features)


def test_learning_lowers_the_loss():
    classes = np.arange(12) % 3
    kept = random_videos(BackboneSettings(), 12)
    for c, video in zip(classes, kept, strict=True):
        video.frames[:] = 100 * c
        video.energies[20 * c : 20 * c + 20] += 10
    backbone = tiny_backbone(clusters=(3,), kept=kept)
    losses = []
    for epoch in range(30):
        for batch in backbone.batches([np.arange(6), np.arange(6, 12)], [epoch]):
            losses.append(backbone.train_step(batch, classes[batch.rows, None].astype(np.int32), 0.05))
    assert np.mean(losses[-6:]) < 0.6 * np.mean(losses[:6])


def test_warming_up_moves_statistics_but_no_weight():
    backbone = tiny_backbone()
    before = {k: v.clone() for k, v in backbone.model.state_dict().items()}
    backbone.warm_up(backbone.batches([np.arange(4)], [0]))
    after = backbone.model.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed
    assert all("running" in k or "num_batches" in k for k in changed)


def test_a_saved_backbone_goes_on_exactly(tmp_path):
    batches = [np.arange(4), np.arange(4, 8), np.arange(8, 12)]
    labels = np.zeros((12, 2), np.int32)

    def learn(backbone, epoch):
        return [backbone.train_step(b, labels[b.rows], 0.05) for b in backbone.batches(batches, [epoch])]

    first = tiny_backbone()
    learn(first, 0)
    state = training_state(12, (3, 3)) | {"note": "x"}
    first.save(tmp_path / "c.pt", state)
    losses = learn(first, 1)
    second = tiny_backbone(seed=9)
    restored = second.load(tmp_path / "c.pt")
    assert restored["epoch"] == 1
    assert restored["note"] == "x"
    assert np.array_equal(restored["labels"], labels)
    assert learn(second, 1) == losses


def test_the_optimizer_of_another_machine_goes_on_with_the_implementation_of_this_one():
    """Checkpoints of version 0.1.0, and those from a GPU, name another implementation of the optimiser."""
    backbone = tiny_backbone()
    backbone.train_step(next(backbone.batches([np.arange(4)], [0])), np.zeros((4, 2), np.int32), 0.1)
    own = {name: backbone.optimizer.param_groups[0][name] for name in ("fused", "foreach")}
    saved = backbone.optimizer.state_dict()
    saved["param_groups"] = [{**group, "fused": None, "foreach": True} for group in saved["param_groups"]]
    load_optimizer(backbone.optimizer, saved)
    assert {name: backbone.optimizer.param_groups[0][name] for name in own} == own


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    backbone = tiny_backbone()
    backbone.save(tmp_path / "c.pt", training_state(12, (3, 3)))
    with refused(path=tmp_path / "c.pt"):
        tiny_backbone(clusters=(4, 4)).load(tmp_path / "c.pt")
    data = (tmp_path / "c.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    with refused(CheckpointError, path=tmp_path / "cut.pt"):
        read_checkpoint(tmp_path / "cut.pt")
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    (tmp_path / "flipped.pt").write_bytes(flipped)
    with refused(CheckpointError, path=tmp_path / "flipped.pt"):
        read_checkpoint(tmp_path / "flipped.pt")
    with refused(CheckpointError, path=tmp_path / "none.pt"):
        read_checkpoint(tmp_path / "none.pt")
    torch.save({"a": 1}, tmp_path / "other.pt")
    with refused(path=tmp_path / "other.pt"):
        read_checkpoint(tmp_path / "other.pt")


def test_features_and_log_probabilities_reach_the_store(tmp_path):
    backbone = tiny_backbone()
    with WorkingStore.create(tmp_path / "w.h5", [f"{i}" for i in range(12)], working_datasets(backbone)) as store:
        backbone.write_features(store, range(12), None)
        again = store.features("video")
        backbone.write_features(store, range(12), None)
        assert np.array_equal(again, store.features("video"))
        backbone.write_features(store, range(12), [3])
        assert not np.array_equal(again, store.features("video"))
        backbone.write_log_prob(store, 1, "current3")
        assert np.allclose(np.exp(store.log_prob("audio", "current3")).sum(1), 1, atol=1e-5)


def test_features_do_not_depend_on_how_many_clips_are_read_at_once(tmp_path):
    videos = random_videos(BackboneSettings(), 65)  # one more than the clips whose features are computed at once
    features = []
    for size in (16, 65):
        backbone = tiny_backbone(kept=videos, batch=size)
        path = tmp_path / f"{size}.h5"
        with WorkingStore.create(path, [f"{i}" for i in range(65)], working_datasets(backbone)) as store:
            backbone.write_features(store, range(65), None)
            features.append(np.hstack([store.features(modality) for modality in ("video", "audio")]))
    np.testing.assert_allclose(*features, rtol=1e-5, atol=1e-6)


def test_held_inputs_give_the_features_that_clips_read_anew_give(tmp_path):
    backbone, fresh = tiny_backbone(), tiny_backbone()
    with WorkingStore.create(tmp_path / "w.h5", [f"{i}" for i in range(12)], working_datasets(backbone)) as store:
        backbone.write_features(store, range(12), None)
        before = store.features("video")
        with torch.no_grad():
            for weights in backbone.model.parameters():
                weights.mul_(1.1)
        backbone.write_features(store, range(12), None)
        held = [store.features(modality) for modality in ("video", "audio")]
        assert not np.array_equal(held[0], before)
        fresh.model.load_state_dict(backbone.model.state_dict())
        fresh.write_features(store, range(12), None)
        for modality, values in zip(("video", "audio"), held, strict=True):
            assert np.array_equal(values, store.features(modality))


def test_extraction_marks_what_is_missing_and_measures_disagreement(tmp_path):
    settings = BackboneSettings(eval_batch_size=16)
    kept = random_videos(settings, 6, seconds=4.0)
    silent = DecodedVideo(kept[1].frames, np.empty((settings.clip.n_filters, 0), np.float32))
    unseen = DecodedVideo(np.empty((0, 48, 48, 3), np.uint8), kept[2].energies)
    backbone = tiny_backbone(kept=[kept[0], silent, unseen, "broken.mp4: cut off", *kept[4:]])
    datasets = {**backbone.datasets(), "disagreement": 2}
    datasets |= {f"log_prob/{m}/{h}": 3 for m in ("video", "audio") for h in range(2)}
    with StoreWriter(tmp_path / "f.h5", [f"{i}" for i in range(6)], datasets) as writer:
        backbone.extract(writer, range(2), ClipSampling(3))
        writer.finish()
    with FeatureStore(tmp_path / "f.h5") as store:
        assert store.present("audio").tolist() == [True, False, True, False, True, True]
        assert store.present("video").tolist() == [True, True, False, False, True, True]
        assert store.reasons[3] == "broken.mp4: cut off"
        assert np.isnan(store.features("audio")[1]).all()
        assert np.isfinite(store.features("video")[[0, 1, 4, 5]]).all()
        disagreement = store.get("disagreement")
    assert disagreement.shape == (6, 2)
    assert set(np.round(disagreement * 3).astype(int).ravel()) <= {0, 1, 2, 3}


def test_a_video_that_cannot_be_decoded_in_training_is_replaced_and_reported():
    settings = BackboneSettings(eval_batch_size=16)
    backbone = tiny_backbone(kept=[*random_videos(settings, 5), "b.mp4: damaged"])
    batch = next(backbone.batches([np.arange(6)], [0]))
    assert isinstance(batch, Batch)
    assert len(batch.rows) == 6
    assert 5 not in batch.rows
    assert set(batch.failures) == {(5, "b.mp4: damaged")}
