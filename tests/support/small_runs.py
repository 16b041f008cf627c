"""A small collection and a run on it, for the tests of commands that compare; and what they do, computed plainly."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import shutil
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from selavi_ref.datasets import make_collection
from tests.support.command_line import rows_of, selavi, succeeded

QUICK = """
heads = 2
[training]
batch_size = 8
learning_rate = 0.05
labellings = 4
bn_warmup_batches = 5
[backbone]
precision = "float32"
[backbone.clip]
frames = 2
sample_rate = 8000
n_filters = 32
"""
FINE = "overclusters = 8\n[training]\noverclustering_heads = 3"  # as larger collections have by themselves
PARTS = QUICK.replace("[training]", FINE)


@contextlib.contextmanager
def small_place(folder: Path):
    """A folder with 32 videos of eight kinds, 16 new ones, a run of four clusters on the 32, and quick settings.

    ``another`` is as if learnt with another seed; ``parts.toml`` are settings with over-clustering heads.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in ("videos", "new", "run", "another", "quick.toml", "parts.toml"):
        (folder / name).symlink_to(_own_copies(_session_folder(folder)) / name)
    yield folder
    torch.set_num_threads(threads)


def _session_folder(folder: Path) -> Path:
    """Return the folder that all processes of this session of pytest have, from that of a test or of a module."""
    own = folder.parent
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@functools.cache
def _own_copies(session: Path) -> Path:
    """Return what the tests of this process share and leave as it is; the first process of the session makes it."""
    made = session / "small-runs"
    with open(session / "small-runs.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "complete").exists():
            made.mkdir()
            _make(made)
            (made / "complete").touch()
    folder = Path(_temporary_folder().name)
    for name in ("videos", "new", "quick.toml", "parts.toml"):
        (folder / name).symlink_to(made / name)
    for name in ("run", "another"):  # commands lock runs, and save things in them
        shutil.copytree(made / name, folder / name)
    return folder


def _make(folder: Path) -> None:
    (folder / "quick.toml").write_text(QUICK)
    (folder / "parts.toml").write_text(PARTS)
    make_collection(folder / "videos", 32, seed=3, seconds=1.5, size=48, fps=8)
    make_collection(folder / "new", 16, seed=4, seconds=1.5, size=48, fps=8)
    options = [
        "--config",
        "quick.toml",
        "--epochs",
        "8",
        "--labellings",
        "12",
        "--bn-warmup-batches",
        "15",
        "--workers",
        "0",
    ]
    succeeded(selavi("train", "videos", "--clusters", "4", *options, "--workers", "0", "--out", "run", cwd=folder))
    shutil.copytree(folder / "run", folder / "another")
    config = (folder / "another" / "config.toml").read_text()
    (folder / "another" / "config.toml").write_text(config.replace("seed = 0", "seed = 7"))


@functools.cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="selavi-small-runs-")


def written(stem, *, figure=True):
    """Check that a table is the same in its three formats and has a figure; return its rows."""
    data = json.loads(Path(f"{stem}.json").read_text())
    rows = rows_of(f"{stem}.csv")
    assert list(rows[0]) == list(data["columns"])
    for row, same in zip(rows, data["rows"], strict=True):
        assert row == {name: "" if value is None else str(value) for name, value in same.items()}
    text = Path(f"{stem}.txt").read_text().splitlines()
    assert len(text) == len(rows) + 1 + bool(data["title"]) + len(data["notes"])
    if figure:
        figure_at(stem)
    return data["rows"]


def figure_at(stem):
    """Check the PNG and the SVG of a figure; return the words of the SVG."""
    with Image.open(f"{stem}.png") as picture:
        assert min(picture.size) > 200
    root = ElementTree.parse(f"{stem}.svg").getroot()
    return {node.text.strip() for node in root.iter("{http://www.w3.org/2000/svg}text") if node.text}


def times_of(folder, *patterns):
    """When the files of a folder were written."""
    found = {path: path.stat().st_mtime_ns for pattern in patterns for path in Path(folder).glob(pattern)}
    assert found
    return found


def plain_scores(classes, labels):
    """NMI, accuracy after matching and ARI of the videos that have both a class and a label."""
    pairs = [(true, int(k)) for true, k in zip(classes, labels, strict=True) if true and int(k) >= 0]
    true, found = (list(side) for side in zip(*pairs, strict=True))
    names, clusters = sorted(set(true)), sorted(set(found))
    counts = np.array([[pairs.count((name, k)) for k in clusters] for name in names])
    return {
        "nmi": normalized_mutual_info_score(true, found),
        "accuracy": counts[linear_sum_assignment(-counts)].sum() / len(pairs),
        "ari": adjusted_rand_score(true, found),
    }


def scores_of(table):
    """Scores of a run's own table of labels, by the folders of the videos."""
    rows = rows_of(table)
    classes = [Path(row["path"]).parent.name for row in rows]
    heads = [plain_scores(classes, [row[name] for row in rows])["nmi"] for name in rows[0] if name.startswith("head_")]
    found = plain_scores(classes, [row["label"] for row in rows])
    return len(rows), found | {"mean_head_nmi": np.mean(heads), "best_head_nmi": max(heads)}


def plain_posteriors(store, modalities=("video", "audio")):
    """The posteriors of each head by the summed log-probabilities of some modalities: heads, videos, clusters."""
    with h5py.File(store) as file:
        heads = [sum(file[f"log_prob/{m}/{head}"][:].astype(float) for m in modalities) for head in ("0", "1")]
    return np.stack([np.exp(logs) / np.exp(logs).sum(1, keepdims=True) for logs in heads])


def plain_labels(store, modalities=("video", "audio")):
    """The consensus of the heads, cluster by cluster, over the groups that a store keeps."""
    posteriors = plain_posteriors(store, modalities)
    with h5py.File(store) as file:
        groups = file["groups"][:]
    shares = np.zeros(posteriors.shape[1:])
    for head, of_head in enumerate(posteriors):
        for cluster in range(of_head.shape[1]):
            shares[:, groups[head, cluster]] += of_head[:, cluster]
    return shares.argmax(1)


def read_store(store, *names):
    """Paths and classes of a store, and some of its data sets."""
    with h5py.File(store) as file:
        texts = [[text.decode() for text in file[f"videos/{name}"][:]] for name in ("path", "class")]
        return *texts, *(file[name][:] for name in names)
