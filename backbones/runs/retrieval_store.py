"""Stores for retrieval: pooled maps of the networks' last stage, written bit by bit, so that a stop loses little."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from backbones.runs.feature_maps import MapReader
from selavi_ref.datasets import Manifest
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.store import StoreWriter


def write_maps(
    run: Run, manifest: Manifest, out: str | os.PathLike[str], *, reporter: Reporter = SILENT, **looking: Any
) -> Path:
    """
    Write the features of `map_features` to a store; a store that was cut off is continued.

    Parameters
    ----------
    run, manifest
        A trained run, and the videos.
    out : path
        The store.
    looking
        Of `backbones.runs.feature_maps.MapReader`.

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
    with writer, reporter.bar(len(manifest), "extracting", "video", int(writer.done.sum())) as bar:
        for look, found in reader.read(writer.remaining.tolist()):
            values = {f"features/{m}": x for m, x in found.items()}
            writer.write(look.rows, values, present=look.present, reason=look.reasons)
            bar.update(len(look.rows))
        return writer.finish()
