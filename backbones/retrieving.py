"""Stores for retrieval: pooled maps of the networks' last stage, written bit by bit, so that a stop loses little."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from backbones.maps import MapReader
from selavi_ref.media import Manifest
from selavi_ref.report.progress import bar
from selavi_ref.run import Run
from selavi_ref.store import StoreWriter


def write_maps(run: Run, manifest: Manifest, out: str | os.PathLike[str], **looking: Any) -> Path:
    """
    Write the features that `backbones.maps.map_features` makes of videos as a store; one that was cut off is continued.

    Parameters
    ----------
    run, manifest
        A trained run, and the videos.
    out : path
        The store.
    looking
        Of `backbones.maps.MapReader`.

    Returns
    -------
    Path
        The store.
    """
    reader = MapReader(run, manifest, **looking)
    _, first = next(reader.read([0]))
    writer = StoreWriter(
        out,
        manifest.paths,
        {f"features/{m}": values.shape[1] for m, values in first.items()},
        classes=manifest.classes,
        provenance={
            "run": os.path.abspath(run.folder),
            "epoch": reader.epoch,
            "pool": looking.get("pool", "max"),
            "clips": reader.clips,
            "frames": reader.settings.clip.frames,
        },
    )
    with writer, bar(len(manifest), "looking", "video", initial=int(writer.done.sum())) as progress:
        for look, found in reader.read(writer.remaining.tolist()):
            values = {f"features/{m}": x for m, x in found.items()}
            writer.write(look.rows, values, present=look.present, reason=look.reasons)
            progress.update(len(look.rows))
        return writer.finish()
