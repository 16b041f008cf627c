"""Labels over time, which `selavi label --timeline` writes to one file, or one for each video in a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from backbones.commands.command import Interruptible
from backbones.commands.messages import note
from backbones.commands.output import refuse_missing_folder
from selavi_ref.errors import InputError
from selavi_ref.timeline.formats import FORMATS, OF_MANY, format_of, write_timelines

timeline_option = click.option(
    "--timeline",
    is_flag=True,
    help="Label windows of 2 s (or --segments SECONDS) one after the other, smoothed; write stretches of one label. "
    "--out is a .csv or .json file, for one video also .vtt (chapters), .txt (Audacity) or .tsv (ELAN), or a folder.",
)
timeline_format_option = click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    help="With --timeline: format of the files. [default: that of the ending; vtt in a folder]",
)


def write_timeline_files(
    run: str,
    videos: str,
    out: str,
    form: str | None,
    *,
    segments: str,
    types: Sequence[str] | None,
    force: bool,
    **how: Any,
) -> None:
    """
    Label videos over time, and write a file of all of them, or one for each in a folder.

    Parameters
    ----------
    run, videos : str
        The run, and a folder, list or file.
    out : str
        File, or folder, which is one that exists, or a name without ending.
    form : str, optional
        Format; by default that of the ending, or ``vtt`` in a folder.
    segments : str
        Seconds of a window, or ``auto``.
    types : sequence of str, optional
        Types of files of a folder to take.
    force : bool
        Replace files.
    how
        Options of `selavi_ref.api.timelines.label_timelines`.
    """
    from backbones.commands.progress import TERMINAL
    from selavi_ref.api.listing import list_for_run
    from selavi_ref.api.timelines import WINDOW, label_timelines
    from selavi_ref.datasets.segmentation import Segmentation
    from selavi_ref.media.segments import file_of
    from selavi_ref.runs.reporter import counted
    from selavi_ref.runs.run import Run

    asked = Segmentation.parse(segments)
    if asked.kind not in ("auto", "windows"):
        raise InputError(f"--segments {segments}: give seconds of a window with --timeline", option="segments")
    refuse_missing_folder(out)
    listed = list_for_run(Run.open(run), videos, types, reporter=TERMINAL)
    files = list(dict.fromkeys(file_of(path) for path in listed.paths))
    is_folder = os.path.isdir(out) or not os.path.splitext(out)[1]
    chosen = form or ("vtt" if is_folder else format_of(out))
    if chosen is None:
        raise InputError(f"--out {out}: name a .csv, .json, .vtt, .txt or .tsv file, or a folder", option="out")
    if not is_folder and chosen not in OF_MANY and len(files) > 1:
        raise InputError(
            f"--out {out}: {chosen} is for one video, and {videos} has {len(files)}; name a folder", option="out"
        )
    targets = _targets(files, out, chosen) if is_folder else dict.fromkeys(files, Path(out))
    taken = next((path for path in targets.values() if path.exists()), None)
    if taken is not None and not force:
        raise InputError(f"{taken} exists already; name another --out, or replace it by --force", option="out")
    with Interruptible("the same command continues where it stopped"):
        keep = f"{out.rstrip(os.sep)}.windows.h5"
        window = WINDOW if asked.kind == "auto" else asked.seconds
        found = label_timelines(run, listed, window=window, keep=keep, reporter=TERMINAL, **how)
    if is_folder:
        os.makedirs(out, exist_ok=True)
        for timeline in found:
            write_timelines([timeline], targets[timeline.path], chosen)
    else:
        write_timelines(found, out, chosen)
    stretches = sum(len(timeline.stretches) for timeline in found)
    note(f"{counted(stretches, 'stretch')} of {counted(len(found), 'video')}")
    note(f"wrote {click.format_filename(out)}")


def _targets(files: Sequence[str], out: str, form: str) -> dict[str, Path]:
    """Return the file in a folder that the timeline of each video is written to."""
    from selavi_ref.report.links import Names

    names = Names()
    stems = {file: os.path.splitext(os.path.basename(file))[0] for file in files}
    return {file: Path(out) / names.take(f"{stem}{FORMATS[form][0]}", ending=True) for file, stem in stems.items()}
