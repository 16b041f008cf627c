"""Edits of clusters are saved at once and atomically, and can be undone."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selavi_ref.browser.annotations import Annotations, annotations_beside
from selavi_ref.browser.edit_history import ConflictError, EditHistory, Edits
from selavi_ref.errors import InputError, SelaviError
from tests.support.refusal import refused

K = 6
CLUSTERS = {"consensus": K, "0": K}
PATHS = [f"videos/{name}.mp4" for name in ("a", "b", "<img onerror=1>", "../../etc/passwd", "\n\u202e", "\udcff")]
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
labellings = st.sampled_from(list(CLUSTERS))
clusters = st.integers(-1, K + 2)
some = st.lists(st.sampled_from(PATHS), min_size=1)
edits = st.one_of(
    st.fixed_dictionaries({"op": st.just("rename"), "labelling": labellings, "cluster": clusters, "name": names}),
    st.fixed_dictionaries(
        {"op": st.just("merge"), "labelling": labellings, "clusters": st.lists(clusters, max_size=3), "into": clusters}
    ),
    st.fixed_dictionaries(
        {
            "op": st.just("move"),
            "labelling": labellings,
            "videos": some,
            "to": st.one_of(clusters, st.just("new")),
            "name": names,
        }
    ),
    st.fixed_dictionaries({"op": st.just("wrong"), "labelling": labellings, "videos": some, "wrong": st.booleans()}),
    st.fixed_dictionaries({"op": st.sampled_from(["undo", "redo"])}),
)


def fresh() -> EditHistory:
    return EditHistory(CLUSTERS, {}, [], [], 0)


def done(*entries: dict) -> Edits:
    history = fresh()
    for entry in entries:
        history.apply({"labelling": "consensus", **entry})
    return history.edits_of("consensus")


@given(st.lists(edits, max_size=20))
def test_whatever_is_done_every_video_is_in_one_cluster_that_is_there(entries):
    history = fresh()
    for entry in entries:
        before = json.dumps([history.to_json(), _plain(history)])
        try:
            history.apply(dict(entry))
        except InputError:
            assert json.dumps([history.to_json(), _plain(history)]) == before
    for found in history.edits.values():
        learnt = np.arange(-1, len(PATHS) - 1, dtype=np.int32)
        placed = found.apply(PATHS, learnt)
        assert placed.dtype == np.int32
        assert set(found.merged).isdisjoint(found.merged.values())
        assert set(found.names).isdisjoint(found.merged)
        assert found.created == list(range(K, K + len(found.created)))
        for row, path in enumerate(PATHS):
            assert placed[row] not in found.merged
            assert placed[row] < K + len(found.created)
            if path not in found.moved:
                assert placed[row] == (-1 if learnt[row] < 0 else found.merge_targets(K)[learnt[row]])


@given(st.lists(edits, max_size=12))
def test_undo_takes_back_and_redo_does_again(entries):
    history, states = fresh(), []
    for entry in entries:
        if entry["op"] not in ("undo", "redo"):
            before = json.dumps(_plain(history))
            try:
                history.apply(dict(entry))
            except InputError:
                continue
            states.append(before)
    last = json.dumps(_plain(history))
    for state in reversed(states):
        history.apply({"op": "undo"})
        assert json.dumps(_plain(history)) == state
    assert history.undo is None
    with refused(option="op", value="undo"):
        history.apply({"op": "undo"})
    for _ in states:
        history.apply({"op": "redo"})
    assert json.dumps(_plain(history)) == last
    assert history.redo is None


def _plain(history: EditHistory) -> dict:
    return {
        name: [sorted(e.names.items()), sorted(e.merged.items()), sorted(e.moved.items()), sorted(e.wrong), e.created]
        for name, e in history.edits.items()
    }


@given(st.lists(edits, max_size=12))
def test_what_is_kept_reads_back_the_same(tmp_path_factory, entries):
    kept = Annotations(tmp_path_factory.mktemp("kept") / "annotations.json", CLUSTERS)
    history = kept.read()
    for entry in entries:
        try:
            history = kept.apply(entry)
        except InputError:
            continue
        again = Annotations(kept.file, CLUSTERS).read()
        assert _plain(again) == _plain(history)
        assert (again.revision, again.undo, again.redo) == (history.revision, history.undo, history.redo)


def test_joined_clusters_keep_a_name_and_go_on_together():
    found = done(
        {"op": "rename", "cluster": 2, "name": "  dogs \n barking "},
        {"op": "merge", "clusters": [2, 3], "into": 4},
        {"op": "merge", "clusters": [4], "into": 5},
    )
    assert found.merged == {2: 5, 3: 5, 4: 5}
    assert found.names == {5: "dogs barking"}


def test_a_video_moved_into_a_cluster_goes_where_the_cluster_goes():
    found = done(
        {"op": "wrong", "videos": [PATHS[0], PATHS[1]], "wrong": True},
        {"op": "move", "videos": [PATHS[0]], "to": "new", "name": "cats"},
        {"op": "merge", "clusters": [K], "into": 1},
    )
    assert found.apply(PATHS, np.full(len(PATHS), 3, np.int32))[0] == 1
    assert found.marks(PATHS)[:3] == ["moved", "wrong", ""]


@pytest.mark.parametrize(
    ("entry", "option"),
    [
        ({"op": "rename", "cluster": 6, "name": "x"}, "cluster"),
        ({"op": "rename", "cluster": True, "name": "x"}, "cluster"),
        ({"op": "rename", "cluster": 1, "name": 3}, "name"),
        ({"op": "rename", "cluster": 1, "name": "x" * 201}, "name"),
        ({"op": "rename", "cluster": 1, "name": "\ud800"}, "name"),
        ({"op": "merge", "clusters": [1], "into": 1}, "into"),
        ({"op": "merge", "clusters": [], "into": 1}, "clusters"),
        ({"op": "merge", "clusters": [[1]], "into": 1}, "cluster"),
        ({"op": "move", "videos": [], "to": 1}, "videos"),
        ({"op": "move", "videos": ["a"], "to": "old"}, "cluster"),
        ({"op": "wrong", "videos": ["a"]}, "wrong"),
        ({"op": "wrong", "videos": ["a"], "wrong": True, "labelling": "7"}, "labelling"),
        ({"op": "explode"}, "op"),
        ({"op": "redo"}, "op"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused_in_one_line(tmp_path, entry, option):
    kept = Annotations(tmp_path / "annotations.json", CLUSTERS)
    with refused(option=option):
        kept.apply(entry)
    assert not kept.file.exists()


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("{", None),
        ("[" * 100_000, None),
        (
            '{"format": "selavi annotations", "version": 1, "clusters": {"consensus": 6, "0": 6}, "entries": [], '
            '"undone": [{"op": "rename"}]}',
            0,
        ),
        (
            '{"format": "selavi annotations", "version": 1, "clusters": {"consensus": 6, "0": 6}, "entries": [], '
            '"undone": [{}]}',
            0,
        ),
        ("[]", None),
        ('{"format": "selavi annotations", "version": 3}', None),
        ('{"format": "selavi annotations", "version": 1, "clusters": {"consensus": 7}}', None),
        (
            '{"format": "selavi annotations", "version": 1, "clusters": {"consensus": 6, "0": 6}, "entries": 3}',
            None,
        ),
        (
            '{"format": "selavi annotations", "version": 1, "clusters": {"consensus": 6, "0": 6}, "undone": [], '
            '"entries": [{"op": "rename", "cluster": 9, "name": ""}]}',
            0,
        ),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, text, entry):
    file = tmp_path / "annotations.json"
    file.write_text(text)
    with refused(path=file, row=entry):
        Annotations(file, CLUSTERS).read()


def test_edits_of_many_threads_and_programs_are_all_kept(tmp_path):
    file = tmp_path / "annotations.json"
    code = f"""
