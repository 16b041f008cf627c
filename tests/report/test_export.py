"""Exported labels read back as they were written; folders of links hold a link for each video and nothing else."""

import base64
import errno
import io
import json
import os
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.ensemble.label_table import read_csv
from selavi_ref.errors import InputError, SelaviError
from selavi_ref.report import links as links_module
from selavi_ref.report.evaluation import evaluate_csv
from selavi_ref.report.export import (
    FinalLabels,
    csv_bytes,
    json_bytes,
    parquet_bytes,
    write_csv,
    write_json,
    write_parquet,
)
from selavi_ref.report.links import INDEX, LINKS_MARKER, Names, places_of, safe_name, write_links
from selavi_ref.runs.csv_file import plain_text
from tests.support.refusal import refused

# what a file system may hold: bytes without separator and zero, as Python shows them
FILE_NAMES = st.binary(min_size=1, max_size=40).map(lambda b: os.fsdecode(b.replace(b"\0", b"_")))
TEXTS = st.text(st.characters(), max_size=30)  # with surrogates and control characters

ODD = ["..", ".", "", "con", "NUL.mp4", "COM¹.x", "a/../b", "-rf", "x. ", "nul .a", f"con{' ' * 300}x", "..mp4"]


def finished_of(paths, cluster=None, name=None, **others) -> FinalLabels:
    N = len(paths)
    cluster = np.arange(N, dtype=np.int32) % 3 if cluster is None else np.array(cluster, np.int32)
    labelled = cluster >= 0
    return FinalLabels(
        **{
            "paths": list(paths),
            "cluster": cluster,
            "name": name or [""] * N,
            "learnt": cluster.copy(),
            "confidence": np.where(labelled, 0.9123456, 0).astype(np.float32),
            "runner_up": np.where(labelled, 1, -1).astype(np.int32),
            "modalities": ["video+audio" if there else "" for there in labelled],
            "reasons": ["" if there else "the file is empty" for there in labelled],
            "mark": [""] * N,
            "classes": [""] * N,
            **others,
        }
    )


@st.composite
def labels(draw):
    N = draw(st.integers(0, 6))
    column = lambda values: draw(st.lists(values, min_size=N, max_size=N))  # noqa: E731
    heads = draw(st.integers(0, 2))
    return finished_of(
        draw(st.lists(FILE_NAMES, min_size=N, max_size=N, unique=True)),
        column(st.integers(-1, 4)),
        column(TEXTS),
        learnt=np.array(column(st.integers(-1, 4)), np.int32),
        runner_up=np.array(column(st.integers(-1, 4)), np.int32),
        confidence=np.array(column(st.floats(0, 1, width=32)), np.float32),
        mark=column(st.sampled_from(["", "moved", "wrong"])),
        classes=column(TEXTS),
        reasons=column(TEXTS),
        heads=np.array([column(st.integers(-1, 4)) for _ in range(heads)], np.int32).T.reshape(N, heads),
    )


def writable(text: str) -> str:
    return "".join("\ufffd" if unicodedata.category(c) == "Cs" else c for c in text)


def integer(value: str | None) -> int:
    return -1 if value in ("", None) else int(value)


@pytest.mark.nightly
@given(labels())
def test_paths_read_back_from_csv_byte_for_byte_and_labels_as_they_are(tmp_path_factory, finished):
    path = tmp_path_factory.getbasetemp() / "property.csv"
    write_csv(finished, path)
    assert path.read_bytes() == csv_bytes(finished)
    if not finished.paths:
        return
    rows = read_csv(path)
    assert [os.fsencode(row["path"]) for row in rows] == [os.fsencode(path) for path in finished.paths]
    for column, values in (("label", finished.cluster), ("learnt", finished.learnt), ("runner_up", finished.runner_up)):
        assert [integer(row[column]) for row in rows] == values.tolist()
    for h in range(finished.heads.shape[1]):
        assert [integer(row[f"head_{h}"]) for row in rows] == finished.heads[:, h].tolist()
    for row, name in zip(rows, finished.name, strict=True):
        assert not row["name"].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert plain_text(row["name"]) == writable(name)
    assert [row["mark"] for row in rows] == finished.mark


