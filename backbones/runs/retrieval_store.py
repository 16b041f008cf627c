"""Stores of retrieval features, written block by block, so that an interrupted extraction continues."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from backbones.runs.retrieval_features import RetrievalReader
from selavi_ref.datasets import Manifest
from selavi_ref.runs.provenance import Provenance
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.store import StoreWriter


def write_retrieval_store(
    run: Run, manifest: Manifest, out: str | os.PathLike[str], *, reporter: Reporter = SILENT, **options: Any
) -> Path:
    """
    Write the features of `retrieval_features` to a store, or continue an incomplete one.

    Parameters
    ----------
    run, manifest
        A trained run, and the videos.
    out : path
        The store.
    options
        Options of `backbones.runs.retrieval_features.RetrievalReader`.

    Returns
    -------
    Path
        The store.
    """
    reader = RetrievalReader(run, manifest, reporter=reporter, **options)
    _, first = next(reader.read([0]))
    writer = StoreWriter(
        out,
        manifest.paths,
        {f"features/{m}": values.shape[1] for m, values in first.items()},
        classes=manifest.classes,
        provenance=Provenance(
            run=os.path.abspath(run.folder),
            epoch=reader.epoch,
            pool=reader.pool,
            clips=reader.clips,
            frames=reader.settings.clip.frames,
        ).to_dict(),
    )
    with writer, reporter.bar(len(manifest), "extracting", "video", int(writer.done.sum())) as bar:
        for batch, features in reader.read(writer.remaining.tolist()):
            values = {f"features/{m}": x for m, x in features.items()}
            writer.write(batch.rows, values, present={m: batch.present[m] for m in features}, reason=batch.reasons)
            bar.update(len(batch.rows))
        return writer.finish()
