"""Studies as a user meets them: real videos, short real runs, and tables that say what a plain computation says."""

from __future__ import annotations

import shutil
import signal
import time
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbones.runs import train as jobs
from backbones.studies.trials import long_tailed, mean_and_spread
from selavi_ref.datasets.manifest import Manifest, ManifestEntry
from tests.support.command_line import refused, rows_of, selavi, start_process, succeeded
from tests.support.old_heads import train_old_heads
from tests.support.small_runs import (
    figure_at,
    plain_labels,
    plain_scores,
    read_store,
    scores_of,
    small_place,
    times_of,
    written,
)

TRAINING = ["--config", "quick.toml", "--epochs", "1", "--workers", "0"]
SIZES = ["study", "marginals", "videos", "--clusters", "8", *TRAINING, "--long-tail", "1", "--unseen", "few"]
WAYS = ["uniform", "gaussian", "zipf", "right", "soft"]
LEARNT = ("*/checkpoints/*.pt", "*/features.h5", "*/unseen.h5", "*/labels.csv")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with small_place(tmp_path_factory.mktemp("studies")) as folder:
        (folder / "few").mkdir()
        for kind in ("ball", "rain"):
            (folder / "few" / kind).symlink_to(folder / "new" / kind)
        yield folder


@pytest.fixture(scope="module")
def sizes(place):
    """The study of sizes, killed in its second run and gone on with; what it printed; when the first run was saved."""
    folder = place / "sizes"
    running = start_process(*SIZES, "--out", "sizes", cwd=place)
    deadline = time.monotonic() + 60
    while not (folder / "gaussian-seed0" / "config.toml").exists() and time.monotonic() < deadline:
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=60)
    assert running.returncode == -signal.SIGKILL
    assert not (folder / "zipf-seed0").exists()
    before = times_of(folder, "uniform-seed0/checkpoints/*.pt")
    return folder, succeeded(selavi(*SIZES, "--out", "sizes", cwd=place)), before


@pytest.fixture(scope="module")
def worse(place):
    """The study of pictures that get worse."""
    options = ["--factors", "8,2,8", "--clips", "2", "--workers", "0"]
    succeeded(selavi("study", "degrade", "run", "new", *options, "--out", "worse", cwd=place))
    return place / "worse"


