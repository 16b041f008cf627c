"""The program as a user meets it, with real video files: training, labelling, scanning and evaluation."""

import csv
import json
import shutil
import signal
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

from selavi_ref.datasets import make_collection
from selavi_ref.store import FeatureStore
from tests.support.command_line import refused, rows_of, selavi, start_process
from tests.support.media_files import tone, write_video

# The program, with a video removed after the scan.
VANISH = (
    "import sys, os, backbones.runs.train as jobs; start = jobs.start;"
    "jobs.start = lambda *a: (start(*a), os.unlink('videos/ball/ball_0000.mp4'))[0];"
    "sys.argv = ['selavi', *sys.argv[1:]]; import cli; cli.main()"
)
SHORT = ["--clusters", "3", "--epochs", "3", "--labellings", "3", "--heads", "2", "--workers", "1"]
SHORT += ["--bn-warmup-batches", "3"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small collection and a run on it."""
    folder = tmp_path_factory.mktemp("place")
    make_collection(folder / "videos", 32, seed=1)
    done = selavi("train", "videos", *SHORT, "--out", "run", cwd=folder)
    assert done.exit_code == 0, done.stderr
    (folder / "train.out").write_text(done.stdout + done.stderr)
    return folder


def test_training_labels_every_video_and_notes_the_use_of_classes(place):
    rows = rows_of(place / "run" / "labels.csv")
    assert len(rows) == 32
    assert {row["label"] for row in rows} <= {"0", "1", "2"}
    assert {row["modalities"] for row in rows} == {"video+audio"}
    out = (place / "train.out").read_text()
    assert "reporting only" in out
    assert "NMI" in out
    assert (place / "run" / "clusters.png").stat().st_size > 1000
    records = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records if "epoch" in record] == [1, 2, 3]
    assert not (place / "run" / "working.h5").exists()
    with FeatureStore(place / "run" / "features.h5") as store:
        assert store.get("labels").shape == (32, 2)
        assert store.provenance["settings"]["clusters"] == 3


def test_the_end_of_a_training_can_be_read_by_programs(place, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    before = rows_of(tmp_path / "run" / "labels.csv")
    done = selavi("train", "--resume", "--out", tmp_path / "run", "--json", cwd=place)
    assert done.exit_code == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["videos"], summary["labelled"]) == (32, 32)
    assert all({"sentence"} < doubt.keys() for doubt in summary["doubts"].values())
    assert rows_of(tmp_path / "run" / "labels.csv") == before


def test_unseen_videos_are_labelled_in_one_go_or_by_a_store_alike(place):
    make_collection(place / "new", 8, seed=2)
    done = selavi("label", "run", "new", "--clips", "3", "--out", "one.csv", cwd=place)
    assert done.exit_code == 0, done.stderr
    assert "clips disagree" in done.stdout
    assert selavi("extract", "run", "new", "--clips", "3", "--out", "f.h5", cwd=place).exit_code == 0
    assert selavi("label", "f.h5", "--out", "two.csv", cwd=place).exit_code == 0
    assert rows_of(place / "one.csv") == rows_of(place / "two.csv")
    assert not list(place.glob("one.csv.*"))
    for options in (["--head", "best"], ["--head", "1"], ["--balanced"]):
        assert selavi("label", "f.h5", *options, "--out", "three.csv", cwd=place).exit_code == 0


def test_labels_are_the_same_whichever_way_the_clips_are_read(place):
    """In training the videos are kept in memory; a later look streams them from their files."""
    assert selavi("label", "run", "run/videos.csv", "--out", "again.csv", cwd=place).exit_code == 0
    first, again = rows_of(place / "run" / "labels.csv"), rows_of(place / "again.csv")
    assert [row["label"] for row in first] == [row["label"] for row in again]
    confidence = [[float(row["confidence"]) for row in rows] for rows in (first, again)]
    assert np.allclose(*confidence, atol=2e-3)


def test_evaluation_by_folders_and_by_a_table_of_truths(place):
    done = selavi("evaluate", "run/labels.csv", cwd=place)
    assert done.exit_code == 0
    assert "adjusted MI" in done.stdout
    data = json.loads(selavi("evaluate", "run/labels.csv", "--format", "json", cwd=place).stdout)
    scores = data["rows"][0]
    rows = rows_of(place / "run" / "labels.csv")
    with open(place / "truth.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "class"])
        writer.writerows([[row["path"], f"c{row['label']}"] for row in rows])
    by_truth = selavi("evaluate", "run/labels.csv", "--truth", "truth.csv", "--format", "json", cwd=place).stdout
    perfect = json.loads(by_truth)["rows"][0]
    assert perfect["nmi"] == pytest.approx(1)
    assert perfect["accuracy"] == 1
    assert data["videos"] == 32
    assert 0 <= scores["nmi"] <= 1


def test_every_given_video_has_a_row_and_a_reason_if_it_has_no_label(place):
    odd = place / "odd"
    shutil.copytree(place / "videos" / "ball", odd, dirs_exist_ok=True)
    good = sorted(odd.iterdir())
    (odd / "text.mp4").write_text("this is no video")
    (odd / "empty.mp4").write_bytes(b"")
    (odd / "cut.mp4").write_bytes(good[0].read_bytes()[:700])
    done = selavi("label", "run", "odd", "--out", "odd.csv", cwd=place)
    assert done.exit_code == 0, done.stderr
    rows = {Path(row["path"]).name: row for row in rows_of(place / "odd.csv")}
    assert len(rows) == len(good) + 3
    for name in ("text.mp4", "empty.mp4", "cut.mp4"):
        assert rows[name]["label"] == ""
        assert rows[name]["reason"]
    assert all(rows[video.name]["label"] for video in good)


def test_training_skips_what_it_cannot_use_and_lists_it(place, tmp_path):
    shutil.copytree(place / "videos", tmp_path / "videos")
    (tmp_path / "videos" / "text.mp4").write_text("this is no video")
    write_video(tmp_path / "videos" / "silent.mp4")
    write_video(tmp_path / "videos" / "short.mp4", n_frames=18, sound=tone(0.6, 440))
    done = selavi("train", "videos", *SHORT[:2], "--epochs", "1", "--heads", "1", "--out", "run", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "33 videos to learn from, 2 skipped" in done.stderr
    reasons = {Path(row["path"]).name: row["skipped"] for row in rows_of(tmp_path / "run" / "skipped.csv")}
    assert "silent.mp4" not in reasons  # it is learnt by its picture
    assert "shorter than 1.1 s" in reasons["short.mp4"]
    assert "not a video" in reasons["text.mp4"]
    labels = {Path(row["path"]).name: row for row in rows_of(tmp_path / "run" / "labels.csv")}
    assert len(labels) == 35
    assert labels["silent.mp4"]["modalities"] == "video"
    assert labels["short.mp4"]["label"]
    assert labels["text.mp4"]["reason"]


@pytest.mark.processes
def test_an_interrupted_run_is_resumed_to_the_same_labels(place):
    running = start_process("train", "videos", *SHORT, "--out", "stopped", cwd=place)
    deadline = time.monotonic() + 120
    while not list((place / "stopped").glob("checkpoints/*.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=120)
    if running.returncode == 0:
        pytest.skip("the run was over before the signal came")
    assert running.returncode == 130
    assert "selavi train --resume --out stopped" in err
    assert "Traceback" not in err
    done = selavi("train", "--resume", "--out", "stopped", cwd=place)
    assert done.exit_code == 0, done.stderr
    first, second = rows_of(place / "run" / "labels.csv"), rows_of(place / "stopped" / "labels.csv")
    assert first == second


@pytest.mark.processes
def test_sizes_can_be_given_in_a_file(place):
    (place / "two.txt").write_text("3 1\n")
    options = ["--clusters", "2", "--epochs", "1", "--labellings", "2", "--heads", "1", "--distribution", "two.txt"]
    done = selavi("train", "videos", *options, "--out", "sized", cwd=place)
    assert done.exit_code == 0, done.stderr
    config = tomllib.loads((place / "sized" / "config.toml").read_text())
    assert config["training"]["sizes"]["given"] == [0.75, 0.25]
    assert config["training"]["overclustering_heads"] > 0
    (place / "two.txt").unlink()
    assert selavi("train", "--resume", "--out", "sized", cwd=place).exit_code == 0


def test_resuming_a_finished_run_changes_nothing(place):
    shutil.copytree(place / "run", place / "done")
    names = [
        "features.h5",
        "labels.csv",
        *(f"checkpoints/{p.name}" for p in (place / "done" / "checkpoints").iterdir()),
    ]
    before = {name: (place / "done" / name).read_bytes() for name in names}
    assert selavi("train", "--resume", "--out", "done", cwd=place).exit_code == 0
    assert before == {name: (place / "done" / name).read_bytes() for name in before}


@pytest.mark.processes
def test_streamed_videos_are_learnt_from_and_those_that_vanish_are_reported(place, tmp_path):
    shutil.copytree(place / "videos", tmp_path / "videos")
    options = [*SHORT[:2], "--epochs", "2", "--labellings", "2", "--heads", "1", "--memory", "0", "--workers", "2"]
    running = start_process("train", "videos", *options, "--out", "run", cwd=tmp_path, code=VANISH)
    _, err = running.communicate(timeout=240)
    assert running.returncode == 0, err
    assert "1 video could not always be decoded" in err
    assert "ball_0000.mp4" in (tmp_path / "run" / "not_decoded.txt").read_text()
    rows = {Path(row["path"]).name: row for row in rows_of(tmp_path / "run" / "labels.csv")}
    assert len(rows) == 32
    assert rows["ball_0000.mp4"]["reason"]


def test_a_collection_is_scanned_once_and_learnt_from_by_its_list(place, tmp_path):
    shutil.copytree(place / "videos", tmp_path / "videos")
    (tmp_path / "videos" / "text.mp4").write_text("this is no video")
    write_video(tmp_path / "videos" / "silent.mp4")
    done = selavi("scan", "videos", "--out", "list.csv", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "33 of 34 videos can be used" in done.stdout
    assert "1  with a picture only" in done.stdout
    again = selavi("scan", "videos", "--out", "list.csv", "--require", "both", cwd=tmp_path)
    assert "32 of 34" in again.stdout
    assert "1  no sound" in again.stdout
    rows = {Path(row["path"]).name: row for row in rows_of(tmp_path / "list.csv")}
    ball = rows["ball_0000.mp4"]
    assert (ball["class"], ball["fps"], ball["width"], ball["sample_rate"]) == ("ball", "12.5", "64", "24000")
    done = selavi("train", "list.csv", *SHORT[:2], "--epochs", "1", "--heads", "1", "--out", "run", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "33 videos to learn from, 1 skipped" in done.stderr


def test_a_published_collection_is_scanned_by_its_lists(tmp_path):
    folder = tmp_path / "ucf"
    (folder / "Archery").mkdir(parents=True)
    write_video(folder / "Archery" / "v_Archery_g01_c01.avi", n_frames=10, codec="mpeg4")
    (folder / "trainlist01.txt").write_text("Archery/v_Archery_g01_c01.avi 1\nArchery/v_Archery_g02_c01.avi 1\n")
    (folder / "testlist01.txt").write_text("")
    done = selavi("scan", "ucf", "--layout", "ucf101", "--split", "train", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "1 of 2 videos can be used" in done.stdout
    assert [(row["class"], row["split"], row["skipped"]) for row in rows_of(tmp_path / "manifest.csv")] == [
        ("Archery", "train", ""),
        ("Archery", "train", "not in the folder"),
    ]


@pytest.mark.processes
def test_a_cache_gives_the_labels_that_memory_gives(place, tmp_path):
    options = [*SHORT, "--cache", tmp_path / "cache", "--cache-format", "raw"]
    done = selavi("train", "videos", *options, "--out", tmp_path / "run", cwd=place)
    assert done.exit_code == 0, done.stderr
    first, second = rows_of(place / "run" / "labels.csv"), rows_of(tmp_path / "run" / "labels.csv")
    columns = [name for name in first[0] if name != "path"]
    assert [[row[name] for name in columns] for row in first] == [[row[name] for name in columns] for row in second]
    assert list((tmp_path / "cache").rglob("*.h5"))


@pytest.mark.processes
def test_clips_and_augmentation_can_be_set(place, tmp_path):
    changed = [
        "--frames",
        "3",
        "--stride",
        "2",
        "--clips-per-video",
        "2",
        "--sound-seconds",
        "0.5",
        "--mel-bands",
        "32",
    ]
    augment = ["--augment", "published", "--augment", "blur=0.5", "--augment", "time_shift=0.2"]
    options = [*SHORT[:2], "--epochs", "1", "--labellings", "2", "--heads", "1", "--memory", "0", "--workers", "1"]
    done = selavi("train", "videos", *options, *changed, *augment, "--out", tmp_path / "run", cwd=place)
    assert done.exit_code == 0, done.stderr
    config = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    clip, change = config["backbone"]["clip"], config["backbone"]["augment"]
    assert (clip["frames"], clip["fps"], clip["audio_seconds"], clip["n_filters"]) == (3, 2.0, 0.5, 32)
    assert (change["blur"], change["time_shift"], change["rotation"], change["flip"]) == (0.5, 0.2, 0.0, 0.5)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 2  # 64 clips of 32 videos, 32 at a time
    refused(selavi("train", "videos", *options, "--augment", "flop=1", "--out", "r9", cwd=place), "flop=1", "names are")
    assert not (place / "r9").exists()


def test_labels_of_degraded_videos(place):
    done = selavi(
        "label", "run", "videos", "--shrink", "64", "--noise", "-40", "--crops", "3", "--out", "bad.csv", cwd=place
    )
    assert done.exit_code == 0, done.stderr
    good, bad = rows_of(place / "run" / "labels.csv"), rows_of(place / "bad.csv")
    assert len(bad) == len(good)
    assert [row["confidence"] for row in bad] != [row["confidence"] for row in good]
    assert selavi("extract", "run", "videos", "--attenuate", "30", "--out", "quiet.h5", cwd=place).exit_code == 0
    with FeatureStore(place / "quiet.h5") as store:
        assert store.provenance["degradation"] == {"shrink": 1, "attenuate": 30}
    refused(selavi("label", "quiet.h5", "--shrink", "2", cwd=place), "--shrink", "RUN VIDEOS")
