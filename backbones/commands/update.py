"""`selavi update`: a run follows a collection that has grown or was put in order."""

from __future__ import annotations

import json
import os
import shlex
from typing import Any

import click

from backbones.commands.check import tell_next
from backbones.commands.command import Command, Interruptible, given_on_command_line, refuse_options
from backbones.commands.shared_options import (
    device_option,
    files_option_of,
    json_option,
    segments_option_of,
    workers_option,
)

_MEANING = {
    "new": "labelled by the run as it is",
    "changed": "other content at the same path; labelled anew",
    "moved": "same content at another path; labels and edits follow",
    "copied": "same content as another video, whose label it gets",
    "gone": "no file any more; rows and edits are kept",
    "unchanged": "",
}
_AUTO = "--learn --new-clusters auto"


class NewClusters(click.ParamType):
    """A number from 0, or ``auto``."""

    name = "0|N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a number, or ``auto``."""
        if value == "auto" or (isinstance(value, int) and value >= 0):
            return value
        if not str(value).isdecimal():
            self.fail(f"{value!r} is neither a number from 0 nor auto.", param, ctx)
        return int(value)


@click.command(
    cls=Command,
    examples="""
    selavi update RUN VIDEOS --dry-run
    selavi update RUN VIDEOS
    selavi update RUN VIDEOS --learn
    selavi update RUN VIDEOS --learn --new-clusters auto
    selavi update RUN NEW.h5 --learn
    selavi update RUN VIDEOS --json > changes.json
    """,
)
@click.argument("run", type=click.Path(), metavar="RUN")
@click.argument("videos", type=click.Path())
@click.option("--dry-run", is_flag=True, help="Only show what has changed; write nothing.")
@click.option(
    "--learn",
    is_flag=True,
    help="Go on learning on old and new videos together, and on what was corrected on the page of selavi browse.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    help="With --learn, of networks: passes over the videos. [default: 15 % of those of the run, at least 5]",
)
@click.option(
    "--new-clusters",
    type=NewClusters(),
    metavar="0|N|auto",
    default="0",
    show_default=True,
    help="With --learn: clusters to add for kinds that were not there. auto: as many as there are kinds among "
    "new videos that fit no cluster.",
)
@files_option_of("those that RUN has")
@segments_option_of("new videos", "a label", "as those that RUN has learnt from")
@json_option
@device_option
@workers_option
def update(
    run: str,
    videos: str,
    dry_run: bool,
    learn: bool,
    epochs: int | None,
    new_clusters: int | str,
    types: list[str] | None,
    segments: str | float,
    as_json: bool,
    device: str,
    workers: int | None,
) -> None:
    """
    Follow changes of VIDEOS: label new files by RUN as it is, and keep all that was there.

    Files are recognised by their content, not by their name alone: moved videos keep labels and edits, copies get the
    label of their original. Videos that are gone keep their rows. The files of RUN are replaced at the end, all
    together. With --learn the networks learn from the new videos, too, and from corrections made on the page; clusters
    keep their numbers and names if most of their videos stay in them.

    For a run of heads on features, new files are encoded by the same encoders; a store of features of any models
    (NEW.h5) may stand for VIDEOS, and adds its rows.
    """
    from backbones.commands.progress import TERMINAL
    from selavi_ref.api.updating import update_run

    if not learn:
        refuse_options(("epochs", "new_clusters"), "goes with --learn")
    elif dry_run:
        refuse_options(("learn",), "does not go with --dry-run")
    with Interruptible("the same command continues where it stopped"):
        done = update_run(
            run,
            videos,
            dry_run=dry_run,
            learn=learn,
            epochs=epochs,
            new_clusters=new_clusters,
            types=types,
            segments=segments if given_on_command_line("segments") else None,
            device=device,
            workers=workers,
            reporter=TERMINAL,
        )
    if as_json:
        click.echo(json.dumps(done.to_dict()))
        return
    _print(run, videos, done, dry_run, learn)


def _print(run: str, videos: str, done: Any, dry_run: bool, learn: bool) -> None:
    """Print what has changed, how well the new videos fit, what was learnt, and what to do next."""
    command = shlex.join(["selavi", "update", run, videos, *_listing_options()])
    for kind, number in done.changes.counts.items():
        if number or kind in ("new", "unchanged"):
            click.echo(f"{kind:<10}{number:>8,}  {_MEANING[kind] if number else ''}".rstrip())
    if dry_run:
        if done.changes.any:
            click.echo(f"nothing was written; label the new videos by: {command}")
        return
    _print_fit(run, done)
    if learn and done.learning is None:
        click.echo(f"{run} has learnt from all of these videos and corrections already")
    elif learn:
        click.echo(_learning_text(done.learning))
    elif done.fit is not None and done.fit.severity != "ok":
        click.echo(f"there may be kinds of videos that were not there; add clusters by: {command} {_AUTO}")
    if not (done.changes.any or done.learning):
        click.echo(f"{run} is up to date")
        return
    click.echo(f"updated {run}")
    tell_next(run)


def _listing_options() -> list[str]:
    """Return the given options that say what is listed of VIDEOS, to be given again."""
    given = click.get_current_context().params
    files = ["--files", ",".join(given["types"])] if given["types"] else []
    return [*files, *(["--segments", given["segments"]] if given_on_command_line("segments") else [])]


def _print_fit(run: str, done: Any) -> None:
    """Print how many new videos have no label, and how well the others fit."""
    if done.n_unlabelled:
        table = click.format_filename(os.path.join(run, "labels.csv"))
        have = "has" if done.n_unlabelled == 1 else "have"
        click.echo(f"{done.n_unlabelled:,} of these {have} no label; the column reason of {table} says why")
    if done.fit is not None and done.fit.measured:
        click.echo(done.fit.sentence)


def _learning_text(learning: Any) -> str:
    """Return what has become of each cluster, as a table with a line above it."""
    from selavi_ref.report.table import Table
    from selavi_ref.runs.reporter import counted

    columns = {
        "cluster": "cluster",
        "kind": "",
        "before": "videos before",
        "stayed": "stayed",
        "now": "videos now",
        "others": "others now in",
    }
    rows: list[Any] = [
        {name: getattr(fate, name) for name in columns if name != "others"} | {"others": _numbers(fate.others)}
        for fate in learning.fates
    ]
    K, added = learning.labels.groups.shape[1], learning.new_clusters
    unused = set(range(K - added, K)) - {fate.cluster for fate in learning.fates if fate.now}
    title = (
        f"learnt from {learning.n_videos:,} videos in {counted(learning.epochs, learning.unit.removesuffix('s'))}; "
        f"{learning.n_corrected:,} of them corrected by hand; {counted(added, 'new cluster')}"
    )
    if unused:
        title += f", {'which has no video' if added == 1 else f'{len(unused)} of them without videos'}"
    return Table(title, columns, rows).text()


def _numbers(clusters: Any) -> str:
    return ", ".join(map(str, clusters))
