"""`selavi train-heads`: labels videos by heads on features that any models have computed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from backbones.commands.command import Command, Interruptible, refuse_options
from backbones.commands.help_text import option_group
from backbones.commands.label import write_labels
from backbones.commands.messages import note
from backbones.commands.n_clusters_option import Estimated, NumberOfClusters
from backbones.commands.output import OutPath
from backbones.commands.shared_options import json_option, seed_option
from selavi_ref.errors import InputError

# Options of version 0.1.0, whose heads were trained by gradient descent.
_OLD = ("heads", "hidden", "epochs", "batch_size", "learning_rate", "labellings", "strength")


def _old_options(function: Any) -> Any:
    for name in reversed(_OLD):
        function = click.option(f"--{name.replace('_', '-')}", hidden=True)(function)
    return function


@click.command(
    cls=Command,
    examples="""
    selavi train-heads features.h5 --clusters 10 --out RUN
    selavi train-heads features.h5 --clusters auto:30 --out RUN
    selavi train-heads features.h5 --clusters 10 --use clip --use audio --out RUN
    selavi train-heads features.h5 --clusters 10 --distribution sizes.txt --out RUN
    selavi train-heads --resume --out RUN
    selavi label RUN other_features.h5 --out labels.csv
    """,
)
@click.argument("store", type=click.Path(), required=False)
@option_group(
    "Main options",
    click.option(
        "--clusters",
        "-k",
        type=NumberOfClusters(),
        help="Number of clusters. auto, or auto:MOST: estimated first, from two feature spaces or more.",
    ),
    click.option("--out", type=OutPath(), required=True, help="Folder of the run."),
    click.option("--resume", is_flag=True, help="Continue the run in --out with its own settings."),
    click.option(
        "--use",
        metavar="NAME",
        multiple=True,
        help="Feature space to label by, the NAME of features/NAME in the store; repeatable. [default: all]",
    ),
    seed_option,
)
@option_group(
    "Clusters",
    click.option(
        "--distribution", help="Sizes of the clusters: uniform, gaussian, zipf, or a file of sizes. [default: uniform]"
    ),
    click.option(
        "--soft-sizes",
        type=click.FloatRange(0),
        help="Penalty for missing these sizes: the smaller, the more the features decide; 0: they are met. "
        "[default: 0.3; with --distribution: 0]",
    ),
)
@json_option
@_old_options
def train_heads(
    store: str | None, out: str, resume: bool, clusters: int | Estimated | None, as_json: bool, **options: Any
) -> None:
    """
    Label the videos of a STORE by their features, computed by any models, and learn heads that label others.

    Each video is labelled by heads that were fitted on other videos (cross-fitting). A store has one, two or more
    feature spaces, such as features/video and features/audio; docs/store.md says how to write one. PyTorch is not
    needed.
    """
    from backbones.commands.progress import TERMINAL
    from selavi_ref.api.feature_labelling import finish_heads_run, start_heads_run
    from selavi_ref.heads.crossfit_run import describe_run
    from selavi_ref.runs.pilot_run import PilotRun
    from selavi_ref.runs.run import Run
    from selavi_ref.runs.run_lock import locked

    if resume and not PilotRun(Path(out)).under_way:
        Run.open(out)  # raises an error that says what is missing
    with locked(out):
        if resume:
            refuse_options(["clusters", *options], "cannot be changed with --resume; the run keeps its settings")
            if store is not None:
                raise InputError("STORE cannot be changed with --resume; the run keeps its settings")
        else:
            refuse_options(
                _OLD, "was an option of version 0.1.0; cross-fitted heads choose their settings from the data"
            )
            if store is None:
                raise InputError("name the store of features, or continue a run by --resume")
            if clusters is None:
                raise InputError("--clusters is missing: how many kinds of videos are to be found?", option="clusters")
            number = {"most": clusters.most} if isinstance(clusters, Estimated) else {"n_clusters": clusters}
            chosen = {name: options[name] for name in ("use", "distribution", "soft_sizes", "seed")}
            start_heads_run(store, out, **number, **chosen)
        with Interruptible(f"continue with: {shlex.join(['selavi', 'train-heads', '--resume', '--out', out])}"):
            run = finish_heads_run(out, TERMINAL)
        write_labels(str(run.features_file), str(run.labels_file), source=out, as_json=as_json)
        if not as_json and (description := describe_run(run)):
            note(description)
