"""Every benchmark runs on tiny sizes, and writes its figures where it is told, never over those that were measured."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.support.chromium import NAMES
from tests.support.command_line import ROOT, selavi, succeeded
from tests.support.small_runs import small_place

FOLDER = ROOT / "benchmarks"
SHORT = "--clusters 4 --epochs 1 --workers 0 --out out"
# Arguments in a folder with videos/, new/, run/, train.h5 and new.h5, and packages or programs that some need.
PROGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "balanced_kmeans": ("--quick --out out/x.md", ("k_means_constrained",)),
    "batches": ("--quick --small videos --out out/x.md", ("ffmpeg", "skvideo", "python_speech_features")),
    "browser": ("--quick --out out/x.md", (NAMES[0], "playwright", "openTSNE")),
    "confidence": ("small=run/labels.csv --out out/x", ()),
    "corrections": (f"videos new --corrected 2 --run-epochs 1 {SHORT}", ()),
    "gpu": ("--quick --device cpu --seeds 2 --out out/x.md", ()),
    "labelling": ("x train.h5 new.h5 --clusters 4 --seeds 1 --quick --out out", ("umap", "matplotlib")),
    "loading": ("--quick --small videos --out out/x.md", ("ffmpeg", "skvideo", "python_speech_features")),
    "metrics": ("--quick --out out/x.md", ()),
    "missing_sound": (f"videos new --shares 30 {SHORT}", ()),
    "neighbours": ("500", ()),
    "segments": ("--minutes 0.1 --size 160x96 --segment 2", ()),
    "selflabelling": ("--quick --out out/x.md", ()),
    "sinkhorn": ("--quick --out out/x.md", ("ot",)),
    "timeline": ("run videos --videos 1 --windows 2", ()),
    "training": ("--quick --out out/x.md", ()),
}
OTHERS = {"sinkhorn_gpu"}  # needs a GPU


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    with small_place(tmp_path_factory.mktemp("benchmarks")) as folder:
        for videos, store in (("videos", "train.h5"), ("new", "new.h5")):
            succeeded(selavi("extract", videos, "--encoder", "logmel", "--out", store, cwd=folder))
        yield folder


def run(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, env={**os.environ, **threads})


def measured() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (FOLDER / "results").iterdir()}


def is_there(name: str) -> bool:
    return shutil.which(name) is not None or find_spec(name) is not None


def test_every_program_is_tried():
    programs = {file.stem for file in FOLDER.glob("*.py") if "\ndef main(" in file.read_text(encoding="utf-8")}
    assert programs == PROGRAMS.keys() | OTHERS


@pytest.mark.processes
@pytest.mark.parametrize("name", PROGRAMS)
def test_it_runs(name: str, place: Path, tmp_path: Path) -> None:
    arguments, needed = PROGRAMS[name]
    if missing := [other for other in needed if not is_there(other)]:
        pytest.skip(f"needs {', '.join(missing)}")
    for file in place.iterdir():
        (tmp_path / file.name).symlink_to(file)
    before = measured()
    done = run(name, *arguments.split(), cwd=tmp_path)
    assert not done.returncode, done.stderr[-3000:]
    assert measured() == before
    written = [file for file in (tmp_path / "out").rglob("*") if file.is_file() and file.stat().st_size]
    assert written if "--out" in arguments else "|" in done.stdout or "segments" in done.stdout


@pytest.mark.processes
def test_tiny_sizes_do_not_replace_what_was_measured(tmp_path: Path) -> None:
    before = measured()
    done = run("metrics", "--quick", cwd=tmp_path)
    assert done.returncode == 2
    assert "--out" in done.stderr.splitlines()[-1]
    assert measured() == before


@pytest.mark.processes
@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
@pytest.mark.parametrize("name", ["gpu", "sinkhorn_gpu"])
def test_without_a_gpu_it_says_so_in_one_line(name: str, tmp_path: Path) -> None:
    done = run(name, "--out", "x.md", cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.processes
def test_sections_without_time_are_left_out_and_named(tmp_path: Path) -> None:
    done = run("gpu", "--quick", "--device", "cpu", "--minutes", "0", "--out", "x.md", cwd=tmp_path)
    assert not done.returncode, done.stderr
    written = (tmp_path / "x.md").read_text(encoding="utf-8")
    assert written == done.stdout
    for section in ("checks", "steps", "labelling", "decoding", "runs"):
        assert f"(`--only {section}`)" in written
