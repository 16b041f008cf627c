"""Baselines and retrieval as a user meets them: real videos, and tables that say what a plain computation says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import backbones.runs.baselines
from backbones.data import augment
from backbones.data.data_source import DataSource
from backbones.learner.checkpoint import read_newest
from backbones.networks import registry
from backbones.runs.baselines import Baselines, network_settings
from selavi_ref.datasets import scan
from selavi_ref.errors import InputError
from selavi_ref.media import read_clip
from selavi_ref.metrics import nearest
from selavi_ref.report.retrieval import Gallery, neighbours_table, retrieval_table
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore, StoreWriter
from tests.support.command_line import refused, rows_of, selavi, succeeded
from tests.support.media_files import tone, write_video
from tests.support.refusal import refused as refused_error
from tests.support.small_runs import (
    figure_at,
    plain_labels,
    plain_posteriors,
    plain_scores,
    read_store,
    small_place,
    times_of,
    written,
)

pytestmark = pytest.mark.processes  # each trains runs

BASE = ["--workers", "0"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with small_place(tmp_path_factory.mktemp("comparisons")) as folder:
        succeeded(selavi("train-heads", "run/features.h5", "--clusters", "4", "--out", "heads", cwd=folder))
        shutil.copytree(folder / "videos" / "ball", folder / "one" / "ball")
        shutil.copytree(folder / "videos" / "ball", folder / "flat")
        (folder / "few").mkdir()
        for kind in ("bird", "lamp", "rain"):
            (folder / "few" / kind).symlink_to(folder / "new" / kind)
        (folder / "unfinished").mkdir()
        for name in ("config.toml", "videos.csv"):
            shutil.copy(folder / "run" / name, folder / "unfinished")
        yield folder


def write_store(path, features, *, classes=None, log_prob=None, present=None, paths=None):
    """A store of features, and of log-probabilities by name."""
    values = {f"features/{m}": np.asarray(x, np.float32) for m, x in features.items()}
    values |= {f"log_prob/{name}": np.asarray(x, np.float32) for name, x in (log_prob or {}).items()}
    count = len(next(iter(values.values())))
    widths = {name: x.shape[1] for name, x in values.items()}
    with StoreWriter(path, paths or [f"{row}.mp4" for row in range(count)], widths, classes=classes) as writer:
        writer.write(slice(None), values, present=present)
        writer.finish()
    return path


def scores_in(row):
    return {name: row[name] for name in ("nmi", "accuracy", "ari")}


@pytest.fixture(scope="module")
def compared(place):
    """Simpler ways beside a run, with a file of weights for the video network."""
    model = read_newest(Run(place / "run"))["model"]
    prefix = "video_network.base."
    weights = {name.removeprefix(prefix): value for name, value in model.items() if name.startswith(prefix)}
    torch.save(weights, place / "weights.pth")
    options = ["--run", "run", "--video-weights", "weights.pth", *BASE, "--out", "compared"]
    told = json.loads(succeeded(selavi("baseline", "videos", *options, "--format", "json", cwd=place)))
    return place / "compared", told


class TestBaseline:
    def test_all_ways_stand_beside_each_other(self, compared):
        folder, told = compared
        rows = written(folder / "baselines")
        assert rows == told["rows"]
        kinds = ("inputs", "random networks", "given networks", "trained networks")
        ways = [f"K-means on {what}: {m}" for what in kinds for m in ("pictures", "sounds", "both")]
        ways += ["ours, pictures only", "ours, sounds only", "ours"]
        assert [row["labels"] for row in rows] == ways
        assert (told["videos"], told["classes"]) == (32, 8)
        assert set(ways) <= figure_at(folder / "baselines")
        assert not (folder / "networks.h5").exists()

    def test_scores_of_the_run_are_those_of_its_labels(self, compared):
        folder, told = compared
        rows = {row["labels"]: row for row in told["rows"]}
        _, classes = read_store(folder / "run.h5")
        found = {
            "ours, pictures only": plain_labels(folder / "run.h5", ["video"]),
            "ours, sounds only": plain_labels(folder / "run.h5", ["audio"]),
            "ours": plain_labels(folder / "run.h5"),
        }
        for name, labels in found.items():
            assert scores_in(rows[name]) == pytest.approx(plain_scores(classes, labels)), name
        assert len(set(found["ours"])) > 2

    def test_given_weights_are_those_of_the_file(self, place, compared, monkeypatch):
        """The middle clip of each video, seen by a network with the weights of the file."""
        seen = {}
        monkeypatch.setattr(
            backbones.runs.baselines, "kmeans_of_each", lambda values, *args, **kwargs: seen.update(values) or {}
        )
        settings = network_settings(1000, 4, video_weights=str(place / "weights.pth"))
        manifest = scan(place / "new")
        Baselines(manifest, 4, place, data_source=DataSource(0)).label_networks("given networks", settings)
        clip = settings.backbone.clip
        network = registry.Base(registry.find("video", "tiny").build())
        network.base.load_state_dict(torch.load(place / "weights.pth"))
        options = {"fps": clip.fps, "frames": clip.frames, "size": clip.decode_size, "sample_rate": 8000}
        start = (1.5 - clip.length) / 2
        frames = [read_clip(path, start, **options, want_audio=False).frames for path in manifest.paths]
        with torch.no_grad():
            wanted = network.eval()(augment.video_input(torch.from_numpy(np.stack(frames)), clip, None, None))
        ours = torch.from_numpy(seen["pictures"])
        assert torch.cosine_similarity(ours, wanted).min() > 0.999  # of networks of lower precision
        assert torch.cosine_similarity(ours[:-1], wanted[1:]).min() < 0.999

    def test_what_inputs_show_is_found_and_what_they_do_not_is_not(self, place, monkeypatch):
        """Colour and pitch are independent: each is what one modality shows, and the other does not."""
        (place / "plain").mkdir()
        names = ["path,class"]
        for colour, hertz, copy in ((c, h, i) for c in (0, 1) for h in (400, 2500) for i in range(3)):
            pictures = np.full((11, 48, 64, 3), 40 + 10 * copy, np.uint8)
            pictures[..., 2 * colour] = 220
            path = place / "plain" / ("red", "blue")[colour] / f"{hertz}_{copy}.mp4"
            path.parent.mkdir(exist_ok=True)
            sound = (0.5 + 0.1 * copy) * tone(1.4, hertz, 16000)
            write_video(path, n_frames=11, fps=8, pictures=pictures, sound=sound, sample_rate=16000)
            names.append(f"{path.relative_to(place)},{hertz}")
        (place / "pitch.csv").write_text("\n".join(names) + "\n")
        nmi = {}
        monkeypatch.setattr(Baselines, "label_networks", lambda *args: {})
        for truth in ([], ["--truth", "pitch.csv"]):
            options = ["--clusters", "2", *truth, *BASE, "--format", "json", "--out", "plain_out"]
            told = json.loads(succeeded(selavi("baseline", "plain", *options, cwd=place)))
            nmi[bool(truth)] = {row["labels"].removeprefix("K-means on inputs: "): row["nmi"] for row in told["rows"]}
        assert list(nmi[False]) == ["pictures", "sounds", "both"]
        for by_pitch in (False, True):
            assert nmi[by_pitch]["pictures"] == pytest.approx(float(not by_pitch), abs=1e-9)
            assert nmi[by_pitch]["sounds"] == pytest.approx(float(by_pitch), abs=1e-9)

    def test_a_store_is_scored_without_networks(self, place):
        """Pictures have three kinds, sounds two; both together six, of which three clusters cannot hold all."""
        rng = np.random.default_rng(0)
        classes = [str(name) for name in rng.choice(["a", "b", "c", ""], 60)]
        kinds = {"video": rng.integers(0, 3, 60), "audio": rng.integers(0, 3, 60)}
        features = {m: 9 * np.eye(3, 5)[k] + 0.1 * rng.normal(size=(60, 5)) for m, k in kinds.items()}
        logs = {f"{m}/0": np.log(0.01 + 0.97 * np.eye(3)[(k + 1) % 3]) for m, k in kinds.items()}
        has = {m: rng.random(60) < 0.8 for m in kinds}
        for m in kinds:
            features[m][~has[m]] = np.nan
            logs[f"{m}/0"][~has[m]] = np.nan
        write_store(place / "gaps.h5", features, classes=classes, log_prob=logs, present=has)
        out = succeeded(selavi("baseline", "gaps.h5", "--format", "csv", "--out", "gaps", cwd=place))
        assert out == (place / "gaps" / "baselines.csv").read_text()
        rows = {row["labels"]: row for row in written(place / "gaps" / "baselines")}
        ways = [f"K-means on features: {m}" for m in ("pictures", "sounds", "both")]
        assert list(rows) == [*ways, "ours, pictures only", "ours, sounds only", "ours"]
        for m, name in (("video", "pictures"), ("audio", "sounds")):
            wanted = plain_scores(classes, np.where(has[m], kinds[m], -1))  # who lacks it does not count
            assert scores_in(rows[f"K-means on features: {name}"]) == pytest.approx(wanted)
            assert scores_in(rows[f"ours, {name} only"]) == pytest.approx(wanted)

    def test_both_modalities_weigh_the_same_in_clusters_of_both(self, place):
        """Pictures are a hundred times as large, and tell but two of the four kinds apart."""
        rng = np.random.default_rng(0)
        kinds = rng.integers(0, 4, 60)
        features = {
            "video": 900 * np.eye(2)[kinds // 2] + rng.normal(size=(60, 2)),
            "audio": 9 * np.eye(2)[kinds % 2] + 0.01 * rng.normal(size=(60, 2)),
        }
        classes = [f"kind {kind}" for kind in kinds]
        write_store(place / "weights.h5", features, classes=classes)
        succeeded(selavi("baseline", "weights.h5", "--clusters", "4", "--out", "weights", cwd=place))
        rows = {row["labels"]: row for row in written(place / "weights" / "baselines")}
        assert rows["K-means on features: both"]["nmi"] == pytest.approx(1)
        assert rows["K-means on features: both"]["accuracy"] == 1
        assert list(rows) == [f"K-means on features: {m}" for m in ("pictures", "sounds", "both")]

    def test_features_are_used_again_by_the_same_run_on_the_same_videos_only(self, place, compared, monkeypatch):
        folder, told = compared
        before = times_of(folder, "run.h5")
        command = ["baseline", "videos", "--run", "run", *BASE, "--format", "json", "--out", "compared"]
        for way in ("label_inputs", "label_networks"):
            monkeypatch.setattr(Baselines, way, lambda *args: {})
        again = json.loads(succeeded(selavi(*command, cwd=place)))
        assert times_of(folder, "run.h5") == before
        assert again["rows"] == told["rows"][-6:]
        refused(selavi(command[0], "new", *command[2:], cwd=place), "run.h5 is of other videos")
        refused(selavi(*command[:3], "another", *command[4:], cwd=place), "run.h5 is of another run than another")
        assert times_of(folder, "run.h5") == before

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (["nowhere", "-k", "2"], "nowhere does not exist"),
            (["nowhere.h5", "-k", "2"], "nowhere.h5 does not exist"),
            (["quick.toml", "-k", "2"], "quick.toml is not an HDF5 file"),
            (["videos"], "--clusters is missing"),
            (["videos", "-k", "33"], "--clusters 33: videos has too few usable videos (32)"),
            (["one", "-k", "2"], "one names fewer than two true classes"),
            (["one", "-k", "2", "--truth", "nowhere.csv"], "nowhere.csv cannot be read"),
            (["videos", "--run", "heads"], "heads has learnt from features"),
            (["videos", "--run", "unfinished"], "unfinished has no checkpoint yet"),
            (["videos", "--run", "nowhere"], "nowhere is not a folder"),
            (["videos", "-k", "4", "--video-net", "vgg"], "vgg"),
            (["videos", "-k", "4", "--video-weights", "nowhere.pth"], "--video-weights nowhere.pth does not exist"),
            (
                ["videos", "-k", "4", "--audio-weights", "weights.pth"],
                "weights.pth does not fit the audio network tiny",
            ),
            (["videos", "-k", "4", "--init", "quick.toml"], "quick.toml"),
            (["run/features.h5", "--run", "run"], "--run goes with VIDEOS"),
            (["run/features.h5", "--video-weights", "weights.pth"], "--video-weights goes with VIDEOS"),
            (["features_only.h5"], "--clusters is missing: the store has no heads"),
            (["no_classes.h5", "-k", "2"], "no_classes.h5 names fewer than two true classes"),
            (["run/features.h5", "-k", "33"], "33 clusters"),
            (["run/features.h5", "-k", "1"], "--clusters"),
            (["videos", "-k", "4", "--out", "quick.toml"], "quick.toml"),
        ],
    )
    def test_what_cannot_be_is_one_line_before_anything_is_computed(self, place, compared, arguments, why, monkeypatch):
        def computed(*args, **kwargs):
            raise AssertionError("it computes what will be refused")

        monkeypatch.setattr(Baselines, "label_inputs", computed)
        values = {"video": np.eye(4), "audio": np.eye(4)}
        write_store(place / "features_only.h5", values, classes=["a", "a", "b", "b"])
        write_store(place / "no_classes.h5", values)
        out = [] if "--out" in arguments else ["--out", "not_made"]
        line = refused(selavi("baseline", *arguments, *BASE, *out, cwd=place), why)
        assert line.startswith("selavi baseline: ")
        assert not list((place / "not_made").glob("*"))


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
    def test_collections_are_looked_at_by_the_networks_of_a_run(self, place, pool, frames):
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
            told = store.provenance
        assert (told["pool"], told["clips"], told["frames"]) == (pool, 2, 4 if frames else 2)
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

    def test_queries_that_lack_a_modality_look_with_the_other(self, place):
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
    def test_what_cannot_be_is_one_line(self, place, arguments, why):
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
    told = {(row["query"], row["item"]): row for row in rows if row["by"] == "clusters"}
    for a, b in (("video", "audio"), ("audio", "video"), ("video", "video"), ("audio", "audio")):
        who, what = here[a] & (query_classes != ""), there[b] & (item_classes != "")
        if alone:
            who = what = who & what
        steps = [k for k in (1, 2, 3) if k <= what.sum() - alone]
        if not who.any() or not steps:
            assert (a, b) not in told
            continue
        distances = plain_apart(ours[a][:, who], theirs[b][:, what])
        gaps = np.diff(np.sort(distances, 1), axis=1)
        if gaps.size and gaps.min() < 1e-5:
            continue  # a tie, but for rounding
        wanted = plain_recall(distances, query_classes[who], item_classes[what], steps, alone=alone)
        assert told[a, b]["queries"] == who.sum()
        assert {k: told[a, b][f"at_{k}"] for k in steps} == pytest.approx(wanted)


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
