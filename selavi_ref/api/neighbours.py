"""Nearest files of a run's collection to any video, sound file or picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from selavi_ref.api.video_runs import Videos, as_manifest, text_search, video_runs
from selavi_ref.datasets import Manifest
from selavi_ref.datasets.scan import scan_playable
from selavi_ref.errors import FilePath, InputError
from selavi_ref.heads.any_run import apply, learnt_store
from selavi_ref.report.neighbours import CLUSTERS, similar_files
from selavi_ref.report.store_search import SearchedStores
from selavi_ref.report.table import Table
from selavi_ref.runs.provenance import Provenance
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run, RunKind
from selavi_ref.store import FeatureStore


def find_neighbours(
    run: Run,
    queries: Videos,
    n: int = 10,
    *,
    metric: str = "euclidean",
    segments: str | float = "auto",
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter = SILENT,
    stores: SearchedStores | None = None,
) -> Table:
    """
    Return the files of a run's collection that are nearest to others; no class is needed.

    Parameters
    ----------
    run : Run
        A finished run on videos, or one of heads on features that encoders have computed.
    queries : path, sequence of paths, or Manifest
        A video, sound file or picture, a folder or a list of them.
    n : int
        Number of neighbours in each space.
    segments : str or float
        How queries are cut, each part a query of its own: see `selavi_ref.datasets.segmentation.Segmentation`.
    metric, device, workers, reporter
        See `selavi_ref.report.neighbours.similar_files` and `selavi_ref.api.video_labelling.label_videos`.
    stores : SearchedStores, optional
        Stores that stay open for the next search, which then takes a fraction of the time.

    Returns
    -------
    Table
        See `selavi_ref.report.neighbours.similar_files`.

    Raises
    ------
    InputError
        If the run is not finished, n is not positive, or no query can be decoded.
    """
    if n < 1:
        raise InputError(f"n must be at least 1, not {n}", option="n", value=n)
    run.refuse_unfinished()
    queries = as_manifest(queries)
    if run.kind is RunKind.HEADS:
        listed = scan_playable(queries, segments=segments, workers=workers, reporter=reporter)
        return _neighbours_by_encoders(run, listed, n, metric, device, workers, reporter, stores)
    run = Run.of_videos(run.folder)
    with (
        _opened(run.features_file, stores) as items,
        TemporaryDirectory(prefix="selavi-neighbours-") as temporary,
    ):
        made_by, runs = Provenance.of(items), video_runs()
        store = Path(temporary) / "queries.h5"
        sampling = runs.ClipSampling(made_by.clips or 1, made_by.crops or 1)
        runs.extract_videos(
            run,
            queries,
            store,
            sampling=sampling,
            segments=segments,
            device=device,
            workers=workers,
            reporter=reporter,
        )
        with FeatureStore(store) as asked:
            return similar_files(items, asked, n, metric=metric)


def _neighbours_by_encoders(
    run: Run,
    queries: Manifest,
    n: int,
    metric: str,
    device: str,
    workers: int | None,
    reporter: Reporter,
    stores: SearchedStores | None,
) -> Table:
    """Return the nearest files by features of the encoders that a run has learnt from, and by its clusters."""
    with TemporaryDirectory(prefix="selavi-neighbours-") as temporary:
        features, labels = Path(temporary) / "features.h5", Path(temporary) / "labels.h5"
        learnt_from = learnt_store(run)
        table = find_by_encoders(
            learnt_from,
            queries,
            n,
            features,
            metric=metric,
            device=device,
            workers=workers,
            reporter=reporter,
            stores=stores,
        )
        apply(run, features, labels)
        with _opened(run.features_file, stores) as items, FeatureStore(labels) as asked:
            by_clusters = similar_files(items, asked, n)
        return replace(table, rows=[*table.rows, *(row for row in by_clusters.rows if row["by"] == CLUSTERS)])


def find_by_encoders(
    store: FilePath,
    queries: Manifest,
    n: int,
    features: FilePath,
    *,
    metric: str = "euclidean",
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter = SILENT,
    stores: SearchedStores | None = None,
) -> Table:
    """
    Return the videos of a store of encoders' features that are nearest to other files.

    Parameters
    ----------
    store : path
        The store.
    queries : Manifest
        The files to find others for.
    n, metric, device, workers, reporter, stores
        See `find_neighbours`.
    features : path
        Store to write, with the features of the queries.

    Raises
    ------
    InputError
        If the store was not made by encoders, or no query can be decoded.
    """
    text_search().encode_files(store, queries, features, device=device, workers=workers, reporter=reporter)
    with _opened(store, stores) as items, FeatureStore(features) as asked:
        return similar_files(items, asked, n, metric=metric)


@contextmanager
def _opened(path: FilePath, stores: SearchedStores | None) -> Iterator[FeatureStore]:
    if stores is not None:
        yield stores[path]
        return
    with FeatureStore(path) as store:
        yield store
