"""The course of a training as a user meets it: tables and figures that say what the log of the run says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.support.command_line import rows_of, selavi, succeeded
from tests.support.old_heads import train_old_heads
from tests.support.small_runs import figure_at, small_place, written


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with small_place(tmp_path_factory.mktemp("curves")) as folder:
        yield folder


def test_rows_are_the_records_of_the_run(place):
    out = succeeded(selavi("study", "training-curve", "run", "--out", "curve", cwd=place))
    rows = written(place / "curve" / "training-curve")
    records = [
        record for record in _records(place / "run" / "metrics.jsonl") if "epoch" in record or "changed" in record
    ]
    assert len(rows) == len(records)
    assert [row["step"] for row in rows] == sorted(record["step"] for record in records)
    epochs = [record for record in records if "epoch" in record]
    assert [row["loss"] for row in rows if row["epoch"]] == [record["loss"] for record in epochs]
    assert [row["rate"] for row in rows if row["epoch"]] == [record["rate"] for record in epochs]
    labellings = [record for record in records if "changed" in record]
    for name in ("changed", "nmi_with_classes", "nmi_between_heads", "nmi_with_last"):
        assert [row[name] for row in rows if row["epoch"] is None] == [r.get(name) for r in labellings]
    words = figure_at(place / "curve" / "training-curve")
    assert {"with the true classes", "between heads", "with the labels before", "step", "NMI"} <= words
    assert "cross-entropy, nats" in figure_at(place / "curve" / "training-curve-loss")
    assert "curve" in out


def test_where_side_heads_learn_the_spectrum_is_drawn_along(place):
    options = ["--config", "parts.toml", "--epochs", "1", "--clusters", "4", "--workers", "0"]
    succeeded(selavi("train", "new", *options, "--out", "spectral", cwd=place))
    records = _records(place / "spectral" / "metrics.jsonl")
    spectrum = next(record["spectrum"] for record in records if "spectrum" in record)
    succeeded(selavi("study", "training-curve", "spectral", "--out", "curve2", cwd=place))
    rows = rows_of(place / "curve2" / "training-curve.csv")
    agreements = [float(row["agreement"]) for row in rows if row["agreement"]]
    assert len(spectrum) == 5
    assert agreements[0] == pytest.approx(np.mean(spectrum[1:4]))  # of K = 4: the eigenvalues 2 to 4
    assert "picture and sound agree (spectrum)" in figure_at(place / "curve2" / "training-curve")


def test_a_run_of_heads_has_a_course_too(place):
    train_old_heads(place, "run/features.h5", "heads")
    succeeded(selavi("study", "training-curve", "heads", "--out", "curve3", cwd=place))
    assert len([row for row in written(place / "curve3" / "training-curve") if row["epoch"]]) == 2


def _records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
