"""`selavi baseline` as a user meets it: real videos, and tables that say what a plain computation says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import backbones.runs.baselines
from backbones.data import augment
from backbones.data.data_source import DataSource
from backbones.learner.checkpoint import read_newest
from backbones.networks import registry
from backbones.runs.baselines import Baselines, network_settings
from selavi_ref.datasets import scan
from selavi_ref.media import read_clip
from selavi_ref.runs.run import Run
from tests.support.command_line import refused, selavi, succeeded
from tests.support.comparisons import BASE, comparison_place, write_store
from tests.support.media_files import tone, write_video
from tests.support.small_runs import (
    figure_at,
    plain_labels,
    plain_scores,
    read_store,
    times_of,
    written,
)

pytestmark = pytest.mark.processes  # each trains runs


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with comparison_place(tmp_path_factory.mktemp("comparisons")) as folder:
        yield folder


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
    result = json.loads(succeeded(selavi("baseline", "videos", *options, "--format", "json", cwd=place)))
    return place / "compared", result


class TestBaseline:
    def test_all_ways_stand_beside_each_other(self, compared):
        folder, result = compared
        rows = written(folder / "baselines")
        assert rows == result["rows"]
        kinds = ("inputs", "random networks", "given networks", "trained networks")
        ways = [f"K-means on {what}: {m}" for what in kinds for m in ("pictures", "sounds", "both")]
        ways += ["ours, pictures only", "ours, sounds only", "ours"]
        assert [row["labels"] for row in rows] == ways
        assert (result["videos"], result["classes"]) == (32, 8)
        assert set(ways) <= figure_at(folder / "baselines")
        assert not (folder / "networks.h5").exists()

    def test_scores_of_the_run_are_those_of_its_labels(self, compared):
        folder, result = compared
        rows = {row["labels"]: row for row in result["rows"]}
        _, classes = read_store(folder / "run.h5")
        found = {
            "ours, pictures only": plain_labels(folder / "run.h5", ["video"]),
            "ours, sounds only": plain_labels(folder / "run.h5", ["audio"]),
            "ours": plain_labels(folder / "run.h5"),
        }
        for name, labels in found.items():
            assert scores_in(rows[name]) == pytest.approx(plain_scores(classes, labels)), name
        assert len(set(found["ours"])) > 1

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
        network = registry.Base(registry.find("video", "nano").build())
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
            result = json.loads(succeeded(selavi("baseline", "plain", *options, cwd=place)))
            nmi[bool(truth)] = {row["labels"].removeprefix("K-means on inputs: "): row["nmi"] for row in result["rows"]}
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
        folder, result = compared
        before = times_of(folder, "run.h5")
        command = ["baseline", "videos", "--run", "run", *BASE, "--format", "json", "--out", "compared"]
        for way in ("label_inputs", "label_networks"):
            monkeypatch.setattr(Baselines, way, lambda *args: {})
        again = json.loads(succeeded(selavi(*command, cwd=place)))
        assert times_of(folder, "run.h5") == before
        assert again["rows"] == result["rows"][-6:]
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
                "weights.pth does not fit the audio network nano",
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
    def test_wrong_arguments_are_refused_before_anything_is_computed(
        self, place, compared, arguments, why, monkeypatch
    ):
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
