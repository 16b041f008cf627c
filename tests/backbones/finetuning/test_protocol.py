"""The published protocol of fine-tuning: learning rates, clips, test logits and ranks."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from backbones.data import augment  # noqa: E402
from backbones.data.data_source import DataSource  # noqa: E402
from backbones.finetuning.classifier import Classifier  # noqa: E402
from backbones.finetuning.evaluation import Predictions, evaluate  # noqa: E402
from backbones.finetuning.folds import Fold, list_folds, scan_folds  # noqa: E402
from backbones.finetuning.settings import FineTuneSettings, input_settings  # noqa: E402
from backbones.finetuning.training_run import settings_for  # noqa: E402
from backbones.finetuning.video_clips import VideoOnlyClips  # noqa: E402
from backbones.learner.settings import BackboneSettings  # noqa: E402
from selavi_ref.media import read_clip  # noqa: E402
from tests.support.silent_videos import make_folders  # noqa: E402
from tests.support.small_finetuning import make_place  # noqa: E402


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with UCF-101, and a run of small random networks."""
    return make_place(tmp_path_factory.mktemp("protocol"))


def test_the_rates_over_the_epochs_are_those_of_the_published_schedulers():
    """The published program chains two schedulers: a rise to 8 times the rate, then steps at 6 and 10 less 2."""
    settings = a_settings()
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=settings.learning_rate)
    rise, steps, published = [1.0, 4.5, 8.0], None, []
    for epoch in range(12):
        if epoch < 3:
            optimizer.param_groups[0]["lr"] = settings.learning_rate * rise[epoch]
        elif steps is None:  # it takes over an epoch after the rise has ended
            optimizer.param_groups[0]["initial_lr"] = settings.learning_rate * 8
            steps = torch.optim.lr_scheduler.MultiStepLR(optimizer, [6 - 2, 10 - 2], gamma=0.05)
        else:
            optimizer.step()
            steps.step()
        published.append(optimizer.param_groups[0]["lr"])
    assert [settings.learning_rate * settings.factor(epoch) for epoch in range(12)] == pytest.approx(published)
    factors = [settings.factor(epoch) for epoch in range(12)]
    assert factors == pytest.approx([1, 4.5, 8, 8, 8, 8, 8, 0.4, 0.4, 0.4, 0.4, 0.02])
    constant = a_settings(warmup_epochs=0, milestones=())
    assert {constant.factor(epoch) for epoch in range(12)} == {1.0}


def a_settings(backbone=None, **options):
    clips = input_settings(backbone or BackboneSettings())
    return FineTuneSettings(run="/run", videos="/videos", layout="ucf101", folds=(1,), **clips, **options)


def test_the_defaults_are_the_published_protocol():
    settings = a_settings(BackboneSettings.for_networks("r2plus1d_18", "resnet9"))
    assert (settings.clip.frames, settings.clip.fps, settings.clip.size, settings.clip.decode_size) == (
        32,
        30,
        128,
        160,
    )
    assert (settings.augment.scale, settings.augment.jitter, settings.augment.flip) == ((1.0, 1.25), 0.4, 0.5)
    assert (settings.epochs, settings.batch_size, settings.clips_per_video) == (12, 32, 10)
    assert (settings.learning_rate, settings.base_learning_rate, settings.weight_decay, settings.momentum) == (
        0.0025,
        2.5e-4,
        5e-3,
        0.9,
    )
    assert (settings.test_clips, settings.test_crops, settings.optimizer) == (10, 3, "sgd")
    assert FineTuneSettings.from_dict(settings.to_dict()) == settings
    assert FineTuneSettings.from_dict(tomllib.loads(_toml(settings))) == settings


def _toml(settings):
    import tomli_w

    return tomli_w.dumps(settings.to_dict())


@pytest.mark.parametrize(("name", "frames", "size"), [("tiny", 4, 40), ("s3d", 30, 224), ("mvit_v2_s", 16, 224)])
def test_networks_of_other_clips_keep_theirs(name, frames, size):
    clip = input_settings(BackboneSettings.for_networks(name, "tiny"))["clip"]
    assert (clip.frames, clip.size) == (frames, size)


def test_clips_can_be_changed_and_kept_videos_are_large_enough_for_them():
    clips = input_settings(BackboneSettings(), frames=6, fps=8.0, size=64, augment=["none", "flip=0.5", "scale=1,1.5"])
    assert (clips["clip"].frames, clips["clip"].fps, clips["clip"].size, clips["clip"].decode_size) == (6, 8, 64, 96)
    assert (clips["augment"].flip, clips["augment"].rotation, clips["augment"].scale) == (0.5, 0, (1, 1.5))


def test_the_logits_of_a_test_are_the_mean_over_ten_clips_of_three_squares(place):
    settings = settings_for(str(place / "run"), "", layout="ucf101", folds=(1,))
    (fold,) = scan_folds(list_folds(str(place / "UCF-101"), "ucf101"), "test")
    torch.manual_seed(0)
    model = Classifier(settings, 3)
    clip = settings.clip
    answers = {}
    for data_source in (DataSource(0), DataSource(0, memory_gb=1)):
        source = VideoOnlyClips(fold.test, clip, data_source).part(fold.test.paths)
        answers[data_source.memory_gb] = evaluate(model, settings, fold, source)
    free = 10 / 8 - clip.video_seconds
    inputs = []
    for number in range(10):
        start = number / 10 * free  # as published
        side = clip.decode_size  # of which a varied clip shows a part, and a test all
        read = read_clip(
            fold.test.paths[4], start, fps=clip.fps, frames=clip.frames, size=side, sample_rate=8000, want_audio=False
        )
        wide = read.frames.shape[2] - side
        inputs += [read.frames[:, :, left : left + side] for left in (0, round(wide / 2), wide)]
    with torch.no_grad():
        clips = augment.video_input(torch.from_numpy(np.stack(inputs)), clip, None, None)
        wanted = model.eval()(clips).mean(0).numpy()
    assert np.allclose(answers[0.0].logits[4], wanted, atol=1e-5)
    assert np.allclose(answers[0.0].logits, answers[1].logits, atol=0.05)  # kept videos begin on a kept frame
    assert answers[0.0].n_failed == 0


def test_every_video_counts_and_equal_logits_go_to_the_first_class():
    logits = np.array([[3, 1, 2, 0, -1, -2], [0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6], [np.nan] * 6], np.float32)
    answers = Predictions(logits, np.array([0, 2, 0, 0]), ["", "", "", "damaged"])
    assert answers.ranks.tolist() == [0, 2, 5, 6]
    assert (answers.top_1, answers.top_5, answers.n_failed) == (0.25, 0.5, 1)
    few = Predictions(logits[:, :3], np.array([0, 2, 0, 0]), ["", "", "", "damaged"])
    assert few.top_5 == 0.75


def test_a_fold_is_read_as_it_was_written(place, tmp_path):
    make_folders(place / "again", 1)
    (place / "again" / "train" / "Plain" / "x.avi").write_bytes(b"no video")
    (fold,) = scan_folds(list_folds(str(place / "again")), "test")
    fold.write(tmp_path / "videos.csv")
    again = Fold.read(1, tmp_path / "videos.csv")
    for part in ("train", "test", "skipped"):
        assert getattr(again, part).entries == getattr(fold, part).entries
    assert (len(again.train), len(again.test), len(again.skipped)) == (3, 3, 1)
    assert again.train_labels.tolist() == again.test_labels.tolist() == [0, 1, 2]
