"""`selavi check` as a user meets it: what it says of real runs and stores, figure by figure, without any true class."""

from __future__ import annotations

import csv
import json
import shutil
from itertools import combinations, permutations
from pathlib import Path

import h5py
import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from selavi_ref.store import StoreWriter
from tests.support.command_line import refused, rows_of, selavi, succeeded
from tests.support.small_runs import plain_labels, read_store, small_place, times_of, written

BASE = ["--workers", "1"]
CHECKS = ["sizes", "confidence", "heads", "modalities", "clips", "stability", "shortcuts", "duplicates", "misfits"]
MARKS = {"ok": "  ", "look": "? ", "warning": "! "}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with small_place(tmp_path_factory.mktemp("check")) as folder:
        (folder / "another").unlink()
        options = ["--config", "quick.toml", "--epochs", "4", "--labellings", "6", "--seed", "7", "--workers", "0"]
        succeeded(selavi("train", "run/videos.csv", "--clusters", "4", *options, "--out", "another", cwd=folder))
        succeeded(selavi("train-heads", "run/features.h5", "--clusters", "4", "--out", "heads", cwd=folder))
        (folder / "unfinished").mkdir()
        for name in ("config.toml", "videos.csv"):
            shutil.copy(folder / "run" / name, folder / "unfinished")
        shutil.copytree(folder / "run", folder / "own")
        shutil.copy(folder / "run" / "labels.csv", folder / "table.csv")
        yield folder


@pytest.fixture(scope="module")
def checked(place):
    """The check of a run beside another; what it printed."""
    return place / "checked", succeeded(
        selavi("check", "run", "--other", "another", *BASE, "--out", "checked", cwd=place)
    )


def figures_in(folder):
    data = json.loads((folder / "check.json").read_text())
    assert list(data["figures"]) == [row["name"] for row in data["rows"]]
    return data["figures"]


