"""`selavi plot` as a user meets it: figures and tables that say what the run's files say, or why there are none."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import normalized_mutual_info_score

from backbones.learner.checkpoint import read_newest
from selavi_ref.browser.annotations import annotations_of
from selavi_ref.report.figures import matrix_figure, scatter_figure
from selavi_ref.report.plot_agreement import agreement_table
from selavi_ref.report.plot_confusion import draw_confusion
from selavi_ref.report.plot_map import PALETTE, centres_of, draw_map, spread_colours
from selavi_ref.report.plot_sizes import relative_sizes, target_and_actual_sizes
from selavi_ref.report.run_figures import FIGURES, draw_run_figures
from selavi_ref.report.table import Table
from selavi_ref.runs.checksums import forget_checksum
from selavi_ref.runs.run import Run
from selavi_ref.runs.tensorboard import Events
from tests.support.command_line import refused, rows_of, selavi, succeeded
from tests.support.old_heads import train_old_heads
from tests.support.refusal import refused as refused_error
from tests.support.small_runs import figure_at, read_store, small_place, written

pytest.importorskip("openTSNE")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with small_place(tmp_path_factory.mktemp("plots")) as folder:
        shutil.copytree(folder / "run", folder / "drawn")
        succeeded(selavi("plot", "drawn", cwd=folder))
        yield folder


@pytest.fixture
def run(place, tmp_path):
    """A copy of the run to be changed."""
    shutil.copytree(place / "drawn", tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "plots")
    return Run(tmp_path / "copy")


@pytest.fixture(scope="module")
def labelled(place):
    return rows_of(place / "drawn" / "labels.csv")


@pytest.mark.parametrize(
    ("figure", "name"),
    [
        ("sizes", "sizes.svg"),
        ("training", "training-loss.png"),
        ("embedding", "embedding-classes.svg"),
        ("agreement", "agreement.json"),
    ],
)
def test_files_of_somebody_else_are_replaced_by_force_only(place, tmp_path, figure, name):
    mine = tmp_path / "figures" / name
    mine.parent.mkdir()
    mine.write_text("mine")
    command = ["plot", "drawn", "--out", mine.parent]
    assert name in refused(selavi(*command, cwd=place), "--force", "--out")
    assert [path.name for path in mine.parent.iterdir()] == [name]
    command += ["--only", figure]
    succeeded(selavi(*command, "--force", cwd=place))
    assert mine.read_text(errors="replace") != "mine"
    succeeded(selavi(*command, cwd=place))  # what it has written itself


def column(rows, name):
    return np.array([int(row[name]) if row[name] else -1 for row in rows])


def test_every_figure_is_drawn_of_a_whole_run(place):
    plots = place / "drawn" / "plots"
    for name in ("training", "sizes", "confusion", "agreement"):
        written(plots / name)
    for name in ("training-loss", "training-rate", "sizes-summed", "embedding", "embedding-classes"):
        figure_at(plots / name)
    assert not list(plots.glob("*.partial"))


def test_sizes_are_those_of_labels_and_of_the_last_self_labelling(place, labelled):
    rows = written(place / "drawn" / "plots" / "sizes")
    got = {name: [row["got"] for row in rows if row["sizes"] == name] for name in {row["sizes"] for row in rows}}
    assert set(got) == {"consensus", "head 0", "head 1", "head 0, self-labelling", "head 1, self-labelling"}
    for name, key in (("consensus", "label"), ("head 1", "head_1")):
        counts = np.bincount(column(labelled, key), minlength=4) / len(labelled)
        np.testing.assert_allclose(got[name], sorted(counts, reverse=True))
    state = read_newest(Run(place / "drawn"))["state"]
    wanted = [row["wanted"] for row in rows if row["sizes"] == "head 0, self-labelling"]
    sizes = np.sort(np.asarray(state["sizes_0"], float))[::-1]
    np.testing.assert_allclose(wanted, sizes / sizes.sum())
    words = figure_at(place / "drawn" / "plots" / "sizes")
    assert {"wanted", "got by the last self-labelling", "videos", "0", "1", "2", "3"} <= words


@given(arrays(np.int32, st.integers(1, 40), elements=st.integers(-1, 5)))
def test_shares_fall_and_are_of_all_labelled(labels):
    found = relative_sizes(labels, 6)
    counts = Counter(labels[labels >= 0].tolist())
    assert found.tolist() == sorted((counts[k] / max(1, counts.total()) for k in range(6)), reverse=True)
    wanted, got = target_and_actual_sizes(
        {"sizes_1": [1, 3, 2], "labels": np.stack([labels, np.abs(labels) % 3], 1)}, 1
    )
    assert wanted.tolist() == [0.5, 2 / 6, 1 / 6]
    assert got.sum() == pytest.approx(1)


def test_the_confusion_has_each_video_once(place, labelled):
    rows = written(place / "drawn" / "plots" / "confusion")
    counted = {
        (row["class"], name.removeprefix("cluster_")): count
        for row in rows
        for name, count in row.items()
        if name != "class" and count
    }
    assert counted == Counter((Path(row["path"]).parent.name, row["label"]) for row in labelled)


def test_agreement_is_that_of_every_two_labellings(place, labelled):
    rows = written(place / "drawn" / "plots" / "agreement")
    names = {"head 0": "head_0", "head 1": "head_1", "consensus": "label"}
    assert [row["labels"] for row in rows] == list(names)
    for row in rows:
        for other, key in names.items():
            expected = normalized_mutual_info_score(column(labelled, names[row["labels"]]), column(labelled, key))
            assert row[f"with_{other.replace(' ', '_')}"] == pytest.approx(expected, abs=1e-9)


def test_labellings_that_share_no_video_do_not_agree():
    with refused_error():
        agreement_table({"a": np.array([0, 1, -1, -1], np.int32), "b": np.array([-1, -1, 0, 1], np.int32)})


def test_the_map_shows_clusters_and_classes(place, labelled):
    rows = rows_of(place / "drawn" / "plots" / "embedding.csv")
    assert [(row["path"], row["label"]) for row in rows] == [(row["path"], row["label"]) for row in labelled]
    assert [row["class"] for row in rows] == [Path(row["path"]).parent.name for row in rows]
    assert np.isfinite([[float(row["x"]), float(row["y"])] for row in rows]).all()
    present = {row["label"] for row in labelled}
    assert present | {"Videos by cluster"} <= figure_at(place / "drawn" / "plots" / "embedding")
    assert {row["class"] for row in rows} <= figure_at(place / "drawn" / "plots" / "embedding-classes")


def test_only_what_is_asked_for_is_drawn_where_it_is_asked_for(place, run, tmp_path):
    options = ["--only", "agreement", "--only", "confusion", "--out", tmp_path / "some" / "where", "--no-tensorboard"]
    before = sorted((run.events_folder).rglob("*"))
    succeeded(selavi("plot", run.folder, *options, cwd=place))
    assert {path.stem for path in (tmp_path / "some" / "where").iterdir()} == {"agreement", "confusion"}
    assert sorted((run.events_folder).rglob("*")) == before
    assert not (run.folder / "plots").exists()


def test_what_cannot_be_drawn_is_named_with_the_reason(place, run):
    rows = rows_of(run.labels_file)
    lines = [f"{row['path'].rsplit('/', 2)[-1]},{row['label']},{row['head_0']}" for row in rows]
    run.labels_file.write_text("path,label,head_0\n" + "\n".join(lines) + "\n")
    forget_checksum(run.labels_file)
    run.log_file.unlink()
    run.features_file.unlink()
    shutil.rmtree(run.checkpoint_folder)
    done = selavi("plot", run.folder, cwd=place)
    succeeded(done)
    result = done.stderr.strip().splitlines()
    assert len(result) == 5
    for line, (start, why) in zip(
        result,
        (
            ("sizes are drawn without the prescribed ones: ", "has no checkpoint yet"),
            ("training is left out: ", "has learnt nothing yet"),
            ("confusion is left out: ", "fewer than two true classes"),
            ("agreement is left out: ", "there is only one head"),
            ("embedding is left out: ", "features.h5 is missing"),
        ),
        strict=True,
    ):
        assert line.startswith(start)
        assert why in line
    assert {path.name for path in (run.folder / "plots").iterdir()} == {
        f"sizes.{ending}" for ending in ("png", "svg", "txt", "csv", "json")
    }
    refused(selavi("plot", run.folder, "--only", "training", cwd=place), "nothing can be drawn")
    run.labels_file.unlink()
    refused(selavi("plot", run.folder, cwd=place), "nothing can be drawn")


def test_true_classes_can_be_given(place, run, labelled, tmp_path):
    lines = [f"{row['path']},{'odd' if k % 2 else 'even'}" for k, row in enumerate(labelled)]
    (tmp_path / "t.csv").write_text("path,class\n" + "\n".join(lines) + "\n")
    only = ["--only", "confusion", "--only", "embedding"]
    succeeded(selavi("plot", run.folder, *only, "--truth", tmp_path / "t.csv", cwd=place))
    assert {row["class"] for row in written(run.folder / "plots" / "confusion")} == {"odd", "even"}
    assert {"odd", "even"} <= figure_at(run.folder / "plots" / "embedding-classes")
    refused(selavi("plot", run.folder, "--truth", "nowhere.csv", cwd=place), "nowhere.csv cannot be read")


def test_a_run_of_heads_is_drawn_too(place):
    train_old_heads(place, "run/features.h5", "heads")
    done = selavi("plot", "heads", cwd=place)
    succeeded(done)
    assert "left out" not in done.stderr
    plots = place / "heads" / "plots"
    for name in ("training", "sizes", "confusion", "agreement"):
        written(plots / name)
    assert "wanted" in figure_at(plots / "sizes")
    assert any("features of video and audio" in word for word in figure_at(plots / "embedding"))


def test_a_run_of_cross_fitted_heads_is_drawn_without_what_it_does_not_have(place):
    succeeded(selavi("train-heads", "run/features.h5", "--clusters", "4", "--out", "fitted", cwd=place))
    done = selavi("plot", "fitted", cwd=place)
    succeeded(done)
    assert [line.partition(" ")[0] for line in done.stderr.splitlines() if "left out" in line] == [
        "training",
        "agreement",
    ]
    written(place / "fitted" / "plots" / "sizes")


def test_what_is_no_run_is_refused(place, run):
    refused(selavi("plot", "videos", cwd=place), "holds no run")
    refused(selavi("plot", "nowhere", cwd=place), "is not a folder")
    run.config_file.write_text('kind = "finetune"\n')
    refused(selavi("plot", run.folder, cwd=place), "finetune")
    refused(selavi("plot", "drawn", "--only", "everything", cwd=place), "everything")


def test_names_that_people_gave_are_shown(place, run, labelled):
    cluster = int(labelled[0]["label"])
    annotations_of(run).apply({"op": "rename", "labelling": "consensus", "cluster": cluster, "name": "my own"})
    shown = ("sizes", "confusion", "embedding")
    succeeded(selavi("plot", run.folder, *(word for name in shown for word in ("--only", name)), cwd=place))
    for name in shown:
        assert f"{cluster} my own" in figure_at(run.folder / "plots" / name)


def test_videos_of_a_table_that_the_store_lacks_have_no_place(run):
    rows = run.labels_file.read_text().splitlines()
    run.labels_file.write_text("\n".join([*rows, rows[1].replace(".mp4", "-other.mp4")]) + "\n")
    forget_checksum(run.labels_file)
    folder = run.folder / "plots"
    folder.mkdir()
    assert "embedding" in draw_run_figures(run, folder, only=["embedding"]).pictures
    assert [rows_of(folder / "embedding.csv")[-1][axis] for axis in "xy"] == ["", ""]


def test_tensorboard_shows_each_figure_once_beside_the_log(place, run):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    for _ in range(2):
        succeeded(selavi("plot", run.folder, "--only", "sizes", "--only", "agreement", cwd=place))
    shown = []
    for path in (run.events_folder / "plots").iterdir():
        for event in loader.EventFileLoader(str(path)).Load():
            shown += [(value.tag, event.step, value.tensor.string_val) for value in event.summary.value]
    pictures = {path.stem: path.read_bytes() for path in (run.folder / "plots").glob("*.png")}
    last = max(json.loads(line)["step"] for line in run.log_file.read_text().splitlines())
    assert sorted(tag for tag, _, _ in shown) == sorted(pictures)
    for tag, step, (_, _, content) in shown:
        assert content == pictures[tag]
        assert step == last
    assert list(run.events_folder.glob("events*"))
    with Events(run.events_folder) as events:
        events.restart(run.records)  # as when the run goes on, so that its figures are of yesterday
    assert not (run.events_folder / "plots").exists()


def test_help_names_the_figures_there_are():
    from backbones.commands.plot import _FIGURES

    assert _FIGURES == FIGURES


@pytest.mark.parametrize(("n_classes", "n_clusters"), [(45, 41), (100, 7), (3, 90)])
def test_the_confusion_of_many_classes_names_the_worst(tmp_path, n_classes, n_clusters):
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 5, (n_classes, n_clusters))
    matched = min(n_classes, n_clusters)
    counts[range(matched), range(matched)] = 200
    if n_classes > 17:
        counts[17, -1] = 999
    columns = [f"cluster_{k}" for k in range(n_clusters)]
    rows = [{"class": f"kind {c}", **dict(zip(columns, of.tolist(), strict=True))} for c, of in enumerate(counts)]
    names = {"class": "class", **{name: name.removeprefix("cluster_") for name in columns}}
    files = draw_confusion(tmp_path / "c", Table("t", names, rows, facts={"matched": matched}))
    assert [file.stem for file in files] == ["c", "c", "c-worst", "c-worst"]
    words = figure_at(tmp_path / "c-worst")
    assert n_classes <= 17 or "kind 17" in words
    assert "others" in words
    assert len([word for word in words if word.startswith("kind ")]) == min(30, n_classes)


@given(st.dictionaries(st.integers(0, 500), st.tuples(st.floats(-9, 9), st.floats(-9, 9)), max_size=60), st.data())
def test_groups_have_colours_of_their_own_as_far_as_there_are(centres, data):
    given_groups = data.draw(st.lists(st.sampled_from(sorted(centres)), unique=True, max_size=5)) if centres else []
    taken = dict(zip(given_groups, PALETTE[3:], strict=False))
    colours = spread_colours(centres, taken)
    assert set(colours) == set(centres)
    assert taken.items() <= colours.items()
    assert set(colours.values()) <= set(PALETTE[:10] if len(centres) <= 10 else PALETTE)
    if len(centres) <= len(PALETTE):
        assert len(set(colours.values())) == len(centres)


def test_ten_clusters_have_the_ten_colours_by_number_and_many_unlike_ones_side_by_side():
    grid = {k: (float(k % 20), float(k // 20)) for k in range(400)}
    assert spread_colours({k: grid[k] for k in (9, 2)}) == {9: PALETTE[9], 2: PALETTE[2]}
    colours = spread_colours(grid)
    for k in grid:
        for other in (k + 1, k + 20):
            assert other not in grid or (k % 20 == 19 and other == k + 1) or colours[k] != colours[other]


def test_a_centre_is_a_video_of_its_group():
    places = np.array([[0, 0], [1, 1], [9, 9], [5, 5], [np.nan, np.nan], [2, 2]], np.float32)
    groups = np.array([0, 0, 0, -1, 1, 2], np.int32)
    assert centres_of(places, groups) == {0: (1.0, 1.0), 2: (2.0, 2.0)}
    assert centres_of(places, np.full(6, -1, np.int32)) == {}


def test_many_points_make_no_large_file(tmp_path):
    rng = np.random.default_rng(0)
    places = rng.normal(size=(20_000, 2)).astype(np.float32)
    groups = rng.integers(-1, 200, 20_000).astype(np.int32)
    names = {k: f"<{k} a name that is far too long>" for k in range(200)}
    colours = spread_colours(centres_of(places, groups))
    png, svg = draw_map(tmp_path / "m", places, groups, title="$t$", names=names, colours=colours, note="n")
    assert max(png.stat().st_size, svg.stat().st_size) < 1_700_000  # 3.4 MB, were each point an element of the SVG
    words = figure_at(tmp_path / "m")
    assert "<199 a name that …" in words
    assert any("in grey have none" in word for word in words)


def test_a_map_without_any_video_is_empty(tmp_path):
    nowhere = np.full((3, 2), np.nan, np.float32)
    scatter_figure(
        tmp_path / "m", nowhere, np.zeros(3, np.int32), title="t", names={0: "a"}, colours={0: "#000000"}, centres={}
    )
    assert "t" in figure_at(tmp_path / "m")


def test_a_matrix_can_have_colours_by_the_root_and_holes(tmp_path):
    values = np.array([[np.nan, 0.0005], [1.0, 100.0]])
    matrix_figure(tmp_path / "m", values, title="t", x="x", y="y", root=True, digits=4)
    assert {"0.0005", "1", "100"} <= figure_at(tmp_path / "m")


def test_the_store_and_the_plots_have_the_same_classes(place):
    _, classes = read_store(place / "drawn" / "features.h5")
    rows = rows_of(place / "drawn" / "plots" / "embedding.csv")
    assert [row["class"] for row in rows] == classes
