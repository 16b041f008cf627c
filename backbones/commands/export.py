"""`selavi export`: labels as people have left them, for tables, other programs and file managers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from backbones.commands.command import Command, Interruptible
from backbones.commands.messages import note, warning
from backbones.commands.output import OutPath, force_option
from backbones.commands.shared_options import truth_option, videos_option
from selavi_ref.errors import InputError, printable

_FORMS = ("fiftyone", "label-studio", "cvat", "coco", "videofolder", "webdataset")

_MOST_FAILURES = 5  # that are shown


@click.command(
    cls=Command,
    examples="""
    selavi export RUN --out labels.csv
    selavi export RUN --out labels.parquet --out labels.json
    selavi export RUN --links sorted
    selavi export labels.csv --out named.csv
    selavi export RUN --head 2 --out head2.csv
    selavi export RUN --embeddings features.npz
    selavi export RUN --to fiftyone fiftyone --to label-studio tasks.json --to cvat cvat --to coco coco.json
    selavi export RUN --to videofolder dataset --copy
    selavi export RUN --cut clips
    selavi export RUN --to webdataset shards
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
@click.option(
    "--cut",
    type=OutPath(file_okay=False),
    help="New folder, with a folder of clips for each cluster: segments cut out of their files without encoding again.",
)
@click.option(
    "--to",
    "targets",
    type=(click.Choice(_FORMS), OutPath()),
    multiple=True,
    metavar="FORM PATH",
    help=f"Write for another program: {', '.join(_FORMS)}; docs/interchange.md tells what is in each; repeatable.",
)
@click.option("--copy", is_flag=True, help="With --to videofolder: copy the videos instead of linking them.")
@click.option(
    "--embeddings", type=OutPath(dir_okay=False), help="Features of all videos with their labels, .npz or .parquet."
)
@click.option("--head", default="consensus", help="consensus of all heads, or the number of a head.")
@force_option
@truth_option
@videos_option
def export(
    source: str,
    out: tuple[str, ...],
    links: str | None,
    cut: str | None,
    targets: tuple[tuple[str, str], ...],
    copy: bool,
    embeddings: str | None,
    head: str,
    force: bool,
    truth: str | None,
    videos: str | None,
) -> None:
    """
    Write the labels of a RUN, a table or a store, with all edits made on the page of selavi browse.

    A row has the label, the name of its cluster, the label as it was learnt, and a mark if the video was moved or
    marked as wrong. Tables can be read by selavi evaluate and selavi browse. Tables that an export wrote, and folders
    of links, are replaced; other files only with --force.
    """
    if not (out or links or cut or targets or embeddings):
        raise InputError(
            "nothing to write: give --out labels.csv (.json, .parquet), --links FOLDER, --cut FOLDER, --to FORM PATH "
            "or --embeddings features.npz"
        )
    if copy and "videofolder" not in [form for form, _ in targets]:
        raise InputError("--copy goes with --to videofolder PATH", option="copy")
    from selavi_ref.browser.collection import open_collection
    from selavi_ref.browser.final_labels import final_labels
    from selavi_ref.report.export import write_csv, write_json, write_parquet

    writers = {".csv": write_csv, ".json": write_json, ".parquet": write_parquet}
    for path in out:
        if Path(path).suffix.lower() not in writers:
            raise InputError(f"--out {path}: the name must end in .csv, .json or .parquet", option="out")
    collection = open_collection(source, truth=truth, videos=videos)
    if head not in collection.labels.titles:
        raise InputError(f"--head {head}: {source} has {', '.join(collection.labels.titles)}", option="head")
    _check_outputs(source, out, targets, embeddings, force)
    folders = [(option, path) for option, path in (("--links", links), ("--cut", cut)) if path is not None]
    _check_distinct([*_outputs(out, targets, embeddings), *folders])
    for option, _ in folders:
        _check_files(collection.files, source, option)
    labels = final_labels(collection, head)
    for path in out:
        writers[Path(path).suffix.lower()](labels, path)
        note(f"wrote {click.format_filename(path)}")
    _write_folders(labels, links, cut, collection.files)
    _write_targets(collection, labels, targets, embeddings, head, copy, force)


def _write_folders(labels: Any, links: str | None, cut: str | None, files: Sequence[str]) -> None:
    """Make a folder of links, and one of clips, if they are asked for."""
    from selavi_ref.report.links import write_links

    if links is not None:
        made = write_links(labels, links, files=files)
        note(f"wrote {made.links} {made.kind} links to {click.format_filename(links)}{os.sep}")
        if made.missing:
            warning(f"{made.missing} videos are missing")
    if cut is not None:
        _cut(labels, cut, files)


