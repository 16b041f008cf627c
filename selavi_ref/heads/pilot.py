"""The pilot run of `selavi train-heads --clusters auto`, from which the number of clusters is estimated."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.crossfit import CrossfitSettings
from selavi_ref.crossfit.components import read_rows
from selavi_ref.crossfit.pilot_store import n_pilot_rounds, write_pilot_store
from selavi_ref.ensemble.n_clusters import pilot_n_clusters
from selavi_ref.errors import InputError, printable
from selavi_ref.heads.crossfit_run import (
    CrossfitRunSettings,
    StoredFeatures,
    feature_spaces,
    is_crossfit,
    start_crossfit,
)
from selavi_ref.heads.training_run import apply_heads, start_heads, train_heads
from selavi_ref.report.n_clusters import start_with_estimate
from selavi_ref.runs.pilot_run import PilotRun
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.runs.signals import stoppable
from selavi_ref.selflabel.cluster_sizes import ClusterSizes
from selavi_ref.store import FeatureStore

_SAMPLE = 20_000  # videos from which the number is estimated, at most


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
        Options of `start_crossfit`.

    Raises
    ------
    InputError
        If there are too few videos, the store does not fit, or the folder holds a run already.
    """
    use, seed = options.get("use", ()), options.get("seed", 0)
    with FeatureStore(store) as opened:
        n_clusters = pilot_n_clusters(min(_SAMPLE, len(_complete_rows(opened, use))), most)
    return PilotRun.create(
        out,
        lambda folder: start_crossfit(store, folder, n_clusters, use=use, seed=seed),
        {"store": os.path.abspath(store), "options": {**options, "sizes": asdict(options["sizes"])}, "most": most},
    )


def finish_pilot(pilot_run: PilotRun, reporter: Reporter = SILENT) -> Run:
    """Train the pilot from its newest checkpoint, estimate the number of clusters, and start the run with it."""
    note = pilot_run.note

    def learn(pilot: Run) -> None:
        if is_crossfit(pilot):
            _label_with_many_clusters(pilot, reporter)
        else:  # of version 0.1.0
            train_heads(pilot, reporter)
            apply_heads(pilot, note["store"], pilot.features_file, reporter)

    return start_with_estimate(
        pilot_run,
        learn,
        lambda n_clusters: _start(note["store"], pilot_run, n_clusters, note["options"]),
        most=note["most"],
        reporter=reporter,
    )


def _label_with_many_clusters(pilot: Run, reporter: Reporter) -> None:
    """Write the store of the pilot, unless it is there: labels of a sample of the videos by several heads."""
    if pilot.features_file.exists():
        return
    settings, search = CrossfitRunSettings.from_dict(pilot.config), CrossfitSettings()
    with stoppable(), FeatureStore(settings.store) as store:
        rows = _complete_rows(store, settings.modalities)
        if len(rows) > _SAMPLE:
            rows = np.sort(np.random.default_rng(settings.seed).choice(rows, _SAMPLE, replace=False))
        features = {m: read_rows(StoredFeatures(store, m), rows) for m in settings.modalities}
        paths = [str(store.paths[row]) for row in rows]
        with reporter.bar(n_pilot_rounds(search), "estimating the number of clusters", "round") as bar:
            write_pilot_store(
                pilot.features_file,
                features,
                settings.clusters,
                paths=paths,
                settings=search,
                seed=settings.seed,
                on_round=lambda _: bar.update(1),
            )


def _complete_rows(store: FeatureStore, use: Sequence[str]) -> NDArray[np.int64]:
    """Return the videos with features in all spaces, of which there must be two or more."""
    spaces = feature_spaces(store, use)
    if len(spaces) < 2:
        raise InputError(
            f"{printable(store.path)}: the number of clusters is estimated from two feature spaces or more, not from "
            f"{printable(spaces[0])} alone; give --clusters a number",
            path=store.path,
            option="clusters",
        )
    return np.flatnonzero(np.logical_and.reduce([store.present(space) for space in spaces]))


def _start(store: str, pilot_run: PilotRun, n_clusters: int, options: Mapping[str, Any]) -> Run:
    """Start the run; the note of a pilot of version 0.1.0 has the options of heads of that version."""
    if "sizes" not in options:
        return start_heads(store, pilot_run.folder, n_clusters, **options)
    sizes = ClusterSizes(**{**options["sizes"], "given": tuple(options["sizes"]["given"])})
    return start_crossfit(store, pilot_run.folder, n_clusters, **{**options, "sizes": sizes})
