"""`selavi export`: labels as people have left them, for tables, other programs and file managers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from backbones.commands.command import Command
from backbones.commands.output import OutPath
from backbones.commands.shared_options import truth_option, videos_option
from selavi_ref.errors import InputError, printable


@click.command(
    cls=Command,
    examples="""
    selavi export RUN --out labels.csv
    selavi export RUN --out labels.parquet --out labels.json
    selavi export RUN --links sorted
    selavi export labels.csv --out named.csv
    selavi export RUN --head 2 --out head2.csv
    """,
)
@click.argument("source", type=click.Path(), metavar="RUN|LABELS|STORE")
@click.option(
    "--out", type=OutPath(dir_okay=False), multiple=True, help="Table to write, .csv, .json or .parquet; repeatable."
)
@click.option(
    "--links",
    type=OutPath(file_okay=False),
    help="New folder, with a folder of links to videos for each cluster.",
)
@click.option("--head", default="consensus", help="consensus of all heads, or the number of a head.")
@truth_option
@videos_option
def export(
    source: str, out: tuple[str, ...], links: str | None, head: str, truth: str | None, videos: str | None
) -> None:
    """
    Write the labels of a RUN, a table or a store, with all edits made on the page of selavi browse.

    A row has the label, the name of its cluster, the label as it was learnt, and a mark if the video was moved or
    marked as wrong. Tables can be read by selavi evaluate and selavi browse.
    """
    if not out and links is None:
        raise InputError("nothing to write: give --out labels.csv (or .json, .parquet), --links FOLDER, or both")
    from selavi_ref.browser.collection import open_collection
    from selavi_ref.browser.final_labels import final_labels
    from selavi_ref.report.export import write_csv, write_json, write_parquet
    from selavi_ref.report.links import write_links

    writers = {".csv": write_csv, ".json": write_json, ".parquet": write_parquet}
    for path in out:
        if Path(path).suffix.lower() not in writers:
            raise InputError(f"--out {path}: the name must end in .csv, .json or .parquet")
    collection = open_collection(source, truth=truth, videos=videos)
    if head not in collection.labels.titles:
        raise InputError(f"--head {head}: {source} has {', '.join(collection.labels.titles)}")
    _check_unprotected(out, source)
    if links is not None:
        _check_files(collection.files, source)
    labels = final_labels(collection, head)
    for path in out:
        writers[Path(path).suffix.lower()](labels, path)
        click.echo(f"wrote {click.format_filename(path)}")
    if links is not None:
        made = write_links(labels, links, files=collection.files)
        click.echo(f"wrote {made.links} {made.kind} links to {click.format_filename(links)}{os.sep}")
        if made.missing:
            click.echo(f"{made.missing} videos are missing", err=True)


def _check_unprotected(out: Sequence[str], source: str) -> None:
    """Refuse to replace a file of a run, or of the run that a table or store belongs to."""
    from selavi_ref.runs.run import Run

    folder = Path(source) if os.path.isdir(source) else Path(source).parent
    files = [Path(source), *(value for value in vars(Run(folder)).values() if isinstance(value, Path))]
    protected = {os.path.realpath(file) for file in files}
    for path in out:
        if os.path.realpath(path) in protected:
            raise InputError(f"--out {path} belongs to {source}, which stays as it is; name another file", path=path)


def _check_files(files: Sequence[str], source: str) -> None:
    """Refuse to make links if none of the videos exists."""
    from selavi_ref.media.segments import file_of

    if files and not any(os.path.exists(file_of(path)) for path in files):
        raise InputError(
            f"--links: none of the {len(files)} videos of {source} exists, such as {printable(files[0])}; name the "
            "folder that they are in by --videos",
            option="videos",
            path=files[0],
        )
