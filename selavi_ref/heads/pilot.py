"""The pilot run of `selavi train-heads --clusters auto`, from which the number of clusters is estimated."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from selavi_ref.ensemble.n_clusters import pilot_n_clusters
from selavi_ref.heads.crossfit_run import start_crossfit
from selavi_ref.heads.features import PairedFeatures
from selavi_ref.heads.training_run import apply_heads, start_heads, train_heads
from selavi_ref.report.n_clusters import start_with_estimate
from selavi_ref.runs.pilot_run import PilotRun, pilot_options
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.selflabel.cluster_sizes import ClusterSizes
from selavi_ref.store import FeatureStore


def start_pilot(
    store: str | os.PathLike[str], out: str | os.PathLike[str], most: int | None, **options: Any
) -> PilotRun:
    """
    Start the pilot of a run of heads whose number of clusters is to be estimated.

    Parameters
    ----------
    store : path
        Store with the training data.
    out : path
        Folder of the run.
    most : int, optional
        Largest possible number of clusters.
    options
        Options of `start_crossfit`; the pilot itself trains heads by gradient descent.

    Raises
    ------
    InputError
        If there are too few videos, the store does not fit, or the folder holds a run already.
    """
    with FeatureStore(store) as opened:
        n_clusters = pilot_n_clusters(PairedFeatures(opened, max_bytes=0).n_videos, most)
    return PilotRun.create(
        out,
        lambda folder: start_heads(store, folder, n_clusters, seed=options.get("seed", 0), **pilot_options({})),
        {"store": os.path.abspath(store), "options": {**options, "sizes": asdict(options["sizes"])}, "most": most},
    )


def finish_pilot(pilot_run: PilotRun, reporter: Reporter = SILENT) -> Run:
    """Train the pilot from its newest checkpoint, estimate the number of clusters, and start the run with it."""
    note = pilot_run.note

    def learn(pilot: Run) -> None:
        train_heads(pilot, reporter)
        apply_heads(pilot, note["store"], pilot.features_file, reporter)

    return start_with_estimate(
        pilot_run,
        learn,
        lambda n_clusters: _start(note["store"], pilot_run, n_clusters, note["options"]),
        most=note["most"],
        reporter=reporter,
    )


def _start(store: str, pilot_run: PilotRun, n_clusters: int, options: Mapping[str, Any]) -> Run:
    """Start the run; the note of a pilot of version 0.1.0 has the options of heads of that version."""
    if "sizes" not in options:
        return start_heads(store, pilot_run.folder, n_clusters, **options)
    sizes = ClusterSizes(**{**options["sizes"], "given": tuple(options["sizes"]["given"])})
    return start_crossfit(store, pilot_run.folder, n_clusters, **{**options, "sizes": sizes})
