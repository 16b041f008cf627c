"""Features for retrieval: the networks' last maps, pool_maps as published, or their means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from backbones.data import augment
from backbones.data.data_source import DataSource, open_clips
from backbones.data.loader import ClipSampling, eval_batches
from backbones.learner.settings import BackboneSettings
from backbones.networks import registry
from backbones.networks.registry import Base
from backbones.runs.convert import import_published
from backbones.runs.extract import extract
from backbones.runs.retrieval_features import clip_mean, pool_maps, retrieval_features
from backbones.runs.run_settings import RunSettings
from selavi_ref.datasets import make_collection, scan
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore
from tests.support.original_model import checkpoint, learnt_model
from tests.support.refusal import refused
from tests.support.silent_videos import write_silent

WITH_MAPS = [
    *[("video", name) for name in ("r2plus1d_18", "r3d_18", "mc3_18", "s3d", "nano", "tiny")],
    *[("audio", name) for name in ("resnet9", "resnet18", "resnet34", "resnet50", "nano", "tiny")],
]
SMALL_CLIP = {"sample_rate": 16_000, "n_filters": 64}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run of small random networks, and a collection with one silent and one damaged video."""
    place = tmp_path_factory.mktemp("maps")
    torch.manual_seed(0)
    torch.save(checkpoint(learnt_model(4, 2, video="tiny", audio="tiny", hidden=256)), place / "published.pth")
    import_published(place / "published.pth", place / "run", clip=SMALL_CLIP)
    make_collection(place / "videos", 8, seed=0)
    write_silent(place / "videos" / "y_silent.avi", "Down", 0)
    (place / "videos" / "z_damaged.mp4").write_bytes(b"no video")
    return place


@pytest.fixture(scope="module")
def manifest(place):
    return scan(place / "videos", require="any", min_seconds=0.0)


@pytest.fixture
def run(place):
    return Run.open(place / "run")


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_means_are_the_extracted_features_at_length_one(run, manifest, tmp_path):
    extract(run, manifest, tmp_path / "f.h5", device="cpu", data_source=DataSource(0))
    found = retrieval_features(
        run, manifest, pool="mean", clips=1, frames=None, device="cpu", data_source=DataSource(0)
    )
    with FeatureStore(tmp_path / "f.h5") as store:
        for modality in ("video", "audio"):
            theirs, present = store.features(modality), store.present(modality)
            assert found.present[modality].tolist() == present.tolist()
            assert np.allclose(found.features[modality][present], unit(theirs[present]), atol=1e-6)
            assert np.isnan(found.features[modality][~present]).all()
    assert found.present["video"].tolist() == [True] * 9 + [False]
    assert found.present["audio"].tolist() == [True] * 8 + [False] * 2
    assert [bool(reason) for reason in found.reasons] == [False] * 9 + [True]


def test_maxima_are_those_of_each_clip_at_length_one_and_averaged(run, manifest):
    result = []
    found = retrieval_features(
        run, manifest, clips=3, frames=None, device="cpu", data_source=DataSource(0), progress=result.append
    )
    assert sum(result) == 10
    settings = RunSettings.from_dict(run.config).backbone
    source = open_clips(manifest, settings.clip, DataSource(0))
    (look,) = eval_batches(source, [2], settings.augment, ClipSampling(3), batch_size=1, workers=0)
    clips = augment.video_input(look.frames, settings.clip, None, None)
    network = loaded(run)
    with torch.no_grad():
        maps = torch.nn.Sequential(*list(network.base)[:-1])(clips).numpy()
    assert maps.shape == (3, 192, 1, 5, 5)  # four frames are one in the end, which is not pool_maps
    best = maps[..., :4, :4].reshape(3, 192, 1, 2, 2, 2, 2).max((4, 6)).reshape(3, -1)
    assert np.allclose(found.features["video"][2], unit(best).mean(0), atol=1e-6)
    assert found.features["video"].shape == (10, 192 * 4)
    assert found.features["video"].dtype == np.float32
    assert found.features["audio"].shape[1] % 192 == 0