def _cut(labels: Any, folder: str, files: Sequence[str]) -> None:
    """Cut a clip for each row, with a progress bar."""
    from backbones.commands.progress import counter
    from selavi_ref.report.cuts import write_cuts

    with (
        Interruptible("the same command continues where it stopped"),
        counter(len(labels.paths), "cutting", "clip") as count,
    ):
        made = write_cuts(labels, folder, files=files, progress=count)
    note(f"cut {made.clips} clips into {click.format_filename(folder)}{os.sep}")
    for failure in made.failures[:_MOST_FAILURES]:
        warning(failure)
    if len(made.failures) > _MOST_FAILURES:
        warning(f"{len(made.failures) - _MOST_FAILURES} more could not be cut; the column link of labels.csv is empty")


def _outputs(out: Sequence[str], targets: Sequence[tuple[str, str]], embeddings: str | None) -> list[tuple[str, str]]:
    """Return what is to be written, without folders of links and clips, each with the option that names it."""
    features = [] if embeddings is None else [("--embeddings", embeddings)]
    return [*(("--out", path) for path in out), *features, *((f"--to {form}", path) for form, path in targets)]


def _check_outputs(
    source: str, out: Sequence[str], targets: Sequence[tuple[str, str]], embeddings: str | None, force: bool
) -> None:
    """Refuse whatever must not be replaced, before anything is written."""
    from selavi_ref.api.exporting import check_export
    from selavi_ref.report.export import is_own_table
    from selavi_ref.report.interchange.feature_files import check_features_file

    _check_unprotected(_outputs(out, targets, embeddings), source)
    for path in out:
        if not force and os.path.lexists(path) and not is_own_table(path):
            raise InputError(
                f"--out {path} is not a table of labels written by selavi; name another file, or replace it by --force",
                path=path,
                option="out",
            )
    for form, path in targets:
        check_export(form, path, force=force)
    if embeddings is not None:
        check_features_file(embeddings, force)


def _write_targets(
    collection: Any,
    labels: Any,
    targets: Sequence[tuple[str, str]],
    embeddings: str | None,
    head: str,
    copy: bool,
    force: bool,
) -> None:
    """Write what other programs read."""
    if not targets and embeddings is None:
        return
    from backbones.commands.progress import TERMINAL
    from selavi_ref.api.exporting import export as export_to
    from selavi_ref.api.exporting import feature_spaces
    from selavi_ref.report.interchange.feature_files import write_features

    for form, path in targets:
        number = export_to(collection, form, path, labelling=head, copy=copy, force=force, reporter=TERMINAL)
        note(f"wrote {click.format_filename(path)} for {form}: {number} of {len(collection)} videos")
    if embeddings is not None:
        spaces = feature_spaces(collection)
        write_features(labels, spaces, embeddings, force=force)
        shapes = ", ".join(f"{name} ({features.shape[1]})" for name, features in spaces.items())
        note(f"wrote {click.format_filename(embeddings)}: {len(collection)} videos; {shapes}")


def _check_unprotected(outputs: Sequence[tuple[str, str]], source: str) -> None:
    """Refuse to replace a file of a run, or of the run that a table or store belongs to."""
    from selavi_ref.runs.run import Run

    folder = Path(source) if os.path.isdir(source) else Path(source).parent
    files = [Path(source), *(value for value in vars(Run(folder)).values() if isinstance(value, Path))]
    protected = {os.path.realpath(file) for file in files}
    for option, path in outputs:
        if os.path.realpath(path) in protected:
            raise InputError(f"{option} {path} belongs to {source}, which stays as it is; name another file", path=path)


def _check_distinct(outputs: Sequence[tuple[str, str]]) -> None:
    """Refuse outputs of which one would replace another, or lie in the folder of another."""
    places = [os.path.realpath(path) for _, path in outputs]
    for one, (option, path) in enumerate(outputs):
        for other, (other_option, other_path) in enumerate(outputs):
            if other != one and (Path(places[other]).is_relative_to(places[one])):
                raise InputError(
                    f"{option} {printable(path)} and {other_option} {printable(other_path)} are one file or folder, or "
                    "one lies in the other; name them apart",
                    option=other_option,
                    path=other_path,
                )


def _check_files(files: Sequence[str], source: str, option: str) -> None:
    """Refuse to make links or clips if none of the videos exists."""
    from selavi_ref.media.segments import file_of

    if files and not any(os.path.exists(file_of(path)) for path in files):
        raise InputError(
            f"{option}: none of the {len(files)} videos of {source} exists, such as {printable(files[0])}; name the "
            "folder that they are in by --videos",
            option="videos",
            path=files[0],
        )
