"""`selavi train-heads --clusters auto`: heads with more clusters than there are kinds tell how many are to be found."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from selavi_ref.counting import Counting, fine_clusters, told
from selavi_ref.precomputed.collection import Collection
from selavi_ref.precomputed.job import apply_heads, start_heads, train_heads
from selavi_ref.run import Run
from selavi_ref.store import FeatureStore

_HEADS = 5  # of the pilot, at least


def begin_counting(
    store: str | os.PathLike[str], out: str | os.PathLike[str], most: int | None, **options: Any
) -> Counting:
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
        Of `selavi_ref.precomputed.job.heads_settings`.

    Raises
    ------
    InputError
        If there are too few videos, the store does not fit, or the folder holds a run already.
    """
    with FeatureStore(store) as opened:
        fine = fine_clusters(Collection(opened, most_bytes=0).n_videos, most)
    counting = Counting(Run.prepare(out).folder)
    counting.pilot.config_file.unlink(missing_ok=True)  # of a start that was cut off
    wanted = {**options, "side_heads": 0, "heads": max(_HEADS, options.get("heads", 0))}
    start_heads(store, counting.pilot.folder, fine, **wanted)
    counting.begin({"store": os.path.abspath(store), "options": options, "most": most})
    return counting


def carry_out_counting(counting: Counting, warn: Callable[[str], None]) -> Run:
    """Train the pilot from where it is, estimate the number of clusters, and start the run with it."""
    noted = counting.options
    pilot = Run.open(counting.pilot.folder)
    train_heads(pilot, warn)
    apply_heads(pilot, noted["store"], pilot.features_file)
    found = counting.count(noted["most"])
    warn(told(found, counting.folder))
    return start_heads(noted["store"], counting.folder, found.clusters, **noted["options"])
