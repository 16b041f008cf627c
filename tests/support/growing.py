"""A collection that grows, and a run that follows it: what the tests of `selavi update` share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from selavi_ref.browser.annotations import annotations_of
from selavi_ref.datasets import make_collection
from selavi_ref.runs.run import Run
from tests.support.command_line import selavi, succeeded


def learn_from_videos(folder: Path, n_videos: int, seconds: float, *options: object) -> Path:
    """Make ``videos``, 6 others in ``new``, and a run on the first, kept for `restore`; the folder itself."""
    make_collection(folder / "videos", n_videos, seed=3, seconds=seconds, size=48, fps=8)
    make_collection(folder / "new", 6, seed=4, seconds=seconds, size=48, fps=8)
    succeeded(selavi("train", "videos", *options, "--clusters", "3", "--out", "run", cwd=folder))
    return keep(folder, "videos", "run")


def keep(folder: Path, *names: str) -> Path:
    """Copy folders of this folder, for `restore`; the folder itself."""
    for name in names:
        shutil.copytree(folder / name, folder / f"kept-{name}")
    return folder


def restore(folder: Path) -> Path:
    """Put all folders back as `keep` has found them, with the times of the files; the folder that holds them."""
    for kept in folder.glob("kept-*"):
        own = folder / kept.name.removeprefix("kept-")
        shutil.rmtree(own, ignore_errors=True)
        shutil.copytree(kept, own)
    return folder


def add_new(place: Path) -> list[str]:
    """Copy the new videos to the others, and return their paths."""
    shutil.copytree(place / "new", place / "videos" / "more")
    return sorted(str(path) for path in (place / "videos" / "more").rglob("*.mp4"))


def edit(place: Path, **what: Any) -> None:
    """Edit the labels of the run as people do on its page."""
    annotations_of(Run(place / "run")).apply(what)


def update_summary(place: Path, *options: str, run: str = "run", videos: str = "videos", workers: int = 0) -> Any:
    """Update a run, and read what `selavi update --json` prints."""
    command = ("update", run, videos, "--json", "--workers", workers)
    return json.loads(succeeded(selavi(*command, *options, cwd=place)))
