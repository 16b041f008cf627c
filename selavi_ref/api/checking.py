"""Diagnostics of the labels of a run or a store, written to a folder of tables."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from selavi_ref.api.video_runs import video_runs
from selavi_ref.datasets.locations import locate
from selavi_ref.diagnostics.check import Report, check
from selavi_ref.diagnostics.file_measures import Measures, measure_all
from selavi_ref.ensemble.label_table import read_csv, run_of_table
from selavi_ref.ensemble.labels import label_store
from selavi_ref.errors import FilePath, InputError, printable
from selavi_ref.report.table import results_folder
from selavi_ref.runs.cores import usable_cores
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run as RunFolder
from selavi_ref.runs.run import RunKind
from selavi_ref.store import FeatureStore


def check_labels(
    source: FilePath,
    *,
    other: FilePath | None = None,
    clips: int = 3,
    files: bool = True,
    out: FilePath | None = None,
    seed: int = 0,
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter = SILENT,
) -> Report:
    """
    Check how far the labels of a run or a store can be trusted, without true labels, and write the report.

    What takes long is saved in `out`, so that a second call continues where the first one stopped.

    Parameters
    ----------
    source : path
        A run, its table of labels, or a store.
    other : path, optional
        A run with another seed, or its table of labels, to compare with.
    clips : int
        Clips of each video of a run on videos that are labelled one by one; 1: none.
    files : bool
        Whether files are decoded, to find shortcuts and near-duplicates.
    out : path, optional
        Folder of the tables ``check`` and ``videos``; by default ``check`` in the run, or in the current folder.
    seed : int
        Seed of the cross-validation.
    device, workers
        Device of the networks, and number of decoding processes.

    Returns
    -------
    Report
        Findings and suspicious videos.

    Raises
    ------
    InputError
        If the source does not exist or is another table, or the run is not finished.
    """
    source = checked_source(source)
    run = RunFolder.open(source) if os.path.isdir(source) else None
    features = Path(source) if run is None else run.features_file
    if run is not None:
        run.refuse_unfinished()
    elif not features.exists():
        raise InputError(f"{source} does not exist; name a run or a store", path=source)
    second = None if other is None else (os.fspath(other), _labels_by_path(other))
    folder = results_folder(out or ("check" if run is None else run.folder / "check"))
    with FeatureStore(features) as store:
        labels = label_store(store)
        if run is not None and clips > 1 and labels.disagreement is None and run.kind is not RunKind.HEADS:
            disagreement = video_runs().clip_disagreement(
                run,
                folder / f"clips{clips}.h5",
                clips,
                store.paths,
                device=device,
                workers=workers,
                reporter=reporter,
            )
            labels = replace(labels, disagreement=disagreement)
        located = locate(store.paths, features.parent).files
        measures = _measure(located, folder, workers, reporter) if files else None
        rng = np.random.default_rng(seed)
        report = check(store, labels, measures=measures, located=located, other=second, rng=rng)
    report.table().write(folder / "check")
    report.videos.write(folder / "videos")
    return report


def checked_source(source: FilePath) -> str:
    """
    Return the run that a table of labels belongs to, or any other source as it is.

    Raises
    ------
    InputError
        If it is a table of labels outside of a run: it lacks what the labels were found by.
    """
    run = run_of_table(source)
    if run is not None:
        return os.fspath(run.folder)
    if Path(source).suffix.lower() == ".csv" and os.path.isfile(source):
        raise InputError(
            f"{printable(source)}: labels alone cannot be checked; name the run, or the store of the labelled videos",
            path=source,
        )
    return os.fspath(source)


def _labels_by_path(other: FilePath) -> dict[str, int]:
    """Return the labels of another run, by the paths of its videos."""
    rows = read_csv(RunFolder.open(other).labels_file if os.path.isdir(other) else other)
    names = {name: number for number, name in enumerate(sorted({row["label"] for row in rows} - {""}))}
    return {row["path"]: names.get(row["label"], -1) for row in rows}


def _measure(paths: list[str], folder: Path, workers: int | None, reporter: Reporter) -> list[Measures]:
    import av  # noqa: F401  # if it is not installed, the error appears here and not in the processes that decode

    with reporter.bar(len(paths), "measuring", "video") as bar:
        number = workers or usable_cores()
        return measure_all(paths, workers=number, keep=folder / "files.jsonl", progress=bar.update)
