"""Options that several commands of `selavi` have."""

from __future__ import annotations

import math
from typing import Any

import click

from backbones.commands.command import combine


class FileTypes(click.ParamType):
    """Types of files, such as ``videos,sounds``, or ``all``: a list of names."""

    name = "types"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Return the named types."""
        from selavi_ref.datasets.video_files import FILE_TYPES

        names = list(FILE_TYPES) if value == "all" else [name.strip() for name in value.split(",")]
        if unknown := [name for name in names if name not in FILE_TYPES]:
            self.fail(f"{unknown[0]!r} is not one of all, {', '.join(FILE_TYPES)}.", param, ctx)
        return names


LAYOUTS = ("vggsound", "kinetics", "kinetics-sound", "ave")  # published collections with picture and sound

device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where to compute."
)


def _check_segments(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse what is no segmentation, before anything is scanned."""
    if value != "auto":
        from selavi_ref.datasets.segmentation import Segmentation

        Segmentation.parse(value)
    return value


USUAL_SEGMENTS = "videos of more than a minute into segments of 10 s"


def segments_option_of(videos: str, what: str, default: str = USUAL_SEGMENTS) -> Any:
    """Return the option --segments of a command that cuts such videos, each segment with something of its own."""
    return click.option(
        "--segments",
        metavar="SECONDS|scenes|whole",
        default="auto",
        show_default=False,
        callback=_check_segments,
        help=f"Cut {videos} into segments, each with {what} of its own: of so many seconds, or at the cuts between "
        f"scenes. [default: {default}]",
    )


segments_option = segments_option_of("videos", "a label")
seed_option = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Seed of all random numbers.")
workers_option = click.option(
    "--workers",
    type=click.IntRange(0),
    default=None,
    help="Processes that decode videos; 0: decode in this one. [default: one per processor core]",
)
encoder_option = click.option(
    "--encoder",
    "encoders",
    multiple=True,
    metavar="[NAME=]MODEL",
    help="Pretrained model whose features are written, such as torchvision:resnet18, timm:NAME, transformers:NAME, "
    "open_clip:NAME, efficientnet-lite0 or logmel; @PATH behind it: its weights; repeatable.",
)
memory_option = click.option(
    "--memory",
    "memory_gb",
    type=click.FloatRange(0),
    default=4.0,
    help="Without --cache: keep decoded videos in memory if they take at most so many gigabytes.",
)
cache_option = click.option(
    "--cache", type=click.Path(file_okay=False), help="Folder that keeps decoded videos, for this and later runs."
)
cache_format_option = click.option(
    "--cache-format",
    type=click.Choice(["jpeg", "raw"]),
    default="jpeg",
    help="Format of pictures in --cache: raw is three times as fast, and takes about six times the room.",
)
checkpoint_minutes_option = click.option(
    "--checkpoint-minutes",
    "minutes",
    type=click.FloatRange(0, min_open=True),
    default=15.0,
    help="Minutes between checkpoints within an epoch; there is always one at its end.",
)


def files_option_of(default: str) -> Any:
    """Return the option --files of a command that takes such files of a folder by default."""
    return click.option(
        "--files",
        "types",
        type=FileTypes(),
        help="Files of a folder to take: videos, sounds, pictures, several of them with commas, or all. "
        f"[default: {default}]",
    )


USUAL_FILES = "videos; sounds if there are none; pictures if there are neither"
files_option = files_option_of(USUAL_FILES)
annotations_option = click.option(
    "--annotations",
    type=click.Path(),
    help="Lists of the published collection that --layout names. [default: found in or beside VIDEOS]",
)
_CLIPS_HELP = "Clips of each video, whose predictions are averaged."
clips_option = click.option("--clips", type=click.IntRange(1), default=1, help=_CLIPS_HELP)
videos_option = click.option(
    "--videos",
    type=click.Path(file_okay=False),
    help="Folder of the videos, if it has been moved: it replaces the folder that holds all listed paths.",
)
truth_option = click.option(
    "--truth",
    type=click.Path(),
    help="CSV with the columns path and class: the true classes. [default: folders of the videos, if they differ]",
)
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "csv", "json"]),
    default="text",
    help="Format of printed tables.",
)
head_option = click.option(
    "--head",
    default="consensus",
    help="consensus: the labels of the run, by cross-fitting or by all heads; heads: by all heads; best: by the head "
    "that agrees most with the others; or a number. True classes are never used.",
)
balanced_option = click.option(
    "--balanced", is_flag=True, help="Keep clusters near the sizes that were prescribed in training."
)
min_confidence_option = click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Leave labels of a smaller confidence empty, with the reason.",
)
drop_misfits_option = click.option(
    "--drop-misfits", is_flag=True, help="Leave labels of videos that fit no cluster empty, with the reason."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
degrade_options = combine(
    click.option("--shrink", type=click.IntRange(1), default=1, help="Scale pictures down by this factor, and back."),
    click.option("--attenuate", type=click.FloatRange(0), default=0.0, help="Make the sound quieter, in decibels."),
    click.option(
        "--noise",
        type=float,
        default=math.inf,
        help="Add white noise, so many decibels quieter than the sound. [default: none]",
    ),
)


OF_NETWORKS = ("crops", "shrink", "attenuate", "noise")  # options of `viewing_options_of` for networks of a run only


def viewing_options_of(files: str, segments: str) -> Any:
    """Return the options that say which clips of VIDEOS a run is given, and where; with defaults of two of them."""
    return combine(
        files_option_of(files),
        segments_option_of("VIDEOS", "a label", segments),
        click.option(
            "--clips",
            type=click.IntRange(1),
            help=f"{_CLIPS_HELP} [default: 3 for a run with cross-fitted final labels; or 1]",
        ),
        click.option(
            "--crops",
            type=click.IntRange(1),
            default=1,
            help="Square crops of each clip, along the long side of the picture.",
        ),
        degrade_options,
        device_option,
        workers_option,
    )
