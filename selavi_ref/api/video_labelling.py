"""The main job in one call: train on videos without labels, and label them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from selavi_ref.api.predictions import label_features
from selavi_ref.api.progress import choose_reporter
from selavi_ref.api.run import Run
from selavi_ref.api.video_runs import Videos, as_manifest, video_runs
from selavi_ref.ensemble.label_table import write_csv
from selavi_ref.ensemble.labels import Labels
from selavi_ref.errors import FilePath, InputError
from selavi_ref.report.contact_sheet import contact_sheet
from selavi_ref.runs.pilot_run import PilotRun
from selavi_ref.runs.reporter import Reporter
from selavi_ref.runs.run import Run as RunFolder
from selavi_ref.runs.run_lock import locked


def label_videos(
    videos: Videos,
    n_clusters: int | str,
    out: FilePath,
    *,
    resume: bool = False,
    device: str = "auto",
    workers: int | None = None,
    memory_gb: float = 4.0,
    cache: FilePath | None = None,
    reporter: Reporter | None = None,
    progress: bool = False,
    **settings: Any,
) -> Run:
    """
    Train networks on videos without any label, label the videos, and return the run.

    The same as ``selavi train VIDEOS --clusters N --out RUN``.

    Parameters
    ----------
    videos : path, sequence of paths, or Manifest
        A folder of videos at any depth, a list file, or the paths of videos.
    n_clusters : int or "auto"
        Number of clusters; ``"auto"``: it is estimated first, which takes as long again.
    out : path
        Folder of the run.
    resume : bool
        Continue the run in `out`, if there is one, with the settings that it was started with. Otherwise, a run in
        `out` is an error.
    device : {"auto", "cpu", "cuda"}
        Where to compute.
    workers : int, optional
        Processes that decode videos; 0: none but this one; by default one for each processor core.
    memory_gb : float
        Decoded videos are kept in memory if they take at most so many gigabytes.
    cache : path, optional
        Folder that keeps decoded videos, for this and later runs.
    reporter : Reporter, optional
        Takes progress, messages and warnings; see `selavi_ref.runs.reporter.Reporter`.
    progress : bool
        Show progress bars (tqdm, as widgets in notebooks), if no reporter is given.
    **settings
        Options of ``selavi train`` with underscores, such as ``seed=1``, ``epochs=100``, ``preset="published"`` or
        ``augment=["flip=0.5"]``; ``config`` is the path or the content of a settings file.

    Returns
    -------
    Run
        The finished run.

    Raises
    ------
    InputError
        If there are no usable videos, a setting is unknown or does not fit, or `out` holds a run.
    RunInUseError
        If another job writes into `out`.
    SelaviError
        If PyTorch is not installed.

    Examples
    --------
    >>> import selavi_ref
    >>> run = selavi_ref.label_videos("videos", 10, out="run", progress=True)  # doctest: +SKIP
    >>> run.to_pandas()  # doctest: +SKIP
    """
    if n_clusters != "auto":
        if not isinstance(n_clusters, (int, np.integer)) or isinstance(n_clusters, bool) or n_clusters < 2:
            message = f'n_clusters must be a whole number of at least 2 or "auto", not {n_clusters!r}'
            raise InputError(message, option="n_clusters", value=n_clusters)
        n_clusters = int(n_clusters)  # of NumPy, too
    exists = RunFolder(out).config_file.exists() or PilotRun(Path(out)).under_way
    if exists and not resume:
        raise InputError(f"{out} holds a run already; give resume=True to continue it, or choose another out", path=out)
    runs = video_runs()
    reporter = choose_reporter(reporter, progress)
    with locked(out):
        if exists:
            reporter.info(f"{out} exists already: continuing it with its own settings")
        else:
            runs.start_run(
                out, as_manifest(videos), n_clusters, device=device, workers=workers, reporter=reporter, **settings
            )
        data_source = runs.DataSource(workers, memory_gb, None if cache is None else os.fspath(cache))
        run = runs.finish_run(out, device=device, data_source=data_source, reporter=reporter)
        write_label_files(run)
    return Run.open(run.folder)


def write_label_files(run: RunFolder) -> Labels:
    """Write the table of labels and the contact sheet of a run whose features are extracted, and return the labels."""
    labels, _ = label_features(run.features_file)
    write_csv(labels, run.labels_file)
    contact_sheet(run.labels_file, run.sheet_file)
    return labels