@pytest.mark.nightly
@given(labels())
def test_values_read_back_from_json(finished):
    data = json.loads(json_bytes(finished).decode("utf-8"))  # strictly UTF-8
    assert data["format"] == "selavi-ref labels 1"
    for i, row in enumerate(data["videos"]):
        name = base64.b64decode(row["path_bytes"]) if "path_bytes" in row else row["path"].encode()
        assert name == os.fsencode(finished.paths[i])
        assert row["path"] == writable(finished.paths[i])
        assert row["label"] == (int(finished.cluster[i]) if finished.cluster[i] >= 0 else None)
        assert row["name"] == (writable(finished.name[i]) or None)
        assert row["confidence"] is None or row["confidence"] == pytest.approx(finished.confidence[i], abs=1e-6)
        assert (row["confidence"] is None) == (finished.learnt[i] < 0)
    assert len(data["videos"]) == len(finished.paths)
    assert sum(cluster["videos"] for cluster in data["clusters"].values()) == (finished.cluster >= 0).sum()


@pytest.mark.nightly
@given(labels())
def test_values_read_back_from_parquet(finished):
    table = pq.read_table(io.BytesIO(parquet_bytes(finished)))
    data = table.to_pydict()
    names = data.get("path_bytes", [None] * len(finished.paths))
    for path, text, name in zip(finished.paths, data["path"], names, strict=True):
        assert (text.encode() if name is None else name) == os.fsencode(path)
    for column, values in (("label", finished.cluster), ("learnt", finished.learnt), ("runner_up", finished.runner_up)):
        assert data[column] == [value if value >= 0 else None for value in values.tolist()]
    sure = finished.learnt >= 0
    assert data["confidence"] == [c if s else None for c, s in zip(finished.confidence.tolist(), sure, strict=True)]
    assert data["name"] == [writable(name) or None for name in finished.name]
    assert data["mark"] == [mark or None for mark in finished.mark]


def test_columns_stand_in_a_fixed_order_and_the_class_only_if_one_is_known():
    heads = np.zeros((1, 2), np.int32)
    front = "path,label,name,confidence,runner_up,modalities,mark,learnt"
    first = csv_bytes(finished_of(["a.mp4"], heads=heads)).decode().splitlines()
    assert first[0] == f"{front},reason,head_0,head_1"
    assert first[1] == "a.mp4,0,,0.9123,1,video+audio,,0,,0,0"
    first = csv_bytes(finished_of(["a.mp4", "b.mp4"], [-1, 2], classes=["", "dog"])).decode().splitlines()
    assert first[0] == f"{front},class,reason"
    assert first[1:] == ["a.mp4,,,,,,,,,the file is empty", "b.mp4,2,,0.9123,1,video+audio,,2,dog,"]


def test_a_name_that_is_a_formula_is_not_calculated_but_a_path_stays_as_it_is():
    hostile = '=HYPERLINK("http://example.org")'
    finished = finished_of([f"{hostile}.mp4"], name=[hostile])
    row = csv_bytes(finished).decode().splitlines()[1]
    assert row.startswith('"=HYPERLINK(""http://example.org"").mp4",0,"\'=HYPERLINK(')
    assert json.loads(json_bytes(finished))["videos"][0]["name"] == hostile


def test_parquet_has_types_nulls_and_metadata(tmp_path):
    finished = finished_of(["a.mp4", "b.mp4"], [1, -1], name=["dogs", ""], source="consensus of 5 heads")
    write_parquet(finished, tmp_path / "labels.parquet")
    table = pq.read_table(tmp_path / "labels.parquet")
    types = {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)}
    assert types["path"] == "string"
    assert types["label"] == types["learnt"] == types["runner_up"] == "int32"
    assert types["confidence"] == "float"
    assert "dictionary" in types["name"]
    assert "path_bytes" not in types
    assert table.column("label").null_count == table.column("confidence").null_count == 1
    about = json.loads(table.schema.metadata[b"selavi"])
    assert about["source"] == "consensus of 5 heads"
    assert about["clusters"] == {"1": {"name": "dogs", "videos": 1}}


