"""Labels of the files of a collection that a run could not learn from, such as short or damaged ones."""

from __future__ import annotations

import os

import numpy as np

from backbones.data.data_source import DataSource
from backbones.data.loader import ClipSampling
from backbones.runs.extract import extract
from selavi_ref.datasets import Manifest
from selavi_ref.datasets.run_lists import labelled_videos
from selavi_ref.runs.processes import Exchange, SingleProcess, raise_together
from selavi_ref.runs.provenance import Provenance
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore
from selavi_ref.store.merging import merge


def add_other_files(
    run: Run,
    *,
    device: str = "auto",
    data_source: DataSource = DataSource(),  # noqa: B008
    exchange: Exchange = SingleProcess(),  # noqa: B008
    reporter: Reporter = SILENT,
) -> None:
    """
    Add rows for the files in a run's list ``added.csv`` to its store; nothing happens if it has them already.

    They are seen as the other videos were, with what they have. All processes of a run call this; parameters are those
    of `backbones.runs.extract.extract`.
    """
    with raise_together(exchange):
        listed = labelled_videos(run)
        with FeatureStore(run.features_file) as store:
            n_videos, made_by = store.n_videos, Provenance.of(store)
    others = Manifest(listed.entries[n_videos:], listed.source)
    if not len(others):
        return
    part = run.folder / "others.h5"
    sampling = ClipSampling(made_by.clips or 1, made_by.crops or 1)
    streamed = DataSource(data_source.workers)
    extract(
        run, others, part, sampling=sampling, device=device, data_source=streamed, exchange=exchange, reporter=reporter
    )
    with raise_together(exchange):
        if exchange.rank == 0:
            _join(run, part)


def _join(run: Run, part: os.PathLike[str]) -> None:
    """Replace the store of a run by one that has the rows of another store at its end."""
    joined = run.folder / "joined.h5"
    with FeatureStore(run.features_file) as store, FeatureStore(part) as others:
        n_videos, more = store.n_videos, others.n_videos
        source = np.repeat([0, 1], [n_videos, more])
        rows = np.concatenate([np.arange(n_videos), np.arange(more)])
        classes = [*store.classes, *others.classes]
        merge(joined, [store, others], source, rows, [*store.paths, *others.paths], classes)
        outdated = [*store.shard_files, *others.shard_files, part]
    os.replace(joined, run.features_file)
    for file in outdated:
        os.unlink(file)
