"""`selavi train`: learns to label a collection of videos, and labels it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from backbones.commands.command import Command, Interruptible, given_on_command_line, refuse_options
from backbones.commands.help_text import option_group
from backbones.commands.label import report_labels, write_labels
from backbones.commands.messages import note, warning
from backbones.commands.n_clusters_option import Estimated, NumberOfClusters
from backbones.commands.output import OutPath
from backbones.commands.scanning import list_collection, scan_videos
from backbones.commands.setting_options import field_options, setting_option
from backbones.commands.shared_options import (
    LAYOUTS,
    annotations_option,
    cache_format_option,
    cache_option,
    checkpoint_minutes_option,
    device_option,
    encoder_option,
    files_option,
    json_option,
    memory_option,
    seed_option,
    segments_option,
    workers_option,
)
from backbones.data.settings import AugmentSettings, ClipSettings
from backbones.learner.settings import BackboneSettings
from backbones.runs.run_settings import RunSettings
from selavi_ref.errors import InputError, printable
from selavi_ref.runs.modality_names import CHOICES
from selavi_ref.runs.setting_fields import settings_of
from selavi_ref.selflabel.cluster_sizes import ClusterSizes
from selavi_ref.selflabel.settings import TrainingSettings

# Options of the command, not settings of the run: they may differ when a run is continued.
_DATA_SOURCE = ("workers", "memory_gb", "cache", "cache_format")
_CHECKPOINT_POLICY = ("minutes", "keep_every", "scratch")
_FREE = {"videos", "out", "resume", "device", "as_json", *_DATA_SOURCE, *_CHECKPOINT_POLICY}


@click.command(
    cls=Command,
    examples="""
    selavi train VIDEOS --clusters 10 --out RUN
    selavi train VIDEOS --clusters auto --out RUN
    selavi train SOUNDS --clusters 10 --out RUN
    selavi train --resume --out RUN
    selavi train VIDEOS --config RUN/config.toml --seed 1 --out RUN2
    selavi train VIDEOS --clusters 10 --augment flip=0.5 --augment blur=0.2 --frames 8 --out RUN
    selavi train VIDEOS --encoder efficientnet-lite0 --encoder logmel --clusters 10 --out RUN
    selavi train LONG_VIDEOS --segments scenes --clusters 10 --out RUN
    selavi train manifest.csv --clusters 309 --preset one-gpu --cache /scratch/clips --out RUN
    torchrun --nproc-per-node 8 -m selavi_ref train VGGSOUND --layout vggsound --preset published --resume --out RUN
    """,
)
@click.argument("videos", type=click.Path(), required=False)
@option_group(
    "Main options",
    click.option(
        "--clusters",
        "-k",
        type=NumberOfClusters(),
        help="Number of clusters to find. auto, or auto:MOST: it is estimated first, which takes as long again.",
    ),
    click.option("--out", type=OutPath(), required=True, help="Folder of the run."),
    click.option(
        "--resume",
        is_flag=True,
        help="Continue the run in --out with its own settings. With VIDEOS: start it, if it does not exist yet.",
    ),
    click.option(
        "--preset",
        type=click.Choice(["small", "published", "one-gpu"]),
        help="small: small networks, for a CPU; published: the paper's recipe; one-gpu: a smaller one. "
        "[default: small; published with a large --video-net]",
    ),
    click.option(
        "--config",
        type=click.Path(dir_okay=False),
        help="File of settings like the config.toml of a run, or some of its lines. Options override the file, the "
        "file overrides the preset.",
    ),
    seed_option,
    encoder_option,
)
@option_group(
    "Data",
    click.option(
        "--layout",
        type=click.Choice(LAYOUTS),
        help="VIDEOS is this published collection, which has its own lists and number of clusters.",
    ),
    annotations_option,
    setting_option(BackboneSettings, "modalities", kind=click.Choice(["auto", *CHOICES])),
    files_option,
    click.option(
        "--split", help="Take only this part of the collection; all: all parts. [default: train, if there are parts]"
    ),
    segments_option,
    *field_options(ClipSettings, "frames"),
    click.option(
        "--stride", type=click.IntRange(1), help="Take every n-th of the preset's frames per second. [default: 1]"
    ),
    *field_options(TrainingSettings, "clips_per_video"),
    *field_options(ClipSettings, "antialias", "audio_seconds", "sample_rate", "n_filters"),
    click.option(
        "--sound-level",
        metavar="LEVEL",
        help="Normalisation of log energies: collection (measured), none, published (1.93,17.89), or MEAN,STD. "
        "[default: collection; published: none]",
    ),
    click.option(
        "--augment",
        multiple=True,
        metavar="NAME=VALUE",
        help="Random changes of clips: none, published or strong, and values of single ones: "
        f"{', '.join(item.name for item, _ in settings_of(AugmentSettings))}; repeatable. "
        "[default: strong; published: published]",
    ),
)
@option_group(
    "Networks",
    *field_options(BackboneSettings, "video_net", "audio_net"),
    *field_options(RunSettings, "video_weights", "audio_weights", "init"),
    *field_options(BackboneSettings, "mlp", "dropout", "concatenate"),
)
@option_group(
    "Clusters",
    *field_options(RunSettings, "heads", "final_labels"),
    *field_options(ClusterSizes, "distribution", "spread", "marginal_penalty", "per_head", "redrawn", "matched"),
    *field_options(TrainingSettings, "overclustering_heads", "groups", "strength", "label_by", "labeller", "align"),
)
@option_group(
    "Schedule",
    *field_options(
        TrainingSettings,
        "epochs",
        "batch_size",
        "learning_rate",
        "labellings",
        "labelling_power",
        "warmup_epochs",
        "decay",
        "scale_learning_rate",
        "bn_warmup_batches",
    ),
    *field_options(BackboneSettings, "optimizer", "momentum", "weight_decay"),
)
@option_group(
    "Resources",
    device_option,
    workers_option,
    memory_option,
    cache_option,
    cache_format_option,
    setting_option(
        BackboneSettings,
        "precision",
        default="auto",
        kind=click.Choice(["auto", "float32", "bfloat16"]),
        help="Number format of the networks. auto: bfloat16 for small networks and one GPU, if the hardware has it.",
    ),
    *field_options(BackboneSettings, "compile", "sync_batch_norm"),
)
@option_group(
    "Output",
    checkpoint_minutes_option,
    click.option(
        "--keep-every",
        type=click.IntRange(0),
        default=25,
        help="Keep a checkpoint for good every so many epochs, beside the last three; 0: none.",
    ),
    click.option("--scratch", type=click.Path(), help="Folder for temporary features. [default: that of the run]"),
    json_option,
)
def train(videos: str | None, out: str, resume: bool, device: str, as_json: bool, **options: Any) -> None:
    """
    Learn to label VIDEOS: a folder of videos, in any depth, or a list of them (CSV with a column path).

    Folders of sound files or of pictures, and videos without sound, are learnt, too; see --modalities and --files.
    Networks learn from scratch; with --encoder, only heads learn, on the features of pretrained models.
    Class folders, if there are any, are used for reporting only. After Ctrl-C, --resume continues the run; SIGTERM and
    SIGUSR1 save its state first, and end with exit status 75. Processes started by torchrun learn together.
    """
    loading = {name: options.pop(name) for name in _DATA_SOURCE}
    policy = {name: options.pop(name) for name in _CHECKPOINT_POLICY}
    if loading["cache"] is None:
        refuse_options(("cache_format",), "goes with --cache")
    exists = _check_run(videos, out, resume)
    from selavi_ref.runs.run_lock import locked

    encoders = options.pop("encoders")
    if encoders:
        from backbones.commands.train_encoders import train_on_encoders

        with locked(out):
            train_on_encoders(videos, out, exists, encoders, device, loading["workers"], options, as_json)
        return
    from backbones.commands.progress import TERMINAL
    from backbones.data.data_source import DataSource
    from backbones.distributed.processes import process_group
    from backbones.runs.run_settings import choose_device
    from backbones.runs.train import CheckpointPolicy
    from backbones.runs.video_runs import finish_run
    from selavi_ref.runs.processes import raise_together

    data_source = DataSource(
        loading["workers"], loading["memory_gb"], loading["cache"], loading["cache_format"] == "jpeg"
    )
    cache = ["--cache", loading["cache"], "--cache-format", loading["cache_format"]] if loading["cache"] else []
    continuation = shlex.join(["selavi", "train", "--resume", *cache, "--out", out])
    with (
        Interruptible(f"continue with: {continuation}"),
        process_group(choose_device(device)) as exchange,
        locked(out, exchange),
    ):
        checkpoint_policy = CheckpointPolicy(**policy)
        with raise_together(exchange):
            if exchange.rank == 0 and exists and videos is not None and _is_converted(out):
                _continue_converted(videos, out, options, loading["workers"])
            elif exchange.rank == 0 and exists and videos is not None:
                note(f"{out} exists already: continuing it with its own settings", err=True)
                _tell_unknown_files(videos, out)
            elif exchange.rank == 0 and videos is not None:
                _start_run(videos, out, {**options, "device": device}, loading["workers"])
        run = finish_run(
            out,
            device=device,
            data_source=data_source,
            checkpoint_policy=checkpoint_policy,
            exchange=exchange,
            reporter=TERMINAL,
        )
        if exchange.rank == 0:
            _label_run(run, as_json)


def _check_run(videos: str | None, out: str, resume: bool) -> bool:
    """Return whether there is a run to continue, and refuse options that do not go together."""
    from selavi_ref.runs.pilot_run import PilotRun
    from selavi_ref.runs.run import Run

    exists = Run(out).config_file.exists() or PilotRun(Path(out)).under_way
    if resume and videos is None:
        settings = [name for name in click.get_current_context().params if name not in _FREE]
        refuse_options(settings, "cannot be changed with --resume; the run keeps the settings it was started with")
        if not exists:
            Run.open(out)  # raises an error that says what is missing
    elif videos is None:
        raise InputError("name the folder of videos, or continue a run by --resume")
    elif exists and not resume:
        raise InputError(f"{out} holds a run already; continue it with --resume, or choose another --out", path=out)
    return exists


def _tell_unknown_files(videos: str, out: str) -> None:
    """Say which files of a folder a run does not know, and how they are labelled."""
    from selavi_ref.datasets.run_lists import unknown_videos
    from selavi_ref.runs.run import Run

    unknown = unknown_videos(Run(out), videos)
    if unknown:
        command = shlex.join(["selavi", "update", out, videos])
        more = f" and {len(unknown) - 1:,} more are" if len(unknown) > 1 else " is"
        warning(
            f"{printable(unknown[0])}{more} unknown to {out}, and will not be learnt from or labelled; "
            f"once the run is finished, label them by: {command}"
        )


def _is_converted(out: str) -> bool:
    """Return whether a folder holds a run from a published checkpoint, which has no videos yet."""
    from selavi_ref.runs.run import Run

    run = Run(out)
    return run.config_file.exists() and not run.videos_file.exists()


def _continue_converted(videos: str, out: str, options: dict[str, Any], workers: int | None) -> None:
    """Scan the videos, and add them to a run from a published checkpoint."""
    from backbones.commands.progress import TERMINAL
    from backbones.runs.convert import add_videos
    from backbones.runs.run_settings import RunSettings
    from backbones.runs.train import usable_length
    from selavi_ref.runs.run import Run

    run = Run.of_videos(out)
    clip = RunSettings.from_dict(run.config).backbone.clip
    layout = options["layout"]
    listed = list_collection(videos, layout, options["annotations"], options["split"], usual_split="train")
    manifest = scan_videos(listed, workers, min_seconds=usable_length(clip), segments=options["segments"])
    add_videos(run, manifest, options["epochs"], TERMINAL)
    note(f"{len(manifest.usable)} videos to learn from, with the heads, sizes and momentum of {out}", err=True)


def _start_run(videos: str, out: str, options: dict[str, Any], workers: int | None) -> None:
    """Scan the videos, and make the folder of a new run on those that can be used."""
    from backbones.commands.progress import TERMINAL
    from backbones.runs.video_runs import start_run

    annotations, split, types = options.pop("annotations"), options.pop("split"), options.pop("types")
    layout = options["layout"]
    if not given_on_command_line("seed"):
        options["seed"] = None  # --config may have another
    if not given_on_command_line("segments"):
        options["segments"] = None
    clusters = options.pop("clusters")
    estimated = isinstance(clusters, Estimated)
    start_run(
        out,
        list_collection(videos, layout, annotations, split, usual_split="train", types=types),
        "auto" if estimated else clusters,
        most=clusters.most if estimated else None,
        workers=workers,
        reporter=TERMINAL,
        **options,
    )


def _label_run(run: Any, as_json: bool) -> None:
    """Write labels and a contact sheet of the videos that were learnt from, and print what they are."""
    from selavi_ref.datasets import read_manifest

    write_labels(str(run.features_file), str(run.labels_file), source=str(run.folder), as_json=as_json)
    report_labels(run, set(read_manifest(run.videos_file).classes), run.videos_file, quiet=as_json)
