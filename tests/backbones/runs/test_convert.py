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
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore
from tests.support.command_line import rows_of
from tests.support.original_model import checkpoint, learnt_model
from tests.support.refusal import refused

SOUND = ["--mel-bands", "64", "--sound-rate", "16000"]


def selavi(place, *arguments):
    with contextlib.chdir(place):
        return CliRunner().invoke(cli.main, [str(a) for a in arguments], prog_name="selavi")


SMALL_CLIP = {"sample_rate": 16_000, "n_filters": 64}


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


def test_every_setting_of_the_input_can_be_given_and_others_are_published(place, tmp_path):
    folder, _ = place
    options = ["--sound-seconds", "2", "--frames", "6", "--fps", "8", "--size", "44", "--antialias"]
    done = selavi(folder, "convert", "p.pth", *SOUND, *options, "--sound-level", "published", "--out", tmp_path / "new")
    assert done.exit_code == 0, done.stderr
    clip = RunSettings.from_dict(Run.open(tmp_path / "new").config).backbone.clip
    assert (clip.audio_seconds, clip.frames, clip.fps, clip.size, clip.antialias) == (2.0, 6, 8.0, 44, True)
    assert (clip.sample_rate, clip.n_filters, clip.decode_size) == (16_000, 64, 63)
    assert (clip.mel_mean, clip.mel_std) == (1.93, 17.89)
    plain = RunSettings.from_dict(Run.open(folder / "run").config).backbone.clip
    assert (plain.antialias, plain.audio_seconds) == (False, 1.0)


def test_a_converted_run_is_continued_with_its_heads_momentum_and_sizes(tmp_path):
    make_collection(tmp_path / "videos", 16, seed=0)
    torch.manual_seed(0)
    model = learnt_model(4, 2, video="tiny", audio="tiny", hidden=256).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    sizes = [torch.tensor([[1.0], [2.0], [3.0], [4.0]])] * 2
    content = checkpoint(model, epoch=7, dist=sizes, optimizer=optimizer)
    torch.save(content, tmp_path / "p.pth")
    for command in (
        ["convert", "p.pth", *SOUND, "--out", "run"],
        ["train", "videos", "--resume", "--epochs", "8", "--workers", "1", "--out", "run"],
    ):
        done = selavi(tmp_path, *command)
        assert done.exit_code == 0, done.stderr
    run = Run.open(tmp_path / "run")
    newest = read_newest(run)
    assert int(newest["state"]["epoch"]) == 8
    assert np.allclose(newest["state"]["sizes_1"], [0.1, 0.2, 0.3, 0.4])
    labellings = [record["step"] for record in run.records if "changed" in record]
    assert labellings[0] == min(record["step"] for record in run.records)  # before the first step
    name = "mlp_a1.block_forward.8.weight"
    before, after = model.state_dict()[name], newest["model"][name]
    assert not torch.equal(before, after)
    assert torch.allclose(before, after, atol=0.3)  # not new, and in the order that they had
    momentum = [state["momentum_buffer"].mean() for state in newest["optimizer"]["state"].values()]
    assert float(np.median(momentum)) > 0.5  # of the gradients of one before
    assert len(rows_of(run.labels_file)) == 16
    again = selavi(tmp_path, "train", "--resume", "--out", "run")
    assert again.exit_code == 0, again.stderr


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
        (["train", "--resume", "--out", "run"], "no videos to learn from; name them with --resume"),
        (["train", "videos", "-k", "3", "--scratch", "nowhere", "--out", "new"], "--scratch nowhere is not a folder"),
        (["train", "videos", "-k", "3", "--init", "nowhere", "--out", "new"], "--init nowhere does not exist"),
        (
            ["train", "videos", "-k", "3", "--init", "run", "--preset", "published", "--out", "new"],
            "has the networks tiny and tiny, not",
        ),
        (
            ["train", "videos", "-k", "3", "--video-weights", "p.pth", "--out", "new"],
            "does not fit the video network nano",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(place, arguments, why, tmp_path):
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
    with refused(path=tmp_path / "p.pth"):
        import_published(tmp_path / "p.pth", tmp_path / "run", clip=SMALL_CLIP)
    assert not (tmp_path / "run").exists()
