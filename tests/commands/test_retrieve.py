"""`selavi retrieve` as a user meets it: real videos, and tables that say what a plain computation says."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from selavi_ref.errors import InputError
from selavi_ref.metrics import nearest
from selavi_ref.report.retrieval import Gallery, neighbours_table, retrieval_table
from selavi_ref.store import FeatureStore
from tests.support.command_line import refused, rows_of, selavi, succeeded
from tests.support.comparisons import BASE, comparison_place, write_store
from tests.support.media_files import write_video
from tests.support.refusal import refused as refused_error
from tests.support.small_runs import (
    figure_at,
    plain_posteriors,
    read_store,
    times_of,
    written,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with comparison_place(tmp_path_factory.mktemp("comparisons")) as folder:
        yield folder


pytestmark = pytest.mark.processes  # each trains runs


def plain_recall(distances, query_classes, item_classes, steps, *, alone):
    """Sort the items of each query by distance, the earlier first where they are equal, and look for its class."""
    hits = dict.fromkeys(steps, 0)
    for row, far in enumerate(distances):
        order = [i for i in np.argsort(far, kind="stable") if not (alone and i == row)]
        for k in steps:
            hits[k] += any(item_classes[i] == query_classes[row] for i in order[:k])
    return {k: count / len(distances) for k, count in hits.items()}


def plain_distances(a, b, metric):
    return cdist(np.asarray(a, float), np.asarray(b, float), metric)


def plain_apart(queries, items):
    """One minus Bhattacharyya's coefficient of the posteriors of each head (H, N, K), mean over the heads."""
    shared = [np.sqrt(q)[:, None] * np.sqrt(i)[None] for q, i in zip(queries, items, strict=True)]
    return 1 - np.mean([part.sum(2) for part in shared], 0)


def recall_in(row, steps):
    return {k: row[f"at_{k}"] for k in steps}


@pytest.fixture(scope="module")
def stores(place):
    """The store of the run's videos, and one of new ones."""
    succeeded(selavi("extract", "run", "new", "--out", "new.h5", *BASE, cwd=place))
    return place / "run" / "features.h5", place / "new.h5"


