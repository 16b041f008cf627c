"""`selavi train-heads`: learns heads and labels on features that any models have computed."""

from __future__ import annotations

import shlex
from inspect import signature
from pathlib import Path
from typing import Any

import click

from backbones.commands.command import Command, Interruptible, refuse_options
from backbones.commands.help_text import option_group
from backbones.commands.label import write_labels
from backbones.commands.n_clusters_option import Estimated, NumberOfClusters
from backbones.commands.setting_options import setting_option
from backbones.commands.shared_options import seed_option
from selavi_ref.errors import InputError
from selavi_ref.heads.backbone import HeadOptions
from selavi_ref.heads.training_run import HeadsSettings, heads_settings
from selavi_ref.selflabel.settings import TrainingSettings

_DEFAULTS = {name: parameter.default for name, parameter in signature(heads_settings).parameters.items()}


def _setting(cls: type, name: str, default_text: str | None = None) -> Any:
    """Return the option of a setting, with the default that `heads_settings` has."""
    return setting_option(cls, name, default=_DEFAULTS[name], default_text=default_text)


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
@option_group(
    "Main options",
    click.option(
        "--clusters", "-k", type=NumberOfClusters(), help="Number of clusters to find. auto, or auto:MOST: estimated."
    ),
    click.option("--out", type=click.Path(), required=True, help="Folder of the run."),
    click.option("--resume", is_flag=True, help="Continue the run in --out with its own settings."),
    seed_option,
)
@option_group("Clusters", _setting(HeadsSettings, "heads"), _setting(TrainingSettings, "strength"))
@option_group("Networks", _setting(HeadOptions, "hidden"))
@option_group(
    "Schedule",
    _setting(TrainingSettings, "epochs", default_text="about 1,000 steps"),
    _setting(TrainingSettings, "batch_size", default_text="32 to 256, by the number of videos"),
    _setting(TrainingSettings, "learning_rate"),
    _setting(TrainingSettings, "labellings"),
)
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
