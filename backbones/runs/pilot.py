"""Pilot run for `selavi train --clusters auto`, from which the number of clusters is estimated."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backbones.data.data_source import DataSource
from backbones.runs import train as jobs
from backbones.runs.extract import extract
from backbones.runs.presets import run_settings
from backbones.runs.train import CheckpointPolicy
from selavi_ref.datasets import Manifest, read_manifest
from selavi_ref.ensemble.n_clusters import pilot_n_clusters
from selavi_ref.errors import InputError
from selavi_ref.report.n_clusters import describe
from selavi_ref.runs.pilot_run import PilotRun
from selavi_ref.runs.processes import Exchange, SingleProcess, raise_together
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run

_HEADS = 5  # of the pilot, at least


def start_pilot(
    out: str | os.PathLike[str], manifest: Manifest, options: Mapping[str, Any], most: int | None
) -> PilotRun:
    """
    Start the pilot of a run whose number of clusters is to be estimated.

    Parameters
    ----------
    out : path
        Folder of the run; the pilot lies in it.
    manifest : Manifest
        The scanned collection.
    options : mapping
        Of `backbones.runs.presets.run_settings`, but for ``clusters``.
    most : int, optional
        Kinds that there may be at most.

    Raises
    ------
    InputError
        If there are too few videos, sizes are given for a number of clusters, or the folder holds a run already.
    """
    distribution = options.get("distribution")
    if distribution not in (None, "uniform", "gaussian", "zipf"):
        raise InputError(
            f"--distribution {distribution} has sizes for a number of clusters; give --clusters this number"
        )
    n_videos = len(manifest.usable)
    fine = pilot_n_clusters(n_videos, most)
    # Clusters of equal sizes are finer than kinds; ones that bend might hold several.
    wanted = {**options, "overclustering_heads": 0, "soft_sizes": 0.0, "heads": max(_HEADS, options.get("heads") or 0)}
    settings = run_settings(n_videos, **wanted, clusters=fine)
    counting = PilotRun(Run.prepare(out).folder)
    counting.pilot.config_file.unlink(missing_ok=True)  # of a start that was cut off
    jobs.start(counting.pilot.folder, manifest, settings)
    counting.begin({"options": dict(options), "most": most})
    return counting


def finish_pilot(
    counting: PilotRun,
    *,
    device: str,
    data_source: DataSource,
    checkpoint_policy: CheckpointPolicy,
    exchange: Exchange = SingleProcess(),  # noqa: B008
    reporter: Reporter = SILENT,
) -> Run:
    """
    Train the pilot from where it is, estimate the number of clusters, and start the run, beginning with its networks.

    With several processes, all call this; parameters are those of `backbones.runs.train.train`.
    """
    with raise_together(exchange):
        noted = counting.options
        pilot = Run.open(counting.pilot.folder)
        finished = jobs.is_finished(pilot)
        manifest = read_manifest(pilot.videos_file)
    if not finished:
        if exchange.rank == 0:
            reporter.info("estimating the number of clusters: learning more of them than there may be kinds")
        jobs.train(
            pilot,
            device=device,
            data_source=data_source,
            checkpoint_policy=checkpoint_policy,
            exchange=exchange,
            reporter=reporter,
        )
    with raise_together(exchange):
        extracted = pilot.features_file.exists()
    if not extracted:
        extract(
            pilot,
            manifest,
            pilot.features_file,
            device=device,
            data_source=data_source,
            exchange=exchange,
            reporter=reporter,
        )
    with raise_together(exchange):
        if exchange.rank == 0:
            found = counting.count(noted["most"])
            reporter.info(describe(found, counting.folder))
            _start(counting.folder, pilot, manifest, noted["options"], found.clusters)
    return Run.open(counting.folder)


def _start(folder: Path, pilot: Run, manifest: Manifest, options: Mapping[str, Any], clusters: int) -> None:
    """Start the run itself, on the networks that the pilot has learnt."""
    skipped = read_manifest(pilot.skipped_file).entries if _lists_any(pilot.skipped_file) else []
    whole = Manifest([*manifest.entries, *skipped], manifest.source)
    given = {**options, "init": os.fspath(pilot.folder), "video_weights": None, "audio_weights": None}
    jobs.start(folder, whole, run_settings(len(manifest), **given, clusters=clusters))


def _lists_any(path: Path) -> bool:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return len(file.readlines()) > 1
