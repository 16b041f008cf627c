"""`selavi extract`: features and log-probabilities of videos, written to a store."""

from __future__ import annotations

from typing import Any

import click

from backbones.commands.command import Command, Interruptible
from backbones.commands.shared_options import (
    clips_option,
    crops_option,
    degrade_options,
    device_option,
    workers_option,
)


@click.command(
    cls=Command,
    examples="""
    selavi extract RUN VIDEOS --out features.h5
    selavi extract RUN new_videos.csv --clips 10 --crops 3 --out features.h5
    selavi extract RUN VIDEOS --shrink 8 --out blurred.h5
    """,
)
@click.argument("run", type=click.Path())
@click.argument("videos", type=click.Path())
@click.option("--out", type=click.Path(), required=True, help="Store to write; an interrupted one is continued.")
@clips_option
@crops_option
@degrade_options
@device_option
@workers_option
def extract(run: str, videos: str, out: str, **viewing: Any) -> None:
    """Write features and log-probabilities of VIDEOS to a store, with the networks of RUN."""
    from selavi_ref.runs.run import Run

    opened = Run.of_videos(run, f"selavi label {run} STORE takes features")
    with Interruptible("the same command continues where it stopped"):
        first = extract_videos(opened, videos, out, **viewing)
    if first:
        click.echo(f"wrote {click.format_filename(out)}")


def extract_videos(
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
    """Scan videos and write their store, and return whether this is the process that reports it."""
    from backbones.commands.progress import TERMINAL
    from backbones.commands.scanning import scan_videos
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
