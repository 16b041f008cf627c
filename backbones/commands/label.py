"""`selavi label`: the table of labels of videos."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from backbones.commands.command import Command, Interruptible, refuse_options
from backbones.commands.extract import extract_videos
from backbones.commands.shared_options import (
    balanced_option,
    clips_option,
    crops_option,
    degrade_options,
    device_option,
    head_option,
    workers_option,
)
from selavi_ref.errors import InputError


@click.command(
    cls=Command,
    examples="""
    selavi label features.h5 --out labels.csv
    selavi label RUN VIDEOS --clips 3 --out labels.csv
    selavi label features.h5 --head best --out labels.csv
    selavi label RUN VIDEOS --noise 0 --out noisy.csv
    """,
)
@click.argument("source", type=click.Path(), metavar="STORE|RUN")
@click.argument("videos", type=click.Path(), required=False)
@click.option("--out", type=click.Path(dir_okay=False), default="labels.csv", help="Table to write.")
@clips_option
@crops_option
@degrade_options
@head_option
@balanced_option
@click.option(
    "--as-learnt", is_flag=True, help="Ignore names and merged clusters that RUN was given on the page of browse."
)
@device_option
@workers_option
def label(
    source: str, videos: str | None, out: str, head: str, balanced: bool, as_learnt: bool, **viewing: Any
) -> None:
    """
    Label the videos of a STORE, or VIDEOS with the networks of RUN, seen in training or not.

    The table has a row for every video: label, confidence, runner-up, which modalities were used, the label of each
    head, and, for a video that has no label, the reason. Where clusters of RUN were named or merged on the page of
    selavi browse, labels are those of the merged clusters, with a column for the name. A STORE needs no PyTorch.
    """
    if videos is None:
        if os.path.isdir(source):
            raise InputError(f"{source} is a folder: name the videos to label too, as in selavi label RUN VIDEOS")
        refuse_options(viewing, "goes with RUN VIDEOS; a store has its log-probabilities already")
        refuse_options(["as_learnt"], "goes with RUN VIDEOS; a store is labelled as learnt")
        write_labels(source, out, head, balanced)
        return
    from backbones.commands.progress import TERMINAL
    from selavi_ref.browser.annotations import annotations_of
    from selavi_ref.runs.run import Run, RunKind

    run = Run.open(source)
    of_heads = run.kind is RunKind.HEADS
    if not of_heads:
        Run.of_videos(source)
    else:
        refuse_options(viewing, f"goes with a run on videos; {source} has learnt from features")
    known = [str(number) for number in range(run.config.get("heads", 0))]
    if head not in ("consensus", "best", *known):
        raise InputError(f"--head {head}: choose consensus, best, or one of {', '.join(known)}")
    # Read before the long work, so that damaged annotations are refused at once.
    annotations = None if as_learnt else annotations_of(run).read()
    store = f"{out}.features.h5"
    with Interruptible("the same command continues where it stopped"):
        if of_heads:
            from selavi_ref.heads.any_run import apply

            apply(run, videos, store, TERMINAL)
        else:
            extract_videos(run, videos, store, **viewing)
    try:
        write_labels(store, out, head, balanced, annotations)
    finally:
        os.unlink(store)


def write_labels(
    store: str, out: str, head: str = "consensus", balanced: bool = False, annotations: Any = None
) -> None:
    """Label the videos of a store, write the table, and print a summary; annotations name and merge clusters."""
    from selavi_ref.api.predictions import label_features
    from selavi_ref.ensemble.label_table import write_csv
    from selavi_ref.report.summaries import labels_summary

    labels, names = label_features(store, head=head, balanced=balanced, annotations=annotations)
    write_csv(labels, out, names)
    click.echo(labels_summary(labels))
    click.echo(f"wrote {click.format_filename(out)}")


def report_labels(run: Any, classes: Collection[str], truth: Path | None = None) -> None:
    """
    Draw the contact sheet of a run, and compare its labels with the folders of its videos.

    Parameters
    ----------
    run : Run
        A run that has labels.
    classes : collection of str
        The folders' names; a single one is no class to compare with.
    truth : Path, optional
        Table of the true classes, if they are not the names of the folders.
    """
    from selavi_ref.report.contact_sheet import contact_sheet
    from selavi_ref.report.evaluation import evaluate_csv, scores_table

    contact_sheet(run.labels_file, run.sheet_file)
    click.echo(f"wrote {click.format_filename(run.sheet_file)}, the most typical videos of each cluster")
    if len(classes) > 1:
        click.echo("compared with the folders of the videos, which were not used for learning:")
        click.echo(scores_table({"labels": evaluate_csv(run.labels_file, truth)}).text())
    click.echo(f"view and name the clusters: selavi browse {shlex.quote(str(run.folder))}")
