"""Stores for retrieval: pooled maps of the networks' last stage, written part by part, so that a stop loses little."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from backbones.maps import map_features
from backbones.sources import Loading
from selavi_ref.media import Manifest
from selavi_ref.report.progress import bar
from selavi_ref.run import Run
from selavi_ref.store import StoreWriter

_PART = 256  # videos


def write_maps(
    run: Run,
    manifest: Manifest,
    out: str | os.PathLike[str],
    *,
    pool: str = "max",
    clips: int = 10,
    frames: int | None = 32,
    device: str = "auto",
    loading: Loading = Loading(),  # noqa: B008
) -> Path:
    """
    Write the features that `backbones.maps.map_features` makes of videos as a store; one that was cut off is continued.

    Parameters
    ----------
    run, manifest, pool, clips, frames, device, loading
        As in `backbones.maps.map_features`.
    out : path
        The store.

    Returns
    -------
    Path
        The store.
    """
    first = replace(manifest, entries=manifest.entries[:1])
    looking = {"pool": pool, "clips": clips, "frames": frames, "device": device}
    widths = map_features(run, first, **looking, loading=Loading(0)).features  # type: ignore[arg-type]
    writer = StoreWriter(
        out,
        manifest.paths,
        {f"features/{m}": values.shape[1] for m, values in widths.items()},
        classes=manifest.classes,
        provenance={"run": os.path.abspath(run.folder), "pool": pool, "clips": clips, "frames": frames},
    )
    with writer, bar(len(manifest), "looking", "video", initial=int(writer.done.sum())) as progress:
        while len(writer.remaining):
            rows = writer.remaining[:_PART]
            part = replace(manifest, entries=[manifest.entries[row] for row in rows])
            found = map_features(run, part, **looking, loading=loading, progress=progress.update)  # type: ignore[arg-type]
            values = {f"features/{m}": np.nan_to_num(x) for m, x in found.features.items()}
            writer.write(rows, values, present=found.present, reason=found.reasons)
        return writer.finish()