from selavi_ref.browser.annotations import Annotations
kept = Annotations({str(file)!r}, {CLUSTERS!r})
for i in range(20):
    kept.apply({{"op": "wrong", "videos": [f"other{{i}}"], "wrong": True}})
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) as other:
        kept = Annotations(file, CLUSTERS)

        def mark(thread: int) -> None:
            for i in range(10):
                kept.apply({"op": "wrong", "videos": [f"{thread}-{i}"], "wrong": True})

        threads = [threading.Thread(target=mark, args=(thread,)) for thread in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert other.wait() == 0
    assert len(kept.read().edits_of("consensus").wrong) == 50
    assert kept.read().revision == 50


def test_what_another_has_done_meanwhile_is_not_taken_back_nor_mistaken(tmp_path):
    kept = Annotations(tmp_path / "annotations.json", CLUSTERS)
    kept.apply({"op": "move", "videos": ["a"], "to": "new", "name": "dogs"})
    seen = kept.read().revision
    kept.apply({"op": "undo"})
    kept.apply({"op": "move", "videos": ["b"], "to": "new", "name": "cats"})
    for entry in (
        {"op": "undo"},
        {"op": "redo"},
        {"op": "move", "videos": ["c"], "to": K},
        {"op": "rename", "cluster": K, "name": "x"},
        {"op": "merge", "clusters": [K], "into": 0},
        {"op": "merge", "clusters": [0], "into": K},
    ):
        with refused(ConflictError):
            kept.apply({**entry, "revision": seen})
    assert kept.read().edits_of("consensus").moved == {"b": K}
    kept.apply({"op": "rename", "cluster": 0, "name": "x", "revision": seen})
    kept.apply({"op": "undo", "revision": kept.read().revision})
    assert kept.read().edits_of("consensus").names == {K: "cats"}


def test_where_it_cannot_be_written_the_old_file_stays(tmp_path):
    with refused(SelaviError, path=tmp_path / "missing" / "annotations.json"):
        Annotations(tmp_path / "missing" / "annotations.json", CLUSTERS).apply(
            {"op": "rename", "cluster": 1, "name": "x"}
        )


def test_names_from_a_table_hold_until_they_are_changed(tmp_path):
    kept = Annotations(tmp_path / "a.json", CLUSTERS, {"consensus": {1: "dogs", 2: "cats"}})
    assert kept.read().edits_of("consensus").names == {1: "dogs", 2: "cats"}
    kept.apply({"op": "rename", "cluster": 1, "name": ""})
    assert kept.read().edits_of("consensus").names == {2: "cats"}
    assert kept.read().edits_of("0").names == {}


def test_a_table_has_its_edits_beside_it():
    assert annotations_beside("place/new.csv") == Path("place/new.annotations.json")
