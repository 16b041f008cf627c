"""Files of a run that were cut off or changed between commands: each says so, or does without."""

from __future__ import annotations

import shutil

import pytest

from selavi_ref.datasets import make_collection
from tests.support.command_line import refused, rows_of, selavi, succeeded
from tests.support.small_runs import QUICK

OPTIONS = ["-k", "2", "--config", "quick.toml", "--workers", "0", "--epochs", "2", "--seed", "3"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run on eight videos."""
    folder = tmp_path_factory.mktemp("trained")
    make_collection(folder / "videos", 8, seed=3, seconds=1.5, size=48, fps=8)
    (folder / "quick.toml").write_text(QUICK)
    succeeded(selavi("train", "videos", *OPTIONS, "--out", "run", cwd=folder))
    return folder


@pytest.fixture
def place(trained, tmp_path):
    """A copy of it; it is unfinished without its last checkpoint."""
    for name in ("videos", "quick.toml"):
        (tmp_path / name).symlink_to(trained / name)
    shutil.copytree(trained / "run", tmp_path / "run")
    return tmp_path


def unfinish(run):
    for name in ("features.h5", "labels.csv"):
        (run / name).unlink()
    newest = max((run / "checkpoints").glob("*-step-*"))
    newest.unlink()


def test_an_unfinished_run_is_not_resumed_on_other_videos(place):
    unfinish(place / "run")
    listed = place / "run" / "videos.csv"
    original = listed.read_bytes()
    lines = original.splitlines(keepends=True)
    for changed in ([*lines[:-2], lines[-1], lines[-2]], lines[:-1], [*lines, lines[-1]]):
        listed.write_bytes(b"".join(changed))
        refused(selavi("train", "--resume", "--workers", "0", "--out", "run", cwd=place), "videos.csv", "restore it")
    listed.write_bytes(original)
    succeeded(selavi("train", "--resume", "--workers", "0", "--out", "run", cwd=place))
    assert len(rows_of(place / "run" / "labels.csv")) == 8


def test_a_run_of_an_older_version_has_no_record(place):
    unfinish(place / "run")
    (place / "run" / "checksums.json").unlink()
    succeeded(selavi("train", "--resume", "--workers", "0", "--out", "run", cwd=place))


def test_cut_off_labels_of_a_run_are_neither_scored_nor_shown(place):
    table = place / "run" / "labels.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-2]))
    refused(selavi("evaluate", "run/labels.csv", cwd=place), "labels.csv has 6 rows, of 8")
    (place / "run" / "features.h5").unlink()
    for command in (["export", "run", "--out", "x.csv"], ["browse", "run", "--export", "page"]):
        refused(selavi(*command, cwd=place), "labels.csv has 6 rows, of 8")
    shutil.copy(table, place / "mine.csv")
    succeeded(selavi("export", "mine.csv", "--out", "x.csv", cwd=place))


@pytest.mark.parametrize(
    "command",
    [
        ["label", "run", "videos", "--out", "x.csv", "--workers", "0"],
        ["convert", "run", "--to", "x.pth"],
        ["extract", "run", "videos", "--out", "x.h5", "--workers", "0"],
        ["train", "videos", *OPTIONS, "--epochs", "1", "--init", "run", "--out", "x"],
        ["retrieve", "videos", "videos", "--run", "run", "--out", "x", "--workers", "0"],
        ["baseline", "videos", "--run", "run", "--out", "x", "--workers", "0"],
    ],
)
def test_a_damaged_newest_checkpoint_is_mentioned(place, command):
    newest, before = sorted((place / "run" / "checkpoints").glob("*-step-*"))[:-3:-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    done = selavi(*command, cwd=place)
    succeeded(done)
    assert done.stderr.count(newest.name) == 1
    assert before.name in done.stderr


def test_a_damaged_newest_checkpoint_is_mentioned_where_features_are_used_again(place):
    command = ["retrieve", "videos", "videos", "--run", "run", "--out", "x", "--workers", "0"]
    newest, _ = sorted((place / "run" / "checkpoints").glob("*-step-*"))[:-3:-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    succeeded(selavi(*command, cwd=place))
    again = selavi(*command, cwd=place)
    succeeded(again)
    assert again.stderr.count(newest.name) == 1