class TestOfARun:
    def test_one_finding_a_line_and_a_verdict_at_the_end(self, checked):
        folder, out = checked
        rows = written(folder / "check", figure=False)
        names = [row["name"] for row in rows]
        assert [name for name in names if not name.startswith("shortcut")] == [*CHECKS[:6], *CHECKS[7:], "verdict"]
        assert any(name.startswith("shortcut") for name in names)
        lines = out.splitlines()
        assert lines[:-2] == [MARKS[row["severity"]] + row["sentence"] for row in rows]
        count = len(rows_of(folder / "videos.csv"))
        assert "selavi browse run" in lines[-1]
        assert lines[-2] == f"{count} suspicious videos are listed in checked/videos.csv"

    def test_sizes_confidence_and_heads_are_those_of_the_labels(self, place, checked):
        figures = figures_in(checked[0])
        rows = rows_of(place / "run" / "labels.csv")
        sizes = np.bincount([int(row["label"]) for row in rows], minlength=4)
        share = sizes[sizes > 0] / 32
        assert (figures["sizes"]["videos"], figures["sizes"]["clusters"]) == (32, 4)
        assert figures["sizes"]["largest"] == pytest.approx(share.max())
        assert figures["sizes"]["empty"] == int((sizes == 0).sum())
        assert figures["sizes"]["evenness"] == pytest.approx(-(share * np.log(share)).sum() / np.log(4))
        confidence = np.array([float(row["confidence"]) for row in rows])
        assert figures["confidence"]["mean"] == pytest.approx(confidence.mean(), abs=1e-4)
        assert figures["confidence"]["low"] == pytest.approx((confidence < 0.5).mean(), abs=1 / 32)
        heads = [[row[f"head_{head}"] for row in rows] for head in (0, 1)]
        nmi = np.mean([normalized_mutual_info_score(heads[a], heads[b]) for a, b in combinations((0, 1), 2)])
        assert figures["heads"]["nmi"] == pytest.approx(nmi)

    def test_modalities_are_compared_video_by_video(self, place, checked):
        figures = figures_in(checked[0])["modalities"]
        pictures, sounds = (plain_labels(place / "run" / "features.h5", [m]) for m in ("video", "audio"))
        assert figures["equal"] == pytest.approx((pictures == sounds).mean())
        assert figures["nmi"] == pytest.approx(normalized_mutual_info_score(pictures, sounds))
        listed = {row["path"]: row for row in rows_of(checked[0] / "videos.csv")}
        paths, _ = read_store(place / "run" / "features.h5")
        for path, picture, sound in zip(paths, pictures, sounds, strict=True):
            said = path in listed and f"picture says {picture}, sound says {sound}" in listed[path]["why"]
            assert said == (picture != sound)

    def test_three_clips_of_each_video_are_compared(self, checked):
        with h5py.File(checked[0] / "clips3.h5") as file:
            disagreement = file["disagreement"][:].mean(1)
            assert '"clips": 3' in file.attrs["provenance"]
        finding = next(row for row in rows_of(checked[0] / "check.csv") if row["name"] == "clips")
        assert any(figure == pytest.approx(disagreement.mean()) for figure in _numbers(figures_in(checked[0])["clips"]))
        half = int((disagreement >= 0.5).sum())
        assert f"in {half} video" in finding["sentence"]

    def test_a_second_run_is_matched_with_the_first(self, place, checked):
        labels = [
            np.array([int(row["label"]) for row in rows_of(place / run / "labels.csv")]) for run in ("run", "another")
        ]
        equal = max((np.array(names)[labels[1]] == labels[0]).mean() for names in permutations(range(4)))
        figures = figures_in(checked[0])["stability"]
        assert figures["nmi"] == pytest.approx(normalized_mutual_info_score(*labels))
        assert any(figure == pytest.approx(equal) for figure in _numbers(figures))
        elsewhere = [row for row in rows_of(checked[0] / "videos.csv") if "second run puts it elsewhere" in row["why"]]
        assert len(elsewhere) == round(32 * (1 - equal))

    def test_labels_in_a_table_are_as_good_as_the_run_that_made_them(self, place, checked):
        rows = rows_of(place / "another" / "labels.csv")
        with open(place / "names.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label"])
            writer.writerows([[row["path"], f"kind {row['label']}"] for row in reversed(rows)])
        data = {}
        for other in ("names.csv", "another"):
            options = ["--other", other, "--clips", "1", "--no-files", "--format", "json", "--out", "by_table"]
            data[other] = json.loads(succeeded(selavi("check", "run", *options, cwd=place)))["figures"]["stability"]
            assert data[other].pop("second") == other
        assert data["names.csv"] == data["another"]
        assert data["another"] | {"second": "another"} == figures_in(checked[0])["stability"]

    def test_a_run_beside_itself_is_stable(self, place):
        options = ["--other", "own", "--clips", "1", "--no-files", "--out", "itself"]
        succeeded(selavi("check", "run", *options, cwd=place))
        assert figures_in(place / "itself")["stability"]["nmi"] == pytest.approx(1)
        assert not any("second run" in row["why"] for row in rows_of(place / "itself" / "videos.csv"))

    def test_without_files_and_clips_these_checks_are_left_out(self, place):
        out = succeeded(selavi("check", "run", "--no-files", "--clips", "1", "--out", "bare", cwd=place))
        figures = figures_in(place / "bare")
        for name in ("clips", "stability", "shortcuts", "duplicates"):
            assert figures[name]["measured"] == 0
        assert "not checked: clips, stability, shortcuts and duplicates" in out.splitlines()[-3]
        assert {path.name for path in (place / "bare").iterdir()} == {
            f"{table}.{ending}" for table in ("check", "videos") for ending in ("txt", "csv", "json")
        }

    def test_the_report_is_the_runs_and_is_printed_in_any_format(self, place):
        bare = ["--no-files", "--clips", "1"]
        table = succeeded(selavi("check", "own", *bare, "--format", "csv", cwd=place))
        assert table == (place / "own" / "check" / "check.csv").read_text()
        data = succeeded(selavi("check", "own", *bare, "--format", "json", cwd=place))
        assert data == (place / "own" / "check" / "check.json").read_text()
        assert list(csv.DictReader(table.splitlines())) == json.loads(data)["rows"]

    def test_the_same_command_measures_nothing_again(self, place, checked):
        folder, out = checked
        before = times_of(folder, "clips3.h5", "files.jsonl")
        done = selavi("check", "run", "--other", "another", *BASE, "--out", "checked", cwd=place)
        assert succeeded(done) == out
        assert len(before) == 2
        assert times_of(folder, "clips3.h5") == {folder / "clips3.h5": before[folder / "clips3.h5"]}
        assert len((folder / "files.jsonl").read_text().splitlines()) == 32

    def test_clips_of_another_run_are_not_taken_for_its_own(self, place, checked):
        done = selavi("check", "another", "--no-files", "--out", "checked", cwd=place)
        refused(done, "clips3.h5 is of another run than another")

    def test_a_run_that_was_moved_is_still_the_same(self, place, checked):
        shutil.copytree(place / "run", place / "moved")
        shutil.copytree(checked[0], place / "moved" / "check")
        before = times_of(place / "moved", "check/clips3.h5")
        succeeded(selavi("check", "moved", "--no-files", cwd=place))
        assert times_of(place / "moved", "check/clips3.h5") == before

    def test_a_run_of_heads_is_checked_without_clips(self, place):
        succeeded(selavi("check", "heads", "--no-files", "--out", "of_heads", cwd=place))
        assert figures_in(place / "of_heads")["clips"]["measured"] == 0
        assert not list((place / "of_heads").glob("clips*"))


@pytest.fixture(scope="module")
def copies(place):
    """A store of videos of which one is there twice, and one is no video."""
    shutil.copytree(place / "new", place / "copies")
    shutil.copy(place / "copies" / "ball" / "ball_0000.mp4", place / "copies" / "rain" / "copy.mp4")
    (place / "copies" / "rain" / "text.mp4").write_text("no video")
    succeeded(selavi("extract", "run", "copies", "--workers", "0", "--out", "copies.h5", cwd=place))
    return "copies.h5"


