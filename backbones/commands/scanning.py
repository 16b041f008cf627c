"""The videos that a command is given: a folder, a list or a published collection, listed and then scanned."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from backbones.commands.command import refuse_options
from backbones.commands.messages import warning
from selavi_ref.errors import InputError


def list_collection(
    videos: str,
    layout: str | None = None,
    annotations: str | None = None,
    split: str | None = None,
    fold: int = 1,
    usual_split: str | None = None,
    types: list[str] | None = None,
) -> Any:
    """
    List the videos of a folder, a list, or a published collection, without opening them.

    Of a folder, files of some `types` are listed; see `selavi_ref.datasets.find_videos`.

    If a collection has splits and no `split` is given, only `usual_split` is taken, and a message says so; the split
    ``all`` takes every video.

    Raises
    ------
    InputError
        If there are none, or options do not go together.
    """
    from selavi_ref.datasets.layouts import list_layout
    from selavi_ref.datasets.scan import list_videos

    if layout is not None:
        if types is not None:
            raise InputError("--files does not go with --layout, whose lists name the files", option="files")
        part = None if split == "all" else split or usual_split
        return list_layout(videos, layout, annotations=annotations, split=part, fold=fold)
    options = [option for option in ("annotations", "fold") if option in click.get_current_context().params]
    refuse_options(options, "goes with --layout")
    listed = list_videos(videos, types)
    counts = Counter(entry.split for entry in listed if entry.split)
    if split is None and len(counts) > 1:
        splits = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
        if usual_split in counts:
            warning(f"{videos} has the splits {splits}: taking {usual_split}; --split all takes all of them")
            split = usual_split
        else:
            hint = "; --split takes one" if "split" in click.get_current_context().params else ""
            warning(f"{videos} has the splits {splits}, which are used together{hint}")
    if split in (None, "all"):
        return listed
    if split not in counts:
        known = f"it has {', '.join(counts)}" if counts else "it names no splits; give --layout, or a list with a split"
        raise InputError(f"--split {split}: {videos} has no such part; {known}", option="split", value=split)
    return listed.only(split)


def scan_videos(listed: Any, workers: int | None = None, **limits: Any) -> Any:
    """Scan every listed video as `selavi_ref.datasets.scan` does, with a progress bar; `limits` are its options."""
    from backbones.commands.progress import TERMINAL
    from selavi_ref.datasets import scan

    return scan(listed, **limits, workers=workers, reporter=TERMINAL)
