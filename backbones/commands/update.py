"""`selavi update`: a run follows a collection that has grown or was put in order."""

from __future__ import annotations

import json
import shlex
from typing import Any

import click

from backbones.commands.command import Command, Interruptible
from backbones.commands.shared_options import device_option, json_option, workers_option

_MEANING = {
    "new": "labelled with the networks as they are",
    "changed": "other content at the same path; labelled anew",
    "moved": "same content at another path; labels and edits follow",
    "copied": "same content as another video, whose label it gets",
    "gone": "no file any more; rows and edits are kept",
    "unchanged": "",
}


@click.command(
    cls=Command,
    examples="""
    selavi update RUN VIDEOS --dry-run
    selavi update RUN VIDEOS
    selavi update RUN VIDEOS --json > changes.json
    """,
)
@click.argument("run", type=click.Path(), metavar="RUN")
@click.argument("videos", type=click.Path())
@click.option("--dry-run", is_flag=True, help="Only show what has changed; write nothing.")
@json_option
@device_option
@workers_option
def update(run: str, videos: str, dry_run: bool, as_json: bool, device: str, workers: int | None) -> None:
    """
    Follow changes of VIDEOS: label new files with the networks of RUN as they are, and keep all that was there.

    Files are recognised by their content, not by their name alone: moved videos keep labels and edits, copies get the
    label of their original. Videos that are gone keep their rows. The tables of RUN are replaced at the end, all
    together.
    """
    from backbones.commands.progress import TERMINAL
    from selavi_ref.api.updating import update_run

    with Interruptible("the same command continues where it stopped"):
        done = update_run(run, videos, dry_run=dry_run, device=device, workers=workers, reporter=TERMINAL)
    if as_json:
        click.echo(json.dumps(done.to_dict()))
        return
    _print(run, videos, done, dry_run)


def _print(run: str, videos: str, done: Any, dry_run: bool) -> None:
    """Print what has changed, how well the new videos fit, and what to do next."""
    for kind, number in done.changes.counts.items():
        if number or kind in ("new", "unchanged"):
            click.echo(f"{kind:<10}{number:>8,}  {_MEANING[kind] if number else ''}".rstrip())
    if dry_run:
        if done.changes.any:
            click.echo(f"nothing was written; label the new videos by: {shlex.join(['selavi', 'update', run, videos])}")
        return
    if not done.changes.any:
        click.echo(f"{run} is up to date")
        return
    if done.fit is not None:
        click.echo(done.fit.sentence)
    click.echo(f"updated {run}; view the clusters: {shlex.join(['selavi', 'browse', run])}")
