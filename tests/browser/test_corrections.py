"""Edits made on the page become constraints, and follow what was learnt with them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.browser.annotations import Annotations
from selavi_ref.browser.corrections import constraints_of, summary_of
from selavi_ref.errors import InputError

PATHS = [f"{name}.mp4" for name in "abcdefgh"]
LEARNT = np.array([0, 0, 1, 1, 2, 2, 3, -1], np.int32)
GROUPS = np.tile(np.arange(6, dtype=np.int32), (2, 1))


@pytest.fixture
def annotations(tmp_path):
    return Annotations(tmp_path / "annotations.json", {"consensus": 4, "0": 4})


def constraints(annotations, K=6):
    return constraints_of(annotations.read().edits_of("consensus"), PATHS, LEARNT, GROUPS[:, :K], K)


def allowed(found):
    return {PATHS[row]: np.flatnonzero(may_be).tolist() for row, may_be in zip(found.rows, found.allowed, strict=True)}


def test_without_corrections_there_are_no_constraints(annotations):
    annotations.apply({"op": "rename", "cluster": 0, "name": "bells"})
    assert constraints(annotations) is None


def test_moved_and_wrong_videos_and_merged_clusters(annotations):
    annotations.apply({"op": "move", "videos": ["a.mp4"], "to": 2})
    annotations.apply({"op": "wrong", "videos": ["c.mp4"], "wrong": True})
    annotations.apply({"op": "merge", "clusters": [3], "into": 1})
    annotations.apply({"op": "move", "videos": ["e.mp4"], "to": 1})
    annotations.apply({"op": "wrong", "videos": ["g.mp4"], "wrong": True})
    found = constraints(annotations)
    assert found.merged.tolist() == [0, 1, 2, 1, 4, 5]
    assert allowed(found) == {"a.mp4": [2], "c.mp4": [0, 2, 4, 5], "e.mp4": [1, 3], "g.mp4": [0, 2, 4, 5]}


def test_a_created_cluster_is_one_to_learn_if_it_has_videos(annotations):
    annotations.apply({"op": "move", "videos": ["a.mp4"], "to": "new", "name": "own"})
    annotations.apply({"op": "move", "videos": ["b.mp4"], "to": "new", "name": "empty"})
    annotations.apply({"op": "move", "videos": ["b.mp4"], "to": 1})
    found = constraints(annotations)
    assert found.merged.tolist() == [0, 1, 2, 3, 4, -1]
    assert allowed(found) == {"a.mp4": [4], "b.mp4": [1]}


def test_edits_follow_a_learning_once(annotations):
    annotations.apply({"op": "rename", "cluster": 0, "name": "bells"})
    annotations.apply({"op": "rename", "cluster": 2, "name": "lost"})
    annotations.apply({"op": "move", "videos": ["a.mp4"], "to": "new", "name": "own"})
    annotations.apply({"op": "move", "videos": ["a.mp4"], "to": "new", "labelling": "0"})
    annotations.apply({"op": "move", "videos": ["b.mp4"], "to": 4, "labelling": "0"})
    annotations.apply({"op": "wrong", "videos": ["c.mp4", "d.mp4"], "wrong": True})
    annotations.apply({"op": "rename", "cluster": 1, "name": "undone"})
    annotations.apply({"op": "undo"})
    before = constraints(annotations, 5)
    summary = summary_of(annotations.read().edits_of("consensus"), PATHS, LEARNT)
    for _ in range(2):
        learnt = Annotations(annotations.file, {"consensus": 5, "0": 5})
        if json.loads(annotations.file.read_text())["clusters"]["consensus"] == 4:
            annotations.follow_learning("first", 5, {"c.mp4": 1}, [2])
        else:
            learnt.follow_learning("first", 5, {"c.mp4": 1}, [2])
    history = learnt.read()
    edits = history.edits_of("consensus")
    assert (edits.names, edits.created, edits.moved) == ({0: "bells", 4: "own"}, [], {"a.mp4": 4})
    assert (edits.wrong, edits.excluded) == ({"d.mp4"}, {"c.mp4": {1}})
    assert history.edits_of("0").created == [5]
    assert history.edits_of("0").moved == {"a.mp4": 5, "b.mp4": 5}
    assert (history.undo, history.redo) == ("unname cluster 2", None)
    after_learning = LEARNT.copy()
    after_learning[2] = 3
    after = constraints_of(edits, PATHS, after_learning, GROUPS[:, :5], 5)
    assert allowed(after) == allowed(before)
    assert summary_of(edits, PATHS, after_learning) == summary
    assert json.loads(annotations.file.read_text())["version"] == 2


def test_files_without_the_new_edit_can_be_read_by_older_programs(annotations):
    annotations.apply({"op": "wrong", "videos": ["c.mp4"], "wrong": True})
    assert json.loads(annotations.file.read_text())["version"] == 1
    with pytest.raises(InputError):
        annotations.apply({"op": "exclude", "videos": ["c.mp4"], "cluster": 9})
    annotations.apply({"op": "exclude", "videos": ["c.mp4"], "cluster": 3})
    assert annotations.read().undo == "keep a video out of cluster 3"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_people_see_is_what_the_constraints_allow(tmp_path_factory, data):
    """After any edits, each moved video may only be where it is shown, and a wrong one anywhere else."""
    annotations = Annotations(tmp_path_factory.mktemp("edits") / "a.json", {"consensus": 4})
    for _ in range(data.draw(st.integers(0, 8))):
        videos = data.draw(st.lists(st.sampled_from(PATHS[:-1]), min_size=1, max_size=3))
        to = data.draw(st.integers(0, 5))
        entry = data.draw(
            st.sampled_from(
                [
                    {"op": "move", "videos": videos, "to": to},
                    {"op": "move", "videos": videos, "to": "new", "name": "x"},
                    {"op": "wrong", "videos": videos, "wrong": True},
                    {"op": "merge", "clusters": [to], "into": data.draw(st.integers(0, 5))},
                ]
            )
        )
        try:
            annotations.apply(entry)
        except InputError:
            continue
    edits = annotations.read().edits_of("consensus")
    K = 4 + len(edits.created)
    groups = np.arange(K, dtype=np.int32)[None]
    found = constraints_of(edits, PATHS, LEARNT, groups, K)
    shown = edits.apply(PATHS, LEARNT)
    may_be = {} if found is None else allowed(found)
    for row, path in enumerate(PATHS):
        if path in edits.moved:
            assert shown[row] in may_be[path]
            assert {edits.merged.get(k, k) for k in may_be[path]} == {shown[row]}
        elif path in edits.wrong and path in may_be:
            assert shown[row] not in {edits.merged.get(k, k) for k in may_be[path]}
        else:
            assert path not in may_be or path in edits.wrong
