"""Collections of silent videos, of sounds, of pictures, and mixtures: every file of the folder gets its row."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from selavi_ref import Run
from selavi_ref.store import FeatureStore
from tests.support.command_line import refused, rows_of, selavi, succeeded
from tests.support.media_files import tone, write_video
from tests.support.refusal import refused as raises_refusal
from tests.support.silent_videos import CLASSES, pictures_of, write_silent
from tests.support.small_runs import QUICK

QUICK_OPTIONS = ["--config", "quick.toml", "--epochs", "2", "--clusters", "2", "--workers", "0"]


@pytest.fixture
def place(tmp_path: Path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    (tmp_path / "quick.toml").write_text(QUICK)
    yield tmp_path
    torch.set_num_threads(threads)


def write_sound(path: Path, hertz: float) -> None:
    codec = {".wav": "pcm_s16le", ".flac": "flac", ".mp3": "libmp3lame", ".m4a": "aac", ".ogg": "libopus"}[path.suffix]
    try:
        write_video(path, n_frames=0, sound=tone(1.5, hertz), audio_codec=codec)
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this PyAV cannot write {codec}")


def with_sound(path: Path, kind: str, number: int) -> None:
    pictures = pictures_of(kind, number)
    write_video(path, fps=8, n_frames=10, pictures=pictures, codec="mpeg4", sound=tone(1.25, 300 + 50 * number))


def labels_of(run: Path) -> dict[str, dict[str, str]]:
    return {Path(row["path"]).name: row for row in rows_of(run / "labels.csv")}


def modalities_of(run: Path) -> str:
    return tomllib.loads((run / "config.toml").read_text())["backbone"]["modalities"]


@pytest.mark.parametrize(("files", "new"), [([], 2), (["--files", "sounds"], 1)])
def test_an_update_takes_the_types_of_files_that_the_run_has(place: Path, files: list[str], new: int) -> None:
    (place / "mixed").mkdir()
    for number in range(4):
        write_sound(place / "mixed" / f"{number}.wav", 300 + 50 * number)
        with_sound(place / "mixed" / f"{number}.mp4", CLASSES[number % 3], number)
    train = ["train", "mixed", "--files", "videos,sounds", *QUICK_OPTIONS]
    succeeded(selavi(*train, "--out", "run", cwd=place))
    write_sound(place / "mixed" / "new.wav", 700)
    with_sound(place / "mixed" / "new.mp4", CLASSES[0], 5)
    (place / "mixed" / "poster.jpg").write_bytes(b"left out")
    dry = succeeded(selavi("update", "run", "mixed", *files, "--workers", "0", "--dry-run", cwd=place))
    assert "new              " + str(new) in dry
    assert " ".join(["selavi update run mixed", *files]) in dry
    succeeded(selavi("update", "run", "mixed", *files, "--workers", "0", cwd=place))
    assert len(labels_of(place / "run")) == 8 + new
    succeeded(selavi("update", "run", place / "mixed" / "new.mp4", "--workers", "0", cwd=place))
    assert labels_of(place / "run")["new.mp4"]["label"]


def test_a_mixture_is_learnt_with_what_each_file_has(place: Path) -> None:
    videos = place / "videos"
    videos.mkdir()
    for number in range(6):
        with_sound(videos / f"both{number}.mp4", CLASSES[number % 3], number)
        write_silent(videos / f"silent{number}.mp4", CLASSES[number % 3], number)
    write_video(videos / "short.mp4", fps=8, n_frames=4, codec="mpeg4")
    (videos / "broken.mp4").write_bytes(b"no video")
    (videos / "poster.jpg").write_bytes(b"left out")
    done = selavi("train", "videos", *QUICK_OPTIONS, "--out", "run", cwd=place)
    succeeded(done)
    assert "6 have a picture only" in done.stderr
    assert "1 .jpg" in done.stderr
    assert modalities_of(place / "run") == "video+audio"
    labels = labels_of(place / "run")
    assert len(labels) == 14
    for name, row in labels.items():
        assert row["modalities"] == ("video+audio" if name[0] == "b" and name != "broken.mp4" else row["modalities"])
        assert (row["label"] == "") == (name == "broken.mp4")
        assert (row["reason"] != "") == (name == "broken.mp4")
    assert {labels[name]["modalities"] for name in labels if name[0] == "s"} == {"video"}
    learnt = {Path(row["path"]).name for row in rows_of(place / "run" / "videos.csv")}
    assert learnt == set(labels) - {"short.mp4", "broken.mp4"}
    with FeatureStore(place / "run" / "features.h5") as store:
        assert np.isnan(store.features("audio")[~store.present("audio")]).all()
        assert store.get("labels")[-2:].tolist() == [[-1, -1], [-1, -1]]


def test_silent_videos_are_learnt_by_their_picture_alone(place: Path) -> None:
    (place / "videos").mkdir()
    for number in range(8):
        write_silent(place / "videos" / f"{number}.mp4", CLASSES[number % 3], number)
    done = selavi("train", "videos", *QUICK_OPTIONS, "--out", "run", cwd=place)
    succeeded(done)
    assert "picture alone" in done.stderr
    assert modalities_of(place / "run") == "video"
    assert {row["modalities"] for row in labels_of(place / "run").values()} == {"video"}
    with FeatureStore(place / "run" / "features.h5") as store:
        assert store.modalities == ["video"]
    succeeded(selavi("check", "run", "--workers", "0", cwd=place))
    refused(
        selavi("train", "videos", *QUICK_OPTIONS, "--modalities", "audio", "--out", "r2", cwd=place), "--modalities"
    )


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".flac", ".ogg", ".m4a"])
def test_every_kind_of_sound_file_can_be_labelled(place: Path, suffix: str) -> None:
    (place / "sounds").mkdir()
    write_sound(place / "sounds" / f"a{suffix}", 500)
    succeeded(selavi("scan", "sounds", "--out", "list.csv", cwd=place))
    (row,) = rows_of(place / "list.csv")
    assert row["skipped"] == ""
    assert float(row["audio_seconds"]) == pytest.approx(1.5, abs=0.1)


def test_sounds_alone_are_learnt_and_new_ones_labelled(place: Path) -> None:
    (place / "sounds").mkdir()
    for number in range(8):
        write_sound(place / "sounds" / f"{number}{('.wav', '.flac')[number % 2]}", 200 * (1 + number))
    done = selavi("train", "sounds", *QUICK_OPTIONS, "--out", "run", cwd=place)
    succeeded(done)
    assert "sound alone" in done.stderr
    labels = labels_of(place / "run")
    assert len(labels) == 8
    assert {row["modalities"] for row in labels.values()} == {"audio"}
    write_silent(place / "new" / "silent.mp4", CLASSES[0], 0)
    with_sound(place / "new" / "both.mp4", CLASSES[0], 0)
    succeeded(selavi("label", "run", "new", "--workers", "0", "--out", "new.csv", cwd=place))
    both, silent = rows_of(place / "new.csv")
    assert both["modalities"] == "audio"
    assert both["label"] != ""
    assert silent["label"] == ""
    assert silent["reason"] != ""
    write_sound(place / "new" / "new.wav", 700)
    done = selavi("label", "run", "new", "--workers", "0", "--out", "sounds.csv", cwd=place)
    succeeded(done)
    assert "2 .mp4" in done.stderr  # are left out, as the run has none
    assert [Path(row["path"]).name for row in rows_of(place / "sounds.csv")] == ["new.wav"]


def test_pictures_alone_are_learnt(place: Path) -> None:
    (place / "pictures").mkdir()
    for number in range(9):
        frame = pictures_of(CLASSES[number % 3], number, 1)[0]
        Image.fromarray(frame).save(place / "pictures" / f"{number}.{('jpg', 'png', 'webp')[number % 3]}")
    succeeded(selavi("train", "pictures", *QUICK_OPTIONS, "--cache", "cache", "--out", "run", cwd=place))
    labels = labels_of(place / "run")
    assert len(labels) == 9
    assert {row["modalities"] for row in labels.values()} == {"video"}
    assert all(row["label"] for row in labels.values())


@pytest.fixture
def mixed(place: Path) -> Path:
    """A folder with three videos with sound, three sound files and three pictures."""
    folder = place / "all"
    folder.mkdir()
    for number in range(3):
        with_sound(folder / f"{number}.mp4", CLASSES[number], number)
        write_sound(folder / f"{number}.wav", 300 * (1 + number))
        Image.fromarray(pictures_of(CLASSES[number], number, 1)[0]).save(folder / f"{number}.png")
    return folder


def kinds_in(paths: Iterable[str]) -> dict[str, int]:
    return dict(Counter(Path(path).suffix for path in paths))


def test_types_of_files_can_be_chosen(place: Path, mixed: Path) -> None:
    succeeded(selavi("train", "all", *QUICK_OPTIONS, "--files", "videos,sounds", "--out", "run", cwd=place))
    found = labels_of(place / "run")
    assert {Path(name).suffix: row["modalities"] for name, row in found.items()} == {
        ".mp4": "video+audio",
        ".wav": "audio",
    }
    assert len(found) == 6
    succeeded(selavi("scan", "all", "--files", "all", "--out", "all.csv", cwd=place))
    assert len(rows_of(place / "all.csv")) == 9
    refused(selavi("scan", "all", "--files", "films", "--out", "x.csv", cwd=place), "films")
    refused(selavi("scan", "all.csv", "--files", "sounds", "--out", "x.csv", cwd=place), "--files")
    many = selavi("label", "run", "all", "--workers", "0", cwd=place)
    succeeded(many)
    assert ".png" in many.stderr  # what was left out
    assert kinds_in(row["path"] for row in rows_of(place / "labels.csv")) == {".mp4": 3, ".wav": 3}
    for command, out, options in (
        ("label", "stills.csv", ["pictures"]),
        ("extract", "some.h5", ["pictures,sounds"]),
        ("label", "time.csv", ["sounds", "--timeline", "--segments", "1"]),
    ):
        succeeded(selavi(command, "run", "all", "--workers", "0", "--out", out, "--files", *options, cwd=place))
    assert kinds_in(row["path"] for row in rows_of(place / "stills.csv")) == {".png": 3}
    assert set(kinds_in(row["path"] for row in rows_of(place / "time.csv"))) == {".wav"}
    with FeatureStore(place / "some.h5") as store:
        assert kinds_in(store.paths) == {".wav": 3, ".png": 3}
    run = Run.open(place / "run")
    assert kinds_in(run.predict(mixed, types=["pictures"], workers=0).paths) == {".png": 3}
    for command, where in (("label", "all.csv"), ("extract", "all/1.mp4"), ("update", "all.csv"), ("label", "some.h5")):
        out = [] if command == "update" else ["--out", "x.csv"]
        refused(selavi(command, "run", where, "--files", "sounds", *out, cwd=place), "--files")
    refused(selavi("label", "some.h5", "--files", "sounds", "--out", "x.csv", cwd=place), "--files")
    assert not (place / "x.csv").exists()
    for videos, types in (([mixed / "1.mp4"], ["sounds"]), (mixed, ["films"]), (mixed, "sounds"), (mixed, [])):
        with raises_refusal(option="files"):
            run.predict(videos, types=types, workers=0)


def test_encoders_take_chosen_types_of_files(place: Path, mixed: Path) -> None:
    encoded = selavi("extract", "all", "--encoder", "logmel", "--workers", "1", "--out", "videos.h5", cwd=place)
    succeeded(encoded)
    assert ".wav" in encoded.stderr
    with FeatureStore(place / "videos.h5") as store:
        assert kinds_in(store.paths) == {".mp4": 3}
    of_sounds = ["--encoder", "logmel", "--workers", "1", "--files", "videos,sounds", "--clusters", "2"]
    succeeded(selavi("train", "all", *of_sounds, "--out", "run", cwd=place))
    assert kinds_in(labels_of(place / "run")) == {".mp4": 3, ".wav": 3}
    succeeded(selavi("label", "run", "all", "--workers", "1", "--out", "new.csv", cwd=place))
    assert kinds_in(row["path"] for row in rows_of(place / "new.csv")) == {".mp4": 3, ".wav": 3}
    refused(selavi("label", "run", "all", "--files", "pictures", "--out", "x.csv", cwd=place), "--files pictures")
    refused(
        selavi("label", "run", "videos.h5", "--files", "sounds", "--out", "x.csv", cwd=place),
        "--files goes with videos",
    )


@pytest.mark.parametrize(
    ("learnt", "unusable", "usable"), [("video", "sounds", "pictures"), ("audio", "pictures", "sounds")]
)
def test_types_of_files_that_a_run_cannot_use_are_refused(
    place: Path, mixed: Path, learnt: str, unusable: str, usable: str
) -> None:
    train = ["train", "all", *QUICK_OPTIONS, "--files", "videos", "--modalities", learnt, "--out", "run"]
    succeeded(selavi(*train, cwd=place))
    for command in (["label"], ["extract"], ["update"], ["label", "--timeline"]):
        out = [] if command == ["update"] else ["--out", "x.csv"]
        refused(selavi(*command, "run", "all", "--files", unusable, *out, cwd=place), f"--files {unusable}", usable)
    with raises_refusal(option="files", value=[unusable]):
        Run.open(place / "run").predict(mixed, types=[unusable])
    succeeded(selavi("label", "run", "all", "--files", "all", "--workers", "0", "--out", "new.csv", cwd=place))
    unlabelled = [row for row in rows_of(place / "new.csv") if not row["label"]]
    assert len(unlabelled) == 3
    assert all(row["reason"] for row in unlabelled)
