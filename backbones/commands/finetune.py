"""`selavi finetune`: fine-tuning and test of a run's video network on a collection with classes."""

from __future__ import annotations

import os
import shlex
from typing import Any

import click

from backbones.commands.command import Command, Interruptible, refuse_options
from backbones.commands.help_text import option_group
from backbones.commands.messages import note
from backbones.commands.output import OutPath
from backbones.commands.setting_options import field_options, setting_option
from backbones.commands.shared_options import (
    annotations_option,
    cache_format_option,
    cache_option,
    checkpoint_minutes_option,
    device_option,
    memory_option,
    seed_option,
    workers_option,
)
from backbones.data.settings import ClipSettings
from backbones.finetuning.settings import FineTuneSettings
from selavi_ref.errors import InputError
from selavi_ref.runs.setting_fields import settings_of

_FREE = {"device", "workers", "memory_gb", "cache", "cache_format", "minutes"}  # may differ when it is continued


@click.command(
    cls=Command,
    examples="""
    selavi finetune RUN UCF-101 --layout ucf101 --out UCF
    selavi finetune RUN HMDB-51 --layout hmdb51 --fold 1 --linear-probe --norm batch --out PROBE
    selavi finetune RUN UCF-101 --layout ucf101 --from-scratch --out SCRATCH
    selavi finetune RUN VIDEOS --epochs 4 --warmup-epochs 0 --milestones 3 --learning-rate 0.02 --out OUT
    selavi finetune --resume --out UCF
    torchrun --nproc-per-node 4 -m selavi_ref finetune RUN UCF-101 --layout ucf101 --out UCF
    """,
)
@click.argument("run", type=click.Path(), required=False)
@click.argument("videos", type=click.Path(), required=False)
@option_group(
    "Main options",
    click.option("--out", type=OutPath(), required=True, help="Folder for checkpoints and results."),
    click.option("--resume", is_flag=True, help="Continue what --out holds; so does the same command."),
    setting_option(FineTuneSettings, "layout", kind=click.Choice(["ucf101", "hmdb51"])),
    *field_options(FineTuneSettings, "from_scratch", "video_weights", "linear_probe", with_defaults=True),
    seed_option,
)
@option_group(
    "Data",
    annotations_option,
    setting_option(FineTuneSettings, "folds", default="1,2,3"),
    *field_options(FineTuneSettings, "test_split", "clips_per_video", with_defaults=True),
    setting_option(ClipSettings, "frames", default_text="32; with small networks that of RUN"),
    setting_option(ClipSettings, "fps", option="fps", default_text="that of RUN"),
    setting_option(ClipSettings, "size", option="size", default_text="128; with small networks that of RUN"),
    click.option(
        "--augment",
        multiple=True,
        metavar="NAME=VALUE",
        help="Random changes of clips: none, and values of single ones, as in selavi train; repeatable. "
        "[default: scale=1,1.25 flip=0.5 jitter=0.4; with small networks those of RUN]",
    ),
)
@option_group("Networks", *field_options(FineTuneSettings, "norm", "dropout", with_defaults=True))
@option_group(
    "Schedule",
    *field_options(
        FineTuneSettings,
        "epochs",
        "batch_size",
        "learning_rate",
        "base_learning_rate",
        "optimizer",
        "momentum",
        "weight_decay",
        "warmup_epochs",
        "warmup_factor",
        with_defaults=True,
    ),
    setting_option(FineTuneSettings, "milestones", default="7,11"),
    *field_options(FineTuneSettings, "gamma", with_defaults=True),
)
@option_group(
    "Test", *field_options(FineTuneSettings, "test_clips", "test_crops", "test_last_only", with_defaults=True)
)
@option_group(
    "Resources",
    device_option,
    workers_option,
    memory_option,
    cache_option,
    cache_format_option,
    *field_options(FineTuneSettings, "precision", with_defaults=True),
    checkpoint_minutes_option,
)
def finetune(run: str | None, videos: str | None, out: str, resume: bool, **options: Any) -> None:
    """
    Fine-tune the video network of RUN on the classes of VIDEOS, and test it, fold by fold, as published.

    Defaults are those of the published protocol: UCF-101 and HMDB-51 are learnt for 12 epochs, and each test video is
    tested with 10 clips of 3 crops. The result is that of the last epoch; that of the best one is shown, too. A test
    video that cannot be decoded counts as wrong. Ctrl-C, SIGTERM and SIGUSR1 stop it; --resume continues. Processes
    started by torchrun share the clips of each step, and come to the result of one.
    """
    resources = {name: options.pop(name) for name in _FREE}
    if resources["cache"] is None:
        refuse_options(("cache_format",), "goes with --cache")
    source = _check_arguments(run, videos, resume, options)
    cache = ["--cache", resources["cache"], "--cache-format", resources["cache_format"]] if resources["cache"] else []
    from selavi_ref.runs.run import Run
    from selavi_ref.runs.run_lock import locked

    if source is None:
        Run.open(out)  # raises an error that says what is missing
    continuation = shlex.join(["selavi", "finetune", "--resume", *cache, "--out", out])
    with Interruptible(f"continue with: {continuation}"):
        from backbones.commands.output import echo
        from backbones.commands.progress import TERMINAL
        from backbones.data.data_source import DataSource
        from backbones.distributed.processes import process_group
        from backbones.finetuning.training_run import finetune as run_finetuning
        from backbones.runs.run_settings import choose_device
        from selavi_ref.report.figures import check_drawing
        from selavi_ref.runs.processes import raise_together

        check_drawing()
        jpeg = resources["cache_format"] == "jpeg"
        data_source = DataSource(resources["workers"], resources["memory_gb"], resources["cache"], jpeg)
        with process_group(choose_device(resources["device"])) as exchange, locked(out, exchange):
            with raise_together(exchange):
                if exchange.rank == 0:
                    _start_or_check(source, out, options, resources["workers"])
            table = run_finetuning(
                Run.open(out),
                device=resources["device"],
                data_source=data_source,
                minutes=resources["minutes"],
                exchange=exchange,
                reporter=TERMINAL,
            )
    if exchange.rank != 0:
        return
    echo(table.text())
    note(f"wrote {click.format_filename(os.path.join(out, 'results.txt'))}, .csv and .json, and accuracy.png")