class TestRetrieval:
    @pytest.mark.parametrize("metric", ["euclidean", "cosine"])
    def test_recall_among_stores_is_that_of_sorted_distances(self, place, stores, metric):
        options = ["--metric", metric, "--neighbours", "3", "--out", f"among_{metric}"]
        out = succeeded(selavi("retrieve", "run/features.h5", "new.h5", *options, cwd=place))
        folder = place / f"among_{metric}"
        rows = written(folder / "retrieval")
        assert out.strip() == (folder / "retrieval.txt").read_text().strip()
        steps = (1, 5, 10, 20)
        item_paths, item_classes, *items = read_store(stores[0], "features/video", "features/audio")
        query_paths, query_classes, *queries = read_store(stores[1], "features/video", "features/audio")
        names = ("video", "audio")
        assert [(row["query"], row["item"], row["by"]) for row in rows] == [
            ("video", "video", "features"),
            ("audio", "audio", "features"),
            *((a, b, "clusters") for a in names for b in names),
        ]
        assert {row["queries"] for row in rows} == {16}
        for row in rows:
            a, b = (names.index(row[side]) for side in ("query", "item"))
            if row["by"] == "features":
                distances = plain_distances(queries[a], items[b], metric)
            else:
                posteriors = [
                    plain_posteriors(store, [row[s]]) for store, s in zip(stores[::-1], ("query", "item"), strict=True)
                ]
                distances = plain_apart(*posteriors)
            wanted = plain_recall(distances, query_classes, item_classes, steps, alone=False)
            # Of items that are equally near but for rounding, either may come first.
            assert recall_in(row, steps) == pytest.approx(wanted, abs=1.01 / 16), row
        assert "video to audio, by clusters" in figure_at(folder / "retrieval")
        listed = written(folder / "neighbours", figure=False)
        assert len(listed) == 2 * 16 * 3
        for m, a, b in zip(names, queries, items, strict=True):
            distances = plain_distances(a, b, metric)
            for row, path in enumerate(query_paths):
                own = [r for r in listed if (r["query"], r["modality"]) == (path, m)]
                order = np.argsort(distances[row], kind="stable")[:3]
                assert [r["rank"] for r in own] == [1, 2, 3]
                assert [r["found"] for r in own] == [item_paths[i] for i in order]
                assert [r["distance"] for r in own] == pytest.approx(distances[row, order], abs=1e-5)

    def test_without_queries_no_video_finds_itself(self, place, stores):
        options = ["--neighbours", "31", "--out", "alone", "--format", "csv"]
        succeeded(selavi("retrieve", "run/features.h5", *options, cwd=place))
        _, classes, video = read_store(stores[0], "features/video")
        row = written(place / "alone" / "retrieval")[0]
        steps = (1, 5, 10, 20)
        distances = plain_distances(video, video, "euclidean")
        assert recall_in(row, steps) == pytest.approx(plain_recall(distances, classes, classes, steps, alone=True))
        listed = written(place / "alone" / "neighbours", figure=False)
        assert len(listed) == 2 * 32 * 31
        assert all(r["query"] != r["found"] for r in listed)
        assert "each video looks for others, not for itself" in (place / "alone" / "retrieval.txt").read_text()

    @pytest.mark.parametrize(("pool", "frames"), [("max", []), ("mean", ["--frames", "4"])])
    def test_collections_are_compared_by_the_networks_of_a_run(self, place, pool, frames):
        options = ["--run", "run", "--pool", pool, *frames, "--clips", "2", *BASE, "--out", f"by_{pool}"]
        command = ["retrieve", "new", "few", *options]
        out = succeeded(selavi(*command, cwd=place))
        folder = place / f"by_{pool}"
        rows = {(row["query"], row["item"], row["by"]): row for row in written(folder / "retrieval")}
        ending = f"{pool}-clips2{'-frames4' if frames else ''}.h5"
        steps = (1, 5, 10)
        widths = {}
        for m in ("video", "audio"):
            _, item_classes, items = read_store(folder / f"items-{ending}", f"features/{m}")
            _, query_classes, queries = read_store(folder / f"queries-{ending}", f"features/{m}")
            wanted = plain_recall(
                plain_distances(queries, items, "euclidean"), query_classes, item_classes, steps, alone=False
            )
            assert recall_in(rows[m, m, "features"], steps) == pytest.approx(wanted)
            widths[m] = items.shape[1]
        stores = [folder / f"{side}-clips2.h5" for side in ("queries", "items")]
        posteriors = [plain_posteriors(store, [m]) for store, m in zip(stores, ("audio", "video"), strict=True)]
        wanted = plain_recall(plain_apart(*posteriors), query_classes, item_classes, steps, alone=False)
        assert recall_in(rows["audio", "video", "clusters"], steps) == pytest.approx(wanted)
        narrow = read_store(stores[0], "features/video")[2].shape[1]
        assert (widths["video"] > narrow) == (pool == "max")
        with FeatureStore(folder / f"items-{ending}") as store:
            data = store.provenance
        assert (data["pool"], data["clips"], data["frames"]) == (pool, 2, 4 if frames else 2)
        before = times_of(folder, "*.h5")
        assert len(before) == 4
        assert succeeded(selavi(*command, cwd=place)) == out
        refused(selavi("retrieve", "few", "few", *options, cwd=place), "items-clips2.h5 is of other videos")
        options[1] = "another"
        refused(selavi("retrieve", "new", "few", *options, cwd=place), "items-clips2.h5 is of another run")
        assert times_of(folder, "*.h5") == before

    def test_the_mean_of_maps_of_one_clip_is_what_extract_writes_at_length_one(self, place, stores):
        succeeded(selavi("retrieve", "new", "--run", "run", *BASE, "--out", "mean", cwd=place))
        for m in ("video", "audio"):
            ours = read_store(place / "mean" / "items-mean-clips1.h5", f"features/{m}")[2]
            theirs = read_store(stores[1], f"features/{m}")[2]
            assert np.allclose(ours, theirs / np.linalg.norm(theirs, axis=1, keepdims=True), atol=1e-5)

    def test_videos_that_cannot_be_decoded_are_left_out_wherever_they_stand(self, place):
        odd = place / "odd"
        for kind in ("ball", "rain"):
            shutil.copytree(place / "new" / kind, odd / kind)
        for name in ("ball/aaa.mp4", "rain/zzz.mp4"):
            (odd / name).write_text("no video")
        write_video(odd / "rain" / "silent.mp4", n_frames=45)
        options = ["--run", "run", "--pool", "max", *BASE, "--neighbours", "1", "--out", "odd_out"]
        succeeded(selavi("retrieve", "odd", *options, cwd=place))
        counts = {
            (row["query"], row["item"], row["by"]): row["queries"] for row in written(place / "odd_out" / "retrieval")
        }
        assert counts["video", "video", "features"] == 5
        assert counts["audio", "audio", "features"] == 4
        assert counts["audio", "video", "clusters"] == 4
        found = {
            Path(row[side]).name for row in rows_of(place / "odd_out" / "neighbours.csv") for side in ("query", "found")
        }
        assert not {"aaa.mp4", "zzz.mp4"} & found

    def test_queries_that_lack_a_modality_are_compared_by_the_other(self, place):
        rng = np.random.default_rng(0)
        write_store(place / "both.h5", {m: rng.normal(size=(6, 3)) for m in ("video", "audio")}, classes=list("aabbcc"))
        write_store(place / "silent.h5", {"video": rng.normal(size=(2, 3))}, classes=["a", "b"])
        options = ["--neighbours", "2", "--out", "silent"]
        succeeded(selavi("retrieve", "both.h5", "silent.h5", *options, cwd=place))
        assert [row["query"] for row in written(place / "silent" / "retrieval")] == ["video"]
        assert {row["modality"] for row in written(place / "silent" / "neighbours", figure=False)} == {"video"}
        succeeded(selavi("retrieve", "silent.h5", "both.h5", *options, cwd=place))
        assert len(rows_of(place / "silent" / "neighbours.csv")) == 12

    def test_heads_that_see_one_modality_only_are_left_out_of_comparisons(self, place):
        rng = np.random.default_rng(1)
        logs = {name: np.log(rng.dirichlet(np.ones(3), 8)) for name in ("video/0", "audio/0", "video/1")}
        features = {m: rng.normal(size=(8, 2)) for m in ("video", "audio")}
        write_store(place / "uneven.h5", features, classes=list("abcdabcd"), log_prob=logs)
        succeeded(selavi("retrieve", "uneven.h5", "--out", "uneven", cwd=place))
        rows = {(row["query"], row["item"], row["by"]): row for row in written(place / "uneven" / "retrieval")}
        posteriors = [np.exp(logs[f"{m}/0"])[None] for m in ("video", "audio")]
        wanted = plain_recall(plain_apart(*posteriors), "abcdabcd", "abcdabcd", (1, 5), alone=True)
        assert recall_in(rows["video", "audio", "clusters"], (1, 5)) == pytest.approx(wanted)

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (["nowhere.h5"], "nowhere.h5 does not exist"),
            (["run/features.h5", "nowhere.h5"], "nowhere.h5 does not exist"),
            (["quick.toml"], "quick.toml is not an HDF5 file"),
            (["videos"], "videos is a folder of videos; give --run RUN"),
            (["nowhere", "--run", "run"], "nowhere does not exist"),
            (["flat", "--run", "run"], "flat names no true classes"),
            (["videos", "--run", "nowhere"], "nowhere is not a folder"),
            (["videos", "--run", "heads"], "heads has learnt from features"),
            (["videos", "--run", "unfinished"], "unfinished has no checkpoint yet"),
            (["videos", "--run", "run", "--frames", "0"], "--frames"),
            (["run/features.h5", "--pool", "max"], "--pool goes with --run"),
            (["run/features.h5", "--clips", "3", "--frames", "8"], "--clips, --frames goes with --run"),
            (["run/features.h5", "--neighbours", "0"], "--neighbours"),
            (["run/features.h5", "--metric", "taxi"], "--metric"),
            (["heads/features.h5"], "heads/features.h5 has no features"),
            (["run/features.h5", "heads/features.h5"], "heads/features.h5 has no features"),
            (["unnamed.h5"], "unnamed.h5 names no true classes"),
            (["wide.h5", "narrow.h5"], "narrow.h5 has 4 features of video for each video, and wide.h5 5"),
            (["wide.h5", "deaf.h5"], "deaf.h5 has features of touch; wide.h5 of video"),
            (["lonely.h5"], "no two videos"),
            ([], "Missing argument 'ITEMS'"),
        ],
    )
    def test_wrong_arguments_are_refused_in_one_line(self, place, arguments, why):
        for name, features, classes in (
            ("unnamed", {"video": np.eye(4)}, None),
            ("wide", {"video": np.eye(5)}, list("aabbb")),
            ("narrow", {"video": np.eye(4)}, list("aabb")),
            ("deaf", {"touch": np.eye(4)}, list("aabb")),
            ("lonely", {"video": np.eye(4)}, ["a", "", "", ""]),
        ):
            if not (place / f"{name}.h5").exists():
                write_store(place / f"{name}.h5", features, classes=classes)
        line = refused(selavi("retrieve", *arguments, "--out", "not_made", cwd=place), why)
        assert line.startswith("selavi retrieve: ")
        assert not list((place / "not_made").glob("*"))


