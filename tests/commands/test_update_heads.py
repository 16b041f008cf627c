"""`selavi update` of runs of heads on features: of encoders, and of arrays that anybody has computed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from selavi_ref import Run, train_heads
from selavi_ref.browser.annotations import annotations_of
from selavi_ref.errors import InputError
from selavi_ref.runs.run import Run as RunFolder
from selavi_ref.store import FeatureStore
from tests.support import growing
from tests.support.command_line import refused, rows_of, selavi, succeeded
from tests.support.growing import add_new, edit, learn_from_videos, restore
from tests.support.kills import assert_kills_do_no_harm

ENCODER = ["--encoder", "logmel", "--workers", "1"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with 32 videos, 6 new ones, and a run on the 32 by features of their sounds."""
    return learn_from_videos(tmp_path_factory.mktemp("update-heads"), 32, 1.0, *ENCODER)


@pytest.fixture
def place(kept):
    """The same folder, with videos and run as they were."""
    return restore(kept)


def labels_of(place, table="run/labels.csv"):
    return {os.path.abspath(place / row["path"]): row["label"] for row in rows_of(place / table)}


def update_summary(place, *options, **where):
    return growing.update_summary(place, *options, workers=1, **where)


def test_new_files_are_labelled_by_encoders_and_heads_and_all_others_keep_their_labels(place):
    before, new = labels_of(place), add_new(place)
    assert update_summary(place, "--dry-run")["counts"]["new"] == 6
    assert labels_of(place) == before
    done = update_summary(place)
    assert done["counts"] | {"new": 6, "unchanged": 32} == done["counts"]
    assert done["fit"]["new"] == 6
    after = labels_of(place)
    assert {path: label for path, label in after.items() if path not in new} == before
    succeeded(selavi("extract", "videos/more", *ENCODER, "--out", "more.h5", cwd=place))
    succeeded(selavi("label", "run", "more.h5", "--out", "more.csv", cwd=place))
    assert labels_of(place, "more.csv") == {path: after[path] for path in new}
    with FeatureStore(place / "run" / "encoded.h5") as features, FeatureStore(place / "run" / "features.h5") as store:
        assert features.paths == store.paths
        assert np.isfinite(features.features("logmel")).all()
    found = Run.open(place / "run").neighbours(new[0], 3, workers=1)
    assert len(found.rows) == 6
    labels = (place / "run" / "labels.csv").read_bytes()
    assert update_summary(place)["counts"]["new"] == 0
    assert (place / "run" / "labels.csv").read_bytes() == labels


def test_moved_files_keep_labels_and_edits_and_changed_ones_are_labelled_anew(place):
    before = labels_of(place)
    path = stored_paths(place)[0]
    first = os.path.abspath(place / path)
    edit(place, op="move", videos=[path], to=1)
    moved = str(place / "videos" / "elsewhere.mp4")
    os.rename(first, moved)
    second = sorted(name for name in before if name != first)[0]
    shutil.copyfile(next((place / "new").rglob("*.mp4")), second)
    done = update_summary(place)
    assert (done["files"]["moved"], done["files"]["changed"]) == ({moved: first}, [second])
    after = labels_of(place)
    assert after[moved] == before[first]
    assert {name: label for name, label in after.items() if name not in (moved, second)} == {
        name: label for name, label in before.items() if name not in (first, second)
    }
    assert annotations_of(RunFolder(place / "run")).read().edits_of("consensus").moved == {moved: 1}


def test_a_changed_file_is_learnt_from_also_after_an_update_that_did_not_learn(place):
    first = sorted(labels_of(place))[0]
    shutil.copyfile(next((place / "new").rglob("*.mp4")), first)
    assert update_summary(place)["files"]["changed"] == [first]
    assert update_summary(place, "--learn")["learning"]["n_videos"] == 32
    assert "learning" not in update_summary(place, "--learn")


