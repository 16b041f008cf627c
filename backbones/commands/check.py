"""`selavi check`: how far labels can be trusted, found without any true label."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from backbones.commands.options import device_option, format_option, seed_option, workers_option
from backbones.commands.program import Command, Interruptible, refuse_options
from backbones.commands.progress import TERMINAL
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
    help="Of a RUN: look at so many clips of each video, to see whether they get the same label; 1: do not.",
)
@click.option(
    "--files/--no-files",
    default=True,
    show_default=True,
    help="Look into the files, for shortcuts (codec, size, length, loudness, colour) and near-duplicates.",
)
@click.option(
    "--out", type=click.Path(file_okay=False), help="Folder of the report. [default: RUN/check, or check for a STORE]"
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
    Say how far the labels of RUN, or of a STORE, can be trusted, one finding a line. No true label is looked at.

    Sizes of clusters, agreement of heads, of picture and sound, of clips of one video, and of a second run; shortcuts;
    near-duplicates; and videos that fit no cluster, though each gets one. A table lists all suspicious videos.
    """
    import numpy as np

    from selavi_ref.diagnostics.check import check as check_labels
    from selavi_ref.ensemble.labels import label_store
    from selavi_ref.report.table import echo, results_folder
    from selavi_ref.runs.run import Run, RunKind
    from selavi_ref.store import FeatureStore

    run = Run.open(source) if os.path.isdir(source) else None
    if run is None:
        refuse_options(["clips", "device"], "goes with a RUN; a store has been looked at already")
    place = Path(source) if run is None else run.features_file
    if not place.exists():
        what = "has not come to its end; go on with it first" if run else "does not exist"
        raise InputError(f"{source} {what}")
    compared = None if other is None else _second(other)
    folder = results_folder(out or ("check" if run is None else run.folder / "check"))
    with Interruptible("the same command goes on where it stopped"), FeatureStore(place) as store:
        labels = label_store(store)
        if run is not None and clips > 1 and labels.disagreement is None and run.kind is not RunKind.HEADS:
            labels = replace(labels, disagreement=_disagreement(run, folder, clips, device, workers, store.paths))
        measures = _measures(store.paths, folder, workers) if files else None
        rng = np.random.default_rng(seed)
        report = check_labels(store, labels, measures=measures, other=compared, rng=rng)
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


def _second(other: str) -> tuple[str, dict[str, int]]:
    """Return the labels of another run, by the paths of its videos."""
    from selavi_ref.ensemble.label_table import read_csv
    from selavi_ref.runs.run import Run

    rows = read_csv(Run.open(other).labels_file if os.path.isdir(other) else other)
    names = {name: number for number, name in enumerate(sorted({row["label"] for row in rows} - {""}))}
    return other, {row["path"]: names.get(row["label"], -1) for row in rows}


def _disagreement(run: Any, folder: Path, clips: int, device: str, workers: int | None, paths: list[str]) -> Any:
    """Return for each video the share of its clips whose label is not the video's, mean over the heads."""
    from backbones.data.data_source import DataSource
    from backbones.data.loader import ClipSampling
    from backbones.runs.extract import extract
    from backbones.runs.store_check import check_same_run
    from selavi_ref.datasets import read_manifest
    from selavi_ref.store import FeatureStore

    place = folder / f"clips{clips}.h5"
    if not place.exists():
        manifest = read_manifest(run.videos_file)
        extract(
            run,
            manifest,
            place,
            sampling=ClipSampling(clips),
            device=device,
            data_source=DataSource(workers),
            reporter=TERMINAL,
        )
    with FeatureStore(place) as store:
        check_same_run(store, run, paths)
        return store.get("disagreement").mean(1)


def _measures(paths: list[str], folder: Path, workers: int | None) -> Any:
    import av  # noqa: F401  # where it is not installed, that is said here, and not by the processes that decode

    from backbones.commands.progress import counter
    from selavi_ref.diagnostics.file_measures import measure_all

    with counter(len(paths), "measuring", "video") as count:
        number = workers or os.cpu_count() or 1
        return measure_all(paths, workers=number, keep=folder / "files.jsonl", progress=count)