def loaded(run):
    from backbones.learner.checkpoint import read_newest

    network = Base(registry.find("video", "tiny").build()).eval()
    weights = read_newest(run)["model"]
    prefix = "video_network."
    network.load_state_dict({n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)})
    return network


def test_more_frames_give_more_numbers(run, manifest):
    few = replace(manifest, entries=manifest.entries[:2])
    found = retrieval_features(run, few, clips=1, frames=32, device="cpu", data_source=DataSource(0))
    assert found.features["video"].shape == (2, 192 * 2 * 2 * 2)  # 32 frames are four in the end


@pytest.mark.parametrize(("modality", "name"), WITH_MAPS)
def test_the_features_of_a_network_are_the_means_of_its_maps(modality, name):
    spec = registry.find(modality, name)
    clip = BackboneSettings.for_networks(name, "tiny").clip if modality == "video" else None
    shape = (2, 3, clip.frames, clip.size, clip.size) if clip else (2, 1, 257, 99)
    with torch.device("meta"):
        network = Base(spec.build()).eval()
    kept = []
    network.base.get_submodule(spec.maps).register_forward_hook(lambda module, given, maps: kept.append(maps))
    features = network(torch.empty(shape, device="meta"))
    assert kept[0].dim() == len(shape)
    assert kept[0].shape[:2] == features.shape == (2, spec.n_features)


def test_published_maps_are_9216_numbers():
    with torch.device("meta"):
        network = registry.find("video", "r2plus1d_18").build()
    kept = []
    network.get_submodule("layer4").register_forward_hook(lambda module, given, maps: kept.append(maps))
    network.eval()(torch.empty(1, 3, 32, 112, 112, device="meta"))
    assert kept[0].shape == (1, 512, 4, 7, 7)
    assert pool_maps(torch.zeros(kept[0].shape)).shape == (1, 9216)


@pytest.mark.parametrize(
    ("shape", "width"),
    [
        ((2, 5, 4, 7, 7), 5 * 2 * 3 * 3),
        ((2, 5, 1, 2, 3), 5),
        ((2, 5, 1, 1, 1), 5),
        ((2, 5, 9, 4), 40),
        ((2, 5, 1, 3), 5),
    ],
)
def test_an_axis_shorter_than_the_kernel_is_not_pooled(shape, width):
    assert pool_maps(torch.rand(shape)).shape == (2, width)


def test_pooled_maps_are_maxima_of_two_by_two_by_two():
    maps = torch.rand(3, 2, 4, 6, 8)
    wanted = F.max_pool3d(maps, 2, 2).flatten(1)
    assert torch.equal(pool_maps(maps), wanted)
    assert torch.equal(pool_maps(maps[:, :, 0]), F.max_pool2d(maps[:, :, 0], 2, 2).flatten(1))
    assert torch.equal(pool_maps(maps, "average"), F.avg_pool3d(maps, 2, 2).flatten(1))
    assert torch.equal(pool_maps(maps[:, :, 0], "average"), F.avg_pool2d(maps[:, :, 0], 2, 2).flatten(1))


def test_clips_are_brought_to_length_one_before_they_are_averaged():
    features = torch.tensor([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0], [1.0, 0.0]])
    assert torch.allclose(clip_mean(features, 2), torch.tensor([[0.3, 0.9], [0.5, 0.0]]))


def test_wrong_options_are_refused(place, run, manifest):
    with refused(option="pool", value="sum"):
        retrieval_features(run, manifest, pool="sum")
    (place / "heads").mkdir(exist_ok=True)
    (place / "heads" / "config.toml").write_text('kind = "heads"\n')
    with refused():
        retrieval_features(Run.open(place / "heads"), manifest)
    settings = RunSettings.from_dict(run.config)
    other = Run.prepare(place / "transformer")
    backbone = BackboneSettings.for_networks("swin3d_t", "tiny")
    other.rewrite_config(replace(settings, backbone=backbone).to_dict())
    with refused(option="pool", value="max"):
        retrieval_features(other, manifest)
