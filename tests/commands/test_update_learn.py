"""`selavi update --learn`: a run learns on from new videos and corrections, and clusters keep their numbers."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from backbones.learner.checkpoint import read_newest
from selavi_ref import Run
from selavi_ref.browser.annotations import annotations_of
from selavi_ref.browser.collection import open_collection
from selavi_ref.browser.final_labels import final_labels
from selavi_ref.datasets import make_collection
from selavi_ref.ensemble.labels import label_store
from selavi_ref.runs.run import Run as RunFolder
from selavi_ref.store import FeatureStore
from tests.support.command_line import refused, rows_of, selavi, succeeded
from tests.support.growing import edit, keep, restore, update_summary
from tests.support.kills import assert_kills_do_no_harm
from tests.support.small_runs import PARTS

pytestmark = pytest.mark.processes  # each trains runs

LEARN = ["--learn", "--epochs", "2"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with a run on 24 videos, to which 8 were added."""
    folder = tmp_path_factory.mktemp("learn")
    make_collection(folder / "videos", 24, seed=3, seconds=1.5, size=48, fps=8)
    (folder / "parts.toml").write_text(PARTS)
    options = ["--clusters", "3", "--config", "parts.toml", "--epochs", "5", "--workers", "0"]
    succeeded(selavi("train", "videos", *options, "--out", "run", cwd=folder))
    make_collection(folder / "videos" / "more", 8, seed=4, seconds=1.5, size=48, fps=8)
    return keep(folder, "run")


@pytest.fixture
def place(kept):
    return restore(kept)


def learn(place, *options):
    return update_summary(place, *LEARN, *options)


def labels_of(table):
    return {row["path"]: row["label"] for row in rows_of(table)}


def correct(place):
    """Name a cluster, move two videos to it, and mark two as wrong in theirs; their paths."""
    labels = labels_of(place / "run" / "labels.csv")
    edit(place, op="rename", cluster=1, name="bells")
    moved = [path for path, label in labels.items() if label != "1"][:2]
    wrong = [path for path in labels if path not in moved][:2]
    edit(place, op="move", videos=moved, to=1)
    edit(place, op="wrong", videos=wrong, wrong=True)
    return moved, {path: int(labels[path]) for path in wrong}


def test_it_learns_from_all_videos_and_labels_mean_the_same_everywhere(place):
    before = labels_of(place / "run" / "labels.csv")
    done = learn(place)
    assert done["counts"]["new"] == 8
    assert done["learning"]["n_videos"] == 32
    assert sum(fate["before"] for fate in done["learning"]["clusters"]) == len(before)
    after = labels_of(place / "run" / "labels.csv")
    assert len(after) == 32
    assert {row["path"] for row in rows_of(place / "run" / "videos.csv")} == set(after)
    assert rows_of(place / "run" / "added.csv") == []
    epochs = [r["epoch"] for r in RunFolder(place / "run").records if "epoch" in r]
    assert epochs == [1, 2, 3, 4, 5, 6, 7]
    # The same networks, the same videos: the same labels, in the numbers of the run.
    succeeded(selavi("label", "run", "videos", "--workers", "0", "--out", "again.csv", "--force", cwd=place))
    assert labels_of(place / "again.csv") == after
    succeeded(selavi("check", "run", "--clips", "2", "--no-files", "--workers", "0", cwd=place))
    settings = RunFolder(place / "run").config
    assert settings == RunFolder(place / "kept-run").config
    assert not (place / "run" / "learning").exists()
    again = learn(place)
    assert "learning" not in again
    assert labels_of(place / "run" / "labels.csv") == after


def test_corrections_hold_in_what_is_learnt_and_follow_it(place):
    moved, wrong = correct(place)
    done = learn(place)
    assert done["learning"]["n_corrected"] == 4
    run = RunFolder(place / "run")
    rows = {row["path"]: number for number, row in enumerate(rows_of(run.videos_file))}
    labels = read_newest(run)["state"]["labels"].numpy()
    with FeatureStore(run.features_file) as store, FeatureStore(place / "kept-run" / "features.h5") as old:
        groups, before = store.get("groups"), old.get("groups")
    for head in range(2):
        found = before[head][labels[:, head]]
        assert all(found[rows[path]] == 1 or 1 not in before[head] for path in moved)
        assert all(found[rows[path]] != cluster for path, cluster in wrong.items())
    assert groups.shape == (2, 3)
    final = final_labels(open_collection(run.folder))
    at = {path: row for row, path in enumerate(final.paths)}
    assert [final.cluster[at[path]] for path in moved] == [1, 1]
    edits = annotations_of(run).read().edits_of("consensus")
    for path, cluster in wrong.items():
        elsewhere = final.learnt[at[path]] != cluster
        assert (path in edits.excluded, path in edits.wrong) == (elsewhere, not elsewhere)
    kept_names = {fate["cluster"] for fate in done["learning"]["clusters"] if fate["kind"] == "kept"}
    assert Run.open(run.folder).names == ({1: "bells"} if 1 in kept_names else {})
    assert "learning" not in learn(place)


