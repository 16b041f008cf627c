"""Options that several commands of `selavi` have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to compute."
)
seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of everything random."
)
workers_option = click.option(
    "--workers", type=click.IntRange(0), default=None, help="Processes that decode videos. [default: one per processor]"
)
memory_option = click.option(
    "--memory",
    "memory_gb",
    type=click.FloatRange(0),
    default=4.0,
    show_default=True,
    help="Without --cache: keep the decoded videos in memory when they fit in so many gigabytes.",
)
cache_option = click.option(
    "--cache", type=click.Path(file_okay=False), help="Folder to keep decoded videos in, for this and later runs."
)
cache_format_option = click.option(
    "--cache-format",
    type=click.Choice(["jpeg", "raw"]),
    default="jpeg",
    show_default=True,
    help="Of the pictures in --cache: raw is three times as fast, and takes about six times the room.",
)
clips_option = click.option(
    "--clips", type=click.IntRange(1), default=1, show_default=True, help="Clips averaged for each video."
)
crops_option = click.option(
    "--crops", type=click.IntRange(1), default=1, show_default=True, help="Squares of each clip, along the long side."
)
videos_option = click.option(
    "--videos",
    type=click.Path(file_okay=False),
    help="Where the videos are now, if they have moved: in place of the folder that holds all that are listed.",
)
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "csv", "json"]),
    default="text",
    show_default=True,
    help="How tables are printed.",
)
_DEGRADE = (
    click.option(
        "--shrink", type=click.IntRange(1), default=1, help="Scale pictures down by this factor, and back up."
    ),
    click.option(
        "--attenuate", type=click.FloatRange(0), default=0.0, help="Make the sound quieter by so many decibels."
    ),
    click.option("--noise", type=float, default=math.inf, help="Add white noise so many decibels below the sound."),
)
head_option = click.option(
    "--head",
    default="consensus",
    show_default=True,
    help="consensus of all heads, best (agrees most with the others), or a number. None uses true labels.",
)
balanced_option = click.option(
    "--balanced", is_flag=True, help="Keep the clusters near the sizes prescribed in training."
)


def options(*given: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what gives a command some options and arguments, in this order."""

    def give(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(given):
            function = option(function)
        return function

    return give


degrade_options = options(*_DEGRADE)
