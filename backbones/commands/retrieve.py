"""`selavi retrieve`: the videos that are nearest to others or to a text, and how often they are of the same class."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import click

from backbones.commands.command import Command, Interruptible, given_on_command_line, refuse_options
from backbones.commands.messages import note, warning
from backbones.commands.output import OutPath
from backbones.commands.progress import TERMINAL
from backbones.commands.shared_options import (
    clips_option,
    device_option,
    format_option,
    segments_option_of,
    videos_option,
    workers_option,
)
from selavi_ref.errors import InputError, printable

_DEFAULT = 10  # neighbours that are printed


@click.command(
    cls=Command,
    examples="""
    selavi retrieve train.h5 test.h5
    selavi retrieve TRAIN_VIDEOS TEST_VIDEOS --run RUN --pool max --clips 10 --frames 32
    selavi retrieve train.csv test.csv --run RUN --metric cosine --neighbours 5 --out retrieval
    selavi retrieve features.h5
    selavi retrieve RUN clip.mp4 --neighbours 5
    selavi retrieve RUN "talk.mp4#t=12.5,30"
    selavi retrieve RUN sound.wav --format json
    selavi retrieve RUN "a dog barking" --encoder clip=transformers:openai/clip-vit-base-patch32
    selavi retrieve RUN "a dog barking"
    selavi retrieve labels.csv --text "a dog barking" --text guitar --neighbours 5
    """,
)
@click.argument("items", type=click.Path(), metavar="ITEMS")
@click.argument("queries", type=click.Path(), metavar="[QUERIES]", required=False)
@click.option(
    "--run",
    type=click.Path(),
    help="Run whose networks compute the features of ITEMS and QUERIES, if these are videos.",
)
@click.option(
    "--pool",
    type=click.Choice(["max", "average", "mean"]),
    default="mean",
    show_default=True,
    help="With --run: pooling of the last feature maps; max (by 2) as published.",
)
@clips_option
@click.option(
    "--frames", type=click.IntRange(1), help="With --run: frames of a clip. [default: those of RUN; published: 32]"
)
@click.option(
    "--metric",
    type=click.Choice(["euclidean", "cosine"]),
    default="euclidean",
    show_default=True,
    help="Distance of features.",
)
@click.option("--neighbours", type=click.IntRange(1), help="Also list so many nearest videos of each query.")
@click.option(
    "--text",
    "texts",
    multiple=True,
    help="Find the videos that are most similar to this text; repeatable. QUERIES that names no file is a text, too, "
    "unless it ends like a file or has a slash.",
)
@click.option(
    "--encoder",
    metavar="[NAME=]MODEL",
    help="With a text: model of pictures (or sounds) and texts, such as transformers:openai/clip-vit-base-patch32, "
    "whose features are computed at the first search. [default: one that has computed features of ITEMS]",
)
@segments_option_of("QUERIES for a run", "neighbours")
@videos_option
@click.option("--out", type=OutPath(file_okay=False), default="retrieval", help="Folder for tables and a figure.")
@format_option
@device_option
@workers_option
def retrieve(
    items: str,
    queries: str | None,
    run: str | None,
    metric: str,
    neighbours: int | None,
    texts: tuple[str, ...],
    encoder: str | None,
    segments: str,
    videos: str | None,
    out: str,
    form: str,
    **viewing: Any,
) -> None:
    """
    Find the ITEMS nearest to each of the QUERIES (videos, or a text); score them where true classes are known.

    Both are stores of features, or videos with --run. Without QUERIES each item is a query among the others. Within a
    modality features are compared; between picture and sound, the posteriors of all heads. True classes are those of
    the stores, lists or folders.

    With a run for ITEMS, the files of the run that are nearest to a video, sound file or picture are printed, without
    scores: by features of the picture and of the sound, and by the posteriors of the clusters, which picture and sound
    have in common, so that a sound finds pictures and the other way round. A long video is asked for in segments; a
    part of one may be named as talk.mp4#t=12.5,30, in seconds, or as talk.mp4#t=1:02:00,1:02:45.

    With a text, the most similar videos of a run, a table of labels or a store are printed: by features of a model of
    pictures and texts (CLIP, SigLIP) or of sounds and texts (CLAP), which are kept beside the labels.
    """
    from backbones.commands.output import echo

    if texts or (run is None and queries is not None and _is_text(queries)):
        refuse_options(["run", "pool", "clips", "frames", "metric", "segments"], "does not go with a text")
        _print_found(items, queries, texts, encoder, videos, neighbours or _DEFAULT, out, form, viewing)
        return
    refuse_options(["encoder", "videos"], "goes with a text")
    if os.path.exists(os.path.join(items, "config.toml")):
        _neighbours_in_run(items, queries, run, neighbours, metric, segments, out, form, viewing)
        return
    refuse_options(["segments"], "goes with a run for ITEMS")
    from selavi_ref.report.figures import check_drawing, line_figure
    from selavi_ref.report.retrieval import neighbours_table, retrieval_table
    from selavi_ref.report.table import results_folder

    if run is None:
        refuse_options(viewing, "goes with --run; a store has its features already")
    check_drawing()
    with Interruptible("the same command continues where it stopped"):
        gallery = _gallery(items, "items", run, out, neighbours is None, **viewing)
        probes = None if queries is None else _gallery(queries, "queries", run, out, neighbours is None, **viewing)
    if probes is not None:
        _refuse_other_widths(items, gallery, str(queries), probes)
    unclassified = [name for name, one in ((items, gallery), (queries, probes)) if one and not any(one.classes)]
    folder = results_folder(out)
    if neighbours is not None:
        neighbours_table(gallery, probes, neighbours, metric=metric).write(folder / "neighbours")
    if unclassified:
        warning(f"not scored, since {unclassified[0]} has no true classes")
        note(f"wrote {click.format_filename(folder / 'neighbours.txt')}, .csv and .json")
        return
    table = retrieval_table(gallery, probes, metric=metric)
    table.write(folder / "retrieval", figures=[folder / "retrieval"])
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
        title="Queries with a neighbour of their class",
        x="number of nearest videos",
        y="proportion of queries",
        log_x=True,
    )
    echo(table.to(form))
    note(f"tables and a figure are in {click.format_filename(out)}", err=True)


def _is_text(queries: str) -> bool:
    """Tell whether QUERIES is a text to search for, not the name of a file, folder or list."""
    from selavi_ref.datasets.video_files import LIST_EXTENSIONS, file_type
    from selavi_ref.media.segments import path_before_times

    if os.path.lexists(queries) or file_type(path_before_times(queries)):
        return False
    return not queries.lower().endswith((*LIST_EXTENSIONS, ".h5")) and not {os.sep, os.altsep} & set(queries)


def _print_found(
    items: str,
    queries: str | None,
    texts: tuple[str, ...],
    encoder: str | None,
    videos: str | None,
    n: int,
    out: str,
    form: str,
    viewing: dict[str, Any],
) -> None:
    """Print the videos that are most similar to texts, and write them to a folder that was named."""
    from backbones.commands.output import echo
    from selavi_ref.api.searching import find_by_text
    from selavi_ref.browser.collection import open_collection
    from selavi_ref.report.table import results_folder

    if queries is not None and texts:
        raise InputError(f"give {printable(queries)} by --text, too, or leave it out", option="text")
    with Interruptible("the same command continues where it stopped"):
        try:
            table = find_by_text(
                open_collection(items, videos=videos),
                texts or str(queries),
                n,
                encoder=encoder,
                device=viewing["device"],
                workers=viewing["workers"],
                reporter=TERMINAL,
            )
        except InputError as error:
            if queries is None or encoder is not None or error.option != "encoder":
                raise
            raise InputError(
                f'"{printable(queries)}" names no file, so it is taken for a text; but {error}', option="queries"
            ) from error
    if given_on_command_line("out"):
        table.write(results_folder(out) / "found")
    echo(table.to(form))


def _neighbours_in_run(
    folder: str,
    queries: str | None,
    run: str | None,
    neighbours: int | None,
    metric: str,
    segments: str,
    out: str,
    form: str,
    viewing: dict[str, Any],
) -> None:
    """Print the files of a run that are nearest to others, and write them to a folder that was named."""
    from backbones.commands.output import echo
    from selavi_ref.api.neighbours import find_neighbours
    from selavi_ref.report.table import results_folder
    from selavi_ref.runs.run import Run

    if queries is None:
        raise InputError(f'{folder} is a run: name a video or a text, too, as in selavi retrieve {folder} "a dog"')
    if run is not None:
        raise InputError("--run goes with folders or lists of videos; ITEMS is a run itself", option="run")
    refuse_options(["pool", "clips", "frames"], "does not go with a run for ITEMS")
    table = find_neighbours(
        Run.open(folder),
        queries,
        neighbours or _DEFAULT,
        metric=metric,
        segments=segments,
        device=viewing["device"],
        workers=viewing["workers"],
        reporter=TERMINAL,
    )
    if given_on_command_line("out"):
        table.write(results_folder(out) / "neighbours")
    echo(table.to(form))


def _gallery(
    source: str,
    name: str,
    run_folder: str | None,
    out: str,
    needs_classes: bool,
    *,
    pool: str,
    clips: int,
    frames: int | None,
    device: str,
    workers: int | None,
) -> Any:
    """Return the features and true classes of a store, or of a collection by the networks of a run."""
    from selavi_ref.report.retrieval import Gallery
    from selavi_ref.store import FeatureStore

    if run_folder is None:
        if os.path.isdir(source):
            raise InputError(f"{source} is a folder of videos; give --run RUN, whose networks compute their features")
        with FeatureStore(source) as store:
            gallery = Gallery.of(store)
        if not gallery.features:
            raise InputError(f"{source} has no features to compare")
        if needs_classes:
            _refuse_unclassified(source, gallery.classes)
        return gallery
    from backbones.commands.scanning import list_collection
    from backbones.data.data_source import DataSource
    from backbones.data.loader import ClipSampling
    from backbones.runs.extract import extract
    from backbones.runs.retrieval_store import write_retrieval_store
    from backbones.runs.store_check import check_same_run
    from selavi_ref.datasets.scan import scan_playable
    from selavi_ref.report.table import results_folder
    from selavi_ref.runs.run import Run

    run, data_source = Run.of_videos(run_folder, "retrieve among its stores"), DataSource(workers)
    manifest = scan_playable(list_collection(source), workers=workers, reporter=TERMINAL)
    if needs_classes:
        _refuse_unclassified(source, manifest.classes)
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
        check_same_run(store, run, manifest.paths, TERMINAL)
    if not maps.exists():
        write_retrieval_store(
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


def _refuse_unclassified(source: str, classes: list[str]) -> None:
    if not any(classes):
        raise InputError(
            f"{source} names no true classes, so that nothing can be scored; --neighbours lists the nearest videos"
        )


def _refuse_other_widths(items: str, gallery: Any, queries: str, probes: Any) -> None:
    """Refuse queries that cannot be compared with the items."""
    common = [m for m in gallery.features if m in probes.features]
    if not common:
        raise InputError(
            f"{queries} has features of {', '.join(probes.features)}; {items} of {', '.join(gallery.features)}"
        )
    for what, name in (("features", "features"), ("root_posteriors", "log-probabilities")):
        theirs, ours = getattr(probes, what), getattr(gallery, what)
        for m in ours:
            if m in theirs and theirs[m].shape[1] != ours[m].shape[1]:
                raise InputError(
                    f"{queries} has {theirs[m].shape[1]} {name} of {m} for each video, and {items} {ours[m].shape[1]}"
                )