@pytest.mark.processes
def test_clusters_can_be_added_and_those_of_people_are_learnt(place):
    path = rows_of(place / "run" / "labels.csv")[0]["path"]
    edit(place, op="move", videos=[path], to="new", name="own")
    done = learn(place, "--new-clusters", "1")
    assert done["learning"]["new_clusters"] == 1
    run = Run.open(place / "run")
    assert run.names == {3: "own"}
    assert run.labels[run.paths.index(path)] == 3
    with FeatureStore(place / "run" / "features.h5") as store:
        assert store.n_clusters == 5
    assert RunFolder(place / "run").config["clusters"] == 5
    succeeded(selavi("label", "run", "videos/more", "--workers", "0", "--out", "-", cwd=place))


@pytest.mark.processes
def test_videos_that_are_gone_leave_the_run_and_unusable_ones_are_only_labelled(place):
    gone = place / "videos" / "more" / "gone.mp4"
    shutil.copy(next((place / "videos" / "more").rglob("*.mp4")), gone)
    succeeded(selavi("update", "run", "videos", "--workers", "0", cwd=place))
    gone.unlink()
    done = learn(place, "--new-clusters", "auto")
    assert done["counts"]["gone"] == 1
    assert str(gone) not in labels_of(place / "run" / "labels.csv")
    assert done["learning"]["new_clusters"] in (0, 1)


def test_cross_fitted_labels_are_found_anew_and_obey_corrections(tmp_path):
    make_collection(tmp_path / "videos", 32, seed=3, seconds=1.5, size=48, fps=8)
    options = ["--clusters", "2", "--heads", "2", "--overclustering-heads", "0", "--epochs", "2", "--workers", "0"]
    succeeded(selavi("train", "videos", *options, "--out", "run", cwd=tmp_path))
    run = RunFolder(tmp_path / "run")
    before, model = labels_of(run.labels_file), run.final_labels_file.read_bytes()
    make_collection(tmp_path / "videos" / "more", 8, seed=4, seconds=1.5, size=48, fps=8)
    moved = next(path for path, label in before.items() if label == "0")
    edit(tmp_path, op="move", videos=[moved], to=1)
    learn(tmp_path)
    after = labels_of(run.labels_file)
    assert len(after) == 40
    assert after[moved] == "1"
    assert np.mean([after[path] == label for path, label in before.items()]) > 0.5  # clusters keep their numbers
    assert run.final_labels_file.read_bytes() != model
    with FeatureStore(run.features_file) as store:
        labels = label_store(store)
        np.testing.assert_array_equal(labels.label, store.get("log_posterior").argmax(1))
    succeeded(selavi("label", "run", tmp_path / "videos" / "more", "--workers", "0", "--out", "m.csv", cwd=tmp_path))


def test_options_of_learning_need_it(place):
    refused(selavi("update", "run", "videos", "--epochs", "3", cwd=place), "--epochs", "--learn")
    refused(selavi("update", "run", "videos", "--new-clusters", "auto", cwd=place), "--new-clusters", "--learn")
    refused(selavi("update", "run", "videos", "--learn", "--dry-run", cwd=place), "--learn", "--dry-run")
    refused(selavi("update", "run", "videos", "--learn", "--new-clusters", "many", cwd=place), "many")


@pytest.mark.processes
def test_killed_at_any_moment_it_ends_with_the_same_labels_and_edits(place):
    def content():
        run = RunFolder(place / "run")
        files = [run.labels_file, run.videos_file, run.added_file, run.learnt_file]
        edits = annotations_of(run).read().edits_of("consensus")
        with FeatureStore(run.features_file) as store:
            values = {name: np.nan_to_num(store.get(name)).tobytes() for name in store.names}
        return [file.read_bytes() for file in files], vars(edits), values

    def grow():
        restore(place)
        correct(place)

    def check():  # the run can be read at any time
        open_collection(place / "run")

    command = ["update", "run", "videos", *LEARN, "--workers", "0"]
    assert_kills_do_no_harm(command, place, restore=grow, content=content, check=check)
    assert not (place / "run" / "learning").exists()