@pytest.mark.processes
class TestSizes:
    def test_quality_is_that_of_the_labels_of_each_run(self, sizes):
        folder, *_ = sizes
        rows = written(folder / "quality")
        assert [row["sizes"] for row in rows] == WAYS
        for row in rows:
            run = folder / f"{row['sizes']}-seed0"
            count, scores = scores_of(run / "labels.csv")
            assert count == 4 + 3 + 3 + 3 + 2 + 2 + 2 + 1
            assert {name: row[name] for name in ("nmi", "accuracy", "ari")} == pytest.approx(
                {name: scores[name] for name in ("nmi", "accuracy", "ari")}
            )
            _, classes = read_store(run / "unseen.h5")
            unseen = plain_scores(classes, plain_labels(run / "unseen.h5"))
            assert (len(classes), row["unseen_nmi"]) == (4, pytest.approx(unseen["nmi"]))
            assert row["unseen_accuracy"] == pytest.approx(unseen["accuracy"])
            assert row["nmi_sd"] is None

    def test_sizes_wanted_and_got_are_those_of_the_first_head(self, sizes):
        folder, *_ = sizes
        rows = written(folder / "sizes")
        quality = {row["sizes"]: row for row in rows_of(folder / "quality.csv")}
        for way in WAYS:
            own = [row for row in rows if row["sizes"] == way]
            assert [row["cluster"] for row in own] == [1, 2, 3, 4, 5, 6, 7, 8]
            wanted, got = (np.array([row[name] for row in own]) for name in ("wanted", "got"))
            for shares, name in ((wanted, "wanted"), (got, "got")):
                assert (np.diff(shares) <= 0).all()
                assert [row[f"{name}_sum"] for row in own] == pytest.approx(np.cumsum(shares))
                assert own[-1][f"{name}_sum"] == pytest.approx(1)
            _, _, labels = read_store(folder / f"{way}-seed0" / "features.h5", "labels")
            assert got == pytest.approx(np.sort(np.bincount(labels[:, 0], minlength=8))[::-1] / 20)
            assert float(quality[way]["missed"]) == pytest.approx(np.abs(wanted - got).sum())
            expected = {
                "uniform": np.full(8, 1 / 8),
                "soft": np.full(8, 1 / 8),
                "zipf": np.array([*(0.95 / np.arange(1, 8) / (1 / np.arange(1, 8)).sum()), 1 / 20]),  # at least a video
                "right": np.array([4, 3, 3, 3, 2, 2, 2, 1]) / 20,
            }
            if way != "gaussian":
                assert wanted == pytest.approx(expected[way])
            else:
                assert 0 < wanted.std() < 0.3 / 8

    def test_runs_differ_in_their_sizes_only(self, sizes):
        folder, *_ = sizes
        settings = {way: tomllib.loads((folder / f"{way}-seed0" / "config.toml").read_text()) for way in WAYS}
        own = {way: config["training"].pop("sizes") for way, config in settings.items()}
        assert all(config == settings["uniform"] for config in settings.values())
        assert [own[way]["marginal_penalty"] for way in WAYS] == [0, 0, 0, 0, 10]
        assert own["gaussian"]["spread"] == 0.1
        assert settings["uniform"]["training"]["epochs"] == 1

    def test_tables_and_figures_have_titles_and_notes(self, sizes):
        folder, out, _ = sizes
        assert (folder / "quality.txt").read_text().strip() in out
        assert "20 videos in classes of 1 to 4; seeds: 1" in out
        assert {f"{way}, {what}" for way in WAYS for what in ("wanted", "got")} <= figure_at(folder / "sizes")
        assert set(WAYS) <= figure_at(folder / "quality")

    def test_the_same_command_trains_nothing_again(self, place, sizes):
        folder, out, _ = sizes
        before = times_of(folder, *LEARNT)
        assert len([path for path in before if path.suffix == ".h5"]) == 10
        assert succeeded(selavi(*SIZES, "--out", "sizes", cwd=place)) == out
        assert times_of(folder, *LEARNT) == before

    def test_killed_in_the_second_run_it_went_on_without_training_the_first_again(self, sizes):
        folder, _, before = sizes
        assert len(before) == 2
        assert times_of(folder, "uniform-seed0/checkpoints/*.pt") == before

    def test_stopped_between_two_runs_it_ends_the_same_byte_for_byte(self, place, sizes):
        shutil.copytree(sizes[0], place / "cut")
        shutil.rmtree(place / "cut" / "soft-seed0")
        (place / "cut" / "right-seed0" / "features.h5").unlink()
        for path in (place / "cut").glob("*.*"):
            path.unlink()
        before = times_of(place / "cut", "*/checkpoints/*.pt")
        out = succeeded(selavi(*SIZES, "--out", "cut", cwd=place))
        assert {path: when for path, when in times_of(place / "cut", *LEARNT).items() if path in before} == before
        assert out.replace("cut", "sizes") == sizes[1]
        for name in ("quality.csv", "quality.svg", "sizes.json", "sizes.svg", "soft-seed0/labels.csv"):
            assert (place / "cut" / name).read_bytes() == (sizes[0] / name).read_bytes()

    def test_ctrl_c_prints_one_line_with_the_command_that_continues(self, place, monkeypatch):
        def interrupted(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(jobs, "train", interrupted)
        done = selavi(*SIZES, "--out", "interrupted", cwd=place)
        assert done.exit_code == 130
        assert "stopped; the same command continues where it stopped" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        ("changed", "why"),
        [
            (["--epochs", "2"], "uniform-seed0 is a run with other settings; give the study another --out"),
            (["--long-tail", "0.9"], "uniform-seed0 has learnt from other videos or classes; give the study another"),
            (["--unseen", "videos"], "unseen.h5 is of other videos or classes; give the study another --out"),
        ],
    )
    def test_another_study_in_the_same_folder_is_refused(self, place, sizes, changed, why):
        before = times_of(sizes[0], "**/*.*")
        refused(selavi(*SIZES, *changed, "--out", "sizes", cwd=place), why)
        after = times_of(sizes[0], "**/*.*")
        after[sizes[0] / "right_sizes.txt"] = before[sizes[0] / "right_sizes.txt"]
        assert after == before


