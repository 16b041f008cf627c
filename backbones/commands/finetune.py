"""The command `selavi finetune`: how well a run's video network learns the classes of a collection that has them."""

from __future__ import annotations

import os
import shlex
from typing import Any

import click

from backbones.commands.command import Command, Interruptible, combine, refuse_options
from backbones.commands.progress import TERMINAL
from backbones.commands.shared_options import (
    cache_format_option,
    cache_option,
    device_option,
    memory_option,
    seed_option,
    workers_option,
)
from selavi_ref.errors import InputError

_POSITIVE = click.FloatRange(0, min_open=True)
_FROM_0 = click.FloatRange(0)
_BELOW_1 = click.FloatRange(0, 1, max_open=True)

_COLLECTION = (
    click.option(
        "--layout",
        type=click.Choice(["ucf101", "hmdb51"]),
        help="VIDEOS is a published collection with its lists. [default: a list with path, class and split, or a "
        "folder ROOT/{train,test}/{class}/VIDEO]",
    ),
    click.option("--annotations", type=click.Path(), help="Those lists. [default: looked for in and beside VIDEOS]"),
    click.option("--fold", default="1,2,3", help="Which divisions of ucf101 or hmdb51."),
    click.option("--test-split", default="test", help="The part of another collection to test on."),
)
_LEARNING = (
    click.option("--from-scratch", is_flag=True, help="Begin with random weights, for comparison."),
    click.option("--linear-probe", is_flag=True, help="Leave the network as it is, and learn the classifier alone."),
    click.option("--epochs", type=click.IntRange(1), default=12, help="Passes over the videos."),
    click.option("--clips", type=click.IntRange(1), default=10, help="Clips of each video in an epoch."),
    click.option("--batch-size", type=click.IntRange(2), default=32, help="Clips per step."),
    click.option("--optimizer", type=click.Choice(["sgd", "adam"]), default="sgd"),
    click.option("--learning-rate", type=_POSITIVE, default=0.0025, help="Learning rate of the classifier."),
    click.option("--base-learning-rate", type=_FROM_0, default=0.00025, help="Learning rate of the network."),
    click.option("--warmup-epochs", type=click.IntRange(0), default=2, help="Over which the rates rise."),
    click.option("--warmup-factor", type=click.FloatRange(1), default=8.0, help="How many times they rise to."),
    click.option(
        "--milestones",
        default="7,11",
        show_default=True,
        help="After so many epochs each, the rates fall; none: never.",
    ),
    click.option("--gamma", type=_POSITIVE, default=0.05, help="What the rates are multiplied by."),
    click.option("--momentum", type=_BELOW_1, default=0.9, help="Of gradient descent."),
    click.option("--weight-decay", type=_FROM_0, default=0.005),
    click.option("--dropout", type=_BELOW_1, default=0.0, help="Before the classifier."),
    click.option(
        "--norm",
        type=click.Choice(["none", "batch", "l2"]),
        default="none",
        show_default=True,
        help="Of the features, before the classifier.",
    ),
)
_LOOKING = (
    click.option("--frames", type=click.IntRange(1), help="Of a clip. [32; of tiny networks the run's]"),
    click.option("--fps", type=click.FloatRange(0.1), help="Frames per second. [the run's]"),
    click.option("--size", type=click.IntRange(8), help="Pixels of the square. [128; of tiny networks the run's]"),
    click.option(
        "--augment",
        multiple=True,
        metavar="NAME=VALUE",
        help="How clips are varied: none, or as in selavi train; repeatable. [scale=1,1.25 flip=0.5 jitter=0.4; of "
        "tiny networks the run's]",
    ),
    click.option("--test-clips", type=click.IntRange(1), default=10, help="Clips of a test video."),
    click.option("--test-crops", type=click.IntRange(1), default=3, help="Squares of each clip."),
    click.option("--last-only", is_flag=True, help="Test after the last epoch alone, which saves time."),
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16"]),
        default="float32",
        show_default=True,
        help="Of the network.",
    ),
    seed_option,
)
_PLACE = (
    device_option,
    workers_option,
    memory_option,
    cache_option,
    cache_format_option,
    click.option(
        "--checkpoint-minutes",
        "minutes",
        type=_POSITIVE,
        default=15.0,
        show_default=True,
        help="Save the state so often within an epoch, beside at its end.",
    ),
)
_FREE = {"device", "workers", "memory_gb", "cache", "cache_format", "minutes"}  # may change when it goes on


