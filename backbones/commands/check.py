"""`selavi check`: a diagnosis of labels, without any true label."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from backbones.commands.command import Command, Interruptible, refuse_options
from backbones.commands.output import OutPath
from backbones.commands.progress import TERMINAL
from backbones.commands.shared_options import device_option, format_option, seed_option, workers_option


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
    "--out", type=OutPath(file_okay=False), help="Folder for the report. [default: RUN/check; check for a STORE]"
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
    from backbones.commands.output import echo
    from selavi_ref.api.checking import check_labels, checked_source

    source = checked_source(source)
    if not os.path.isdir(source):
        refuse_options(["clips", "device"], "goes with a RUN; a store has no networks that could label further clips")
    folder = Path(out or (Path(source) / "check" if os.path.isdir(source) else "check"))
    with Interruptible("the same command continues where it stopped"):
        report = check_labels(
            source,
            other=other,
            clips=clips,
            files=files,
            out=folder,
            seed=seed,
            device=device,
            workers=workers,
            reporter=TERMINAL,
        )
    if form == "text":
        marks = {"ok": "  ", "look": "? ", "warning": "! "}
        click.echo("\n".join(marks[finding.severity] + finding.sentence for finding in report.findings))
        click.echo(
            f"{len(report.videos.rows)} suspicious videos are listed in "
            f"{click.format_filename(str(folder / 'videos.csv'))}"
        )
        tell_next(source)
    else:
        echo(report.table().to(form))


def tell_next(source: str, most: int = 3) -> None:
    """Print which videos of a run or a store a person should look at next."""
    from selavi_ref.browser.look_next import least_certain
    from selavi_ref.runs.run import Run

    paths = least_certain(Run(source) if os.path.isdir(source) else source, most)
    if paths:
        named = ", ".join(click.format_filename(path) for path in paths)
        browse = shlex.join(["selavi", "browse", source])
        click.echo(f"look at these next, of whose labels least is certain, with {browse}: {named}")
