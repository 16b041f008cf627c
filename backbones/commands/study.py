"""`selavi study`: what the claims of the method are worth on a collection."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from backbones.commands.options import clips_option, device_option, memory_option, seed_option, workers_option
from backbones.commands.program import Command, Group, Interruptible
from backbones.commands.progress import TERMINAL
from selavi_ref.errors import InputError

_OUT = click.option("--out", type=click.Path(file_okay=False), required=True, help="Folder of tables and figures.")
_GO_ON = "the same command goes on where it stopped"


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
    """Put the claims of the method to the test on videos whose true classes are known, each by one command."""


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
@click.option("--factors", default="1,2,4,8,16,32", show_default=True, help="By which pictures are scaled down.")
@clips_option
@seed_option
@device_option
@workers_option
def degrade(run: str, videos: str, out: str, factors: str, workers: int | None, **looking: Any) -> None:
    """
    Label VIDEOS by the networks of RUN while their pictures are scaled down and back up, step by step.

    Beside the labels of both modalities: those of each alone, and K-means on the features of both. True classes are
    those of the folders or of the list.
    """
    from backbones.commands.scanning import list_collection, scan_videos
    from backbones.data.data_source import DataSource
    from backbones.studies.degrade import study_degrade
    from selavi_ref.report.figures import check_drawing
    from selavi_ref.report.table import results_folder
    from selavi_ref.runs.run import Run

    wanted = _whole_numbers(factors)
    opened = Run.of_videos(run)
    check_drawing()
    listed = list_collection(videos)
    folder = results_folder(out)
    with Interruptible(_GO_ON):
        manifest = scan_videos(listed, workers, min_seconds=0.0, require="any")
        tables = study_degrade(
            opened, manifest, folder, factors=wanted, data_source=DataSource(workers), reporter=TERMINAL, **looking
        )
    _show(tables, out)


def _trial_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what the studies have in common that train."""
    options = (
        click.argument("videos", type=click.Path()),
        _OUT,
        click.option("--clusters", "-k", type=click.IntRange(2), required=True, help="How many kinds to find."),
        click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Runs of each kind."),
        click.option("--unseen", type=click.Path(), help="Videos to label by the trained networks, beside."),
        click.option(
            "--long-tail",
            type=click.FloatRange(0, min_open=True),
            help="Thin the collection: class k of C, in alphabetical order, keeps exp(-LONG_TAIL k / (C - 1)).",
        ),
        click.option("--epochs", type=click.IntRange(1), help="Of each run. [default: as in selavi train]"),
        click.option("--config", type=click.Path(dir_okay=False), help="Further settings, as in a run's config.toml."),
        click.option(
            "--precision",
            type=click.Choice(["auto", "float32", "bfloat16"]),
            default="auto",
            show_default=True,
            help="Of the networks.",
        ),
        device_option,
        workers_option,
        memory_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


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
    Train on VIDEOS under uniform, gaussian, zipf, right and soft cluster sizes, and compare the labels.

    Right sizes are those of the true classes (folders, or a list's column class), which nobody has who labels
    unlabelled videos; every run takes as long as selavi train does.
    """
    from backbones.studies.marginals import study_marginals

    _with_trials(study_marginals, **options)


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
    Train on VIDEOS with parts of the method left out or otherwise, and compare the labels.

    Side heads, sorted sizes, alignment, several heads, groups of heads, one modality alone, and K-means in place of
    transport: eleven runs, each about as long as selavi train.
    """
    from backbones.studies.ablation import study_ablation

    _with_trials(study_ablation, **options)


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
    """Show how loss and agreements went while RUN was learning."""
    from selavi_ref.report.table import results_folder
    from selavi_ref.report.training_curves import training_curve as draw
    from selavi_ref.runs.run import Run

    draw(Run.open(run), results_folder(out) / "training-curve")
    click.echo(f"tables and figures are in {click.format_filename(out)}")


def _with_trials(
    carry_out: Callable[[Any], Any],
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
    from backbones.studies.trials import Trials, long_tailed
    from selavi_ref.report.figures import check_drawing
    from selavi_ref.report.table import results_folder

    if long_tail is not None and not math.isfinite(long_tail):
        raise InputError(f"--long-tail {long_tail}: a finite number above 0")
    check_drawing()
    shared["config"] = read_config(config)
    known = run_settings(1000, **shared, device=device)  # refuses what cannot be before the long scan
    listed = [None if name is None else list_collection(name) for name in (videos, unseen)]
    folder = results_folder(out)
    with Interruptible(_GO_ON):
        least = max(1.1, known.backbone.clip.length + 0.1)
        manifest = scan_videos(listed[0], workers, min_seconds=least).usable
        if long_tail is not None:
            manifest = long_tailed(manifest, long_tail)
        apart = None
        if unseen is not None:
            apart = scan_videos(listed[1], workers, min_seconds=0.0, require="any")
        trials = Trials(
            folder,
            manifest,
            shared,
            range(seeds),
            apart,
            device=device,
            data_source=DataSource(workers, memory_gb),
            reporter=TERMINAL,
        )
        tables = carry_out(trials)
    _show(tables[:1], out)


def _show(tables: Any, out: str) -> None:
    from selavi_ref.report.table import echo

    for table in tables:
        echo(table.text())
    click.echo(f"tables and figures are in {click.format_filename(out)}")


def _whole_numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise InputError(f"--factors {text}: whole numbers of at least 1, separated by commas")
    return numbers
