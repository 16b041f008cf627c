"""Tables of labels: names survive, spreadsheets are read, and what cannot be written is one error."""

import errno
import os

import numpy as np
import pytest

from selavi_ref.ensemble.label_table import read_csv, read_truths, write_csv
from selavi_ref.ensemble.labels import label_store
from selavi_ref.errors import InputError, SelaviError
from selavi_ref.store import FeatureStore, StoreWriter
from tests.support.command_line import rows_of
from tests.support.noisy_heads import make_store
from tests.support.refusal import refused


def test_names_stand_behind_the_labels(tmp_path):
    make_store(tmp_path / "s.h5", n=20)
    with FeatureStore(tmp_path / "s.h5") as store:
        found = label_store(store)
    write_csv(found, tmp_path / "labels.csv", {0: '"dogs",\u202e cats', 7: "nobody"})
    rows = read_csv(tmp_path / "labels.csv")
    assert list(rows[0])[:4] == ["path", "label", "name", "confidence"]
    assert all(row["name"] == ('"dogs",\u202e cats' if row["label"] == "0" else "") for row in rows)


def test_hostile_names_survive_the_table(tmp_path):
    paths = ["a b.mp4", 'quote".mp4', "new\nline.mp4", "comma,.mp4", "emoji 🎬.mp4", "bytes \udcff.mp4", "=1+1.mp4"]
    make_store(tmp_path / "s.h5", n=len(paths), paths=paths)
    with FeatureStore(tmp_path / "s.h5") as store:
        found = label_store(store)
    write_csv(found, tmp_path / "labels.csv")
    rows = read_csv(tmp_path / "labels.csv")
    assert [row["path"] for row in rows] == paths
    assert [int(row["label"]) for row in rows] == found.label.tolist()
    assert [int(row["head_4"]) for row in rows] == found.heads[:, 4].tolist()
    assert not list(tmp_path.glob("*.partial"))


def test_what_is_no_table_of_labels_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("name,number\na,1\n")
    with refused(path=tmp_path / "x.csv", option="path"):
        read_csv(tmp_path / "x.csv")
    with refused(path=tmp_path / "missing.csv"):
        read_csv(tmp_path / "missing.csv")


@pytest.mark.parametrize("header", ["path,{}", '"path","{}"'])
def test_tables_from_a_spreadsheet_with_a_byte_order_mark_are_read(tmp_path, header):
    for name, column in (("t.csv", "class"), ("l.csv", "label")):
        text = f"\ufeff{header.format(column)}\r\na/\udcff.mp4,3\r\n"
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert read_truths(tmp_path / "t.csv") == {"a/\udcff.mp4": "3"}
    assert read_csv(tmp_path / "l.csv") == [{"path": "a/\udcff.mp4", "label": "3"}]


@pytest.mark.parametrize("name", ["file/l.csv", "none/l.csv", "l" * 250])
def test_a_table_that_cannot_be_written_is_one_clear_error(tmp_path, name):
    make_store(tmp_path / "s.h5", n=4)
    (tmp_path / "file").write_text("")
    with FeatureStore(tmp_path / "s.h5") as store:
        found = label_store(store)
    with refused(SelaviError, path=tmp_path / name):
        write_csv(found, tmp_path / name)
    assert not list(tmp_path.glob("*.partial"))


def test_a_table_on_a_disk_that_became_read_only_leaves_the_old_one(tmp_path, monkeypatch):
    make_store(tmp_path / "s.h5", n=4)
    with FeatureStore(tmp_path / "s.h5") as store:
        found = label_store(store)
    (tmp_path / "l.csv").write_text("old")

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("replace", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    with refused(SelaviError, path=tmp_path / "l.csv"):
        write_csv(found, tmp_path / "l.csv")
    assert (tmp_path / "l.csv").read_text() == "old"


@pytest.mark.parametrize("read", [read_csv, read_truths])
def test_messages_name_any_path_in_one_printable_line(tmp_path, read):
    folder = tmp_path / "two\nlines \udcff"
    folder.mkdir()
    (folder / "x.csv").write_text("a,b\n1,2\n")
    for name in ("x.csv", "missing.csv"):
        with pytest.raises(InputError) as caught:
            read(folder / name)
        assert str(caught.value).isprintable()
        assert name in str(caught.value)


def test_messages_name_any_store_in_one_printable_line(tmp_path):
    path = tmp_path / "two\nlines.h5"
    make_store(path, heads=1)
    with FeatureStore(path) as store, refused(path=path):
        label_store(store, balanced=True)


def test_no_cell_is_calculated_by_a_spreadsheet_but_paths_stay_as_they_are(tmp_path):
    paths = ["=a.mp4", "-b.mp4"]
    with StoreWriter(tmp_path / "s.h5", paths, {"log_prob/=video/0": 2}, classes=["", ""]) as writer:
        values = {"log_prob/=video/0": np.log(np.full((1, 2), 0.5, np.float32))}
        writer.write([0], values)
        writer.write([1], {}, present={"=video": False}, reason=["=1+1"])
        writer.finish()
    with FeatureStore(tmp_path / "s.h5") as store:
        write_csv(label_store(store), tmp_path / "labels.csv", {0: "+name"})
    first, second = rows_of(tmp_path / "labels.csv")
    assert [first["path"], second["path"]] == paths
    assert (first["modalities"], first["name"], second["reason"]) == ("'=video", "'+name", "'=1+1")
