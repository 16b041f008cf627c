"""A table of a run that was cut off or changed since is noticed; tables of people are as they are."""

import json

import numpy as np
import pytest

from selavi_ref.ensemble.label_table import LabelTable, read_csv, read_truths, write_csv
from selavi_ref.ensemble.labels import Labels
from selavi_ref.errors import InputError, SelaviError
from selavi_ref.runs.checksums import CHECKSUMS_NAME, forget_checksum, record_checksum, verify_checksum
from selavi_ref.runs.run import Run
from selavi_ref.runs.staged import StagedFiles
from tests.support.refusal import refused

TABLE = b'path,label\n"a,\nb.mp4",0\nc\xff.mp4,1\nd.mp4,1\n'


@pytest.fixture
def table(tmp_path):
    """A recorded table of three rows."""
    path = tmp_path / "t.csv"
    path.write_bytes(TABLE)
    record_checksum(path)
    return path


def test_an_unchanged_table_is_accepted(table):
    verify_checksum(table, "")
    assert json.loads((table.parent / CHECKSUMS_NAME).read_text())["t.csv"]["rows"] == 3


@pytest.mark.parametrize(
    "content",
    [
        TABLE[: TABLE.index(b"d.mp4")],
        TABLE[:-1],
        TABLE + b"d.mp4,1\n",
        TABLE.replace(b"d.mp4", b"e.mp4"),
        b"",
        b"\0" * 50,
    ],
)
def test_a_changed_table_is_refused(table, content):
    table.write_bytes(content)
    with refused(path=table) as caught:
        verify_checksum(table, "restore it")
    assert str(caught.value).endswith("restore it")
    forget_checksum(table)
    verify_checksum(table, "")


@pytest.mark.parametrize(
    "record", [b"", b"\xff", b"[1]", b'{"t.csv": 3}', b"[" * 100_000, b'{"t.csv": {"sha256": []}}']
)
def test_a_damaged_record_stops_nothing(table, record):
    (table.parent / CHECKSUMS_NAME).write_bytes(record)
    verify_checksum(table, "")
    record_checksum(table)
    verify_checksum(table, "")


def labels(paths):
    nothing = np.full(len(paths), -1, np.int32)
    return Labels(
        paths=paths,
        label=np.arange(len(paths), dtype=np.int32) % 2,
        confidence=np.ones(len(paths), np.float32),
        runner_up=nothing,
        modalities=["video+audio"] * len(paths),
        reasons=[""] * len(paths),
        heads=nothing[:, None],
        disagreement=None,
        source="head 0",
    )


def test_labels_of_a_run_that_were_cut_off_are_refused_and_a_copy_is_a_table_like_any_other(tmp_path):
    run = Run.prepare(tmp_path / "run")
    run.rewrite_config({"clusters": 2})
    for n in (4, 5):
        write_csv(labels([f"{row}.mp4" for row in range(n)]), run.labels_file)
        assert len(read_csv(run.labels_file)) == n
    text = run.labels_file.read_text()
    for changed in (text[:-30], text.replace("3.mp4", "other.mp4"), text + text.splitlines()[-1] + "\n"):
        run.labels_file.write_text(changed)
        for read in (read_csv, LabelTable.read):
            with refused(path=tmp_path / "run/labels.csv"):
                read(run.labels_file)
    run.labels_file.write_text(text.replace("3.mp4", "other.mp4"))
    (tmp_path / "labels.csv").write_bytes(run.labels_file.read_bytes())
    assert len(read_csv(tmp_path / "labels.csv")) == 5
    write_csv(labels(["a.mp4", "b.mp4"]), run.labels_file)
    assert len(read_csv(run.labels_file)) == 2


def test_a_table_of_people_has_no_record(tmp_path):
    write_csv(labels(["a.mp4", "b.mp4"]), tmp_path / "labels.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]


def test_rows_that_are_there_twice_are_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("path,label\na.mp4,0\nb.mp4,1\na.mp4,0\n")
    with pytest.raises(InputError) as caught:
        read_csv(path)
    assert (caught.value.row, caught.value.value, caught.value.path) == (2, "a.mp4", path)
    path.write_text("path,class\na.mp4,cat\nb.mp4,dog\na.mp4,dog\n")
    with pytest.raises(InputError) as caught:
        read_truths(path)
    assert (caught.value.value, caught.value.path) == ("a.mp4", path)
    path.write_text("path,class\na.mp4,cat\nb.mp4,dog\na.mp4,cat\n")
    assert read_truths(path) == {"a.mp4": "cat", "b.mp4": "dog"}


@pytest.mark.parametrize(
    "journal",
    [
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b'{"files": [3], "removed": [], "note": {}}',
        b'{"files": [], "removed": ["../../mine.txt"], "note": {}}',
        b'{"files": ["/etc/passwd"], "removed": [], "note": {}}',
        b'{"files": [], "removed": [], "note": 3}',
    ],
)
def test_a_damaged_list_of_replacements_touches_nothing(tmp_path, journal):
    run = Run.prepare(tmp_path / "a" / "run")
    (tmp_path / "mine.txt").write_text("mine")
    staged = StagedFiles(run)
    staged.path("commit.json").write_bytes(journal)
    with pytest.raises(SelaviError) as caught:
        staged.complete()
    assert caught.value.path == staged.journal
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_tables_that_are_replaced_together_are_recorded(tmp_path):
    run = Run.prepare(tmp_path / "run")
    run.labels_file.write_text("path,label\na.mp4,0\n")
    record_checksum(run.labels_file)
    staged = StagedFiles(run)
    staged.path(run.labels_file).write_text("path,label\na.mp4,0\nb.mp4,1\n")
    staged.commit([run.labels_file])
    assert staged.complete()
    verify_checksum(run.labels_file, "")
    run.labels_file.write_text("path,label\n")
    with pytest.raises(InputError):
        verify_checksum(run.labels_file, "")
