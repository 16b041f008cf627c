"""What the tests of baselines and of retrieval share: a run with classes, and stores of given features."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from selavi_ref.store import StoreWriter
from tests.support.command_line import selavi, succeeded
from tests.support.small_runs import (
    small_place,
)

BASE = ["--workers", "0"]


@contextmanager
def comparison_place(place: Path) -> Iterator[Path]:
    """A run, heads on its features, and folders of some of its videos."""
    with small_place(place) as folder:
        succeeded(selavi("train-heads", "run/features.h5", "--clusters", "4", "--out", "heads", cwd=folder))
        shutil.copytree(folder / "videos" / "ball", folder / "one" / "ball")
        shutil.copytree(folder / "videos" / "ball", folder / "flat")
        (folder / "few").mkdir()
        for kind in ("bird", "lamp", "rain"):
            (folder / "few" / kind).symlink_to(folder / "new" / kind)
        (folder / "unfinished").mkdir()
        for name in ("config.toml", "videos.csv"):
            shutil.copy(folder / "run" / name, folder / "unfinished")
        yield folder


def write_store(path, features, *, classes=None, log_prob=None, present=None, paths=None):
    """A store of features, and of log-probabilities by name."""
    values = {f"features/{m}": np.asarray(x, np.float32) for m, x in features.items()}
    values |= {f"log_prob/{name}": np.asarray(x, np.float32) for name, x in (log_prob or {}).items()}
    count = len(next(iter(values.values())))
    widths = {name: x.shape[1] for name, x in values.items()}
    with StoreWriter(path, paths or [f"{row}.mp4" for row in range(count)], widths, classes=classes) as writer:
        writer.write(slice(None), values, present=present)
        writer.finish()
    return path