def test_it_learns_on_with_corrections_and_keeps_the_numbers_of_clusters(place):
    before = labels_of(place)
    add_new(place)
    path = stored_paths(place)[0]
    to = (int(before[os.path.abspath(place / path)]) + 1) % 3
    edit(place, op="move", videos=[path], to=to)
    edit(place, op="rename", cluster=to, name="kind")
    done = update_summary(place, "--learn")["learning"]
    assert (done["n_videos"], done["n_corrected"], done["new_clusters"]) == (38, 1, 0)
    after = labels_of(place)
    assert len(after) == 38
    assert after[os.path.abspath(place / path)] == str(to)
    kept = [name for name in before if name != os.path.abspath(place / path)]
    assert np.mean([after[name] == before[name] for name in kept]) > 0.5
    assert all(fate["kind"] in ("kept", "joined", "split", "new") for fate in done["clusters"])
    assert "learning" not in update_summary(place, "--learn")  # nothing is left to learn
    succeeded(selavi("label", "run", "run/encoded.h5", "--out", "again.csv", cwd=place))
    succeeded(selavi("train-heads", "--resume", "--out", "run", cwd=place))  # finished: there is nothing to do


def test_a_run_that_was_moved_takes_its_features_along(place):
    os.rename(place / "run", place / "moved")
    try:
        add_new(place)
        assert update_summary(place, "--learn", run="moved")["learning"]["n_videos"] == 38
    finally:
        shutil.rmtree(place / "moved")


def test_clusters_are_added(place):
    new = add_new(place)
    done = update_summary(place, "--learn", "--new-clusters", "1")
    assert done["learning"]["new_clusters"] == 1
    assert RunFolder(place / "run").config["clusters"] == 4
    with FeatureStore(place / "run" / "features.h5") as store:
        assert store.n_clusters == 4
    assert set(labels_of(place)) >= set(new)
    assert "learning" not in update_summary(place, "--learn")


def test_a_store_adds_its_rows_to_a_run_on_arrays(tmp_path):
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1, 2], 14)
    x, y = (4 * np.eye(3, width)[kinds] + rng.normal(size=(42, width)) for width in (8, 5))
    names = [f"row {row}" for row in range(42)]

    def store(name, rows, **spaces):
        arrays = {space: values[rows].astype(np.float32) for space, values in spaces.items()}
        FeatureStore.from_arrays(tmp_path / name, arrays, paths=[names[row] for row in rows]).close()

    old, new = [row for row in range(42) if row % 7], [row for row in range(42) if row % 7 == 0]
    store("old.h5", old, x=x, y=y)
    succeeded(selavi("train-heads", "old.h5", "--clusters", "3", "--out", "run", cwd=tmp_path))
    before = {row["path"]: row["label"] for row in rows_of(tmp_path / "run" / "labels.csv")}
    learnt_from = (tmp_path / "old.h5").read_bytes()
    store("new.h5", new, x=x, y=y)
    done = update_summary(tmp_path, videos="new.h5")
    assert done["counts"] | {"new": 6, "unchanged": 36, "changed": 0} == done["counts"]
    after = {row["path"]: row["label"] for row in rows_of(tmp_path / "run" / "labels.csv")}
    assert {name: after[name] for name in before} == before
    by_kind = {kind: before[names[row]] for row, kind in zip(range(42), kinds, strict=True) if row % 7}
    assert [after[names[row]] for row in new] == [by_kind[kinds[row]] for row in new]
    assert (tmp_path / "old.h5").read_bytes() == learnt_from
    assert update_summary(tmp_path, videos="new.h5")["counts"]["new"] == 0
    x[1] = x[20]
    y[1] = y[20]
    store("changed.h5", [1, 2], x=x, y=y)
    assert update_summary(tmp_path, videos="changed.h5")["files"]["changed"] == ["row 1"]
    now = {row["path"]: row["label"] for row in rows_of(tmp_path / "run" / "labels.csv")}
    assert now["row 1"] == by_kind[kinds[20]]
    done = update_summary(tmp_path, "--learn", videos="new.h5")
    assert done["learning"]["n_videos"] == 42
    assert Path(RunFolder(tmp_path / "run").config["store"]) == tmp_path / "run" / "encoded.h5"
    store("other.h5", new, z=x)
    refused(selavi("update", "run", "other.h5", cwd=tmp_path), "other.h5", "features/x")
    refused(selavi("update", "run", ".", cwd=tmp_path), "NEW.h5")
    refused(selavi("update", "run", "none.h5", cwd=tmp_path), "none.h5")