class TestOfAStore:
    def test_videos_are_found_from_another_folder(self, place, copies, tmp_path):
        out = succeeded(selavi("check", str(place / copies), "--out", str(tmp_path / "c"), *BASE, cwd=tmp_path))
        assert "1 file could not be read" in out

    def test_what_was_not_read_counts_as_not_checked(self, place, copies, tmp_path):
        moved = place / "elsewhere"
        (place / "copies").rename(moved)
        try:
            out = succeeded(selavi("check", copies, "--out", str(tmp_path / "c"), *BASE, cwd=place))
        finally:
            moved.rename(place / "copies")
        assert "no two of" not in out
        assert "duplicates" in out.split("not checked:")[1]

    def test_copies_and_files_that_are_no_videos_are_listed(self, place, copies):
        out = succeeded(selavi("check", copies, *BASE, cwd=place))
        assert "listed in check/videos.csv" in out
        why = {Path(row["path"]).name: row["why"] for row in written(place / "check" / "videos", figure=False)}
        assert f"the same file as {place / 'copies/rain/copy.mp4'}" in why["ball_0000.mp4"]
        assert f"the same file as {place / 'copies/ball/ball_0000.mp4'}" in why["copy.mp4"]
        assert "the file could not be read" in why["text.mp4"]
        assert figures_in(place / "check")["sizes"]["labelled"] == 17

    def test_no_true_class_is_read(self, place, copies):
        shutil.copy(place / copies, place / "renamed.h5")
        with h5py.File(place / "renamed.h5", "r+") as file:
            del file["videos/class"]
        data = []
        for store in (copies, "renamed.h5"):
            options = ["--other", "run", "--format", "json", *BASE, "--out", f"of_{store[:-3]}"]
            data.append(succeeded(selavi("check", store, *options, cwd=place)))
            data.append((place / f"of_{store[:-3]}" / "videos.json").read_text())
        assert data[:2] == data[2:]

    def test_what_is_printed_is_the_same_for_the_same_seed(self, place):
        command = ["check", "run/features.h5", *BASE, "--out", "seeded"]
        first, again = (succeeded(selavi(*command, "--seed", "1", cwd=place)) for _ in range(2))
        assert first == again

    def test_a_store_from_elsewhere_needs_log_probabilities_alone(self, place):
        """All videos are in one cluster, of which the report warns."""
        with StoreWriter(place / "plain.h5", [f"{i}.mp4" for i in range(40)], {"log_prob/video/0": 3}) as writer:
            writer.write(slice(None), {"log_prob/video/0": np.log(np.tile([0.8, 0.1, 0.1], (40, 1)))})
            writer.finish()
        out = succeeded(selavi("check", "plain.h5", "--no-files", "--out", "of_plain", cwd=place))
        assert out.startswith("! 1 of 3 clusters holds all videos, 40 (100 % of all)")
        assert "cannot be trusted as they are" in out
        assert (place / "of_plain" / "videos.csv").read_text() == "path,label,why,figure\n"


def test_the_table_of_labels_of_a_run_stands_for_the_run(place):
    succeeded(selavi("check", "heads/labels.csv", "--no-files", cwd=place))
    assert (place / "heads" / "check" / "check.json").exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["nowhere.h5"], "nowhere.h5 does not exist"),
        (["videos"], "videos holds no run"),
        (["unfinished"], "unfinished is not finished; go on with: selavi train"),
        (["quick.toml"], "quick.toml is not an HDF5 file"),
        (["table.csv"], "table.csv: labels alone cannot be checked"),
        (["features.h5"], "features.h5 holds no log-probabilities"),
        (["run", "--other", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["run", "--other", "quick.toml"], "quick.toml is no table of labels"),
        (["run", "--other", "unfinished"], "unfinished/labels.csv cannot be read"),
        (["run", "--other", "videos"], "videos holds no run"),
        (["run", "--clips", "0"], "--clips"),
        (["run", "--seed", "-1"], "--seed"),
        (["run", "--format", "latex"], "--format"),
        (["run", "--out", "quick.toml"], "quick.toml"),
        ([], "Missing argument 'RUN|STORE'"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(place, arguments, why):
    if not (place / "features.h5").exists():
        with StoreWriter(place / "features.h5", ["a.mp4", "b.mp4"], {"features/video": 2}) as writer:
            writer.write(slice(None), {"features/video": np.eye(2)})
            writer.finish()
    out = [] if "--out" in arguments else ["--out", "not_made"]
    line = refused(selavi("check", *arguments, *BASE, *out, cwd=place), why)
    assert line.startswith("selavi check: ")
    assert not list((place / "not_made").glob("*"))


def test_help_has_examples(place):
    assert "selavi check RUN" in succeeded(selavi("check", "--help", cwd=place)).partition("Examples")[2]


def _numbers(figures):
    return [figure for figure in figures.values() if isinstance(figure, (int, float))]
