"""The study of parts as a user meets it: each run lacks what its name says, and is scored as plainly computed."""

from __future__ import annotations

import tomllib

import pytest

from backbones.studies import ablation
from backbones.studies.trials import Trial, Trials, slug
from selavi_ref.datasets.manifest import Manifest, ManifestEntry
from tests.support.command_line import refused, selavi, succeeded
from tests.support.small_runs import scores_of, small_place, times_of, written

PARTS = ["study", "ablation", "new", "--clusters", "4", "--config", "parts.toml", "--epochs", "1", "--workers", "0"]
LEARNT = ("*/checkpoints/*.pt", "*/features.h5", "*/labels.csv")

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with small_place(tmp_path_factory.mktemp("ablation")) as folder:
        yield folder


@pytest.fixture(scope="module")
def parts(place):
    """The study of parts, with over-clustering by default, and what it printed."""
    return place / "parts", succeeded(selavi(*PARTS, "--out", "parts", cwd=place))


def test_scores_are_those_of_the_labels_and_of_the_heads(parts):
    folder, out = parts
    rows = written(folder / "ablation")
    assert [row["run"] for row in rows] == [trial.name for trial in ablation.TRIALS]
    for row in rows:
        count, scores = scores_of(folder / f"{slug(row['run'])}-seed0" / "labels.csv")
        assert count == 16
        for name, value in scores.items():
            if name in row:
                assert row[name] == pytest.approx(value), (row["run"], name)
        assert row["best_head_nmi"] >= row["mean_head_nmi"]
    assert "16 videos, 1 seed;" in out
    assert "the best head is adapted with the true classes" in out.lower()


def test_each_run_differs_in_one_setting(parts):
    folder, _ = parts
    settings = {}
    for trial in ablation.TRIALS:
        config = tomllib.loads((folder / f"{slug(trial.name)}-seed0" / "config.toml").read_text())
        flat = {f"{a}.{b}": value for a in ("training", "backbone") for b, value in config[a].items()}
        sizes = flat.pop("training.sizes")
        settings[trial.name] = {**flat, **sizes, "heads": config["heads"]}
    loop = settings["published loop"]
    changed = {name: {key: value for key, value in own.items() if value != loop[key]} for name, own in settings.items()}
    assert changed == {
        "default, with over-clustering": {"training.overclustering_heads": 3, "spread": 0.02, "marginal_penalty": 10.0},
        "published loop": {},
        "with over-clustering": {"training.overclustering_heads": 3},
        "soft sizes": {"marginal_penalty": 10.0},
        "sizes not sorted": {"matched": False},
        "no alignment": {"training.align": False},
        "one head": {"heads": 1},
        "two groups of heads": {"training.groups": 2},
        "labels from pictures only": {"training.label_by": "video"},
        "labels from sounds only": {"training.label_by": "audio"},
        "concatenated features": {"backbone.concatenate": True},
        "K-means, not transport": {"training.labeller": "kmeans"},
    }


def test_the_same_command_trains_nothing_again(place, parts):
    folder, out = parts
    before = times_of(folder, *LEARNT)
    assert succeeded(selavi(*PARTS, "--out", "parts", cwd=place)) == out
    assert times_of(folder, *LEARNT) == before


def test_other_videos_in_the_same_folder_are_refused(place, parts):
    (place / "others").symlink_to(place / "new")
    arguments = ["others" if word == "new" else word for word in PARTS]
    refused(selavi(*arguments, "--out", "parts", cwd=place), "has learnt from other videos")


def test_without_overclustering_heads_no_row_claims_them(place, monkeypatch):
    """Over-clustering heads need 16 videos for each cluster."""
    trials_run = []
    monkeypatch.setattr(Trials, "run_all", lambda self, trials: trials_run.extend(trials) or {})
    few = Manifest([ManifestEntry(f"{kind}/{i}.mp4", kind) for kind in "ab" for i in range(20)])
    (place / "plain").mkdir()
    ablation.study_ablation(Trials(place / "plain", few, {"clusters": 4}))
    assert trials_run[0] == Trial("default, without over-clustering")
    without = [trial for trial in ablation.TRIALS[1:] if trial.name != "with over-clustering"]
    assert [trial.name for trial in trials_run[1:]] == [trial.name for trial in without]
    assert len({trial.options["epochs"] for trial in trials_run[1:]}) == 1
