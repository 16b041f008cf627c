"""Heads on the concatenated features of both networks: one set of predictions, in training and extraction."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from backbones.data.clips import StoredClips
from backbones.data.loader import ClipSampling
from backbones.learner.settings import BackboneSettings
from backbones.learner.torch_backbone import TorchBackbone
from backbones.learner.training_step import StepInputs, augmented_inputs
from backbones.networks.model import head_name
from backbones.runs.presets import run_settings
from backbones.runs.train import start
from selavi_ref.datasets.manifest import Manifest, ManifestEntry
from selavi_ref.ensemble.labels import label_store
from selavi_ref.media import VideoInfo
from selavi_ref.media.video_cache import DecodedVideo
from selavi_ref.selflabel.backbone import working_datasets
from selavi_ref.store import FeatureStore, StoreWriter, WorkingStore
from tests.support.random_videos import random_videos
from tests.support.refusal import refused

SETTINGS = BackboneSettings(eval_batch_size=16, concatenate=True)
SPACE = "video+audio"
SIDES = {"video": 192, "audio": 192}


def backbone_of(videos):
    return TorchBackbone(SETTINGS, (3, 3), StoredClips(videos, SETTINGS.clip))


def test_the_loss_is_that_of_the_heads_on_both_features_side_by_side():
    backbone = backbone_of(random_videos(SETTINGS, 6))
    labels = np.array([[0, 1], [2, 2], [1, 0], [0, 0]], np.int32)
    batch = next(backbone.batches([np.arange(4)], [0]))
    inputs = augmented_inputs(StepInputs.of_batch(batch, labels, backbone.modalities), backbone.settings)
    model = backbone.model.train()
    with torch.no_grad():
        both = torch.cat([model.network(m)(inputs[m]) for m in SIDES], 1)
        rows = torch.from_numpy(labels[: len(batch.rows)].astype(np.int64))
        expected = np.mean([F.cross_entropy(model.head(SPACE, h)(both), rows[:, h]).item() for h in range(2)])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert backbone.train_step(batch, labels, 0.1) == pytest.approx(expected, rel=1e-5)
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"video_network", "audio_network", "mlp_va0", "mlp_va1"}


def test_the_working_store_has_one_feature_space(tmp_path):
    backbone = backbone_of(random_videos(SETTINGS, 6))
    with WorkingStore.create(tmp_path / "w.h5", list("abcdef"), working_datasets(backbone)) as store:
        assert store.modalities == [SPACE]
        backbone.write_features(store, range(6), None)
        backbone.write_log_prob(store, 0, "current3")
        features = torch.from_numpy(store.features(SPACE))
        expected = backbone.model.eval().head(SPACE, 0)(features).log_softmax(1)
        assert features.shape == (6, sum(SIDES.values()))
        assert np.allclose(store.log_prob(SPACE, "current3"), expected.detach(), atol=1e-5)


@pytest.mark.parametrize("crops", [1, 3])
def test_extraction_labels_videos_that_have_both(tmp_path, crops):
    videos = random_videos(SETTINGS, 4, seconds=4.0)
    videos[1] = DecodedVideo(videos[1].frames, videos[1].energies[:, :0])
    videos[2] = DecodedVideo(videos[2].frames[:0], videos[2].energies)
    backbone = backbone_of(videos)
    datasets = {**backbone.datasets(), "disagreement": 2} | {f"log_prob/{SPACE}/{h}": 3 for h in range(2)}
    with StoreWriter(tmp_path / "f.h5", list("abcd"), datasets) as writer:
        backbone.extract(writer, range(2), ClipSampling(2, crops))
        writer.finish()
    with FeatureStore(tmp_path / "f.h5") as store:
        found = label_store(store)
        assert np.isfinite(store.features(SPACE)[[0, 3]]).all()
    assert found.modalities == [SPACE, "", "", SPACE]
    assert (found.label >= 0).tolist() == [True, False, False, True]
    assert [bool(reason) for reason in found.reasons] == [False, True, True, False]


def test_a_single_head_has_no_number():
    assert [head_name(SPACE, 0, n) for n in (1, 2)] == ["mlp_va", "mlp_va0"]


def test_settings_are_those_of_heads_that_compare_no_modalities():
    chosen = run_settings(900, clusters=7, concatenate_features=True)
    assert chosen.backbone.spaces == (SPACE,)
    assert (chosen.training.overclustering_heads, chosen.final_labels) == (0, "heads")
    assert run_settings(900, clusters=7, config={"backbone": {"concatenate": True}}) == chosen


@pytest.mark.parametrize(
    "given", [{"modalities": "audio"}, {"label_by": "video"}, {"overclustering_heads": 2}, {"final_labels": "crossfit"}]
)
def test_what_compares_modalities_does_not_go_with_it(given):
    with refused(option="concatenate-features"):
        run_settings(900, clusters=7, concatenate_features=True, **given)


def test_videos_without_sound_are_refused_before_a_run_is_made(tmp_path):
    settings = run_settings(20, clusters=2, concatenate_features=True)
    infos = [
        VideoInfo(f"{i}.mp4", 5.0, 5.0 * (i > 0), 25.0, 64, 48, 16000, has_video=True, has_audio=i > 0)
        for i in range(20)
    ]
    with refused(option="concatenate-features"):
        start(tmp_path / "run", Manifest([ManifestEntry(info.path, info=info) for info in infos]), settings)
    assert not (tmp_path / "run").exists()
