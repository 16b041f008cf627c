"""Fine-tuning as a user meets it: small collections in the forms of the published ones, real files and processes."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import cli
from tests.support.silent_videos import CLASSES, make_folders, make_hmdb51, make_ucf101, write_silent

torch = pytest.importorskip("torch")

from backbones.data import augment  # noqa: E402
from backbones.data.data_source import DataSource  # noqa: E402
from backbones.finetuning.classifier import Classifier  # noqa: E402
from backbones.finetuning.evaluation import Predictions, evaluate  # noqa: E402
from backbones.finetuning.folds import Fold, list_folds, scan_folds  # noqa: E402
from backbones.finetuning.settings import FineTuneSettings, input_settings  # noqa: E402
from backbones.finetuning.training_run import settings_for, start  # noqa: E402
from backbones.finetuning.video_clips import VideoOnlyClips  # noqa: E402
from backbones.learner.checkpoint import read_checkpoint, read_newest  # noqa: E402
from backbones.learner.settings import BackboneSettings  # noqa: E402
from backbones.networks import registry  # noqa: E402
from backbones.runs.convert import import_published  # noqa: E402
from selavi_ref.media import read_clip  # noqa: E402
from selavi_ref.runs.checkpoints import Checkpoints  # noqa: E402
from selavi_ref.runs.run import Run  # noqa: E402
from tests.support.original_model import checkpoint, learnt_model  # noqa: E402

ROOT = Path(__file__).parents[3]
SHORT = [
    *["--epochs", "2", "--clips", "10", "--batch-size", "12", "--warmup-epochs", "0", "--milestones", "1"],
    *[
        "--gamma",
        "0.2",
        "--learning-rate",
        "0.05",
        "--base-learning-rate",
        "0.05",
        "--test-clips",
        "3",
        "--dropout",
        "0.2",
    ],
    *["--workers", "0"],
]
UCF = ["run", "UCF-101", "--layout", "ucf101", *SHORT]
PROGRAM = "import cli; cli.main()"
SMALL_CLIP = {"sample_rate": 16_000, "n_filters": 64}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with UCF-101, and a run of small random networks."""
    place = tmp_path_factory.mktemp("finetuning")
    make_ucf101(place)
    torch.manual_seed(0)
    torch.save(checkpoint(learnt_model(4, 2, video="tiny", audio="tiny", hidden=256)), place / "published.pth")
    import_published(place / "published.pth", place / "run", clip=SMALL_CLIP)
    return place


@pytest.fixture(scope="module")
def whole(place):
    """The three folds, carried out at one go."""
    done = selavi(place, *UCF, "--out", "whole")
    assert done.exit_code == 0, done.output
    return done


def selavi(place, *arguments):
    with contextlib.chdir(place):
        return CliRunner().invoke(cli.main, ["finetune", *map(str, arguments)], prog_name="selavi")


