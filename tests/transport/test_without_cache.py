"""The solver and the metrics in surroundings in which Numba finds no folder for its cache, or does not compile."""

import functools
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import selavi_ref

pytestmark = pytest.mark.processes  # each compiles the kernels anew

METRICS = """
    import numpy as np
    from selavi_ref.metrics import adjusted_mutual_info_score, nearest

    x = np.random.default_rng(0).normal(size=(70, 40)).astype(np.float32)
    x[:, :3] += 3
    print(round(adjusted_mutual_info_score([0, 0, 1, 1, 2], [1, 1, 0, 2, 2]), 6))
    print(nearest(x[:9], x, 3)[0].tolist())
"""
SOLVER = """
    from selavi_ref import assign
    from selavi_ref.transport import Blocks

    wide = np.random.default_rng(0).normal(size=(60, 70))
    wide[5:] += np.eye(70)[np.arange(55)] * 20
    for data in (x, wide):
        for engine in ("auto", "numba", "store"):
            result = assign(Blocks(data) if engine == "store" else data, engine=engine, strength=2.0, tol=1e-5)
            print(engine, result.converged, round(result.value, 4), result.labels.sum())
    print(np.bincount(assign(x, np.ones(40), rounding="exact", strength=2.0).labels).tolist())
"""
SHORT_SOLVER = """
    from selavi_ref import assign

    print(assign(x, engine="numba", method="fixed-point", tol=1e-3).labels.tolist())
"""


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def expected_metrics() -> str:
    return run(METRICS)


@pytest.fixture
def read_only(tmp_path: Path) -> dict[str, str]:
    """A copy of the package that has no room for caches, and no home. Files in place of folders stop root as well."""
    package = Path(selavi_ref.__file__).parent
    shutil.copytree(package, tmp_path / "selavi_ref", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [*(tmp_path / "selavi_ref").rglob("*"), tmp_path / "selavi_ref"]:
        if folder.is_dir():
            (folder / "__pycache__").touch()
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file" / "home")
    return {"PYTHONPATH": str(tmp_path), "HOME": nowhere, "XDG_CACHE_HOME": nowhere, "PYTHONDONTWRITEBYTECODE": "1"}


def test_nothing_can_be_written(read_only: dict[str, str]) -> None:
    assert run(METRICS + SHORT_SOLVER, **read_only) == run(METRICS + SHORT_SOLVER)


def test_the_cache_folder_that_was_set_cannot_be_written(read_only: dict[str, str]) -> None:
    assert run(METRICS, **read_only, NUMBA_CACHE_DIR=read_only["HOME"]) == expected_metrics()


def test_damaged_and_unwritable_files_in_the_cache(read_only: dict[str, str], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run(METRICS, **read_only, NUMBA_CACHE_DIR=str(cache)) == expected_metrics()
    files = [file for file in cache.rglob("*") if file.is_file()]
    assert files
    for number, file in enumerate(sorted(files)):
        file.write_bytes(b"" if number % 2 else b"no pickle")
        if number % 3 == 0:
            file.unlink()
            file.mkdir()
    assert run(METRICS, **read_only, NUMBA_CACHE_DIR=str(cache)) == expected_metrics()


def test_nothing_is_compiled() -> None:
    assert run(METRICS + SOLVER, NUMBA_DISABLE_JIT="1") == run(METRICS + SOLVER)
