"""`selavi retrieve`: whether the videos nearest to a video are of its class, and which they are."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import click

from backbones.commands.options import clips_option, device_option, format_option, workers_option
from backbones.commands.program import Command, Interruptible, refuse_options
from backbones.commands.progress import TERMINAL
from selavi_ref.errors import InputError


@click.command(
    cls=Command,
    examples="""
    selavi retrieve train.h5 test.h5
    selavi retrieve TRAIN_VIDEOS TEST_VIDEOS --run RUN --pool max --clips 10 --frames 32
    selavi retrieve train.csv test.csv --run RUN --metric cosine --neighbours 5 --out retrieval
    selavi retrieve features.h5
    """,
)
@click.argument("items", type=click.Path(), metavar="ITEMS")
@click.argument("queries", type=click.Path(), metavar="[QUERIES]", required=False)
@click.option("--run", type=click.Path(), help="Networks that look at ITEMS and QUERIES, if not stores.")
@click.option(
    "--pool",
    type=click.Choice(["max", "mean"]),
    default="mean",
    show_default=True,
    help="With --run: maps of the last stage, max-pooled by 2 as published, or averaged.",
)
@clips_option
@click.option("--frames", type=click.IntRange(1), help="With --run: frames of a clip, published: 32. [default: RUN's]")
@click.option(
    "--metric",
    type=click.Choice(["euclidean", "cosine"]),
    default="euclidean",
    show_default=True,
    help="Distance of features.",
)
@click.option("--neighbours", type=click.IntRange(1), help="Also list the so many nearest videos of each query.")
@click.option(
    "--out", type=click.Path(file_okay=False), default="retrieval", show_default=True, help="Folder of the results."
)
@format_option
@device_option
@workers_option
def retrieve(
    items: str,
    queries: str | None,
    run: str | None,
    metric: str,
    neighbours: int | None,
    out: str,
    form: str,
    **looking: Any,
) -> None:
    """
    Find the ITEMS nearest to each of the QUERIES, and tell how often one of the k nearest is of the query's class.

    Both are stores of features, or videos with --run. Without QUERIES each item looks for others. Within a modality
    features are compared; from pictures to sounds and back, what all heads think of the clusters. True classes are
    those of the stores, lists or folders.
    """
    from selavi_ref.report.figures import check_drawing, line_figure
    from selavi_ref.report.retrieval import neighbours_table, retrieval_table
    from selavi_ref.report.table import echo, results_folder

    if run is None:
        refuse_options(looking, "goes with --run; a store has its features already")
    check_drawing()
    with Interruptible("the same command goes on where it stopped"):
        found = _gallery(items, "items", run, out, **looking)
        asked = None if queries is None else _gallery(queries, "queries", run, out, **looking)
    if asked is not None:
        _refuse_other_widths(items, found, str(queries), asked)
    table = retrieval_table(found, asked, metric=metric)
    folder = results_folder(out)
    table.write(folder / "retrieval")
    steps = [int(name.removeprefix("at_")) for name in table.columns if name.startswith("at_")]
    line_figure(
        folder / "retrieval",
        {
            f"{row['query']} to {row['item']}, by {row['by']}": (
                steps,
                [row.get(f"at_{k}", float("nan")) for k in steps],
            )
            for row in table.rows
        },
        title="Queries that find one of their class",
        x="nearest videos looked at",
        y="share of the queries",
        log_x=True,
    )
    if neighbours is not None:
        neighbours_table(found, asked, neighbours, metric=metric).write(folder / "neighbours")
    echo(table.to(form))
    click.echo(f"tables and a figure are in {click.format_filename(out)}", err=True)


def _gallery(
    source: str,
    name: str,
    run_folder: str | None,
    out: str,
    *,
    pool: str,
    clips: int,
    frames: int | None,
    device: str,
    workers: int | None,
) -> Any:
    """Return the videos of a store, or those of a collection as the networks of a run see them, with true classes."""
    from selavi_ref.report.retrieval import Gallery
    from selavi_ref.store import FeatureStore

    if run_folder is None:
        if os.path.isdir(source):
            raise InputError(f"{source} is a folder of videos, which needs networks that look at them; give --run RUN")
        with FeatureStore(source) as store:
            gallery = Gallery.of(store)
        if not gallery.features:
            raise InputError(f"{source} has no features, which are what is retrieved by")
        if not any(gallery.classes):
            raise InputError(f"{source} names no true classes, so that nothing can be scored")
        return gallery
    from backbones.commands.scanning import list_collection, scan_videos
    from backbones.data.data_source import DataSource
    from backbones.data.loader import ClipSampling
    from backbones.runs.extract import extract
    from backbones.runs.retrieval_store import write_maps
    from backbones.runs.store_check import check_same_run
    from selavi_ref.report.table import results_folder
    from selavi_ref.runs.run import Run

    run, data_source = Run.of_videos(run_folder, "retrieve among its stores"), DataSource(workers)
    manifest = scan_videos(list_collection(source), workers, min_seconds=0.0, require="any")
    if not any(manifest.classes):
        raise InputError(
            f"{source} names no true classes; put the videos into folders by class, or give a list of them"
        )
    folder = results_folder(out)
    as_trained = folder / f"{name}-clips{clips}.h5"
    maps = folder / f"{name}-{pool}-clips{clips}{f'-frames{frames}' if frames else ''}.h5"
    if not as_trained.exists():
        extract(
            run,
            manifest,
            as_trained,
            sampling=ClipSampling(clips),
            device=device,
            data_source=data_source,
            reporter=TERMINAL,
        )
    with FeatureStore(as_trained) as store:
        check_same_run(store, run, manifest.paths)
    if not maps.exists():
        write_maps(
            run,
            manifest,
            maps,
            pool=pool,
            clips=clips,
            frames=frames,
            device=device,
            data_source=data_source,
            reporter=TERMINAL,
        )
    with FeatureStore(as_trained) as store, FeatureStore(maps) as features:
        return replace(Gallery.of(store, features), classes=manifest.classes)


def _refuse_other_widths(items: str, found: Any, queries: str, asked: Any) -> None:
    """Refuse queries that cannot be compared with the items."""
    common = [m for m in found.features if m in asked.features]
    if not common:
        raise InputError(
            f"{queries} has features of {', '.join(asked.features)}; {items} of {', '.join(found.features)}"
        )
    for what, name in (("features", "features"), ("opinions", "log-probabilities")):
        theirs, ours = getattr(asked, what), getattr(found, what)
        for m in ours:
            if m in theirs and theirs[m].shape[1] != ours[m].shape[1]:
                raise InputError(
                    f"{queries} has {theirs[m].shape[1]} {name} of {m} for each video, and {items} {ours[m].shape[1]}"
                )
