"""The demo: makes a synthetic collection, labels it from scratch, and compares the labels with K-means."""

from __future__ import annotations

import os
from pathlib import Path

from backbones.data.data_source import DataSource, open_clips
from backbones.runs.baselines import kmeans_on_inputs
from backbones.runs.run_settings import RunSettings, choose_device
from backbones.runs.video_runs import finish_run, start_run
from selavi_ref.datasets import KINDS, make_collection, read_manifest
from selavi_ref.datasets.scan import list_videos
from selavi_ref.ensemble.label_table import write_csv
from selavi_ref.ensemble.labels import label_store
from selavi_ref.errors import InputError
from selavi_ref.metrics import summary
from selavi_ref.report.contact_sheet import contact_sheet
from selavi_ref.report.evaluation import evaluate_csv
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run_lock import LOCK_NAME, locked
from selavi_ref.store import FeatureStore


def run_demo(
    out: str | os.PathLike[str], n_videos: int, seed: int, device: str, *, reporter: Reporter = SILENT
) -> dict[str, dict[str, float | int]]:
    """
    Make a synthetic collection in a new folder, train and label it, and score it together with K-means.

    Returns
    -------
    dict
        Scores of the run's labels and of K-means, by name.

    Raises
    ------
    InputError
        If the folder is not empty.
    """
    choose_device(device)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is there already; name another folder with --out", path=folder)
    with locked(folder):
        if any(path.name != LOCK_NAME for path in folder.iterdir()):
            raise InputError(f"{folder} is there already; name another folder with --out", path=folder)
        return _run_demo(folder, n_videos, seed, device, reporter)


def _run_demo(
    folder: Path, n_videos: int, seed: int, device: str, reporter: Reporter
) -> dict[str, dict[str, float | int]]:
    videos = folder / "videos"
    reporter.info(f"drawing {n_videos} synthetic videos of {len(KINDS)} kinds: {', '.join(KINDS)}")
    with reporter.bar(n_videos, "drawing", "video") as bar:
        make_collection(videos, n_videos, seed=seed, progress=lambda done, total: bar.update(1))
    data_source = DataSource(memory_gb=4.0)
    start_run(folder / "run", list_videos(videos), len(KINDS), device=device, seed=seed, reporter=reporter)
    run = finish_run(folder / "run", device=device, data_source=data_source, reporter=reporter)
    manifest = read_manifest(run.videos_file)
    with FeatureStore(run.features_file) as store:
        table = label_store(store)
    write_csv(table, run.labels_file)
    contact_sheet(run.labels_file, run.sheet_file)

    clip = RunSettings.from_dict(run.config).backbone.clip
    source = open_clips(manifest, clip, data_source, reporter=reporter)
    clusterings = kmeans_on_inputs(source, len(KINDS), seed)
    rows = {"selavi": evaluate_csv(run.labels_file)}
    rows |= {f"K-means, {name}": summary(manifest.classes, labels.tolist()) for name, labels in clusterings.items()}
    return rows
