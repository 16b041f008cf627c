"""`selavi demo`: a synthetic collection is made, labelled, and compared with K-means."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from backbones.commands.command import Command, Interruptible
from backbones.commands.label import warn_of_doubts
from backbones.commands.messages import note
from backbones.commands.output import OutPath
from backbones.commands.shared_options import device_option, seed_option


@click.command(
    cls=Command,
    examples="""
    selavi demo
    selavi demo --out /tmp/demo --seed 1
    """,
)
@click.option("--out", default="selavi-demo", type=OutPath(), help="New folder for videos and run.")
@click.option("--videos", "n_videos", type=click.IntRange(40), default=400, help="Number of videos to make.")
@seed_option
@device_option
def demo(out: str, n_videos: int, seed: int, device: str) -> None:
    """Make a small synthetic collection of videos, label it from scratch, and compare with K-means."""
    import time

    from backbones.commands.progress import TERMINAL
    from backbones.runs.demo import run_demo
    from selavi_ref.diagnostics.doubts import doubts
    from selavi_ref.ensemble.labels import label_store
    from selavi_ref.report.evaluation import scores_table
    from selavi_ref.runs.run import Run
    from selavi_ref.store import FeatureStore

    started = time.monotonic()
    with Interruptible("start it again with another --out"):
        rows = run_demo(out, n_videos, seed, device, reporter=TERMINAL)
    run = Run(Path(out) / "run")
    click.echo("\n" + scores_table(rows).text())
    click.echo(
        f"\nThe videos are synthetic; the names of their folders were used for this table only.\n"
        f"videos    {Path(out) / 'videos'}{os.sep}\nlabels    {run.labels_file}\nclusters  {run.sheet_file}\n"
        f"run       {run.folder}{os.sep}\ntook      {time.monotonic() - started:.0f} s\n"
        f"view and name the clusters: selavi browse {shlex.quote(str(run.folder))}"
    )
    with FeatureStore(run.features_file) as store:
        findings = doubts(store, label_store(store))
    if findings:
        warn_of_doubts(findings, err=True)
        note(f"more about it: selavi check {shlex.quote(str(run.folder))}; more is learnt from more --videos", err=True)
