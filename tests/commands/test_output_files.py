"""What a command may write over, and what it lists where nothing can be scored."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

import cli
from backbones.commands.output import OutPath
from selavi_ref.ensemble.labels import Labels
from selavi_ref.report.summaries import labels_summary
from selavi_ref.store import StoreWriter
from tests.support.command_line import refused, rows_of, selavi, succeeded

N, K = 24, 3


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a store without true classes."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(N, K)) + 6 * np.eye(K)[np.arange(N) % K]
    log_prob = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
    sets = {f"{kind}/{m}{head}": K for m in ("video", "audio") for kind, head in (("features", ""), ("log_prob", "/0"))}
    paths = [f"videos/{row}.mp4" for row in range(N)]
    with StoreWriter(folder / "f.h5", paths, sets) as writer:
        writer.write(range(N), dict.fromkeys(sets, log_prob))
        writer.finish()
    return folder


class TestLabel:
    def test_a_default_name_never_replaces_a_file(self, place, tmp_path):
        store = place / "f.h5"
        (tmp_path / "labels.csv").write_text("path,label\na.mp4,cat\n")
        refused(selavi("label", store, cwd=tmp_path), "labels.csv", "--out", "--force")
        assert (tmp_path / "labels.csv").read_text() == "path,label\na.mp4,cat\n"
        assert not list(tmp_path.glob("*.h5*"))
        succeeded(selavi("label", store, "--force", cwd=tmp_path))
        assert len(rows_of(tmp_path / "labels.csv")) == N

    def test_a_named_file_is_replaced_if_selavi_wrote_it(self, place, tmp_path):
        for _ in range(2):
            succeeded(selavi("label", place / "f.h5", "--out", "mine.csv", cwd=tmp_path))
        for content in ("path,label\na.mp4,cat\n", "", "\0\xff"):
            (tmp_path / "users.csv").write_text(content)
            refused(selavi("label", place / "f.h5", "--out", "users.csv", cwd=tmp_path), "users.csv", "--force")
            assert (tmp_path / "users.csv").read_text() == content

    def test_a_dash_prints_the_table_and_nothing_else(self, place, tmp_path):
        succeeded(selavi("label", place / "f.h5", "--out", "file.csv", cwd=tmp_path))
        done = selavi("label", place / "f.h5", "--out", "-", cwd=tmp_path)
        assert list(csv.DictReader(io.StringIO(succeeded(done)))) == rows_of(tmp_path / "file.csv")
        assert f"{N} of {N} videos labelled" in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["file.csv"]


class TestScan:
    def test_the_list_of_another_collection_is_not_replaced(self, tmp_path):
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / f"{name}.mp4").write_text("no video")
        succeeded(selavi("scan", "one", cwd=tmp_path))
        before = (tmp_path / "manifest.csv").read_bytes()
        refused(selavi("scan", "two", cwd=tmp_path), "manifest.csv", "--force")
        assert (tmp_path / "manifest.csv").read_bytes() == before
        (tmp_path / "one" / "more.mp4").write_text("no video")
        succeeded(selavi("scan", "one", cwd=tmp_path))
        assert len(rows_of(tmp_path / "manifest.csv")) == 2
        succeeded(selavi("scan", "two", "--force", cwd=tmp_path))
        assert [row["path"] for row in rows_of(tmp_path / "manifest.csv")] == ["two/two.mp4"]


def all_commands(group=cli.main, name=""):
    for part in group.list_commands(None):
        command = group.get_command(None, part)
        if hasattr(command, "list_commands"):
            yield from all_commands(command, f"{name}{part} ")
        else:
            yield f"{name}{part}", command


@pytest.mark.parametrize(("name", "command"), list(all_commands()))
def test_no_out_takes_a_dash_for_the_name_of_a_file(name, command):
    for option in command.params:
        if option.name in ("out", "to", "links", "folder"):
            assert isinstance(option.type, OutPath)
            assert option.type.allow_dash == (name == "label")


def test_a_table_in_no_folder_is_refused_at_once(place):
    refused(selavi("label", "f.h5", "--out", "none/labels.csv", cwd=place), "--out none/labels.csv")


def test_a_dash_is_refused_in_one_line(tmp_path):
    refused(selavi("train-heads", "f.h5", "-k", 3, "--out", "-", cwd=tmp_path), "--out", "standard output")
    assert not list(tmp_path.iterdir())


class TestRetrieve:
    def test_nearest_videos_are_listed_without_true_classes(self, place, tmp_path):
        done = selavi("retrieve", place / "f.h5", "--neighbours", 2, cwd=tmp_path)
        succeeded(done)
        assert "no true classes" in done.stderr
        rows = rows_of(tmp_path / "retrieval" / "neighbours.csv")
        assert len(rows) == 2 * 2 * N
        assert not (tmp_path / "retrieval" / "retrieval.csv").exists()

    def test_without_classes_there_is_nothing_else_to_do(self, place, tmp_path):
        refused(selavi("retrieve", place / "f.h5", cwd=tmp_path), "f.h5", "--neighbours")
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 0, 0], "1 cluster of 3 videos,"),
        ([0, 1, 1], "2 clusters of 1 to 2 videos,"),
        ([5], "1 cluster of 1 video,"),
    ],
)
def test_the_summary_counts_in_english(labels, words):
    n = len(labels)
    nothing = np.full(n, -1, np.int32)
    table = Labels(
        paths=[str(row) for row in range(n)],
        label=np.array(labels, np.int32),
        confidence=np.ones(n, np.float32),
        runner_up=nothing,
        modalities=["video+audio"] * n,
        reasons=[""] * n,
        heads=nothing[:, None],
        disagreement=None,
        source="head 0",
    )
    assert words in labels_summary(table)