def test_what_does_not_go_with_heads_is_refused(place):
    refused(selavi("update", "run", "videos", "--learn", "--epochs", "3", cwd=place), "--epochs")
    with FeatureStore.from_arrays(place / "e.h5", {"logmel": np.ones((2, 3))}, paths=["a", "b"]):
        pass
    refused(selavi("update", "run", "e.h5", cwd=place), "e.h5")
    (place / "run" / "encoded.h5").unlink()
    refused(selavi("update", "run", "videos", cwd=place), "encoded.h5")


def stored_paths(place):
    with FeatureStore(place / "run" / "features.h5") as store:
        return store.paths


def test_a_run_by_encoders_labels_videos_as_it_labels_their_features(place):
    succeeded(selavi("label", "run", "new", "--out", "by_videos.csv", "--workers", "1", cwd=place))
    succeeded(selavi("extract", "new", *ENCODER, "--out", "new.h5", cwd=place))
    succeeded(selavi("label", "run", "new.h5", "--out", "by_store.csv", cwd=place))
    assert labels_of(place, "by_videos.csv") == labels_of(place, "by_store.csv")
    assert len(labels_of(place, "by_videos.csv")) == 6
    run = Run.open(place / "run")
    found = run.predict(place / "new", workers=1)
    assert found.labels.tolist() == run.predict(place / "new.h5").labels.tolist()
    assert [name for name in os.listdir(place) if name.endswith(".encoded")] == []
    (place / "new.h5").unlink()


def test_videos_or_options_that_a_run_of_heads_cannot_use_are_refused(place):
    refused(selavi("label", "run", "new", "--clips", "2", cwd=place), "--clips")
    refused(selavi("label", "run", "nowhere", cwd=place), "nowhere does not exist")
    arrays = {"video": np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)}
    FeatureStore.from_arrays(place / "arrays.h5", arrays, paths=[str(row) for row in range(20)]).close()
    run = train_heads(place / "arrays.h5", 2, out=place / "of_arrays")
    refused(selavi("label", "of_arrays", "new", cwd=place), "selavi label of_arrays NEW.h5")
    with pytest.raises(InputError) as error:
        run.predict(place / "new")
    assert Path(str(error.value.path)).name == "arrays.h5"
    shutil.rmtree(place / "of_arrays")
    (place / "arrays.h5").unlink()


@pytest.mark.processes
@pytest.mark.parametrize("options", [[], ["--learn", "--new-clusters", "1"]], ids=["update", "learn"])
def test_killed_at_any_moment_nothing_is_lost_and_the_result_is_the_same(place, options):
    def grow():
        restore(place)
        add_new(place)
        first, second = sorted(labels_of(place))[:2]
        edit(place, op="move", videos=[first], to=1)
        edit(place, op="rename", cluster=1, name="kind")
        os.rename(first, place / "videos" / "moved.mp4")
        shutil.copyfile(next((place / "new").rglob("*.mp4")), second)

    def content():
        run = RunFolder(place / "run")
        files = {name: (run.folder / name).read_bytes() for name in ("labels.csv", "learnt.json", "clusters.png")}
        edits = annotations_of(run).read().edits_of("consensus")
        for store in ("features.h5", "encoded.h5"):
            with FeatureStore(run.folder / store) as opened:
                files |= {(store, name): opened.get(name).tobytes() for name in opened.names}
                files[store] = (opened.paths, opened.classes)
        assert not run.update_folder.exists()
        assert not run.learning_folder.exists()
        return files | {"edits": (dict(edits.moved), dict(edits.names), set(edits.wrong)), "config": run.config}

    known = labels_of(place)

    def check():  # the table is whole, as it was or as it will be
        assert len(labels_of(place)) in (len(known), len(known) + 6)

    command = ["update", "run", "videos", "--workers", "1", *options]
    assert_kills_do_no_harm(command, place, restore=grow, content=content, check=check)
