"""A run to browse: real small videos, some with odd names, and labels, posteriors and features that are made up."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from selavi_ref.datasets import find_videos, make_collection, scan, write_manifest
from selavi_ref.ensemble.label_table import write_csv
from selavi_ref.ensemble.labels import label_store
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore, StoreWriter

K, HEADS, D = 4, 2, 6
ODD = (
    "<img src=x onerror=alert(1)>.mp4",
    "quotes \"'`&amp;.mp4",
    "line\nbreak.mp4",
    "\u202eright to left \U0001f600.mp4",
    "a%2f..%2f..%2fetc%2fpasswd.mp4",
)
ODD_CLASS = "<b onclick='alert(2)'>bold & \"quoted\"</b>"


def make_videos(folder: Path, n: int = 24) -> list[str]:
    """Make small videos in eight folders, five of them with odd names, in a folder with an odd name."""
    make_collection(folder, n, seconds=1.0, size=32, workers=1)
    first = sorted((folder / "ball").iterdir())
    odd = folder / ODD_CLASS.replace("/", "\u2215")
    odd.mkdir()
    for name, source in zip(ODD, [*first, *sorted((folder / "bell").iterdir())], strict=False):
        shutil.move(source, odd / name)
    return sorted(str(path) for path in folder.rglob("*.mp4"))


def make_run(place: Path, videos: Path) -> Run:
    """Make a run whose heads agree mostly with the folders, two to a cluster; three of its videos are not usable."""
    run = Run.prepare(place)
    text = videos / "text.mp4"
    text.unlink(missing_ok=True)  # of a run that was made before
    manifest = scan(find_videos(videos))
    write_manifest(manifest, run.videos_file)
    # A file that is no video, one that is gone, and one that no list should name.
    text.write_text("this is no video")
    paths = [*manifest.paths, str(text), str(videos / "gone.mp4"), "/etc/passwd"]
    classes = [*manifest.classes, "", "", ""]
    write_store(run.features_file, paths, classes, reasons={len(paths) - 2: "the file is missing"})
    write_text(run.config_file, f"clusters = {K}\nheads = {HEADS}\n")
    with FeatureStore(run.features_file) as store:
        write_csv(label_store(store), run.labels_file)
    return run


def write_store(
    path: Path,
    paths: list[str],
    classes: list[str],
    *,
    clusters: int = K,
    heads: int = HEADS,
    width: int = D,
    reasons: dict[int, str] | None = None,
    seed: int = 0,
) -> None:
    """Write a store in which videos of a class are mostly in one cluster and near each other."""
    rng = np.random.default_rng(seed)
    N = len(paths)
    kinds = np.unique(classes, return_inverse=True)[1] % clusters
    failed = np.array([row in (reasons or {}) for row in range(N)])
    datasets = {f"log_prob/{m}/{h}": clusters for m in ("video", "audio") for h in range(heads)}
    datasets |= {f"features/{m}": width for m in ("video", "audio")}
    with StoreWriter(path, paths, datasets, classes=classes) as writer:
        values: dict[str, np.ndarray] = {}
        for m in ("video", "audio"):
            centres = rng.normal(size=(clusters, width)) * 3
            values[f"features/{m}"] = (centres[kinds] + rng.normal(size=(N, width))).astype(np.float32)
            for h in range(heads):
                logits = rng.normal(size=(N, clusters))
                logits[np.arange(N), kinds] += 3 + rng.exponential(2, N)
                values[f"log_prob/{m}/{h}"] = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
        present = dict.fromkeys(("video", "audio"), ~failed)
        writer.write(slice(None), values, present=present, reason=[(reasons or {}).get(row, "") for row in range(N)])
        writer.finish()
