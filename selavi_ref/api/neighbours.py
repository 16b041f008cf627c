"""Nearest files of a run's collection to any video, sound file or picture."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from selavi_ref.api.video_runs import Videos, as_manifest, video_runs
from selavi_ref.errors import InputError
from selavi_ref.report.neighbours import similar_files
from selavi_ref.report.table import Table
from selavi_ref.runs.provenance import Provenance
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore


def find_neighbours(
    run: Run,
    queries: Videos,
    n: int = 10,
    *,
    metric: str = "euclidean",
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter = SILENT,
) -> Table:
    """
    Return the files of a run's collection that are nearest to others; no class is needed.

    Parameters
    ----------
    run : Run
        A finished run on videos.
    queries : path, sequence of paths, or Manifest
        A video, sound file or picture, a folder or a list of them.
    n : int
        Number of neighbours in each space.
    metric, device, workers, reporter
        See `selavi_ref.report.neighbours.similar_files` and `selavi_ref.api.video_labelling.label_videos`.

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
    run = Run.of_videos(run.folder, "compare its store with others: selavi retrieve STORE QUERIES")
    with FeatureStore(run.features_file) as items, TemporaryDirectory(prefix="selavi-neighbours-") as temporary:
        made_by, runs = Provenance.of(items), video_runs()
        store = Path(temporary) / "queries.h5"
        sampling = runs.ClipSampling(made_by.clips or 1, made_by.crops or 1)
        runs.extract_videos(
            run, as_manifest(queries), store, sampling=sampling, device=device, workers=workers, reporter=reporter
        )
        with FeatureStore(store) as asked:
            return similar_files(items, asked, n, metric=metric)
