"""`selavi study`: experiments that test the claims of the method on a collection."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from backbones.commands.command import Command, Group, Interruptible, combine
from backbones.commands.messages import note
from backbones.commands.output import OutPath
from backbones.commands.progress import TERMINAL
from backbones.commands.shared_options import clips_option, device_option, memory_option, seed_option, workers_option
from selavi_ref.errors import InputError

_OUT = click.option("--out", type=OutPath(file_okay=False), required=True, help="Folder for tables and figures.")
_CONTINUE = "the same command continues where it stopped"


@click.group(
    cls=Group,
    examples="""
    selavi study degrade RUN TEST_VIDEOS --out degrade
    selavi study marginals VIDEOS --clusters 10 --long-tail 1.2 --out marginals
    selavi study ablation VIDEOS --clusters 10 --seeds 3 --out ablation
    selavi study training-curve RUN --out curve
    """,
)
def study() -> None:
    """Test the claims of the method on videos whose true classes are known."""


@study.command(
    cls=Command,
    examples="""
    selavi study degrade RUN TEST_VIDEOS --out degrade
    selavi study degrade RUN TEST_VIDEOS --factors 1,4,16 --clips 3 --out degrade
    """,
)
@click.argument("run", type=click.Path())
@click.argument("videos", type=click.Path())
@_OUT
@click.option("--factors", default="1,2,4,8,16,32", help="Factors by which pictures are scaled down.")
@clips_option
@seed_option
@device_option
@workers_option
def degrade(run: str, videos: str, out: str, factors: str, workers: int | None, **viewing: Any) -> None:
    """
    Label VIDEOS with the networks of RUN at ever lower picture resolution.

    Pictures are scaled down and back up. Scored are the labels of both modalities, those of each alone, and K-means on
    the features of both. True classes are those of the folders or of the list.
    """
    from backbones.commands.scanning import list_collection
    from backbones.data.data_source import DataSource
    from backbones.studies.degrade import study_degrade
    from selavi_ref.datasets.scan import scan_playable
    from selavi_ref.report.figures import check_drawing
    from selavi_ref.report.table import results_folder
    from selavi_ref.runs.run import Run

    numbers = _whole_numbers(factors)
    opened = Run.of_videos(run)
    check_drawing()
    listed = list_collection(videos)
    folder = results_folder(out)
    with Interruptible(_CONTINUE):
        manifest = scan_playable(listed, workers=workers, reporter=TERMINAL)
        tables = study_degrade(
            opened, manifest, folder, factors=numbers, data_source=DataSource(workers), reporter=TERMINAL, **viewing
        )
    _show(tables, out)


def _trial_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that all studies with training runs have."""
    return combine(
        click.argument("videos", type=click.Path()),
        _OUT,
        click.option("--clusters", "-k", type=click.IntRange(2), required=True, help="Number of clusters to find."),
        click.option("--seeds", type=click.IntRange(1), default=1, help="Runs of each variant, with different seeds."),
        click.option("--unseen", type=click.Path(), help="Further videos, to be labelled by the trained networks."),
        click.option(
            "--long-tail",
            type=click.FloatRange(0, min_open=True),
            help="Thin the collection: class k of C, in alphabetical order, keeps exp(-LONG_TAIL k / (C - 1)).",
        ),
        click.option(
            "--epochs", type=click.IntRange(1), help="Passes over the videos in each run. [default: as in selavi train]"
        ),
        click.option(
            "--config", type=click.Path(dir_okay=False), help="Further settings, as in the config.toml of a run."
        ),
        click.option(
            "--precision",
            type=click.Choice(["auto", "float32", "bfloat16"]),
            default="auto",
            show_default=True,
            help="Number format of the networks.",
        ),
        device_option,
        workers_option,
        memory_option,
    )(function)