class TestWorsePictures:
    def test_every_way_is_scored_on_every_factor(self, worse):
        rows = written(worse / "degrade")
        ours = ["ours, picture and sound", "ours, picture only", "ours, sound only"]
        ways = [*ours, "K-means on both, refitted", "K-means on both, fixed centres"]
        assert [(row["shrink"], row["labels"]) for row in rows] == [(f, way) for f in (1, 2, 8) for way in ways]
        assert set(ways) <= figure_at(worse / "degrade")
        note = "16 videos with picture and sound, clips of each: 2; networks of run."
        assert note in (worse / "degrade.txt").read_text()
        by_way = {(row["shrink"], row["labels"]): row for row in rows}
        for factor in (1, 2, 8):
            store = worse / f"shrink-{factor}-clips-2.h5"
            paths, classes = read_store(store)
            assert classes == [Path(path).parent.name for path in paths]
            found = [plain_labels(store), plain_labels(store, ["video"]), plain_labels(store, ["audio"])]
            for way, labels in zip(ours, found, strict=True):
                row = by_way[factor, way]
                assert {name: row[name] for name in ("nmi", "accuracy", "ari")} == pytest.approx(
                    plain_scores(classes, labels)
                ), (factor, way)

    def test_clusters_are_found_anew_or_by_the_centres_of_pictures_as_they_are(self, place, worse):
        """Stores with features of four kinds, of which one comes so near to another that its own centre is too far."""
        shutil.copytree(worse, place / "crafted")
        kinds = np.arange(16) % 4
        for factor, near in ((1, 0.0), (2, 0.2), (8, 0.7)):
            places = np.eye(4)
            places[1] = (1 - near) * places[1] + near * places[0]
            with h5py.File(place / "crafted" / f"shrink-{factor}-clips-2.h5", "r+") as file:
                for m in ("video", "audio"):
                    values = np.zeros(file[f"features/{m}"].shape, np.float32)
                    values[:, :4] = 10 * places[kinds]
                    file[f"features/{m}"][:] = values
        options = ["--factors", "1,2,8", "--clips", "2", "--workers", "0"]
        succeeded(selavi("study", "degrade", "run", "new", *options, "--out", "crafted", cwd=place))
        by_way = {(row["shrink"], row["labels"]): row for row in written(place / "crafted" / "degrade")}
        _, classes = read_store(worse / "shrink-1-clips-2.h5")
        for factor in (1, 2, 8):
            kept = np.where(kinds == 1, 0, kinds) if factor == 8 else kinds
            for way, labels in (("K-means on both, refitted", kinds), ("K-means on both, fixed centres", kept)):
                row = by_way[factor, way]
                assert {name: row[name] for name in ("nmi", "accuracy", "ari")} == pytest.approx(
                    plain_scores(classes, labels)
                ), (factor, way)

    def test_only_pictures_get_worse(self, worse):
        """Log-probabilities of the sounds stay, those of the pictures go further and further away."""
        stores = [worse / f"shrink-{factor}-clips-2.h5" for factor in (1, 2, 8)]
        sounds, pictures = (
            [read_store(store, f"features/{m}", f"log_prob/{m}/0")[2:] for store in stores] for m in ("audio", "video")
        )
        for own in sounds[1:]:
            assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(own, sounds[0], strict=True))
        apart = [np.abs(own[0] - pictures[0][0]).mean() for own in pictures]
        assert 0 < apart[1] < apart[2]
        rows = rows_of(worse / "degrade.csv")
        assert len({row["nmi"] for row in rows if row["labels"] == "ours, sound only"}) == 1

    def test_stores_are_used_again_by_the_same_run_on_the_same_videos_only(self, place, worse):
        command = ["study", "degrade", "run", "new", "--clips", "2", "--workers", "0", "--out", "worse"]
        before = times_of(worse, "*.h5")
        succeeded(selavi(*command, "--factors", "2", cwd=place))
        assert [row["shrink"] for row in rows_of(worse / "degrade.csv")] == ["1"] * 5 + ["2"] * 5
        refused(selavi(*command[:3], "videos", *command[4:], cwd=place), "shrink-1-clips-2.h5 is of other videos")
        shutil.copytree(place / "run", place / "moved")
        succeeded(selavi(*command[:2], "moved", *command[3:], "--factors", "1", cwd=place))
        assert times_of(worse, "*.h5") == before
        done = selavi(*command[:2], "another", *command[3:], cwd=place)
        refused(done, "shrink-1-clips-2.h5 is of another run than another", "--out")

    def test_videos_without_sound_and_files_that_are_none_do_not_count(self, place):
        odd = place / "odd"
        shutil.copytree(place / "new" / "ball", odd / "ball")
        shutil.copytree(place / "new" / "rain", odd / "rain")
        shutil.copytree(place / "new" / "bell", odd / "bell")
        (odd / "ball" / "aaa.mp4").write_text("no video")
        done = selavi("study", "degrade", "run", odd, "--factors", "1", "--workers", "0", "--out", "odd1", cwd=place)
        assert "6 videos with picture and sound" in succeeded(done)


