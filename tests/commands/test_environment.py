"""The environment of the program: notebooks' backends, paths as objects, closed streams, narrow encodings, memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.command_line import ROOT, refused, selavi, succeeded
from tests.support.media_files import write_video


def run_python(*args, cwd, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.run([sys.executable, *map(str, args)], cwd=cwd, env=environment, **options)


@pytest.fixture
def videos(tmp_path):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "日.mp4")
    return tmp_path


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense", "agg"])
def test_figures_are_drawn_whatever_backend_a_notebook_has_named(tmp_path, backend):
    code = (
        "import os; from selavi_ref.report.figures import bar_figure, check_drawing; check_drawing()\n"
        "bar_figure('f', ['a'], {'x': [1.0]}, title='t', y='y'); print(os.environ['MPLBACKEND'])"
    )
    done = run_python("-c", code, cwd=tmp_path, env={"MPLBACKEND": backend}, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, backend), done.stderr
    assert (tmp_path / "f.png").stat().st_size > 1000


def test_the_module_path_may_hold_path_objects(videos):
    code = (
        "import sys, pathlib; sys.path.insert(0, pathlib.Path('.'))\n"
        "import cli; cli.main(['scan', 'videos', '--require', 'any'])"
    )
    done = run_python("-c", code, cwd=videos, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 videos can be used" in done.stdout


@pytest.mark.parametrize("closed", [[2], [1, 2], [0, 1, 2]])
def test_closed_streams_change_nothing(videos, closed):
    redirections = " ".join(f"{number}>&-" for number in closed)
    command = f'"$0" -m selavi_ref scan videos --require any {redirections}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command, sys.executable], cwd=videos, env=environment)
    assert done.returncode == 0
    assert "日.mp4" in (videos / "manifest.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_characters_that_an_encoding_lacks_are_escaped(videos, encoding):
    arguments = ["-m", "selavi_ref", "scan", "videos", "--require", "any", "--out", "名.csv"]
    done = run_python(*arguments, cwd=videos, env={"PYTHONIOENCODING": encoding}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"wrote \\u540d.csv" in done.stdout
    assert (videos / "名.csv").exists()


def test_memory_that_does_not_suffice_takes_one_line(tmp_path, monkeypatch):
    def out_of_memory(*args):
        raise MemoryError("Unable to allocate 9 EiB")

    monkeypatch.setattr("selavi_ref.report.evaluation.read_labelled", out_of_memory)
    (tmp_path / "labels.csv").touch()
    assert "memory" in refused(selavi("evaluate", "labels.csv", cwd=tmp_path), "9 EiB")


def test_counts_are_in_english(videos):
    assert "1 of 1 videos can be used" in succeeded(selavi("scan", "videos", "--require", "any", cwd=videos))
