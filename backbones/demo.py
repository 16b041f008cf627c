"""`selavi demo`: makes a synthetic collection, labels it from scratch, and shows how that compares with K-means."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path

import click

from backbones import jobs
from backbones.baseline import kmeans_on_inputs
from backbones.extracting import extract
from backbones.loading import Watch
from backbones.presets import run_settings
from backbones.recipe import RunSettings, choose_device
from backbones.sources import Loading, open_source
from selavi_ref.errors import InputError
from selavi_ref.labels import label, write_csv
from selavi_ref.media import KINDS, make_collection, scan
from selavi_ref.metrics import summary
from selavi_ref.report.evaluation import evaluate_csv, scores_table
from selavi_ref.report.progress import counter
from selavi_ref.report.sheet import contact_sheet
from selavi_ref.store import FeatureStore


def run_demo(out: str | os.PathLike[str], n_videos: int, seed: int, device: str) -> dict[str, dict[str, float | int]]:
    """
    Carry out the demonstration in a new folder, and print its table.

    Returns
    -------
    dict
        Scores of ours and of K-means.

    Raises
    ------
    InputError
        If the folder exists and is not empty.
    """
    choose_device(device)
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already; name another folder with --out")
    started = time.monotonic()
    videos = folder / "videos"
    click.echo(f"drawing {n_videos} synthetic videos of {len(KINDS)} kinds: {', '.join(KINDS)}", err=True)
    with counter(n_videos, "drawing", "video") as count:
        make_collection(videos, n_videos, seed=seed, progress=lambda done, total: count(1))
    with counter(n_videos, "scanning", "video") as count:
        manifest = scan(videos, progress=lambda done, total: count(1))
    run = jobs.start(
        folder / "run", manifest, run_settings(len(manifest.usable), clusters=len(KINDS), device=device, seed=seed)
    )
    loading = Loading(memory_gb=4.0)
    jobs.train(run, device=device, loading=loading)
    manifest = manifest.usable
    extract(run, manifest, run.features_file, watch=Watch(2), device=device, loading=loading)
    with FeatureStore(run.features_file) as store:
        labels = label(store)
    write_csv(labels, run.labels_file)
    contact_sheet(run.labels_file, run.sheet_file)

    settings = RunSettings.from_dict(run.config).backbone
    clusterings = kmeans_on_inputs(open_source(manifest, settings, loading), len(KINDS), seed)
    rows = {"selavi": evaluate_csv(run.labels_file)}
    rows |= {f"K-means, {name}": summary(manifest.classes, found.tolist()) for name, found in clusterings.items()}
    click.echo("\n" + scores_table(rows).text())
    click.echo(
        f"\nThe videos are synthetic; the names of their folders were used for this table only.\n"
        f"videos    {videos}{os.sep}\nlabels    {run.labels_file}\nclusters  {run.sheet_file}\n"
        f"run       {run.folder}{os.sep}\ntook      {time.monotonic() - started:.0f} s\n"
        f"look at the clusters, and name them: selavi browse {shlex.quote(str(run.folder))}"
    )
    return rows
