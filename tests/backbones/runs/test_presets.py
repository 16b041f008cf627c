"""Settings of a run from presets, settings files and options."""

from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w

from backbones.data.settings import PUBLISHED_AUGMENTATION
from backbones.runs.network_choice import PRESETS
from backbones.runs.presets import read_config, run_settings
from backbones.runs.run_settings import RunSettings
from tests.support.refusal import refused

OLD_RUN = Path(__file__).parents[2] / "support" / "version_0_1_0"


def test_the_published_recipe_has_the_published_values():
    s = run_settings(170_752, preset="published", layout="vggsound")
    t, b = s.training, s.backbone
    assert (s.clusters, s.heads, t.overclustering_heads, t.groups) == (309, 10, 0, 2)
    assert (t.epochs, t.batch_size, t.learning_rate, t.warmup_epochs, t.decay) == (200, 16, 0.01, 10, "constant")
    assert (t.scale_learning_rate, t.warmup_from, t.warmup_by, t.bn_warmup_batches) == (True, 1, "epoch", 20)
    assert (t.labellings, t.labelling_power, t.strength, t.align) == (99, 1.5, 10, True)
    assert (t.sizes.distribution, t.sizes.spread, t.sizes.per_head, t.sizes.redrawn) == ("gaussian", 0.1, True, False)
    assert (b.video_net, b.audio_net, b.mlp, b.dropout) == ("r2plus1d_18", "resnet9", True, 0.3)
    assert (b.momentum, b.weight_decay, b.sync_batch_norm, b.precision) == (0.9, 1e-5, True, "float32")
    assert (b.clip.frames, b.clip.fps, b.clip.size) == (30, 30, 112)
    assert (b.clip.sample_rate, b.clip.n_filters, b.clip.mel_mean, b.clip.mel_std) == (24_000, 257, 0, 1)
    assert b.augment == PUBLISHED_AUGMENTATION
    assert (b.augment.jitter, b.augment.grey, b.augment.flip) == (0, 0, 0.5)  # only fine-tuning varies colours
    # 64 processes: the published numbers of steps and labellings, at rates from 0.01 to 0.64.
    per_epoch = t.steps_per_epoch(170_752, 64)
    assert per_epoch == round(170_752 / 1024)
    assert t.learning_rate_at(0, 170_752, None, 64) == 0.01
    assert t.learning_rate_at(10 * per_epoch, 170_752, None, 64) == pytest.approx(0.64)
    steps = sorted(t.labelling_steps(170_752, 64))
    assert steps == sorted({int(200 * per_epoch * (k / 99) ** 1.5) for k in range(99)})


@pytest.mark.parametrize(
    ("layout", "clusters"), [("vggsound", 309), ("kinetics", 400), ("kinetics-sound", 32), ("ave", 28)]
)
def test_collections_have_their_published_number_of_clusters(layout, clusters):
    assert run_settings(10_000, layout=layout).clusters == clusters
    assert run_settings(10_000, layout=layout, clusters=5).clusters == 5


def test_a_network_that_is_not_small_brings_the_published_recipe():
    assert run_settings(1000, clusters=9, video_net="r2plus1d_18") == run_settings(1000, clusters=9, preset="published")
    assert run_settings(1000, clusters=9, video_net="r3d_18").backbone.video_net == "r3d_18"


def test_settings_survive_their_file(tmp_path):
    for preset in ("small", "published", "one-gpu"):
        settings = run_settings(900, clusters=7, preset=preset, augment=["blur=0.1"])
        file = tmp_path / "config.toml"
        file.write_text(tomli_w.dumps(settings.to_dict()))
        config = read_config(str(file))
        assert RunSettings.from_dict(config) == settings
        # A collection of another size changes nothing that the file sets.
        assert run_settings(5000, config=config) == settings


def test_options_go_before_the_file_and_the_file_before_the_preset():
    config = {"heads": 3, "training": {"learning_rate": 1, "epochs": 7}, "backbone": {"clip": {"frames": 5}}}
    s = run_settings(900, clusters=7, config=config, epochs=9)
    assert (s.heads, s.training.learning_rate, s.training.epochs, s.backbone.clip.frames) == (3, 1.0, 9, 5)
    assert isinstance(s.training.learning_rate, float)
    assert s.training.settle_epochs == 0
    named = {"backbone": {"video_net": "r2plus1d_18", "audio_net": "resnet18"}}
    s2 = run_settings(900, clusters=7, config=named, video_net="r3d_18").backbone
    assert (s2.video_net, s2.audio_net) == ("r3d_18", "resnet18")
    assert replace(s, heads=5).training.batch_size == run_settings(900, clusters=7).training.batch_size


def test_small_networks_are_learnt_by_muon_and_others_by_gradient_descent():
    optimizers = {preset: run_settings(900, clusters=7, preset=preset).backbone.optimizer for preset in PRESETS}
    assert optimizers == {"small": "muon", "published": "sgd", "one-gpu": "sgd"}
    assert run_settings(900, clusters=7, optimizer="sgd").backbone.optimizer == "sgd"
    assert run_settings(900, clusters=7, config={"backbone": {"momentum": 0.5}}).backbone.optimizer == "muon"


def test_a_settings_file_from_before_there_was_a_choice_keeps_gradient_descent():
    config = read_config(OLD_RUN / "config.toml")
    assert "optimizer" not in config["backbone"]
    assert run_settings(900, config=config).backbone.optimizer == "sgd"
    assert RunSettings.from_dict(config).backbone.optimizer == "sgd"
    assert run_settings(900, config=config, optimizer="muon").backbone.optimizer == "muon"


