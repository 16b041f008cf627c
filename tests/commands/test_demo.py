"""`selavi demo` says what its labels are worth. The run is another small one: a demonstration takes minutes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backbones.runs import demo
from selavi_ref.diagnostics import doubts
from selavi_ref.diagnostics.finding import Finding
from selavi_ref.report.evaluation import evaluate_csv
from tests.support.command_line import selavi, succeeded
from tests.support.small_runs import small_place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    with small_place(tmp_path_factory.mktemp("demo")) as folder:
        yield folder


@pytest.mark.parametrize("findings", [[], [Finding("sizes", "warning", "all are in one cluster")]])
def test_a_demonstration_names_its_doubts(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, findings: list[Finding]
) -> None:
    def run_demo(out, *_, **__):
        shutil.copytree(place / "run", Path(out) / "run")
        return {"selavi": evaluate_csv(place / "run" / "labels.csv")}

    monkeypatch.setattr(demo, "run_demo", run_demo)
    monkeypatch.setattr(doubts, "doubts", lambda *_: findings)
    done = selavi("demo", "--out", "d", cwd=tmp_path)
    assert "NMI" in succeeded(done)
    assert ("selavi check d/run" in done.stderr) == bool(findings)
