"""Tables are the same as text, CSV and JSON; figures are pictures; labels are compared with classes."""

import csv
import io
import json
import math
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import cli
from selavi_ref.errors import SelaviError
from selavi_ref.metrics import summary
from selavi_ref.report.evaluation import (
    clusters_table,
    confusion_table,
    evaluation_table,
    read_labelled,
    scores_table,
    true_classes,
)
from selavi_ref.report.figures import bar_figure, line_figure, matrix_figure
from selavi_ref.report.table import FORMATS, Table, results_folder
from tests.support.refusal import refused

ROOT = Path(__file__).parents[2]
CELLS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats() | st.text(max_size=8)


@given(st.lists(st.fixed_dictionaries({"a": CELLS}, optional={"b": CELLS}), max_size=5), st.text(max_size=20))
def test_a_table_holds_the_same_in_every_format(rows, title):
    table = Table(title, {"a": "first", "b": "second"}, rows, ["a note"])
    data = json.loads(table.json())
    assert data["title"] == title
    for row, shown in zip(rows, data["rows"], strict=True):
        value = row["a"]
        lost = isinstance(value, float) and not math.isfinite(value)
        assert shown["a"] == (None if lost else value)
    read = list(csv.reader(io.StringIO(table.csv())))
    assert read[0] == ["a", "b"]
    assert len(read) - 1 == len(rows)
    lines = table.text().split("\n")
    assert len(lines) == len(rows) + 2 + bool(title)
    assert all(line.isprintable() for line in lines)


def test_columns_are_aligned_and_numbers_short():
    table = Table(
        "", {"name": "name", "value": "value"}, [{"name": "x", "value": 1 / 3}, {"name": "longer", "value": 12000}]
    )
    assert table.text().splitlines() == ["name     value", "x        0.333", "longer  12,000"]


def test_a_table_is_written_in_all_formats(tmp_path):
    table = Table("t", {"a": "A"}, [{"a": np.float32(0.5)}], facts={"sizes": np.arange(2), "none": float("nan")})
    paths = table.write(tmp_path / "out.of.it")
    assert [path.name for path in paths] == ["out.of.it.txt", "out.of.it.csv", "out.of.it.json"]
    assert json.loads(paths[2].read_text())["sizes"] == [0, 1]
    assert [table.to(form) != "" for form in FORMATS] == [True] * 3
    with refused(option="kind", value="latex"):
        table.to("latex")
    with refused(SelaviError, path=tmp_path / "nowhere/t.json"):
        table.write(tmp_path / "nowhere" / "t")


def test_a_folder_of_results_is_made_or_refused(tmp_path):
    assert results_folder(tmp_path / "a" / "b").is_dir()
    assert results_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with refused(path=tmp_path / "file"):
        results_folder(tmp_path / "file")


HOSTILE = ["$x_1$", "_hidden", "<b>&\"'", "line\nbreak", "é😀"]


@pytest.mark.parametrize("kind", ["lines", "bars", "matrix"])
def test_figures_are_png_and_svg_whatever_the_names(tmp_path, kind):
    draw = {
        "lines": lambda stem: line_figure(
            stem,
            {name: ([1, 2, 4], [0.1, 0.2, i]) for i, name in enumerate(HOSTILE)},
            title=HOSTILE[3],
            x="x",
            y="y",
            log_x=True,
            marks={HOSTILE[2]: 2},
            twins={HOSTILE[1]: HOSTILE[0]},
        ),
        "bars": lambda stem: bar_figure(stem, HOSTILE, {"a": range(5), "b": range(5)}, title="t", y="y"),
        "matrix": lambda stem: matrix_figure(stem, np.eye(5), title="t", x="x", y="y", rows=HOSTILE, columns=HOSTILE),
    }[kind]
    png, svg = draw(tmp_path / "figure")
    assert min(Image.open(png).size) > 200
    assert ET.parse(svg).getroot().tag.endswith("svg")
    first = svg.read_bytes()
    draw(tmp_path / "figure")
    assert svg.read_bytes() == first
    with refused(SelaviError, path=tmp_path / "nowhere/figure.png"):
        draw(tmp_path / "nowhere" / "figure")


