"""`selavi train --clusters auto`: a run with more clusters than there are kinds tells how many are to be found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from backbones import jobs
from backbones.extracting import extract
from backbones.jobs import Keeping
from backbones.presets import run_settings
from backbones.sources import Loading
from selavi_ref.counting import Counting, fine_clusters, told
from selavi_ref.errors import InputError
from selavi_ref.exchange import Alone, Exchange, agreed
from selavi_ref.media import Manifest, read_manifest
from selavi_ref.run import Run

_HEADS = 5  # of the pilot, at least


def begin_counting(
    out: str | os.PathLike[str], manifest: Manifest, options: Mapping[str, Any], most: int | None
) -> Counting:
    """
    Start the pilot of a run whose number of clusters is to be estimated.

    Parameters
    ----------
    out : path
        Folder of the run; the pilot lies in it.
    manifest : Manifest
        The scanned collection.
    options : mapping
        Of `backbones.presets.run_settings`, but for ``clusters``.
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
    fine = fine_clusters(n_videos, most)
    # Clusters of equal sizes are finer than kinds; ones that bend might hold several.
    wanted = {**options, "side_heads": 0, "soft_sizes": 0.0, "heads": max(_HEADS, options.get("heads") or 0)}
    settings = run_settings(n_videos, **wanted, clusters=fine)
    counting = Counting(Run.prepare(out).folder)
    counting.pilot.config_file.unlink(missing_ok=True)  # of a start that was cut off
    jobs.start(counting.pilot.folder, manifest, settings)
    counting.begin({"options": dict(options), "most": most})
    return counting


def carry_out_counting(
    counting: Counting,
    *,
    device: str,
    loading: Loading,
    keeping: Keeping,
    exchange: Exchange = Alone(),  # noqa: B008
) -> Run:
    """
    Train the pilot from where it is, estimate the number of clusters, and start the run, beginning with its networks.

    With several processes, all call this; parameters are those of `backbones.jobs.train`.
    """
    with agreed(exchange):
        noted = counting.options
        pilot = Run.open(counting.pilot.folder)
        finished = jobs.is_finished(pilot)
        manifest = read_manifest(pilot.videos_file)
    if not finished:
        if exchange.rank == 0:
            click.echo("estimating the number of clusters: learning more of them than there may be kinds", err=True)
        jobs.train(pilot, device=device, loading=loading, keeping=keeping, exchange=exchange)
    with agreed(exchange):
        extracted = pilot.features_file.exists()
    if not extracted:
        extract(pilot, manifest, pilot.features_file, device=device, loading=loading, exchange=exchange)
    with agreed(exchange):
        if exchange.rank == 0:
            found = counting.count(noted["most"])
            click.echo(told(found, counting.folder), err=True)
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
