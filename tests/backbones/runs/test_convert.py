"""Published checkpoints become runs and runs become published checkpoints; runs begin with networks of others."""

import contextlib
import csv

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import cli
from backbones.data import augment
from backbones.data.data_source import DataSource, open_clips
from backbones.data.loader import ClipSampling, eval_batches
from backbones.learner.checkpoint import read_newest
from backbones.learner.torch_backbone import TorchBackbone
from backbones.runs.convert import import_published
from backbones.runs.initial_weights import load_initial_weights
from backbones.runs.presets import run_settings
from backbones.runs.run_settings import RunSettings
from selavi_ref.datasets import make_collection, scan
from selavi_ref.errors import InputError
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore
from tests.support.original_model import checkpoint, learnt_model

SOUND = ["--mel-bands", "64", "--sound-rate", "16000"]


def selavi(place, *arguments):
    with contextlib.chdir(place):
        return CliRunner().invoke(cli.main, [str(a) for a in arguments], prog_name="selavi")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Videos, and a published checkpoint of small networks, converted to a run."""
    place = tmp_path_factory.mktemp("beginning")
    make_collection(place / "videos", 16, seed=0)
    torch.manual_seed(0)
    model = learnt_model(4, 3, video="tiny", audio="tiny", hidden=256).eval()
    labels = np.random.default_rng(0).integers(0, 4, (50, 3))
    torch.save(checkpoint(model, epoch=7, dist=[torch.ones(4, 1)] * 3, selflabels=labels, module=True), place / "p.pth")
    done = selavi(place, "convert", "p.pth", *SOUND, "--sound-level", "2,3", "--out", "run")
    assert done.exit_code == 0, done.stderr
    assert "tiny and tiny, 3 heads of 4 clusters, epoch 7" in done.stdout
    return place, model


def test_a_converted_checkpoint_labels_as_the_original_computes(place, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # which a GPU takes for float32
    folder, model = place
    done = selavi(folder, "extract", "run", "videos", "--out", "f.h5")
    assert done.exit_code == 0, done.stderr
    manifest = scan(folder / "videos")
    settings = RunSettings.from_dict(Run.open(folder / "run").config).backbone
    assert (settings.clip.mel_mean, settings.clip.mel_std, settings.clip.n_filters) == (2, 3, 64)
    source = open_clips(manifest, settings.clip, DataSource(workers=0))
    (look,) = eval_batches(source, range(16), settings.augment, ClipSampling(), batch_size=16, workers=0)
    pictures = augment.video_input(look.frames, settings.clip, None, None)
    sounds = augment.audio_input(look.mel, settings.clip, None, None)
    with torch.no_grad():
        outputs = model.outputs(pictures, sounds)
    with FeatureStore(folder / "f.h5") as store:
        for modality in ("video", "audio"):
            theirs, logits = outputs[modality]
            assert np.allclose(store.features(modality), theirs.numpy(), atol=1e-5)
            for head in range(3):
                wanted = logits[head].log_softmax(1).numpy()
                assert np.allclose(store.log_prob(modality, head), wanted, atol=1e-5)


def test_written_back_and_converted_again_it_gives_the_same_labels(place):
    folder, _ = place
    for command in (
        ["label", "run", "videos", "--out", "a.csv"],
        ["convert", "run", "--to", "back.pth"],
        ["convert", "back.pth", *SOUND, "--sound-level", "2,3", "--out", "again"],
        ["label", "again", "videos", "--out", "b.csv"],
    ):
        done = selavi(folder, *command)
        assert done.exit_code == 0, done.stderr
    assert (folder / "a.csv").read_text() == (folder / "b.csv").read_text()
    with open(folder / "a.csv") as file:
        assert len(list(csv.DictReader(file))) == 16
    theirs = torch.load(folder / "back.pth", weights_only=True)
    assert theirs["epoch"] == 7
    assert theirs["model"]["mlp_a2.block_forward.8.weight"].shape == (4, 256)


def test_balanced_labels_need_potentials_that_no_checkpoint_has(place):
    done = selavi(place[0], "label", "run", "videos", "--balanced", "--out", "c.csv")
    assert done.exit_code == 2
    assert "no potentials" in done.stderr


@pytest.mark.parametrize("source", ["run", "p.pth"])
def test_a_run_begins_with_the_networks_of_another_and_new_heads(place, source):
    folder, model = place
    settings = run_settings(16, clusters=9, heads=2, init=str(folder / source), epochs=1)
    clips = open_clips(scan(folder / "videos"), settings.backbone.clip, DataSource())
    backbone = TorchBackbone(settings.backbone, settings.head_sizes, clips, seed=5)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    load_initial_weights(backbone, settings)
    after, theirs = backbone.model.state_dict(), model.state_dict()
    for name, value in after.items():
        assert torch.equal(value, theirs[name] if "network" in name else before[name])


def test_training_begins_with_what_init_names(place):
    folder, model = place
    options = ["--clusters", "5", "--heads", "2", "--epochs", "1", "--labellings", "1", "--rate", "1e-12"]
    done = selavi(folder, "train", "videos", *options, "--init", "run", "--workers", "1", "--out", "next")
    assert done.exit_code == 0, done.stderr
    weights = read_newest(Run.open(folder / "next"))["model"]
    name = "video_network.base.0.weight"
    assert torch.allclose(weights[name], model.state_dict()[name], atol=1e-6)
    assert weights["mlp_v1.block_forward.8.weight"].shape[0] == 5


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["convert", "p.pth"], "give either --out RUN"),
        (["convert", "p.pth", "--out", "run"], "holds a run already"),
        (["convert", "none.pth", "--out", "new"], "none.pth does not exist"),
        (["convert", "videos", "--out", "new"], "videos is a folder"),
        (["convert", "p.pth", "--sound-level", "collection", "--out", "new"], "has no collection"),
        (["convert", "p.pth", "--to", "x.pth"], "p.pth is not a folder"),
        (["convert", "run", "--mel-bands", "40", "--to", "x.pth"], "--mel-bands goes with --out"),
        (["train", "--resume", "--out", "run"], "no videos to learn from; begin with its networks by --init run"),
        (["train", "videos", "-k", "3", "--scratch", "nowhere", "--out", "new"], "--scratch nowhere is not a folder"),
        (["train", "videos", "-k", "3", "--init", "nowhere", "--out", "new"], "--init nowhere does not exist"),
        (
            ["train", "videos", "-k", "3", "--init", "run", "--preset", "published", "--out", "new"],
            "has the networks tiny and tiny, not",
        ),
        (
            ["train", "videos", "-k", "3", "--video-weights", "p.pth", "--out", "new"],
            "does not fit the video network tiny",
        ),
    ],
)
def test_what_cannot_be_is_one_line(place, arguments, why, tmp_path):
    folder, _ = place
    arguments = [str(tmp_path / "new") if a == "new" else a for a in arguments]
    done = selavi(folder, *arguments)
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    assert why in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "new").exists()


def test_heads_of_different_widths_are_refused(tmp_path):
    model = learnt_model(4, 2, video="tiny", audio="tiny", hidden=256)
    model.mlp_v1.block_forward[8] = torch.nn.Linear(256, 6)
    model.mlp_a1.block_forward[8] = torch.nn.Linear(256, 6)
    torch.save(checkpoint(model), tmp_path / "p.pth")
    with pytest.raises(InputError, match="different numbers of clusters"):
        import_published(tmp_path / "p.pth", tmp_path / "run", sound_rate=16_000, mel_bands=64, sound_level="none")
    assert not (tmp_path / "run").exists()
