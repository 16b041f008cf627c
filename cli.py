"""The program `selavi`: labels collections of unlabelled videos from scratch."""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from backbones.commands.baseline import baseline
from backbones.commands.browse import browse
from backbones.commands.check import check
from backbones.commands.evaluate import evaluate
from backbones.commands.export import export
from backbones.commands.finetune import finetune
from backbones.commands.options import (
    balanced_option,
    cache_format_option,
    cache_option,
    clips_option,
    crops_option,
    degrade_options,
    device_option,
    head_option,
    memory_option,
    seed_option,
    workers_option,
)
from backbones.commands.plot import plot
from backbones.commands.program import Command, Interruptible, Program, refuse_options
from backbones.commands.progress import TERMINAL
from backbones.commands.retrieve import retrieve
from backbones.commands.scanning import list_collection, scan_videos
from backbones.commands.study import study
from backbones.commands.train_options import Estimated, NumberOfClusters, keeping_options, settings_options
from selavi_ref import __version__
from selavi_ref.errors import InputError


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="selavi")
def main() -> None:
    """
    Label collections of unlabelled videos from scratch.

    A video network and an audio network learn to predict the same label, while optimal transport chooses the labels
    again and again (SeLaVi, NeurIPS 2020). No human label is needed, and none is used.
    """


for _command in (browse, export, plot, evaluate, check, baseline, study, retrieve, finetune):
    main.add_command(_command)