def _check_arguments(
    run: str | None, videos: str | None, resume: bool, options: dict[str, Any]
) -> tuple[str, str] | None:
    """Return the run and the videos, or None to continue what --out holds; refuse what does not go together."""
    if run is None and resume:
        refuse_options(options, "cannot be changed with --resume; the settings stay as they were started")
        return None
    if run is None or videos is None:
        raise InputError("name a run and the videos to learn from, or continue by --resume --out FOLDER")
    if options["layout"] is None:
        refuse_options(("annotations", "fold"), "goes with --layout")
    else:
        refuse_options(("test_split",), "goes without --layout, whose lists name the test videos")
    if options["test_split"] == "train":
        raise InputError("--test-split train: these are the videos that are learnt from", option="test-split")
    if options["linear_probe"]:
        refuse_options(("base_learning_rate",), "goes without --linear-probe, which leaves the network as it is")
    return run, videos


def _start_or_check(source: tuple[str, str] | None, out: str, options: dict[str, Any], workers: int | None) -> None:
    """Start a fine-tuning, unless --out holds it already; refuse another one there."""
    from backbones.commands.progress import TERMINAL
    from backbones.finetuning.folds import list_folds, scan_folds
    from backbones.finetuning.training_run import open_finetuning, settings_for, start
    from selavi_ref.runs.run import Run

    if source is None:
        open_finetuning(out)
        return
    annotations = options.pop("annotations")
    run, videos = source
    settings = settings_for(run, videos, **_field_values(options))
    if Run(out).config_file.exists():
        earlier = open_finetuning(out)[1]
        if changed := earlier.changes(settings):
            what = f"was started with another {', '.join(changed)}"
            raise InputError(
                f"{out} {what}; continue with --resume --out {out} alone, or choose another --out", path=out
            )
        return
    listed = list_folds(
        videos, settings.layout, annotations=annotations, numbers=settings.folds, test_split=settings.test_split
    )
    folds = scan_folds(listed, settings.test_split, workers=workers, reporter=TERMINAL)
    for fold in folds:
        skipped = f", {len(fold.skipped)} skipped" if len(fold.skipped) else ""
        what = f"{len(fold.train)} videos to learn from{skipped}, {len(fold.test)} to test, {len(fold.classes)} classes"
        note(f"fold {fold.number}: {what}", err=True)
    start(out, settings, folds, TERMINAL)


def _field_values(options: dict[str, Any]) -> dict[str, Any]:
    """Return the values of settings by the names of their fields."""
    names = {
        details.option.replace("-", "_"): item.name for item, details in settings_of(FineTuneSettings) if details.option
    }
    values = {names.get(option, option): value for option, value in options.items()}
    values["layout"] = values["layout"] or ""
    values["folds"] = tuple(sorted(set(_numbers("--fold", values["folds"])))) if values["layout"] else (1,)
    milestones = values["milestones"]
    values["milestones"] = () if milestones == "none" else _numbers("--milestones", milestones)
    return values


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text}: whole numbers with commas between them, such as 1,2") from None