def labelled(tmp_path):
    rows = [[f"v/{kind}/{i}.mp4", k, 0.9, k, 0] for k, kind in enumerate(("cat", "dog", "emu")) for i in range(6)]
    rows[0][1] = 2
    rows.append(["v/cat/broken.mp4", "", "", "", ""])
    with open(tmp_path / "l.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "confidence", "head_0", "head_1"], *rows])
    return read_labelled(tmp_path / "l.csv")


def test_labels_heads_and_intervals_are_scored(tmp_path):
    rows, classes = labelled(tmp_path)
    table = evaluation_table(rows, classes, heads=True, intervals=True)
    by_name = {row["labels"]: row for row in table.rows}
    assert list(by_name) == ["labels", "95 % from", "95 % to", "head 0", "head 1"]
    pairs = [(true, row["label"]) for true, row in zip(classes, rows, strict=True) if row["label"]]
    assert by_name["labels"]["nmi"] == pytest.approx(summary(*zip(*pairs, strict=True))["nmi"])
    assert by_name["95 % from"]["accuracy"] < by_name["labels"]["accuracy"] <= by_name["95 % to"]["accuracy"]
    assert by_name["head 0"]["nmi"] == pytest.approx(1)
    assert by_name["head 1"]["nmi"] == 0
    assert table.facts["unlabelled"] == 1
    assert "1 of 19 videos have no label" in table.text()


def test_clusters_and_the_confusion_after_matching(tmp_path):
    rows, classes = labelled(tmp_path)
    clusters = clusters_table(rows, classes).rows
    assert [(row["cluster"], row["videos"], row["class"]) for row in clusters] == [
        ("2", 7, "emu"),
        ("1", 6, "dog"),
        ("0", 5, "cat"),
    ]
    matched = confusion_table(rows, classes)
    counts = [[row[name] for name in list(matched.columns)[1:]] for row in matched.rows]
    assert np.trace(counts) == 17
    assert np.sum(counts) == 18


def test_classes_come_from_a_list_or_a_file(tmp_path):
    assert true_classes("v", ["a", "b"], ["x", "y"]) == ["x", "y"]
    (tmp_path / "t.csv").write_text("path,class\na,p\nb,q\n")
    assert true_classes("v", ["a", "b", "c"], ["", "", ""], tmp_path / "t.csv") == ["p", "q", ""]
    with refused():
        true_classes("v", ["a", "b"], ["x", ""])


def test_a_table_of_scores_has_the_number_of_videos():
    assert (
        scores_table({"k": summary([0, 1], [1, 0])})
        .text()
        .splitlines()[-1]
        .startswith("2 videos, 2 classes, 2 clusters")
    )


def test_several_tables_are_one_document(tmp_path):
    labelled(tmp_path)
    call = lambda *options: CliRunner().invoke(cli.main, ["evaluate", str(tmp_path / "l.csv"), *options])  # noqa: E731
    data = json.loads(call("--clusters", "--confusion", "--format", "json").stdout)
    assert list(data) == ["scores", "clusters", "confusion"]
    refused = call("--clusters", "--format", "csv")
    assert refused.exit_code == 2
    assert "--format csv prints one table" in refused.stderr
    assert call("--format", "csv").stdout.startswith("labels,nmi,")


def test_names_that_are_not_utf_8_are_printed_as_they_are(tmp_path):
    with open(tmp_path / "l.csv", "wb") as file:
        file.write(b"path,label\nv/\xff/1.mp4,0\nv/b/2.mp4,1\n")
    for form in FORMATS:
        extra = "--clusters" if form != "csv" else "--heads"
        done = subprocess.run(
            [sys.executable, "-m", "cli", "evaluate", tmp_path / "l.csv", extra, "--format", form],
            cwd=ROOT,
            env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