def test_every_option_reaches_its_setting():
    s = run_settings(
        900,
        clusters=7,
        distribution="zipf",
        size_per_head=False,
        redraw_sizes=True,
        match_sizes=False,
        align=False,
        mlp=False,
        sync_batch_norm=False,
        compile=True,
        scale_learning_rate=True,
        bn_warmup_batches=3,
        labelling_power=2.0,
        decay="constant",
        momentum=0.5,
        weight_decay=0.1,
        dropout=0.2,
        sound_level="published",
        stride=2,
        init="somewhere",
        soft_sizes=3.0,
        label_by="audio",
        labeller="kmeans",
        overclustering_heads=0,
    )
    sizes = s.training.sizes
    assert (sizes.distribution, sizes.per_head, sizes.redrawn, sizes.matched) == ("zipf", False, True, False)
    assert sizes.marginal_penalty == 3.0
    t, b = s.training, s.backbone
    assert (t.label_by, t.labeller, t.overclustering_heads) == ("audio", "kmeans", 0)
    assert (t.align, t.scale_learning_rate, t.bn_warmup_batches, t.labelling_power, t.decay) == (
        False,
        True,
        3,
        2.0,
        "constant",
    )
    assert (b.mlp, b.sync_batch_norm, b.compile, b.momentum, b.weight_decay) == (False, False, True, 0.5, 0.1)
    assert (b.dropout, b.mel_normalise, b.clip.mel_mean, b.clip.mel_std) == (0.2, "given", 1.93, 17.89)
    assert b.clip.fps == 2
    assert s.init == "somewhere"


@pytest.mark.parametrize(
    ("wanted", "option"),
    [
        ({}, "clusters"),
        ({"clusters": 3, "config": {"nothing": 1}}, "nothing"),
        ({"clusters": 3, "config": {"training": {"rat": 1}}}, "training.rat"),
        ({"clusters": 3, "config": {"training": {"epochs": 1.5}}}, "training.epochs"),
        ({"clusters": 3, "config": {"training": {"align": 1}}}, "training.align"),
        ({"clusters": 3, "config": {"training": 1}}, "training"),
        ({"config": {"clusters": "3"}}, "clusters"),
        ({"config": {"clusters": 0}}, "clusters"),
        ({"clusters": 3, "config": {"training": {"batch_size": "many"}}}, "training.batch_size"),
        ({"clusters": 3, "config": {"training": {"decay": "linear"}}}, "training.decay"),
        ({"clusters": 3, "config": {"backbone": {"precision": "float8"}}}, "backbone.precision"),
        ({"clusters": 3, "config": {"backbone": {"augment": {"scale": 2.0}}}}, "backbone.augment.scale"),
        ({"clusters": 3, "sound_level": "loud"}, "sound-level"),
        ({"clusters": 3, "sound_level": "1,0"}, "sound-level"),
        ({"clusters": 3, "groups": 6}, "groups"),
        ({"clusters": 3, "video_net": "mvit_v2_s", "frames": 30}, "video_net"),
        ({"clusters": 3, "video_net": "vgg"}, "video_net"),
        ({"clusters": 3, "distribution": "nowhere"}, "distribution"),
        ({"clusters": 3, "learning_rate": float("inf")}, "learning_rate"),
    ],
)
def test_what_does_not_fit_is_named(wanted, option):
    with refused(option=option):
        run_settings(900, **wanted)


def _settings(values, path=()):
    """Yield the path and the value of each setting of nested tables."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _settings(value, (*path, name))
        else:
            yield (*path, name), value


def test_each_setting_of_another_type_is_named():
    for (*tables, name), value in _settings(run_settings(900, clusters=3).to_dict()):
        for wrong in (None, {"x": 1}, 1 if isinstance(value, str) else "text"):
            config = {name: wrong}
            for table in reversed(tables):
                config = {table: config}
            with refused(option=".".join((*tables, name))):
                run_settings(900, config={"clusters": 3} | config)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "x.toml").write_text("a = ")
    with refused(option="config"):
        read_config(str(tmp_path / "x.toml"))
    with refused(option="config"):
        read_config(str(tmp_path / "none.toml"))


def test_one_modality_goes_without_side_heads():
    assert run_settings(900, clusters=7).training.overclustering_heads == 5
    assert run_settings(900, clusters=7, label_by="video").training.overclustering_heads == 0
    assert run_settings(900, clusters=7, overclustering_heads=3).training.overclustering_heads == 3
    with refused(option="label-by"):
        run_settings(900, clusters=7, label_by="video", overclustering_heads=2)
    with refused(option="overclustering-heads"):
        run_settings(40, clusters=7, overclustering_heads=1)


def test_sizes_that_nobody_asked_for_may_be_missed():
    assert run_settings(900, clusters=7).training.sizes.marginal_penalty == 10
    assert run_settings(900, clusters=7, distribution="zipf").training.sizes.marginal_penalty == 0
    assert run_settings(900, clusters=7, distribution="zipf", soft_sizes=3.0).training.sizes.marginal_penalty == 3
    assert run_settings(900, clusters=7, soft_sizes=0.0).training.sizes.marginal_penalty == 0
    assert run_settings(900, clusters=7, preset="published").training.sizes.marginal_penalty == 0


def test_a_given_number_of_labellings_is_not_thinned_out():
    usual = run_settings(1500, preset="small", clusters=10).training
    assert usual.settle_epochs > 0
    assert usual.labelling_stride > 1
    given = run_settings(1500, preset="small", clusters=10, labellings=50).training
    assert (given.labellings, given.labelling_stride) == (50, 1)