def test_exported_labels_can_be_evaluated(tmp_path):
    paths = [f"videos/{c}/{i}.mp4" for c in "abc" for i in range(5)]
    finished = finished_of(paths, [i // 5 for i in range(15)], name=["=one"] * 15, heads=np.zeros((15, 1), np.int32))
    write_csv(finished, tmp_path / "labels.csv")
    assert evaluate_csv(tmp_path / "labels.csv")["nmi"] == pytest.approx(1.0)


@pytest.mark.parametrize("write", [write_csv, write_json, write_parquet])
def test_what_cannot_be_written_leaves_the_file_of_before(tmp_path, write):
    with refused(SelaviError, path=tmp_path / "no folder/labels"):
        write(finished_of(["a.mp4"]), tmp_path / "no folder" / "labels")
    write(finished_of(["a.mp4"]), tmp_path / "labels")
    assert [file.name for file in tmp_path.iterdir()] == ["labels"]


@pytest.mark.parametrize(
    ("option", "values", "problem"),
    [("name", ["", ""], 2), ("mark", ["odd"], {"odd"}), ("heads", np.zeros((2, 1)), (2, 1))],
)
def test_labels_that_do_not_fit_are_refused(option, values, problem):
    with pytest.raises(InputError) as error:
        finished_of(["a.mp4"], **{option: values})
    assert (error.value.option, error.value.value) == (option, problem)


@pytest.mark.nightly
@given(
    TEXTS | st.sampled_from(["..", ".", "", "con", "NUL.mp4", "COM¹.x", "a/../b", "-rf", "x. ", "nul .a"]),
    st.booleans(),
)
def test_names_are_safe_on_all_systems_and_stay_so(wanted, ending):
    name = safe_name(wanted, ending=ending)
    assert PurePosixPath(name).name == PureWindowsPath(name).name == name
    assert not PureWindowsPath(name).is_reserved()
    assert len(name.encode()) <= 255
    assert not set(name) & set('<>:"/\\|?*')
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in name)
    assert name[0] not in ".-"
    assert name[-1] not in ". "
    assert safe_name(name, ending=ending) == name


@pytest.mark.nightly
@given(st.text(min_size=100, max_size=400))
def test_long_names_keep_their_ending(stem):
    name = safe_name(f"{stem}x.MP4", ending=True, mark="-12")
    assert name.endswith("-12.MP4")
    assert len(name.encode()) <= 255


@pytest.mark.nightly
@given(st.lists(TEXTS | st.sampled_from(["a.mp4", "A.mp4", "a-2.mp4", "é", "e\u0301", "con", "_con"]), max_size=12))
def test_no_two_names_are_the_same_to_any_system(wanted):
    names = Names(["taken"])
    given_out = [names.take(name, ending=True) for name in [*wanted, *wanted, "TAKEN"]]
    for fold in (str.casefold, str.lower, str.upper, lambda name: unicodedata.normalize("NFD", name)):
        assert len({fold(name) for name in given_out}) == len(given_out)
    assert given_out[-1] != "TAKEN"


@pytest.mark.nightly
@given(st.lists(st.tuples(FILE_NAMES | TEXTS, st.integers(-1, 3), st.sampled_from(["", "wrong"])), max_size=8), TEXTS)
def test_no_name_leads_out_of_the_tree(rows, name):
    paths, cluster, mark = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    finished = finished_of(paths, cluster, [name] * len(paths), mark=mark)
    places = places_of(finished)
    assert len(set(places)) == len(places)
    for place, wrong, c in zip(places, mark, cluster, strict=True):
        parts = place.split("/")
        assert os.path.normpath(place) == place
        assert ".." not in parts
        assert (parts[0] == "_unlabelled") == (c < 0)
        assert len(parts) == (3 if wrong and c >= 0 else 2)


def tree(folder: Path) -> dict[str, str]:
    """Links of a tree, and what they lead to."""
    return {str(p.relative_to(folder)): os.readlink(p) for p in sorted(folder.rglob("*")) if p.is_symlink()}


def test_each_cluster_has_a_folder_of_links_to_its_videos(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"video")
    paths = [
        str(tmp_path / "a.mp4"),
        *(f"/gone/{n}" for n in ("x/b.mp4", "y/B.MP4", "z/b.mp4", "c.mp4", "d.mp4", ".e")),
    ]
    finished = finished_of(
        paths,
        [0, 1, 1, 1, 2, -1, 0],
        ["dogs", "", "", "", "Dogs", "", "dogs"],
        mark=["", "moved", "", "", "", "", "wrong"],
    )
    made = write_links(finished, tmp_path / "tree")
    assert (made.folder, made.links, made.missing, made.kind) == (tmp_path / "tree", 7, 6, "symbolic")
    assert tree(tmp_path / "tree") == {
        "Dogs-2/c.mp4": "/gone/c.mp4",
        "_unlabelled/d.mp4": "/gone/d.mp4",
        "_wrong/dogs/_.e": "/gone/.e",
        "cluster-001/B-2.MP4": "/gone/y/B.MP4",
        "cluster-001/b-3.mp4": "/gone/z/b.mp4",
        "cluster-001/b.mp4": "/gone/x/b.mp4",
        "dogs/a.mp4": str(tmp_path / "a.mp4"),
    }
    assert (tmp_path / "tree" / "dogs" / "a.mp4").read_bytes() == b"video"
    rows = read_csv(tmp_path / "tree" / INDEX)
    assert {row["link"]: row["path"] for row in rows} == tree(tmp_path / "tree")


def test_hostile_names_stay_in_the_tree(tmp_path):
    names = [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        "a\0b",
        "\u202egpj.exe",
        "_wrong",
        "labels.csv",
        LINKS_MARKER,
        "b\udcff",
    ]
    paths = [f"/v/{name}" for name in names[:-1]] + ["/v/b\udcff.mp4", "", "nul\0.mp4", f"/v/{'x' * 300}.mp4"]
    N = len(paths)
    write_links(finished_of(paths, range(N), [names[i % len(names)] for i in range(N)]), tmp_path / "in" / "tree")
    assert [file.name for file in tmp_path.iterdir()] == ["in"]
    assert [file.name for file in (tmp_path / "in").iterdir()] == ["tree"]
    assert len(tree(tmp_path / "in" / "tree")) == N - 3  # no link leads to "", or to a name with a zero in it
    assert read_csv(tmp_path / "in" / "tree" / INDEX)[-1]["link"].endswith("xxx.mp4")


def test_relative_paths_and_other_files_lead_to_where_the_videos_are(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"video")
    monkeypatch.chdir(tmp_path)
    write_links(finished_of(["a.mp4"]), "tree")
    assert tree(tmp_path / "tree") == {"cluster-000/a.mp4": str(tmp_path / "a.mp4")}
    assert write_links(finished_of(["a.mp4"]), "tree", files=["/elsewhere/b.mp4"]).missing == 1
    assert tree(tmp_path / "tree") == {"cluster-000/a.mp4": "/elsewhere/b.mp4"}


def test_an_earlier_tree_is_replaced_and_nothing_else(tmp_path):
    folder = tmp_path / "tree"
    folder.mkdir()
    write_links(finished_of(["/v/a.mp4"], name=["one"]), folder)
    write_links(finished_of(["/v/a.mp4"], name=["two"]), folder)
    assert list(tree(folder)) == ["two/a.mp4"]
    (folder / "two" / "mine.txt").write_text("a note")
    with refused(path=tmp_path / "tree/two/mine.txt"):
        write_links(finished_of(["/v/a.mp4"]), folder)
    assert (folder / "two" / "mine.txt").read_text() == "a note"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("a note")
    (tmp_path / "file").write_text("a note")
    os.symlink(folder, tmp_path / "link")
    for name in ("other", "file", "link"):
        with refused():
            write_links(finished_of(["/v/a.mp4"]), tmp_path / name)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "link", "other", "tree"]


