"""`selavi convert`: published SeLaVi checkpoints become runs, and runs published checkpoints."""

from __future__ import annotations

import os
from typing import Any

import click

from backbones.commands.command import Command, refuse_options
from selavi_ref.errors import InputError


@click.command(
    cls=Command,
    examples="""
    selavi convert selavi_vgg_sound.pth --out RUN
    selavi convert selavi_vgg_sound.pth --sound-level published --out RUN
    selavi convert RUN --to published.pth
    selavi label RUN VIDEOS --out labels.csv
    """,
)
@click.argument("source", type=click.Path(), metavar="CHECKPOINT|RUN")
@click.option("--out", type=click.Path(), help="New folder for a run made from a published checkpoint.")
@click.option(
    "--to", type=click.Path(dir_okay=False), help="File for the networks of a run, as a published checkpoint."
)
@click.option("--sound-rate", type=click.IntRange(4000), default=24_000, help="Sound samples per second.")
@click.option("--mel-bands", type=click.IntRange(4), default=257, help="Mel bands of the sound.")
@click.option(
    "--sound-level",
    default="none",
    help="Normalisation of log energies: none, published (1.93,17.89), or MEAN,STD.",
)
def convert(source: str, out: str | None, to: str | None, **sound: Any) -> None:
    """
    Make a run of a published SeLaVi checkpoint, or write the networks of a run as one.

    Files are read without running any code that they hold. A checkpoint does not say how its sound was prepared: the
    cluster script of the paper has 24 kHz without normalisation, its label extraction normalises, and its README's
    command takes 48 kHz. Try which options give labels of higher confidence.
    """
    if (out is None) == (to is None):
        raise InputError("give either --out RUN, to make a run of a checkpoint, or --to FILE, to write one of a run")
    from backbones.runs.convert import export_published, import_published
    from selavi_ref.runs.run import Run

    if to is not None:
        refuse_options(sound, "goes with --out")
        export_published(Run.of_videos(source), to)
        click.echo(f"wrote {click.format_filename(to)}")
        return
    assert out is not None
    if os.path.isdir(source):
        raise InputError(f"{source} is a folder; name the file of a checkpoint, or write one of a run by --to FILE")
    if sound["sound_level"] == "collection":
        raise InputError("--sound-level collection: a checkpoint has no collection; none, published, or MEAN,STD")
    run, checkpoint = import_published(source, out, **sound)
    click.echo(
        f"{checkpoint.video_net} and {checkpoint.audio_net}, {len(checkpoint.clusters)} heads of "
        f"{checkpoint.clusters[0]} clusters, epoch {checkpoint.epoch}\nwrote {run.folder}{os.sep}"
    )
