"""`selavi check`: a diagnosis of labels, without any true label."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from backbones.commands.command import Command, Interruptible, refuse_options
from backbones.commands.progress import TERMINAL
from backbones.commands.shared_options import device_option, format_option, seed_option, workers_option
from selavi_ref.errors import InputError


@click.command(
    cls=Command,
    examples="""
    selavi check RUN
    selavi check RUN --other RUN_OF_ANOTHER_SEED
    selavi check features.h5 --other other_labels.csv --no-files --out check
    """,
)
@click.argument("source", type=click.Path(), metavar="RUN|STORE")
@click.option("--other", type=click.Path(), help="A run with another --seed, or its labels, to compare with.")
@click.option(
    "--clips",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Of a RUN: label so many clips of each video, and count those that get another label; 1: none.",
)
@click.option(
    "--files/--no-files",
    default=True,
    show_default=True,
    help="Decode the files, to find shortcuts (codec, size, length, loudness, colour) and near-duplicates.",
)
@click.option(
    "--out", type=click.Path(file_okay=False), help="Folder for the report. [default: RUN/check; check for a STORE]"
)
@format_option
@seed_option
@device_option
@workers_option
def check(
    source: str,
    other: str | None,
    clips: int,
    files: bool,
    out: str | None,
    form: str,
    seed: int,
    device: str,
    workers: int | None,
) -> None:
    """
    Check how far the labels of a RUN or STORE can be trusted, without looking at any true label.

    One line for each finding: sizes of clusters; agreement of heads, of picture and sound, of clips of one video, and
    of a second run; shortcuts; near-duplicates; and videos that fit no cluster. A table lists all suspicious videos.
    """
    import numpy as np

    from backbones.commands.output import echo
    from selavi_ref.datasets.locations import locate
    from selavi_ref.diagnostics.check import check as check_labels
    from selavi_ref.ensemble.labels import label_store
    from selavi_ref.report.table import results_folder
    from selavi_ref.runs.run import Run, RunKind
    from selavi_ref.store import FeatureStore

    run = Run.open(source) if os.path.isdir(source) else None
    if run is None:
        refuse_options(["clips", "device"], "goes with a RUN; a store has no networks that could label further clips")
    features = Path(source) if run is None else run.features_file
    if not features.exists():
        raise InputError(f"{source} {'is not finished; continue it first' if run else 'does not exist'}")
    second = None if other is None else _second_labels(other)
    folder = results_folder(out or ("check" if run is None else run.folder / "check"))
    with Interruptible("the same command continues where it stopped"), FeatureStore(features) as store:
        labels = label_store(store)
        if run is not None and clips > 1 and labels.disagreement is None and run.kind is not RunKind.HEADS:
            labels = replace(labels, disagreement=_disagreement(run, folder, clips, device, workers, store.paths))
        located = locate(store.paths, features.parent).files
        measures = _measures(located, folder, workers) if files else None
        rng = np.random.default_rng(seed)
        report = check_labels(store, labels, measures=measures, located=located, other=second, rng=rng)
    tables = {"check": report.table(), "videos": report.videos}
    for name, table in tables.items():
        table.write(folder / name)
    if form == "text":
        marks = {"ok": "  ", "look": "? ", "warning": "! "}
        click.echo("\n".join(marks[finding.severity] + finding.sentence for finding in report.findings))
        click.echo(
            f"{len(report.videos.rows)} suspicious videos are listed in "
            f"{click.format_filename(str(folder / 'videos.csv'))}"
        )
    else:
        echo(tables["check"].to(form))


def _second_labels(other: str) -> tuple[str, dict[str, int]]:
    """Return the labels of another run, by the paths of its videos."""
    from selavi_ref.ensemble.label_table import read_csv
    from selavi_ref.runs.run import Run

    rows = read_csv(Run.open(other).labels_file if os.path.isdir(other) else other)
    names = {name: number for number, name in enumerate(sorted({row["label"] for row in rows} - {""}))}
    return other, {row["path"]: names.get(row["label"], -1) for row in rows}


def _disagreement(run: Any, folder: Path, clips: int, device: str, workers: int | None, paths: list[str]) -> Any:
    """Return the proportion of each video's clips with another label than the video, averaged over the heads."""
    from backbones.data.data_source import DataSource
    from backbones.data.loader import ClipSampling
    from backbones.runs.extract import extract
    from backbones.runs.store_check import check_same_run
    from selavi_ref.datasets import read_manifest
    from selavi_ref.store import FeatureStore

    clips_store = folder / f"clips{clips}.h5"
    if not clips_store.exists():
        manifest = read_manifest(run.videos_file)
        extract(
            run,
            manifest,
            clips_store,
            sampling=ClipSampling(clips),
            device=device,
            data_source=DataSource(workers),
            reporter=TERMINAL,
        )
    with FeatureStore(clips_store) as store:
        check_same_run(store, run, paths)
        return store.get("disagreement").mean(1)


def _measures(paths: list[str], folder: Path, workers: int | None) -> Any:
    import av  # noqa: F401  # if it is not installed, the error appears here and not in the processes that decode

    from backbones.commands.progress import counter
    from selavi_ref.diagnostics.file_measures import measure_all
    from selavi_ref.runs.cores import usable_cores

    with counter(len(paths), "measuring", "video") as count:
        number = workers or usable_cores()
        return measure_all(paths, workers=number, keep=folder / "files.jsonl", progress=count)