def test_a_failure_leaves_the_tree_of_before(tmp_path, monkeypatch):
    folder = tmp_path / "tree"
    write_links(finished_of(["/v/a.mp4"], name=["one"]), folder)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(links_module, "put_in_place", fail)
    with refused(SelaviError, path=tmp_path / "tree"):
        write_links(finished_of(["/v/a.mp4"], name=["two"]), folder)
    assert list(tree(folder)) == ["one/a.mp4"]
    assert [file.name for file in tmp_path.iterdir()] == ["tree"]


def refuse(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_hard_links_are_made_where_no_symbolic_ones_can_be(tmp_path, monkeypatch):
    video = tmp_path / "a.mp4"
    video.write_bytes(b"video")
    finished = finished_of([str(video), "/gone/b.mp4"], [0, 0])
    monkeypatch.setattr(os, "symlink", refuse)
    for _ in range(2):
        made = write_links(finished, tmp_path / "tree")
        assert (made.links, made.missing, made.kind) == (1, 1, "hard")
    assert (tmp_path / "tree" / "cluster-000" / "a.mp4").samefile(video)
    assert [row["link"] for row in read_csv(tmp_path / "tree" / INDEX)] == ["cluster-000/a.mp4", ""]
    video.unlink()  # now the link is all that is left of it
    with refused(path=tmp_path / "tree/cluster-000/a.mp4"):
        write_links(finished, tmp_path / "tree")
    monkeypatch.setattr(os, "link", refuse)
    with refused(path=tmp_path / "other"):
        write_links(finished, tmp_path / "other")


@pytest.mark.nightly
@settings(max_examples=20)
@given(st.lists(FILE_NAMES, min_size=1, max_size=6), TEXTS)
def test_any_names_make_a_tree(tmp_path_factory, names, cluster):
    folder = tmp_path_factory.getbasetemp() / "property tree"
    paths = [f"/v/{name}" for name in names]
    made = write_links(finished_of(paths, [0] * len(paths), [cluster] * len(paths)), folder)
    assert made.links == len(tree(folder)) == len(paths)
    assert sorted(map(os.fsencode, tree(folder).values())) == sorted(os.fsencode(os.path.abspath(p)) for p in paths)