@click.command(
    cls=Command,
    examples="""
    selavi finetune RUN UCF-101 --layout ucf101 --out UCF
    selavi finetune RUN HMDB-51 --layout hmdb51 --fold 1 --linear-probe --norm batch --out PROBE
    selavi finetune RUN UCF-101 --layout ucf101 --from-scratch --out SCRATCH
    selavi finetune RUN VIDEOS --epochs 4 --warmup-epochs 0 --milestones 3 --learning-rate 0.02 --out OUT
    selavi finetune --resume --out UCF
    """,
)
@click.argument("run", type=click.Path(), required=False)
@click.argument("videos", type=click.Path(), required=False)
@click.option("--out", type=click.Path(), required=True, help="Folder for what is learnt, and for the results.")
@click.option("--resume", is_flag=True, help="Go on with what --out holds; so does the same command.")
@combine(*_COLLECTION)
@combine(*_LEARNING)
@combine(*_LOOKING)
@combine(*_PLACE)
def finetune(run: str | None, videos: str | None, out: str, resume: bool, **options: Any) -> None:
    """
    Fine-tune the video network of RUN on the classes of VIDEOS, and test it, fold by fold, as published.

    The published protocol is the default: UCF-101 and HMDB-51 are learnt for 12 epochs, and each test video is seen in
    10 clips of 3 squares. The result is that of the last epoch; the best one is shown, too, as chosen on the test set.
    A test video that cannot be decoded counts as wrong. Ctrl-C, SIGTERM and SIGUSR1 stop it so that it can go on.
    """
    places = {name: options.pop(name) for name in _FREE}
    if places["cache"] is None:
        refuse_options(("cache_format",), "goes with --cache")
    wanted = _wanted(run, videos, out, resume, options)
    with Interruptible(f"go on with: {shlex.join(['selavi', 'finetune', '--resume', *_kept(places), '--out', out])}"):
        from backbones.commands.output import echo
        from backbones.data.data_source import DataSource
        from backbones.finetuning.training_run import finetune as carry_out
        from selavi_ref.report.figures import check_drawing

        check_drawing()
        started = _started(wanted, out, options, places["workers"])
        jpeg = places["cache_format"] == "jpeg"
        data_source = DataSource(places["workers"], places["memory_gb"], places["cache"], jpeg)
        table = carry_out(
            started, device=places["device"], data_source=data_source, minutes=places["minutes"], reporter=TERMINAL
        )
    echo(table.text())
    click.echo(f"wrote {click.format_filename(started.folder / 'results.txt')}, .csv and .json, and accuracy.png")


def _wanted(
    run: str | None, videos: str | None, out: str, resume: bool, options: dict[str, Any]
) -> tuple[str, str] | None:
    """Return the run and the videos that are named, or None to go on with those of --out; refuse what does not fit."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("fine-tuning takes one process, not torchrun; learn folds side by side, each with an --out")
    if run is None and resume:
        refuse_options(options, "cannot be changed with --resume; what was started keeps its settings")
        return None
    if run is None or videos is None:
        raise InputError("name a run and the videos to learn from, or go on by --resume --out FOLDER")
    if options["layout"] is None:
        refuse_options(("annotations", "fold"), "goes with --layout")
    else:
        refuse_options(("test_split",), "goes without --layout, whose lists name the test videos")
    if options["test_split"] == "train":
        raise InputError("--test-split train: these are the videos that are learnt from")
    if options["linear_probe"]:
        refuse_options(("base_learning_rate",), "goes without --linear-probe, which leaves the network as it is")
    return run, videos


def _started(wanted: tuple[str, str] | None, out: str, options: dict[str, Any], workers: int | None) -> Any:
    """Start what is wanted, or open it where it was started before."""
    from backbones.commands.progress import counter
    from backbones.finetuning.folds import list_folds, scan_folds
    from backbones.finetuning.training_run import open_finetuning, settings_for, start
    from selavi_ref.runs.run import Run

    if wanted is None:
        return open_finetuning(out)[0]
    annotations = options.pop("annotations")
    source, videos = wanted
    settings = settings_for(source, videos, **_fields(options))
    if Run(out).config_file.exists():
        before, its = open_finetuning(out)
        if changed := its.changes(settings):
            what = f"was started with another {', '.join(changed)}"
            raise InputError(f"{out} {what}; go on with --resume --out {out} alone, or choose another --out")
        return before
    listed = list_folds(
        videos,
        settings.layout,
        annotations=annotations,
        numbers=settings.folds,
        test_split=settings.test_split,
    )
    n_files = len({path for manifest in listed.values() for path in manifest.paths})
    with counter(n_files, "scanning", "video") as count:
        folds = scan_folds(listed, settings.test_split, workers=workers, progress=lambda done, total: count(1))
    for fold in folds:
        lost = f", {len(fold.skipped)} skipped" if len(fold.skipped) else ""
        what = f"{len(fold.train)} videos to learn from{lost}, {len(fold.test)} to test, {len(fold.classes)} classes"
        click.echo(f"fold {fold.number}: {what}", err=True)
    return start(out, settings, folds)


def _fields(options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that options stand for."""
    fields = dict(options)
    for option, field in (("clips", "clips_per_video"), ("last_only", "test_last_only"), ("fold", "folds")):
        fields[field] = fields.pop(option)
    fields["layout"] = fields["layout"] or ""
    fields["folds"] = tuple(sorted(set(_numbers("--fold", fields["folds"])))) if fields["layout"] else (1,)
    milestones = fields["milestones"]
    fields["milestones"] = () if milestones == "none" else _numbers("--milestones", milestones)
    return fields


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text}: whole numbers with commas between them, such as 1,2") from None


def _kept(places: dict[str, Any]) -> list[str]:
    """Return the options of a cache, with which it should go on."""
    return ["--cache", places["cache"], "--cache-format", places["cache_format"]] if places["cache"] else []
