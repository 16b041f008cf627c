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
from selavi_ref.datasets import Manifest
from selavi_ref.datasets.run_lists import skipped_videos
from selavi_ref.ensemble.n_clusters import pilot_n_clusters
from selavi_ref.errors import InputError
from selavi_ref.report.n_clusters import start_with_estimate
from selavi_ref.runs.pilot_run import PilotRun, pilot_options
from selavi_ref.runs.processes import Exchange, SingleProcess, raise_together
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run


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
            f"--distribution {distribution} has sizes for a number of clusters; give --clusters this number",
            option="distribution",
        )
    n_videos = len(manifest.usable)
    n_clusters = pilot_n_clusters(n_videos, most)
    # Clusters of equal sizes are finer than kinds of videos; soft sizes might let one cluster hold several kinds.
    settings = run_settings(n_videos, **pilot_options(options) | {"soft_sizes": 0.0}, clusters=n_clusters)
    return PilotRun.create(
        out, lambda folder: jobs.start(folder, manifest, settings), {"options": dict(options), "most": most}
    )


def finish_pilot(
    pilot_run: PilotRun,
    *,
    device: str,
    data_source: DataSource,
    checkpoint_policy: CheckpointPolicy,
    exchange: Exchange = SingleProcess(),  # noqa: B008
    reporter: Reporter = SILENT,
) -> Run:
    """
    Train the pilot from its newest checkpoint, estimate the number of clusters, and start the run with its networks.

    With several processes, all call this; parameters are those of `backbones.runs.train.train`.
    """
    with raise_together(exchange):
        note = pilot_run.note
        manifest = jobs.read_videos(pilot_run.pilot)

    def learn(pilot: Run) -> None:
        with raise_together(exchange):
            finished = jobs.is_finished(pilot)
        if not finished:
            if exchange.rank == 0:
                reporter.info("estimating the number of clusters from a pilot run with more clusters")
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

    return start_with_estimate(
        pilot_run,
        learn,
        lambda n_clusters: _start(pilot_run.folder, pilot_run.pilot, manifest, note["options"], n_clusters),
        most=note["most"],
        exchange=exchange,
        reporter=reporter,
    )


def _start(folder: Path, pilot: Run, manifest: Manifest, options: Mapping[str, Any], clusters: int) -> None:
    """Start the run itself, on the networks that the pilot has learnt."""
    whole = Manifest([*manifest.entries, *skipped_videos(pilot)], manifest.source)
    given = {**options, "init": os.fspath(pilot.folder), "video_weights": None, "audio_weights": None}
    jobs.start(folder, whole, run_settings(len(manifest), **given, clusters=clusters))
