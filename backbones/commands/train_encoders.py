"""`selavi train --encoder`: features of pretrained encoders, then heads and labels on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from backbones.commands.command import Interruptible, refuse_options
from backbones.commands.extract import encode_videos
from backbones.commands.label import report_labels
from backbones.commands.progress import TERMINAL
from backbones.commands.scanning import list_collection
from backbones.commands.train_heads import train_heads
from selavi_ref.datasets.run_lists import record_contents
from selavi_ref.errors import InputError
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore

_OPTIONS = {
    *("videos", "out", "resume", "encoders", "clusters", "seed", "device", "workers", "as_json"),
    *("layout", "annotations", "split", "segments", "types"),
}


def train_on_encoders(
    videos: str | None,
    out: str,
    exists: bool,
    encoders: tuple[str, ...],
    device: str,
    workers: int | None,
    options: Mapping[str, Any],
    as_json: bool,
) -> None:
    """
    Extract features of VIDEOS by encoders, learn heads on them as `selavi train-heads` does, and label the videos.

    The store of features is OUT/encoded.h5; if extraction is interrupted, the same command continues it.
    """
    context = click.get_current_context()
    refuse_options([name for name in context.params if name not in _OPTIONS], "does not go with --encoder")
    if exists:
        context.invoke(train_heads, out=out, resume=True, as_json=as_json)
    else:
        if videos is None or options["clusters"] is None:
            raise InputError(
                "--encoder goes with VIDEOS and --clusters: how many kinds of videos are to be found?", option="encoder"
            )
        layout, split = options["layout"], options["split"]
        split = split or ("train" if layout else None)
        listed = list_collection(videos, layout, options["annotations"], split, types=options["types"])
        store = str(Run.prepare(out).folder / "encoded.h5")
        with Interruptible("the same command continues where it stopped"):
            encode_videos(listed, store, encoders, device, workers, segments=options["segments"])
        chosen = {"clusters": options["clusters"], "seed": options["seed"], "as_json": as_json}
        context.invoke(train_heads, store=store, out=out, **chosen)
        Run(out).rewrite_config(Run(out).config | {"segments": options["segments"]})
    run = Run.open(out)
    with FeatureStore(run.features_file) as features:
        paths = features.paths
    folders = {Path(path).parent.name for path in paths}
    if not run.contents_file.exists():
        record_contents(run, paths, workers=workers, reporter=TERMINAL)
    report_labels(run, folders, quiet=as_json)
