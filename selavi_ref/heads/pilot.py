"""`selavi train-heads --clusters auto`: heads with more clusters than there are kinds tell how many are to be found."""

from __future__ import annotations

import os
from typing import Any

from selavi_ref.ensemble.n_clusters import pilot_n_clusters
from selavi_ref.heads.features import PairedFeatures
from selavi_ref.heads.training_run import apply_heads, start_heads, train_heads
from selavi_ref.report.n_clusters import describe
from selavi_ref.runs.pilot_run import PilotRun
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore

_HEADS = 5  # of the pilot, at least


def start_pilot(
    store: str | os.PathLike[str], out: str | os.PathLike[str], most: int | None, **options: Any
) -> PilotRun:
    """
    Start the pilot of a run whose number of clusters is to be estimated.

    Parameters
    ----------
    store : path
        The store that is learnt from.
    out : path
        Folder of the run; the pilot lies in it.
    most : int, optional
        Kinds that there may be at most.
    options
        Of `selavi_ref.heads.training_run.heads_settings`.

    Raises
    ------
    InputError
        If there are too few videos, the store does not fit, or the folder holds a run already.
    """
    with FeatureStore(store) as opened:
        fine = pilot_n_clusters(PairedFeatures(opened, most_bytes=0).n_videos, most)
    counting = PilotRun(Run.prepare(out).folder)
    counting.pilot.config_file.unlink(missing_ok=True)  # of a start that was cut off
    wanted = {**options, "overclustering_heads": 0, "heads": max(_HEADS, options.get("heads", 0))}
    start_heads(store, counting.pilot.folder, fine, **wanted)
    counting.begin({"store": os.path.abspath(store), "options": options, "most": most})
    return counting


def finish_pilot(counting: PilotRun, reporter: Reporter = SILENT) -> Run:
    """Train the pilot from where it is, estimate the number of clusters, and start the run with it."""
    noted = counting.options
    pilot = Run.open(counting.pilot.folder)
    train_heads(pilot, reporter)
    apply_heads(pilot, noted["store"], pilot.features_file, reporter)
    found = counting.count(noted["most"])
    reporter.info(describe(found, counting.folder))
    return start_heads(noted["store"], counting.folder, found.clusters, **noted["options"])