def process(place, *arguments):
    """Start the program as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, "finetune", *arguments]
    return subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True)


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def weights(folder, fold=1):
    return read_checkpoint(Checkpoints(folder / f"fold{fold}" / "checkpoints").newest_first()[0])["model"]


def everything(folder):
    """What must be equal, bit for bit, however a fine-tuning came to its end."""
    names = ["results.txt", "results.csv", "results.json", "metrics.jsonl", "accuracy.svg"]
    names += [f"fold{fold}/{name}" for fold in (1, 2, 3) for name in ("predictions.csv", "outcome.json")]
    return {name: (folder / name).read_bytes() for name in names}


def test_three_folds_are_learnt_above_chance_and_leave_tables_figure_and_answers(place, whole):
    rows = rows_of(place / "whole" / "results.csv")
    assert [row["fold"] for row in rows] == ["1", "2", "3", "mean"]
    assert [(row["train_videos"], row["test_videos"]) for row in rows[:3]] == [("12", "6")] * 3
    top_1 = [float(row["top_1"]) for row in rows]
    assert top_1[3] == pytest.approx(np.mean(top_1[:3]))
    assert top_1[3] > 0.6
    assert {row["top_5"] for row in rows} == {"1.0"}
    facts = json.loads((place / "whole" / "results.json").read_text())
    for row, fold in zip(rows, facts["folds"], strict=False):
        tested = [record["top_1"] for record in fold["epochs"]]
        assert float(row["top_1"]) == tested[-1]
        assert float(row["best_top_1"]) == max(tested)
        answers = rows_of(place / "whole" / f"fold{row['fold']}" / "predictions.csv")
        assert np.mean([answer["class"] == answer["predicted"] for answer in answers]) == tested[-1]
        assert np.mean([answer["rank"] == "1" for answer in answers]) == tested[-1]
    assert "chosen on the test set" in whole.stdout
    assert "mean" in (place / "whole" / "results.txt").read_text()
    for figure in ("accuracy.png", "accuracy.svg"):
        assert (place / "whole" / figure).stat().st_size > 5000
    records = [json.loads(line) for line in (place / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [(r["fold"], r["epoch"]) for r in records] == [(fold, epoch) for fold in (1, 2, 3) for epoch in (1, 2)]
    assert [r["rate"] for r in records[:2]] == [0.05, pytest.approx(0.01)]
    config = tomllib.loads((place / "whole" / "config.toml").read_text())
    assert config["kind"] == "finetune"
    assert (config["clips_per_video"], config["dropout"], config["folds"]) == (10, 0.2, [1, 2, 3])


def test_each_video_is_tested_in_the_fold_that_its_list_says(place, whole):
    for fold in (1, 2, 3):
        tested = {Path(row["path"]).name for row in rows_of(place / "whole" / f"fold{fold}" / "predictions.csv")}
        groups = [group for group in range(1, 7) if group % 3 == fold - 1]
        assert tested == {f"v_{kind}_g{group:02d}_c01.avi" for kind in CLASSES for group in groups}


def test_finished_folds_are_not_repeated_and_other_settings_are_refused(place, whole):
    before = {path: path.stat().st_mtime_ns for path in (place / "whole").glob("fold*/**/*")}
    for arguments in ([*UCF, "--out", "whole"], ["--resume", "--out", "whole"]):
        done = selavi(place, *arguments)
        assert done.exit_code == 0, done.output
        assert done.stdout == whole.stdout
    assert {path: path.stat().st_mtime_ns for path in (place / "whole").glob("fold*/**/*")} == before
    done = selavi(place, *UCF, "--learning-rate", "0.2", "--clips", "3", "--out", "whole")
    refused(done, "started with another --clips, --learning-rate")
    refused(selavi(place, "--resume", "--epochs", "3", "--out", "whole"), "--epochs cannot be changed with --resume")


STOPS = [  # a signal in each fold: exit status, and what is said
    (signal.SIGTERM, 75, "stopped by a signal; continue with: selavi finetune --resume --out stopped"),
    (signal.SIGINT, 130, "stopped; continue with: selavi finetune --resume --out stopped"),
    (signal.SIGKILL, -9, ""),
]


@pytest.mark.processes
def test_stopped_within_each_fold_it_ends_with_the_same_results_bit_for_bit(place, whole):
    for fold, (number, status, says) in enumerate(STOPS, 1):
        running = process(place, *UCF, "--checkpoint-minutes", "1e-9", "--out", "stopped")  # it saves after each step
        saved = Checkpoints(place / "stopped" / f"fold{fold}" / "checkpoints")
        while not (steps := [int(path.stem.split("-")[2]) for path in saved.newest_first()]) or max(steps) < 3:
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.005)
        running.send_signal(number)
        err = running.communicate(timeout=60)[1]
        assert running.returncode == status, err
        assert says in err
        assert "Traceback" not in err
        assert not (place / "stopped" / f"fold{fold}" / "outcome.json").exists()
    done = selavi(place, "--resume", "--out", "stopped")
    assert done.exit_code == 0, done.output
    assert everything(place / "stopped") == everything(place / "whole")
    for fold in (1, 2, 3):
        first, again = weights(place / "whole", fold), weights(place / "stopped", fold)
        assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(place, whole):
    shutil.copytree(place / "whole", place / "broken")
    (place / "broken" / "fold3" / "outcome.json").unlink()
    newest = Checkpoints(place / "broken" / "fold3" / "checkpoints").newest_first()[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 255
    newest.write_bytes(content)
    done = selavi(place, "--resume", "--workers", "0", "--out", "broken")
    assert done.exit_code == 0, done.output
    assert "is damaged; using the checkpoint before it" in done.stderr
    assert everything(place / "broken") == everything(place / "whole")


def test_a_linear_probe_leaves_the_network_as_it_was_bit_for_bit(place):
    options = ["--linear-probe", "--norm", "batch", "--optimizer", "adam", "--fold", "2", "--epochs", "1"]
    arguments = [
        *UCF[:4],
        "--clips",
        "4",
        "--test-clips",
        "1",
        "--test-crops",
        "1",
        "--learning-rate",
        "0.1",
        "--workers",
        "0",
    ]
    done = selavi(place, *arguments, *options, "--out", "probe")
    assert done.exit_code == 0, done.output
    begun = {name: v for name, v in read_newest(Run(place / "run"))["model"].items() if name.startswith("video_net")}
    learnt = weights(place / "probe", 2)
    for name, value in begun.items():
        assert torch.equal(value, learnt[name.replace("video_network", "base")])
    assert len([name for name in learnt if name.startswith("base.")]) == len(begun)
    assert learnt["norm.num_batches_tracked"] > 0
    assert "base_rate" not in (place / "probe" / "metrics.jsonl").read_text()


def test_fine_tuning_changes_the_network_and_from_scratch_it_begins_with_others(place, whole):
    done = selavi(place, *UCF, "--fold", "1", "--epochs", "1", "--from-scratch", "--out", "scratch")
    assert done.exit_code == 0, done.output
    assert "random weights" in done.stdout
    assert not (place / "scratch" / "begin.pt").exists()
    name = "base.base.0.weight"
    begun = read_checkpoint(place / "whole" / "begin.pt")["model"][name.removeprefix("base.")]
    for folder, near in (("whole", True), ("scratch", False)):
        learnt = weights(place / folder)[name]
        assert not torch.equal(learnt, begun)
        assert (torch.cosine_similarity(learnt.flatten(), begun.flatten(), 0) > 0.7) == near


def test_it_begins_with_a_file_of_weights(place):
    torch.manual_seed(5)
    weights = registry.find("video", "tiny").build().state_dict()
    torch.save({**weights, "fc.weight": torch.zeros(4, 192)}, place / "supervised.pth")
    options = ["--fold", "1", "--epochs", "1", "--video-weights", "supervised.pth"]
    done = selavi(place, *UCF, *options, "--out", "supervised")
    assert done.exit_code == 0, done.output
    assert "supervised.pth" in done.stdout
    begun = read_checkpoint(place / "supervised" / "begin.pt")["model"]
    assert all(torch.equal(begun[f"base.{name}"], value) for name, value in weights.items())
    refused(selavi(place, *UCF, *options, "--from-scratch", "--out", "both"), "--from-scratch")
    wrong = selavi(place, *UCF, "--video-weights", "published.pth", "--out", "wrong")
    refused(wrong, "does not fit the video network tiny")


def test_hmdb51_is_learnt_with_its_own_lists_and_tested_once_at_the_end(place):
    make_hmdb51(place)
    options = ["--layout", "hmdb51", "--fold", "1", "--last-only", "--norm", "l2", "--optimizer", "adam"]
    done = selavi(
        place,
        "run",
        "HMDB-51",
        *SHORT,
        *options,
        "--learning-rate",
        "0.01",
        "--base-learning-rate",
        "0.001",
        "--out",
        "hmdb",
    )
    assert done.exit_code == 0, done.output
    assert "fold 1: 6 videos to learn from, 6 to test, 3 classes" in done.stderr
    assert "best" not in done.stdout
    records = [json.loads(line) for line in (place / "hmdb" / "metrics.jsonl").read_text().splitlines()]
    assert ["top_1" in record for record in records] == [False, True]
    assert len(rows_of(place / "hmdb" / "results.csv")) == 1


def test_a_folder_of_parts_and_a_list_of_them_are_learnt_alike(place):
    make_folders(place / "parts")
    entries = sorted((place / "parts").glob("*/*/*.avi"))
    lines = [f"{path.relative_to(place)},{path.parent.name},{path.parent.parent.name}\n" for path in entries]
    (place / "parts.csv").write_text("path,class,split\n" + "".join(lines))
    for videos, out in (("parts", "folders"), ("parts.csv", "list")):
        done = selavi(place, "run", videos, *SHORT, "--epochs", "1", "--out", out)
        assert done.exit_code == 0, done.output
    answers = [rows_of(place / out / "fold1" / "predictions.csv") for out in ("folders", "list")]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 6


def test_damaged_videos_are_replaced_in_training_and_wrong_in_the_test_and_named(place):
    root = make_folders(place / "damaged")
    (root / "train" / "Plain" / "1.avi").write_bytes(b"no video")
    (root / "test" / "Down" / "1.avi").write_bytes(b"no video")
    (fold,) = scan_folds(list_folds(str(root)), "test")
    assert (len(fold.train), len(fold.skipped), len(fold.test)) == (5, 1, 6)
    settings = settings_for(str(place / "run"), str(root), layout="", folds=(1,), epochs=1, clips_per_video=3)
    start(place / "named", settings, [fold])
    for name in ("train/Across/1.avi", "test/Across/1.avi"):  # damaged after they were scanned
        (root / name).write_bytes(b"no video any more")
    done = selavi(place, "--resume", "--memory", "0", "--workers", "0", "--out", "named")
    assert done.exit_code == 0, done.output
    assert "some videos could not always be decoded" in done.stderr
    lines = (place / "named" / "fold1" / "not_decoded.txt").read_text().splitlines()
    assert len(lines) == 1
    assert "train/Across/1.avi" in lines[0]
    (row,) = rows_of(place / "named" / "results.csv")
    assert row["not_decoded"] == "2"
    answers = {Path(a["path"]).relative_to(root).as_posix(): a for a in rows_of(place / "named/fold1/predictions.csv")}
    wrong = [name for name, answer in answers.items() if answer["reason"]]
    assert wrong == ["test/Across/1.avi", "test/Down/1.avi"]
    assert not any(answers[name]["predicted"] or answers[name]["rank"] for name in wrong)
    assert float(row["top_1"]) == np.mean([answer["predicted"] == answer["class"] for answer in answers.values()])
    assert "counted as wrong: fold 1: " in done.stdout


def refused(done, *words):
    """One clear line, exit status 2, no traceback."""
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    last = done.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in last
    assert "Usage:" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([*UCF, "--fold", "4"], "ucf101 has no fold 4; expected 1 to 3"),
        ([*UCF, "--fold", "one"], "--fold one: whole numbers"),
        ([*UCF, "--milestones", "soon"], "--milestones soon: whole numbers"),
        ([*UCF, "--test-split", "val"], "--test-split goes without --layout"),
        ([*UCF, "--linear-probe"], "--base-learning-rate goes without --linear-probe"),
        ([*UCF, "--augment", "spin=1"], "--augment spin=1: write name=value"),
        (["heads", *UCF[1:]], "heads has learnt from features"),
        (["nowhere", *UCF[1:]], "nowhere is not a folder"),
        (["run", "nowhere", *SHORT], "nowhere does not exist"),
        (["run", "UCF-101", *SHORT], "UCF-101 has no video of the split train: it names no splits"),
        (["run", "parts", *SHORT, "--fold", "1"], "--fold goes with --layout"),
        (["run", "one.csv", *SHORT], "one.csv has no video of the split test: its splits are train"),
        (["run", "other.csv", *SHORT], "the class Down is tested, but has no usable video in the split train"),
        (["run", "same.csv", *SHORT], "learning needs two classes"),
        (["run", "lost.csv", *SHORT], "none of the 1 videos of the split test can be used"),
        (["run"], "name a run and the videos"),
        (["--resume"], "is not a folder"),
    ],
)
def test_what_cannot_be_is_one_line(place, arguments, why, tmp_path):
    write_silent(place / "few" / "a.avi", "Across", 0)
    (place / "heads").mkdir(exist_ok=True)
    (place / "heads" / "config.toml").write_text('kind = "heads"\n')
    for name, lines in {
        "one": "few/a.avi,Across,train\n",
        "other": "few/a.avi,Across,train\nUCF-101/Plain/v_Plain_g01_c01.avi,Plain,train\n"
        "UCF-101/Down/v_Down_g01_c01.avi,Down,test\n",
        "same": "few/a.avi,Across,train\nUCF-101/Across/v_Across_g01_c01.avi,Across,test\n",
        "lost": "few/a.avi,Across,train\nfew/b.avi,Across,test\n",
    }.items():
        (place / f"{name}.csv").write_text("path,class,split\n" + lines)
    refused(selavi(place, *arguments, "--out", tmp_path / "new"), why)
    assert not (tmp_path / "new").exists()


def test_several_processes_are_refused(place, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(selavi(place, *UCF, "--out", "several"), "one process, not torchrun")


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


def test_the_command_loads_no_pytorch_for_its_help():
    code = (
        "import click, sys; from click.testing import CliRunner; from backbones.commands.finetune import finetune\n"
        "done = CliRunner().invoke(finetune, ['--help'], prog_name='selavi finetune')\n"
        "assert not done.exit_code and 'selavi finetune RUN UCF-101' in done.output.partition('Examples')[2]\n"
        "assert not {'torch', 'numba', 'numpy', 'h5py', 'av'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