@pytest.fixture(scope="module")
def heads(place):
    train_old_heads(place, "run/features.h5", "heads")
    return place / "heads"


@pytest.fixture(scope="module")
def odd_places(place, heads):
    """Folders that a study must refuse."""
    shutil.copytree(place / "videos" / "ball", place / "one" / "ball")
    (place / "one" / "rain").mkdir()
    (place / "one_head.toml").write_text("heads = 1\n")
    (place / "unfinished").mkdir()
    for name in ("config.toml", "videos.csv"):
        shutil.copy(place / "run" / name, place / "unfinished")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["degrade", "nowhere", "new"], "nowhere is not a folder"),
        (["degrade", "new", "new"], "new holds no run"),
        (["degrade", "run", "nowhere"], "nowhere does not exist"),
        (["degrade", "run", "one"], "one: a study needs at least two true classes"),
        (["degrade", "run", "new", "--factors", "a"], "--factors a: whole numbers of at least 1"),
        (["degrade", "run", "new", "--factors", "2,0"], "--factors 2,0"),
        (["degrade", "run", "new", "--clips", "0"], "--clips"),
        (["degrade", "heads", "new"], "heads has learnt from features"),
        (["degrade", "unfinished", "new"], "unfinished has no checkpoint yet"),
        (["degrade", "run"], "Missing argument 'VIDEOS'"),
        (
            ["marginals", "videos", "-k", "5", *TRAINING],
            "--clusters 5: the study of sizes needs one for each of 8 true",
        ),
        (["marginals", "one", "-k", "2", *TRAINING], "one: the videos of a study need at least two true classes"),
        (["marginals", "nowhere", "-k", "2"], "nowhere does not exist"),
        (["marginals", "videos", "-k", "8", "--unseen", "nowhere"], "nowhere does not exist"),
        (["marginals", "videos", "-k", "8", "--unseen", "one", *TRAINING], "one: the unseen videos of a study need"),
        (["marginals", "videos", "-k", "8", "--config", "nowhere"], "--config nowhere cannot be read"),
        (["marginals", "videos"], "Missing option '--clusters'"),
        (["marginals", "videos", "-k", "1"], "--clusters"),
        (["marginals", "videos", "-k", "8", "--long-tail", "0"], "--long-tail"),
        (["marginals", "videos", "-k", "8", "--long-tail", "nan"], "--long-tail nan: a finite number"),
        (["marginals", "videos", "-k", "8", "--long-tail", "inf"], "--long-tail inf: a finite number"),
        (["ablation", "videos", "-k", "99", *TRAINING], "--clusters 99: videos has only 32 usable videos"),
        (["ablation", "videos", "-k", "2", "--config", "one_head.toml"], "--groups 2: there are only 1 heads"),
        (["ablation", "videos", "-k", "2", "--seeds", "0"], "--seeds"),
        (["training-curve", "unfinished"], "unfinished has learnt nothing yet"),
        (["training-curve", "videos"], "videos holds no run"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(place, odd_places, arguments, why):
    done = selavi("study", *arguments, "--out", "new_folder", cwd=place)
    line = refused(done, why)
    assert line.startswith(f"selavi study {arguments[0]}: ")
    assert not list((place / "new_folder").glob("*"))


@pytest.mark.parametrize("name", ["degrade", "marginals", "ablation", "training-curve"])
def test_help_has_examples_and_an_out_that_is_a_file_is_refused(place, name):
    done = selavi("study", name, "--help", cwd=place)
    assert f"selavi study {name} " in succeeded(done).partition("Examples")[2]
    given = {"degrade": ["run", "new"], "training-curve": ["run"]}.get(name, ["videos", "-k", "8"])
    refused(selavi("study", name, *given, "--out", "quick.toml", cwd=place), "quick.toml")
    assert f"selavi study {name} " in succeeded(selavi("study", "--help", cwd=place)).partition("Examples")[2]


@given(
    st.lists(st.sampled_from(["", "ape", "bee", "cat", "dog"]), min_size=1, max_size=60),
    st.floats(0.01, 20),
    st.integers(0, 3),
)
def test_a_long_tail_keeps_its_share_of_each_class_and_at_least_one(classes, steepness, seed):
    entries = [ManifestEntry(f"{row}.mp4", name) for row, name in enumerate(classes)]
    thinned = long_tailed(Manifest(entries, "source"), steepness, seed)
    rows = [int(Path(path).stem) for path in thinned.paths]
    assert rows == sorted(set(rows))
    assert thinned.entries == [entries[row] for row in rows]
    assert thinned.source == "source"
    known = sorted(set(classes) - {""})
    for k, name in enumerate(known):
        share = np.exp(-steepness * k / (len(known) - 1)) if k else 1.0
        assert thinned.classes.count(name) == max(1, round(share * classes.count(name)))
    assert thinned.classes.count("") == classes.count("")
    assert long_tailed(Manifest(entries, "source"), steepness, seed) == thinned


@given(st.lists(st.fixed_dictionaries({}, optional={"a": st.floats(0, 1), "b": st.floats(0, 1)}), max_size=5))
def test_means_and_spreads_are_over_the_runs_that_have_the_score(runs):
    found = mean_and_spread(runs, ["a", "b"])
    for name in ("a", "b"):
        values = np.array([run[name] for run in runs if name in run])
        mean = values.sum() / len(values) if len(values) else None
        spread = np.sqrt(((values - mean) ** 2).sum() / (len(values) - 1)) if len(values) > 1 else None
        assert found[name] == (None if mean is None else pytest.approx(mean, abs=1e-12))
        assert found[f"{name}_sd"] == (None if spread is None else pytest.approx(spread, abs=1e-9))


def test_stores_of_a_study_hold_the_degradation(worse):
    with h5py.File(worse / "shrink-8-clips-2.h5") as file:
        assert '"shrink": 8' in file.attrs["provenance"]
