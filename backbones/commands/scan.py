"""`selavi scan`: a list of the videos of a collection, and of what each file holds."""

from __future__ import annotations

from typing import Any

import click

from backbones.commands.command import Command, Interruptible
from backbones.commands.messages import note
from backbones.commands.output import OutPath, force_option
from backbones.commands.scanning import list_collection
from backbones.commands.shared_options import (
    LAYOUTS,
    annotations_option,
    files_option,
    segments_option,
    workers_option,
)


@click.command(
    cls=Command,
    examples="""
    selavi scan VIDEOS --out manifest.csv
    selavi scan VIDEOS --segments 30 --out segments.csv
    selavi scan VGGSOUND --layout vggsound --annotations vggsound.csv --split train --out train.csv
    selavi scan UCF-101 --layout ucf101 --fold 1 --split test --out test.csv
    selavi train train.csv --clusters 309 --out RUN
    """,
)
@click.argument("videos", type=click.Path())
@click.option(
    "--out", type=OutPath(dir_okay=False), default="manifest.csv", help="CSV file to write, or to bring up to date."
)
@force_option
@click.option(
    "--layout",
    type=click.Choice([*LAYOUTS, "ucf101", "hmdb51"]),
    help="Published collection, whose own lists name videos, classes and splits.",
)
@annotations_option
@files_option
@click.option("--split", help="Take only this part of the collection, such as train.")
@click.option("--fold", type=click.IntRange(1, 3), default=1, help="Fold of ucf101 or hmdb51.")
@click.option(
    "--require",
    type=click.Choice(["both", "picture", "any"]),
    default=None,
    help="What a video must have to be usable. [default: any; picture for ucf101 and hmdb51]",
)
@click.option(
    "--min-seconds",
    type=click.FloatRange(0),
    default=None,
    help="Length that a video must have to be usable. [default: 1.1; 0 for ucf101 and hmdb51]",
)
@segments_option
@click.option("--limit", type=click.FloatRange(0.1, 86400), default=60.0, help="Seconds that one file may take.")
@workers_option
def scan(
    videos: str, out: str, layout: str | None, require: str | None, min_seconds: float | None, **options: Any
) -> None:
    """
    List the videos of a folder, with what each file holds and whether it can be used.

    VIDEOS is a folder of videos, sound files or pictures, in any depth, or a list of them, which may have times
    (columns start and end). The list that is written has the length, frame rate, picture size, sample rate, class and
    split of each file or segment, or the reason why it cannot be used; selavi train takes it in place of the folder.
    The same command continues an interrupted scan, and later opens only new or changed files.
    """
    from backbones.commands.progress import TERMINAL
    from selavi_ref.datasets.layouts import SILENT_LAYOUTS
    from selavi_ref.datasets.scan import scan_to
    from selavi_ref.report.summaries import manifest_summary

    listed = list_collection(
        videos,
        layout,
        options.pop("annotations"),
        options.pop("split"),
        options.pop("fold"),
        types=options.pop("types"),
    )
    silent = layout in SILENT_LAYOUTS
    require = require or ("picture" if silent else "any")
    least = min_seconds if min_seconds is not None else 0.0 if silent else 1.1
    with Interruptible("the same command continues where it stopped"):
        manifest = scan_to(out, listed, min_seconds=least, require=require, reporter=TERMINAL, **options)
    note(manifest_summary(manifest))
    note(f"wrote {click.format_filename(out)}")