def command(examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command of `selavi`, with examples."""
    return functools.partial(main.command, cls=Command)(examples=examples)


@command(
    """
    selavi demo
    selavi demo --out /tmp/demo --seed 1
    """
)
@click.option("--out", default="selavi-demo", show_default=True, type=click.Path(), help="Folder to write to; new.")
@click.option("--videos", "n_videos", type=click.IntRange(40), default=400, show_default=True, help="Videos to make.")
@seed_option
@device_option
def demo(out: str, n_videos: int, seed: int, device: str) -> None:
    """Make a small synthetic collection of videos, label it from scratch, and compare with K-means."""
    import time

    from backbones.runs.demo import run_demo
    from selavi_ref.report.evaluation import scores_table
    from selavi_ref.runs.run import Run

    started = time.monotonic()
    with Interruptible("start it again with another --out"):
        rows = run_demo(out, n_videos, seed, device, reporter=TERMINAL)
    run = Run(Path(out) / "run")
    click.echo("\n" + scores_table(rows).text())
    click.echo(
        f"\nThe videos are synthetic; the names of their folders were used for this table only.\n"
        f"videos    {Path(out) / 'videos'}{os.sep}\nlabels    {run.labels_file}\nclusters  {run.sheet_file}\n"
        f"run       {run.folder}{os.sep}\ntook      {time.monotonic() - started:.0f} s\n"
        f"look at the clusters, and name them: selavi browse {shlex.quote(str(run.folder))}"
    )


@command(
    """
    selavi scan VIDEOS --out manifest.csv
    selavi scan VGGSOUND --layout vggsound --annotations vggsound.csv --split train --out train.csv
    selavi scan UCF-101 --layout ucf101 --fold 1 --split test --out test.csv
    selavi train train.csv --clusters 309 --out RUN
    """
)
@click.argument("videos", type=click.Path())
@click.option(
    "--out", type=click.Path(dir_okay=False), default="manifest.csv", show_default=True, help="The list to write."
)
@click.option(
    "--layout",
    type=click.Choice(["vggsound", "kinetics", "kinetics-sound", "ave", "ucf101", "hmdb51"]),
    help="Take videos, classes and splits from the lists of a published collection.",
)
@click.option("--annotations", type=click.Path(), help="Those lists. [default: looked for in and beside VIDEOS]")
@click.option("--split", help="Only this part of the collection, such as train.")
@click.option("--fold", type=click.IntRange(1, 3), default=1, show_default=True, help="Of ucf101 and hmdb51.")
@click.option(
    "--require",
    type=click.Choice(["both", "picture", "any"]),
    default=None,
    help="What a usable video has. [default: both picture and sound; picture for ucf101 and hmdb51]",
)
@click.option(
    "--min-seconds",
    type=click.FloatRange(0),
    default=None,
    help="How long, at least. [default: 1.1; 0 for ucf101 and hmdb51]",
)
@click.option(
    "--limit",
    type=click.FloatRange(0.1, 86400),
    default=60.0,
    show_default=True,
    help="Seconds that one file may take.",
)
@workers_option
def scan(
    videos: str, out: str, layout: str | None, require: str | None, min_seconds: float | None, **options: Any
) -> None:
    """
    Look into every video of VIDEOS, a folder or a list, and write what each holds, and whether it can be used.

    The list has lengths, frame rate, size, sample rate, class and split of each video, or why it cannot be used;
    selavi train takes it in place of the folder. A scan that was stopped is continued by the same command, and a later
    one opens only files that are new or have changed.
    """
    from backbones.commands.progress import counter
    from selavi_ref.datasets.layouts import SILENT_LAYOUTS
    from selavi_ref.datasets.scan import scan_to
    from selavi_ref.report.summaries import manifest_summary

    listed = list_collection(videos, layout, options.pop("annotations"), options.pop("split"), options.pop("fold"))
    silent = layout in SILENT_LAYOUTS
    require = require or ("picture" if silent else "both")
    least = min_seconds if min_seconds is not None else 0.0 if silent else 1.1
    with (
        Interruptible("the same command goes on where it stopped"),
        counter(len(listed), "scanning", "video") as count,
    ):
        manifest = scan_to(
            out, listed, min_seconds=least, require=require, progress=lambda done, total: count(1), **options
        )
    click.echo(manifest_summary(manifest))
    click.echo(f"wrote {click.format_filename(out)}")


@command(
    """
    selavi train VIDEOS --clusters 10 --out RUN
    selavi train VIDEOS --clusters auto --out RUN
    selavi train --resume --out RUN
    selavi train VIDEOS --config RUN/config.toml --seed 1 --out RUN2
    selavi train VIDEOS --clusters 10 --augment flip=0.5 --augment blur=0.2 --frames 8 --out RUN
    selavi train manifest.csv --clusters 309 --preset one-gpu --cache /scratch/clips --out RUN
    torchrun --nproc-per-node 8 -m cli train VGGSOUND --layout vggsound --preset published --resume --out RUN
    """
)
@click.argument("videos", type=click.Path(), required=False)
@click.option("--out", type=click.Path(), required=True, help="Folder of the run.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the run in --out; its settings stay as they are. With VIDEOS: start it, if it is not there yet.",
)
@click.option(
    "--layout",
    type=click.Choice(["vggsound", "kinetics", "kinetics-sound", "ave"]),
    help="VIDEOS is a published collection, with its own lists and number of clusters.",
)
@click.option("--annotations", type=click.Path(), help="Those lists. [default: looked for in and beside VIDEOS]")
@click.option("--split", help="Only this part of the collection. [default: train with --layout, else all]")
@settings_options
@keeping_options
@seed_option
@device_option
@workers_option
@memory_option
@cache_option
@cache_format_option
def train(videos: str | None, out: str, resume: bool, device: str, **options: Any) -> None:
    """
    Learn to label VIDEOS: a folder of videos, in any depth, or a list of them (CSV with a column path).

    Class folders, if there are any, are used for reporting only. Ctrl-C leaves a run that --resume continues; SIGTERM
    and SIGUSR1 save the state first, and end with exit status 75. Started by torchrun, processes learn together.
    """
    from selavi_ref.runs.run import Run

    loads = {name: options.pop(name) for name in ("workers", "memory_gb", "cache", "cache_format")}
    keeps = {name: options.pop(name) for name in ("minutes", "keep_every", "scratch")}
    if loads["cache"] is None:
        refuse_options(("cache_format",), "goes with --cache")
    there = _is_there(videos, out, resume)
    from backbones.distributed.processes import process_group
    from backbones.runs.pilot import PilotRun, finish_pilot
    from backbones.runs.run_settings import choose_device
    from backbones.runs.train import CheckpointPolicy, DataSource, is_finished
    from backbones.runs.train import train as train_run
    from selavi_ref.runs.processes import raise_together

    checkpoint_policy = CheckpointPolicy(**keeps)
    data_source = DataSource(loads["workers"], loads["memory_gb"], loads["cache"], loads["cache_format"] == "jpeg")
    kept = ["--cache", loads["cache"], "--cache-format", loads["cache_format"]] if loads["cache"] else []
    with (
        Interruptible(f"go on with: {shlex.join(['selavi', 'train', '--resume', *kept, '--out', out])}"),
        process_group(choose_device(device)) as exchange,
    ):
        with raise_together(exchange):
            if exchange.rank == 0 and there and videos is not None:
                click.echo(f"{out} is there already: going on with it, with its own settings", err=True)
            elif exchange.rank == 0 and videos is not None:
                _start_run(videos, out, {**options, "device": device}, loads["workers"])
        with raise_together(exchange):
            counting = PilotRun(Path(out))
            under_way = counting.under_way
        if under_way:
            finish_pilot(
                counting,
                device=device,
                data_source=data_source,
                checkpoint_policy=checkpoint_policy,
                exchange=exchange,
                reporter=TERMINAL,
            )
        with raise_together(exchange):
            run = Run.of_videos(out, f"go on with: selavi train-heads --resume --out {out}")
            if not run.videos_file.exists():
                raise InputError(f"{out} has no videos to learn from; begin with its networks by --init {out}")
            finished = is_finished(run)
        if not finished:
            training = train_run(
                run,
                device=device,
                data_source=data_source,
                checkpoint_policy=checkpoint_policy,
                exchange=exchange,
                reporter=TERMINAL,
            )
            if training.failures and exchange.rank == 0:
                count = len(training.failures)
                click.echo(f"{count} videos could not always be decoded; see {run.failures_file}", err=True)
        _label_the_run(run, device, data_source, exchange)


@command(
    """
    selavi train-heads features.h5 --clusters 10 --out RUN
    selavi train-heads features.h5 --clusters auto:30 --out RUN
    selavi train-heads features.h5 --clusters 10 --hidden 512 --epochs 100 --out RUN
    selavi train-heads --resume --out RUN
    selavi label RUN other_features.h5 --out labels.csv
    """
)
@click.argument("store", type=click.Path(), required=False)
@click.option(
    "--clusters", "-k", type=NumberOfClusters(), help="How many kinds of videos to find; auto or auto:MOST: estimated."
)
@click.option("--out", type=click.Path(), required=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out; its settings stay as they are.")
@click.option("--heads", type=click.IntRange(1), default=5, show_default=True, help="Labellings learnt at once.")
@click.option(
    "--hidden", type=click.IntRange(0), default=0, show_default=True, help="Width of a hidden layer; 0: linear heads."
)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the videos. [default: about 1,000 steps]")
@click.option("--batch-size", type=click.IntRange(2), help="Videos per step. [default: 32 to 256, by their number]")
@click.option(
    "--learning-rate",
    "--rate",
    "learning_rate",
    type=click.FloatRange(0, min_open=True),
    default=0.1,
    show_default=True,
    help="Learning rate.",
)
@click.option("--labellings", type=click.IntRange(1), default=60, show_default=True, help="Self-labellings in all.")
@click.option(
    "--strength",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="lambda / 2 of the transport.",
)
@seed_option
def train_heads(store: str | None, out: str, resume: bool, clusters: int | None, **options: Any) -> None:
    """
    Learn heads and labels on a STORE of features of two modalities, computed by any models; it needs no PyTorch.

    docs/store.md says how to write a store: paths, and features/video and features/audio or any two other names.
    """
    from selavi_ref.heads.pilot import finish_pilot, start_pilot
    from selavi_ref.heads.training_run import apply_heads, start_heads
    from selavi_ref.heads.training_run import train_heads as train_run
    from selavi_ref.runs.pilot_run import PilotRun
    from selavi_ref.runs.run import Run, RunKind

    if resume:
        refuse_options(["clusters", *options], "cannot be changed with --resume; the run keeps its settings")
        if store is not None:
            raise InputError("STORE cannot be changed with --resume; the run keeps its settings")
        counting = PilotRun(Path(out))
        run = counting.pilot if counting.under_way else Run.open(out)
        if run.kind is not RunKind.HEADS:
            raise InputError(f"{out} is a run on videos; go on with: selavi train --resume --out {out}")
    else:
        if store is None:
            raise InputError("name the store of features, or go on with a run by --resume")
        if clusters is None:
            raise InputError("--clusters is missing: how many kinds of videos are to be found?")
        counting = PilotRun(Path(out))
        if isinstance(clusters, Estimated):
            start_pilot(store, out, clusters.most, **options)
        else:
            run = start_heads(store, out, clusters, **options)
    with Interruptible(f"go on with: {shlex.join(['selavi', 'train-heads', '--resume', '--out', out])}"):
        if counting.under_way:
            run = finish_pilot(counting, TERMINAL)
        train_run(run, TERMINAL)
        apply_heads(run, run.config["store"], run.features_file, TERMINAL)
    _label_store(str(run.features_file), str(run.labels_file), "consensus", False)


@command(
    """
    selavi convert selavi_vgg_sound.pth --out RUN
    selavi convert selavi_vgg_sound.pth --sound-level published --out RUN
    selavi convert RUN --to published.pth
    selavi label RUN VIDEOS --out labels.csv
    """
)
@click.argument("source", type=click.Path(), metavar="CHECKPOINT|RUN")
@click.option("--out", type=click.Path(), help="Make a run of a published checkpoint; new.")
@click.option("--to", type=click.Path(dir_okay=False), help="Write the networks of a run as a published checkpoint.")
@click.option("--sound-rate", type=click.IntRange(4000), default=24_000, show_default=True, help="Samples a second.")
@click.option("--mel-bands", type=click.IntRange(4), default=257, show_default=True, help="Of the sound.")
@click.option(
    "--sound-level",
    default="none",
    show_default=True,
    help="How log energies are normalised: none, published (1.93,17.89), or MEAN,STD.",
)
def convert(source: str, out: str | None, to: str | None, **sound: Any) -> None:
    """
    Make a run of a published SeLaVi checkpoint, or write the networks of a run as one.

    Files are read without running anything that they hold. A checkpoint does not say how its sound was prepared: the
    cluster script of the paper has 24 kHz without normalisation, its label extraction normalises, and its README's
    command takes 48 kHz. Try which options give the surer labels.
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
    run, found = import_published(source, out, **sound)
    click.echo(
        f"{found.video_net} and {found.audio_net}, {len(found.clusters)} heads of {found.clusters[0]} clusters, "
        f"epoch {found.epoch}\nwrote {run.folder}{os.sep}"
    )


@command(
    """
    selavi extract RUN VIDEOS --out features.h5
    selavi extract RUN new_videos.csv --clips 10 --crops 3 --out features.h5
    selavi extract RUN VIDEOS --shrink 8 --out blurred.h5
    """
)
@click.argument("run", type=click.Path())
@click.argument("videos", type=click.Path())
@click.option("--out", type=click.Path(), required=True, help="The store to write; one that was cut off is continued.")
@clips_option
@crops_option
@degrade_options
@device_option
@workers_option
def extract(run: str, videos: str, out: str, **looking: Any) -> None:
    """Write features and log-probabilities of VIDEOS to a store, with the networks of RUN."""
    from selavi_ref.runs.run import Run

    opened = Run.of_videos(run, f"selavi label {run} STORE takes features")
    with Interruptible("the same command goes on where it stopped"):
        first = _extract(opened, videos, out, **looking)
    if first:
        click.echo(f"wrote {click.format_filename(out)}")


@command(
    """
    selavi label features.h5 --out labels.csv
    selavi label RUN VIDEOS --clips 3 --out labels.csv
    selavi label features.h5 --head best --out labels.csv
    selavi label RUN VIDEOS --noise 0 --out noisy.csv
    """
)
@click.argument("source", type=click.Path(), metavar="STORE|RUN")
@click.argument("videos", type=click.Path(), required=False)
@click.option(
    "--out", type=click.Path(dir_okay=False), default="labels.csv", show_default=True, help="The table to write."
)
@clips_option
@crops_option
@degrade_options
@head_option
@balanced_option
@click.option(
    "--as-learnt", is_flag=True, help="Leave out names and joined clusters that RUN was given on the page of browse."
)
@device_option
@workers_option
def label(
    source: str, videos: str | None, out: str, head: str, balanced: bool, as_learnt: bool, **looking: Any
) -> None:
    """
    Label the videos of a STORE, or VIDEOS with the networks of RUN, seen in training or not.

    The table has a row for every video: label, confidence, runner-up, which modalities were used, the label of each
    head, and, for a video that has no label, the reason. Where clusters of RUN were named or joined on the page of
    selavi browse, the labels are those of the joined clusters, with a column for the name. A STORE needs no PyTorch.
    """
    if videos is None:
        if os.path.isdir(source):
            raise InputError(f"{source} is a folder: name the videos to label too, as in selavi label RUN VIDEOS")
        refuse_options(looking, "goes with RUN VIDEOS; a store has its log-probabilities already")
        refuse_options(["as_learnt"], "goes with RUN VIDEOS; a store is labelled as learnt")
        _label_store(source, out, head, balanced)
        return
    from selavi_ref.runs.run import Run, RunKind

    run = Run.open(source)
    of_heads = run.kind is RunKind.HEADS
    if not of_heads:
        Run.of_videos(source)
    else:
        refuse_options(looking, f"goes with a run on videos; {source} has learnt from features")
    known = [str(number) for number in range(run.config.get("heads", 0))]
    if head not in ("consensus", "best", *known):
        raise InputError(f"--head {head}: choose consensus, best, or one of {', '.join(known)}")
    from selavi_ref.browser.annotations import annotations_of

    said = None if as_learnt else annotations_of(run).read()  # what does not fit is refused before the long work
    store = f"{out}.features.h5"
    with Interruptible("the same command goes on where it stopped"):
        if of_heads:
            from selavi_ref.heads.training_run import apply_heads

            apply_heads(run, videos, store, TERMINAL)
        else:
            _extract(run, videos, store, **looking)
    try:
        _label_store(store, out, head, balanced, said)
    finally:
        os.unlink(store)


def _is_there(videos: str | None, out: str, resume: bool) -> bool:
    """Tell whether there is a run to go on with, and refuse what does not fit."""
    from selavi_ref.runs.pilot_run import PilotRun
    from selavi_ref.runs.run import Run

    there = Run(out).config_file.exists() or PilotRun(Path(out)).under_way
    if resume and videos is None:
        _refuse_with_resume()
        if not there:
            Run.open(out)  # says what is missing
    elif videos is None:
        raise InputError("name the folder of videos, or go on with a run by --resume")
    elif there and not resume:
        raise InputError(f"{out} holds a run already; go on with --resume, or choose another --out")
    return there


def _start_run(videos: str, out: str, options: dict[str, Any], workers: int | None) -> None:
    from backbones.runs.presets import read_config, run_settings
    from backbones.runs.train import start

    annotations, split = options.pop("annotations"), options.pop("split")
    layout = options["layout"]
    if click.get_current_context().get_parameter_source("seed") is click.core.ParameterSource.DEFAULT:
        options["seed"] = None  # --config may have another
    options["config"] = read_config(options["config"])
    # Refuse what cannot be before the long scan; a video must be longer than a clip.
    clusters = options.pop("clusters")
    known = run_settings(**options, clusters=2 if isinstance(clusters, Estimated) else clusters, n_videos=1000)
    listed = list_collection(videos, layout, annotations, split or ("train" if layout else None), 1)
    manifest = scan_videos(listed, workers, min_seconds=max(1.1, known.backbone.clip.length + 0.1))
    if isinstance(clusters, Estimated):
        from backbones.runs.pilot import start_pilot
        from selavi_ref.report.figures import check_drawing

        check_drawing()
        run = start_pilot(out, manifest, options, clusters.most).pilot
    else:
        settings = run_settings(**options, clusters=clusters, n_videos=len(manifest.usable))
        run = start(out, manifest, settings)
    skipped = len(manifest.skipped)
    click.echo(
        f"{len(manifest.usable)} videos to learn from, {skipped} skipped"
        + (f" (reasons in {run.skipped_file})" if skipped else ""),
        err=True,
    )
    if len(set(manifest.usable.classes)) > 1:
        click.echo("folders name classes: they are used for reporting only, never for learning", err=True)


def _extract(
    run: Any,
    videos: str,
    out: str,
    *,
    clips: int,
    crops: int,
    shrink: int,
    attenuate: float,
    noise: float,
    device: str,
    workers: int | None,
) -> bool:
    """Write a store, and tell whether this is the process that says so."""
    from backbones.data.data_source import DataSource
    from backbones.data.degradation import Degradation
    from backbones.data.loader import ClipSampling
    from backbones.distributed.processes import process_group
    from backbones.runs.extract import extract as extract_run
    from backbones.runs.run_settings import choose_device
    from selavi_ref.datasets.scan import list_videos
    from selavi_ref.runs.processes import raise_together

    degradation = Degradation(shrink, attenuate, noise)
    with process_group(choose_device(device)) as exchange:
        with raise_together(exchange):
            manifest = scan_videos(list_videos(videos), workers, min_seconds=0.0, require="any")
        extract_run(
            run,
            manifest,
            out,
            sampling=ClipSampling(clips, crops),
            degradation=degradation,
            device=device,
            data_source=DataSource(workers),
            exchange=exchange,
            reporter=TERMINAL,
        )
        return exchange.rank == 0


def _label_store(store: str, out: str, head: str, balanced: bool, said: Any = None) -> None:
    from selavi_ref.ensemble.label_table import write_csv
    from selavi_ref.ensemble.labels import label_store as label_store
    from selavi_ref.report.summaries import labels_summary
    from selavi_ref.store import FeatureStore

    names = None
    with FeatureStore(store) as opened:
        labels = label_store(opened, head=head, balanced=balanced)
        if said is not None:
            edits = said.of(labels.labelling)
            names = edits.names
            if edits.merged:
                labels = label_store(opened, head=head, balanced=balanced, joined=edits.joined(opened.n_clusters))
    write_csv(labels, out, names)
    click.echo(labels_summary(labels))
    click.echo(f"wrote {click.format_filename(out)}")


def _label_the_run(run: Any, device: str, data_source: Any, exchange: Any) -> None:
    """Write features, labels and a picture of the clusters of the videos that were learnt from."""
    from backbones.runs.extract import extract as extract_run
    from selavi_ref.datasets import read_manifest
    from selavi_ref.report.contact_sheet import contact_sheet
    from selavi_ref.report.evaluation import evaluate_csv, scores_table
    from selavi_ref.runs.processes import raise_together

    with raise_together(exchange):
        manifest = read_manifest(run.videos_file)
        extracted = run.features_file.exists()
    if not extracted:
        extract_run(
            run,
            manifest,
            run.features_file,
            device=device,
            data_source=data_source,
            exchange=exchange,
            reporter=TERMINAL,
        )
    if exchange.rank != 0:
        return
    _label_store(str(run.features_file), str(run.labels_file), "consensus", False)
    contact_sheet(run.labels_file, run.sheet_file)
    click.echo(f"wrote {click.format_filename(run.sheet_file)}, the most typical videos of each cluster")
    if len(set(manifest.classes)) > 1:
        click.echo("compared with the folders of the videos, which were not used for learning:")
        click.echo(scores_table({"labels": evaluate_csv(run.labels_file, run.videos_file)}).text())
    click.echo(f"look at the clusters, and name them: selavi browse {shlex.quote(str(run.folder))}")


def _refuse_with_resume() -> None:
    """Tell which options cannot be given with --resume, whose run has them already."""
    free = {"out", "resume", "device", "workers", "memory_gb", "cache", "cache_format", "videos"}
    free |= {"minutes", "keep_every", "scratch"}
    names = [name for name in click.get_current_context().params if name not in free]
    refuse_options(names, "cannot be changed with --resume; the run keeps the settings it was started with")


if __name__ == "__main__":
    main()
