"""`selavi train-heads`: learns heads and labels on features that any models have computed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from backbones.commands.command import Command, Interruptible, refuse_options
from backbones.commands.label import write_labels
from backbones.commands.n_clusters_option import Estimated, NumberOfClusters
from backbones.commands.shared_options import seed_option
from selavi_ref.errors import InputError


@click.command(
    cls=Command,
    examples="""
    selavi train-heads features.h5 --clusters 10 --out RUN
    selavi train-heads features.h5 --clusters auto:30 --out RUN
    selavi train-heads features.h5 --clusters 10 --hidden 512 --epochs 100 --out RUN
    selavi train-heads --resume --out RUN
    selavi label RUN other_features.h5 --out labels.csv
    """,
)
@click.argument("store", type=click.Path(), required=False)
@click.option(
    "--clusters", "-k", type=NumberOfClusters(), help="Number of clusters to find; auto or auto:MOST: estimated."
)
@click.option("--out", type=click.Path(), required=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Continue the run in --out with its own settings.")
@click.option("--heads", type=click.IntRange(1), default=5, help="Labellings learnt at once.")
@click.option("--hidden", type=click.IntRange(0), default=0, help="Width of a hidden layer; 0: linear heads.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the videos. [default: about 1,000 steps]")
@click.option("--batch-size", type=click.IntRange(2), help="Videos per step. [default: 32 to 256, by their number]")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=0.1, help="Learning rate.")
@click.option("--labellings", type=click.IntRange(1), default=60, help="Self-labellings in all.")
@click.option("--strength", type=click.FloatRange(0, min_open=True), default=10.0, help="lambda / 2 of the transport.")
@seed_option
def train_heads(store: str | None, out: str, resume: bool, clusters: int | Estimated | None, **options: Any) -> None:
    """
    Learn heads and labels on a STORE of features of two modalities, computed by any models, without PyTorch.

    docs/store.md says how to write a store: paths, and features/video and features/audio or any two other names.
    """
    from backbones.commands.progress import TERMINAL
    from selavi_ref.heads.pilot import finish_pilot, start_pilot
    from selavi_ref.heads.training_run import apply_heads, start_heads
    from selavi_ref.heads.training_run import train_heads as train_run
    from selavi_ref.runs.pilot_run import PilotRun
    from selavi_ref.runs.run import Run, RunKind

    pilot = PilotRun(Path(out))
    if resume:
        refuse_options(["clusters", *options], "cannot be changed with --resume; the run keeps its settings")
        if store is not None:
            raise InputError("STORE cannot be changed with --resume; the run keeps its settings")
        run = pilot.pilot if pilot.under_way else Run.open(out)
        if run.kind is not RunKind.HEADS:
            raise InputError(f"{out} is a run on videos; continue with: selavi train --resume --out {out}")
    else:
        if store is None:
            raise InputError("name the store of features, or continue a run by --resume")
        if clusters is None:
            raise InputError("--clusters is missing: how many kinds of videos are to be found?")
        if isinstance(clusters, Estimated):
            start_pilot(store, out, clusters.most, **options)
        else:
            run = start_heads(store, out, clusters, **options)
    with Interruptible(f"continue with: {shlex.join(['selavi', 'train-heads', '--resume', '--out', out])}"):
        if pilot.under_way:
            run = finish_pilot(pilot, TERMINAL)
        train_run(run, TERMINAL)
        apply_heads(run, run.config["store"], run.features_file, TERMINAL)
    write_labels(str(run.features_file), str(run.labels_file))
