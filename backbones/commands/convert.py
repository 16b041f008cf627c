"""`selavi convert`: published SeLaVi checkpoints become runs, and runs published checkpoints."""

from __future__ import annotations

import os
from typing import Any

import click

from backbones.commands.command import Command, refuse_options
from backbones.commands.help_text import option_group
from backbones.commands.messages import note
from backbones.commands.output import OutPath, force_option
from backbones.commands.setting_options import setting_option
from backbones.data.settings import ClipSettings
from selavi_ref.errors import InputError

_CLIP_OPTIONS = (  # field, option, default
    ("frames", "frames", "30"),
    ("fps", "fps", "30"),
    ("size", "size", "112"),
    ("antialias", "antialias", "no"),
    ("audio_seconds", "sound-seconds", "1"),
    ("sample_rate", "sound-rate", "24000"),
    ("n_filters", "mel-bands", "257"),
)


@click.command(
    cls=Command,
    examples="""
    selavi convert selavi_vgg_sound.pth --out RUN
    selavi convert selavi_vgg_sound.pth --sound-seconds 2 --sound-level published --out RUN
    selavi convert RUN --to published.pth
    selavi label RUN VIDEOS --out labels.csv
    """,
)
@click.argument("source", type=click.Path(), metavar="CHECKPOINT|RUN")
@click.option("--out", type=OutPath(), help="New folder for a run made from a published checkpoint.")
@click.option("--to", type=OutPath(dir_okay=False), help="File for the networks of a run, as a published checkpoint.")
@force_option
@option_group(
    "Input of the networks",
    *(setting_option(ClipSettings, name, option=option, default_text=text) for name, option, text in _CLIP_OPTIONS),
    click.option(
        "--sound-level",
        default="none",
        help="Normalisation of log energies: none, published (1.93,17.89), or MEAN,STD. [default: none]",
    ),
)
def convert(source: str, out: str | None, to: str | None, force: bool, sound_level: str, **clip: Any) -> None:
    """
    Make a run of a published SeLaVi checkpoint, or write the networks of a run as one.

    Files are read without running any code that they hold. A checkpoint does not say how its input was prepared: the
    cluster script of the paper has sound of 24 kHz without normalisation, its label extraction normalises, its
    README's command takes 48 kHz, and the paper has 2 seconds of sound, not 1. Try which options give labels of higher
    confidence. selavi train VIDEOS --resume --out RUN continues the training of the checkpoint.
    """
    if (out is None) == (to is None):
        raise InputError("give either --out RUN, to make a run of a checkpoint, or --to FILE, to write one of a run")
    from backbones.runs.convert import export_published, import_published
    from selavi_ref.runs.run import Run
    from selavi_ref.runs.run_lock import locked

    if to is not None:
        refuse_options([*clip, "sound_level"], "goes with --out")
        if os.path.lexists(to) and not force:
            raise InputError(
                f"--to {to} exists already; name another file, or replace it by --force", path=to, option="to"
            )
        from backbones.commands.progress import TERMINAL

        export_published(Run.of_videos(source), to, TERMINAL)
        note(f"wrote {click.format_filename(to)}")
        return
    assert out is not None
    refuse_options(["force"], "goes with --to")
    if os.path.isdir(source):
        raise InputError(
            f"{source} is a folder; name the file of a checkpoint, or write one of a run by --to FILE", path=source
        )
    if sound_level == "collection":
        raise InputError(
            "--sound-level collection: a checkpoint has no collection; none, published, or MEAN,STD",
            option="sound-level",
        )
    names = {option.replace("-", "_"): name for name, option, _ in _CLIP_OPTIONS}
    given = {names[option]: value for option, value in clip.items() if value is not None}
    with locked(out):
        run, checkpoint = import_published(source, out, sound_level=sound_level, clip=given)
    click.echo(
        f"{checkpoint.video_net} and {checkpoint.audio_net}, {len(checkpoint.clusters)} heads of "
        f"{checkpoint.clusters[0]} clusters, epoch {checkpoint.epoch}\nwrote {run.folder}{os.sep}"
    )
