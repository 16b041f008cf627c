"""``python -m selavi_ref.transport`` as a user calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from selavi_ref.errors import ConvergenceWarning
from selavi_ref.store import StoreWriter
from selavi_ref.transport import assign
from selavi_ref.transport.__main__ import main
from tests.support.engines import write_h5


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(600, 7)).astype(np.float32)


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_it_runs_as_a_program(tmp_path: Path, scores: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", scores)
    command = [sys.executable, "-m", "selavi_ref.transport", "x.npy", "--out", "labels.npy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "600 rows, 7 clusters" in done.stdout
    assert np.array_equal(np.load(tmp_path / "labels.npy"), assign(scores).labels)


def test_hdf5_in_and_out(tmp_path: Path, scores: np.ndarray) -> None:
    path = write_h5(tmp_path / "x.h5", scores)
    run(path, "--sizes", "zipf", "--strength", 5, "--out", tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        found = assign(scores, 1 / np.arange(1, 8), strength=5)
        assert np.array_equal(file["labels"][:], found.labels)
        assert np.allclose(file["mass"][:], found.mass, atol=2e-6)


def test_a_head_of_a_feature_store(tmp_path: Path, scores: np.ndarray) -> None:
    names = {"log_prob/video/0": 7, "log_prob/audio/0": 7}
    with StoreWriter(tmp_path / "s.h5", [f"{i}.mp4" for i in range(600)], names) as writer:
        writer.write(slice(None), dict.fromkeys(names, scores), present={"video": True, "audio": True})
        writer.finish()
    run(tmp_path / "s.h5", "--head", 0, "--strength", 5, "--out", tmp_path / "labels.csv")
    table = np.genfromtxt(tmp_path / "labels.csv", delimiter=",", names=True)
    assert np.array_equal(table["label"], assign(scores).labels)
    assert "no head 3; it has 0" in run(tmp_path / "s.h5", "--head", 3, code=2)


def test_exact_sizes_are_shown_with_score_and_time(tmp_path: Path, scores: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", scores[:595])
    output = run(tmp_path / "x.npy", "--rounding", "exact", "--out", tmp_path / "labels.npy")
    assert "total score" in output
    assert "exact sizes in another" in output
    assert (np.bincount(np.load(tmp_path / "labels.npy")) == 85).all()


def test_weights_penalty_and_the_published_algorithm(tmp_path: Path, scores: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", scores)
    np.save(tmp_path / "w.npy", np.arange(600.0))
    run(tmp_path / "x.npy", "--weights", tmp_path / "w.npy", "--marginal-penalty", 2)
    run(tmp_path / "x.npy", "--published", "--strength", 2)


def test_the_exit_code_shows_that_it_did_not_converge(tmp_path: Path, scores: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", scores)
    with pytest.warns(ConvergenceWarning):
        run(tmp_path / "x.npy", "--max-passes", 2, "--method", "fixed-point", code=1)


def test_errors_are_one_line(tmp_path: Path, scores: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", scores)
    np.save(tmp_path / "flat.npy", scores[0])
    scores[5, 3] = np.nan
    np.save(tmp_path / "nan.npy", scores)
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "text.h5").write_text("no file")
    (tmp_path / "sizes.txt").write_text("1 2 3")
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a"], file["b"] = scores, scores
    for arguments, message in [
        (["nan.npy"], "row 5, column 3"),
        (["flat.npy"], "shape"),
        (["text.npy"], "text.npy"),
        (["text.h5"], "text.h5"),
        (["missing.npy"], "missing.npy"),
        (["sizes.txt"], "must end in .npy, .h5"),
        (["x.npy", "--out", "nowhere/labels.csv"], "no folder"),
        (["x.npy", "--published", "--rounding", "exact"], "--rounding"),
        (["x.npy", "--seed", "3"], "--seed"),
        (["x.npy", "--head", "0"], "--head"),
        (["two.h5", "--head", "0", "--dataset", "a"], "--head"),
        (["x.npy", "--sizes", "sizes.txt"], "7 clusters"),
        (["x.npy", "--sizes", "big"], "'big'"),
        (["x.npy", "--strength", "-1"], "strength"),
        (["x.npy", "--engine", "gpu"], "known are auto"),
        (["x.npy", "--out", "labels.txt"], ".npy, .csv, .h5"),
        (["two.h5"], "a, b"),
        (["two.h5", "--dataset", "c"], "no data set 'c'; it has a, b"),
    ]:
        there = [str(tmp_path / word) if (tmp_path / word).suffix and "." in word else word for word in arguments]
        output = run(*there, code=2)
        assert message in output, output
        assert "Traceback" not in output
