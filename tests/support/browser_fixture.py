"""Fixtures of pytest: a small run, with or without edits, shown by `selavi browse`, and what its page must show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from selavi_ref.browser.annotations import annotations_of
from tests.support.browser_run import make_run, make_videos
from tests.support.browser_server import Program
from tests.support.browser_truth import NAME, WRONG, Truth, truth_of


@pytest.fixture(scope="module")
def place(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the run, of which a cluster has a name and some videos are marked as wrong."""
    folder = tmp_path_factory.mktemp("page")
    make_videos(folder / "videos")
    run = make_run(folder / "run", folder / "videos")
    truth = truth_of(folder / "run")
    annotations = annotations_of(run)
    annotations.apply({"op": "rename", "cluster": 2, "name": NAME})
    annotations.apply({"op": "wrong", "videos": [truth.paths[row] for row in WRONG], "wrong": True})
    return folder


@pytest.fixture(scope="module")
def unedited(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the run without any edit, for modules that edit it and call this their `place`."""
    folder = tmp_path_factory.mktemp("unedited")
    make_videos(folder / "videos")
    make_run(folder / "run", folder / "videos")
    return folder


@pytest.fixture
def entries(place: Path) -> Callable[[], list[dict[str, Any]]]:
    """Read what is in the file of edits now, without the time of each."""

    def read() -> list[dict[str, Any]]:
        saved = json.loads((place / "run" / "annotations.json").read_text())
        return [{key: value for key, value in entry.items() if key != "at"} for entry in saved["entries"]]

    return read


@pytest.fixture(scope="module")
def truth(place: Path) -> Truth:
    """Return what must be shown."""
    return truth_of(place / "run")


@pytest.fixture(scope="module")
def program(place: Path) -> Iterator[Program]:
    """Serve the run as long as a module needs it."""
    with Program(place) as started:
        yield started


@pytest.fixture(scope="module")
def home(program: Program) -> str:
    """Return where the page is."""
    return program.url