@study.command(
    cls=Command,
    examples="""
    selavi study marginals VIDEOS --clusters 10 --out marginals
    selavi study marginals VIDEOS --clusters 10 --long-tail 1.2 --unseen TEST_VIDEOS --seeds 3 --out long_tail
    """,
)
@_trial_options
def marginals(**options: Any) -> None:
    """
    Train on VIDEOS under uniform, gaussian, zipf, true and soft cluster sizes, and compare the labels.

    True sizes are those of the true classes (folders, or a list's column class), which are unknown for unlabelled
    videos. Every run takes as long as selavi train.
    """
    from backbones.studies.marginals import study_marginals

    _run_study(study_marginals, **options)


@study.command(
    cls=Command,
    examples="""
    selavi study ablation VIDEOS --clusters 8 --out ablation
    selavi study ablation VIDEOS --clusters 10 --seeds 3 --unseen TEST_VIDEOS --out ablation
    """,
)
@_trial_options
def ablation(**options: Any) -> None:
    """
    Train on VIDEOS with parts of the method left out or changed, and compare the labels.

    Over-clustering heads, sorted sizes, alignment, several heads, groups of heads, one modality alone, heads on
    concatenated features, and K-means in place of transport: twelve runs, each about as long as selavi train.
    """
    from backbones.studies.ablation import study_ablation

    _run_study(study_ablation, **options)


@study.command(
    "training-curve",
    cls=Command,
    examples="""
    selavi study training-curve RUN --out curve
    """,
)
@click.argument("run", type=click.Path())
@_OUT
def training_curve(run: str, out: str) -> None:
    """Draw the loss and the agreement of heads and modalities while RUN was learning."""
    from selavi_ref.report.table import results_folder
    from selavi_ref.report.training_curves import training_curve as draw
    from selavi_ref.runs.run import Run

    draw(Run.open(run), results_folder(out) / "training-curve")
    note(f"tables and figures are in {click.format_filename(out)}")


def _run_study(
    run_trials: Callable[[Any], Any],
    *,
    videos: str,
    out: str,
    seeds: int,
    unseen: str | None,
    long_tail: float | None,
    config: str | None,
    device: str,
    workers: int | None,
    memory_gb: float,
    **shared: Any,
) -> None:
    from backbones.commands.scanning import list_collection, scan_videos
    from backbones.data.data_source import DataSource
    from backbones.runs.presets import read_config, run_settings
    from backbones.runs.train import usable_length
    from backbones.studies.trials import Trials, long_tailed
    from selavi_ref.datasets.scan import scan_playable
    from selavi_ref.report.figures import check_drawing
    from selavi_ref.report.table import results_folder

    if long_tail is not None and not math.isfinite(long_tail):
        raise InputError(f"--long-tail {long_tail}: a finite number above 0", option="long-tail")
    check_drawing()
    shared["config"] = read_config(config)
    known = run_settings(1000, **shared, device=device)  # refuses settings that do not fit before the long scan
    listed = [None if name is None else list_collection(name) for name in (videos, unseen)]
    folder = results_folder(out)
    with Interruptible(_CONTINUE):
        manifest = scan_videos(listed[0], workers, min_seconds=usable_length(known.backbone.clip)).usable
        if long_tail is not None:
            manifest = long_tailed(manifest, long_tail)
        further = None if listed[1] is None else scan_playable(listed[1], workers=workers, reporter=TERMINAL)
        trials = Trials(
            folder,
            manifest,
            shared,
            range(seeds),
            further,
            device=device,
            data_source=DataSource(workers, memory_gb),
            reporter=TERMINAL,
        )
        tables = run_trials(trials)
    _show(tables[:1], out)


def _show(tables: Any, out: str) -> None:
    from backbones.commands.output import echo

    for table in tables:
        echo(table.text())
    note(f"tables and figures are in {click.format_filename(out)}")


def _whole_numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise InputError(f"--factors {text}: whole numbers of at least 1, separated by commas", option="factors")
    return numbers