@pytest.mark.parametrize("name", ["baseline", "retrieve"])
def test_help_has_examples(place, name):
    assert f"selavi {name} " in succeeded(selavi(name, "--help", cwd=place)).partition("Examples")[2]


@given(
    st.integers(2, 9),
    st.integers(2, 9),
    st.integers(1, 3),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 1000),
)
@settings(max_examples=30)
def test_retrieval_across_modalities_is_by_the_overlap_of_posteriors(n_items, n_queries, heads, clusters, alone, seed):
    """`Gallery.of` a store and `retrieval_table`, against sorting by Bhattacharyya's coefficient."""
    import tempfile

    rng = np.random.default_rng(seed)
    sides = []
    for count in (n_items, n_queries)[: 2 - alone]:
        posteriors = {m: rng.dirichlet(np.ones(clusters), (heads, count)) for m in ("video", "audio")}
        classes = [str(name) for name in rng.choice(["", "a", "b", "c"], count)]
        has = {m: rng.random(count) < 0.8 for m in ("video", "audio")}
        with tempfile.TemporaryDirectory() as folder:
            logs = {f"{m}/{h}": np.log(p[h]) for m, p in posteriors.items() for h in range(heads)}
            features = {m: rng.normal(size=(count, 2)) for m in ("video", "audio")}
            path = write_store(f"{folder}/s.h5", features, classes=classes, log_prob=logs, present=has)
            with FeatureStore(path) as store:
                gallery = Gallery.of(store)
        sides.append((gallery, posteriors, np.array(classes), has))
    (items, theirs, item_classes, there), (queries, ours, query_classes, here) = sides[0], sides[-1]
    try:
        rows = retrieval_table(items, None if alone else queries, at=(1, 2, 3)).rows
    except InputError:
        rows = []
    data = {(row["query"], row["item"]): row for row in rows if row["by"] == "clusters"}
    for a, b in (("video", "audio"), ("audio", "video"), ("video", "video"), ("audio", "audio")):
        who, what = here[a] & (query_classes != ""), there[b] & (item_classes != "")
        if alone:
            who = what = who & what
        steps = [k for k in (1, 2, 3) if k <= what.sum() - alone]
        if not who.any() or not steps:
            assert (a, b) not in data
            continue
        distances = plain_apart(ours[a][:, who], theirs[b][:, what])
        gaps = np.diff(np.sort(distances, 1), axis=1)
        if gaps.size and gaps.min() < 1e-5:
            continue  # a tie, but for rounding
        wanted = plain_recall(distances, query_classes[who], item_classes[what], steps, alone=alone)
        assert data[a, b]["queries"] == who.sum()
        assert {k: data[a, b][f"at_{k}"] for k in steps} == pytest.approx(wanted)


def test_a_list_of_neighbours_is_as_long_as_there_are_items():
    rng = np.random.default_rng(0)
    features = {"video": rng.normal(size=(4, 3)).astype(np.float32)}
    gallery = Gallery(list("wxyz"), [""] * 4, features, present={"video": np.array([True, True, True, False])})
    rows = neighbours_table(gallery, None, 9).rows
    assert len(rows) == 3 * 2
    found, _ = nearest(features["video"][:3], features["video"][:3], 2, leave_out_self=True)
    assert [row["found"] for row in rows] == ["wxyz"[place] for row in found for place in row]


def test_galleries_of_different_videos_are_refused(tmp_path):
    for name, paths in (("a", ["1", "2"]), ("b", ["1", "3"])):
        write_store(tmp_path / f"{name}.h5", {"video": np.eye(2)}, paths=paths)
    with (
        FeatureStore(tmp_path / "a.h5") as first,
        FeatureStore(tmp_path / "b.h5") as second,
        refused_error(path=tmp_path / "b.h5"),
    ):
        Gallery.of(first, second)
