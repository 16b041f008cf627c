"""Timelines as files: CSV and JSON of many videos; WebVTT chapters, Audacity labels and ELAN annotations of one."""

from __future__ import annotations

import csv
import html
import io
import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from selavi_ref.errors import FilePath, InputError, printable
from selavi_ref.runs.atomic import replacing
from selavi_ref.runs.csv_file import as_cell, encodable

if TYPE_CHECKING:
    from selavi_ref.timeline.stretches import Timeline  # imports NumPy

COLUMNS = ("path", "start", "end", "label", "name", "confidence")


def _csv(timelines: Sequence[Timeline]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for timeline in timelines:
        for one in timeline.stretches:
            name = as_cell(encodable(one.name))
            times = (f"{one.start:.3f}", f"{one.end:.3f}")
            writer.writerow([encodable(timeline.path), *times, one.label, name, f"{one.confidence:.4f}"])
    return file.getvalue()


def _json(timelines: Sequence[Timeline]) -> str:
    videos = [
        {
            "path": timeline.path,
            "stretches": [
                {
                    "start": round(one.start, 3),
                    "end": round(one.end, 3),
                    "label": one.label,
                    "name": one.name or None,
                    "confidence": round(one.confidence, 4),
                }
                for one in timeline.stretches
            ],
        }
        for timeline in timelines
    ]
    return json.dumps({"format": "selavi-ref timeline 1", "videos": videos}, indent=1) + "\n"


def _vtt(timelines: Sequence[Timeline]) -> str:
    (timeline,) = timelines
    cues = [
        f"{number}\n{_clock(one.start)} --> {_clock(one.end)}\n{html.escape(_line(one.title), quote=False)}\n"
        for number, one in enumerate(timeline.stretches, 1)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _audacity(timelines: Sequence[Timeline]) -> str:
    (timeline,) = timelines
    return "".join(f"{one.start:.6f}\t{one.end:.6f}\t{_line(one.title)}\n" for one in timeline.stretches)


def _elan(timelines: Sequence[Timeline]) -> str:
    (timeline,) = timelines
    rows = [f"labels\t{_clock(one.start)}\t{_clock(one.end)}\t{_line(one.title)}\n" for one in timeline.stretches]
    return "".join(["Tier\tBegin Time\tEnd Time\tAnnotation\n", *rows])


_Format = Callable[[Sequence["Timeline"]], str]
FORMATS: dict[str, tuple[str, _Format]] = {  # name: ending, and how it is written
    "csv": (".csv", _csv),
    "json": (".json", _json),
    "vtt": (".vtt", _vtt),
    "audacity": (".txt", _audacity),
    "elan": (".tsv", _elan),
}
OF_MANY = ("csv", "json")


def format_of(path: FilePath) -> str | None:
    """Return the format that the ending of a file stands for; None if it stands for none."""
    ending = os.path.splitext(os.fspath(path))[1].lower()
    return next((name for name, (known, _) in FORMATS.items() if known == ending), None)


def write_timelines(timelines: Sequence[Timeline], path: FilePath, form: str | None = None) -> None:
    """
    Write timelines to a file, atomically.

    Parameters
    ----------
    timelines
        Of any number of videos as CSV or JSON, of one in other formats.
    path
        The file.
    form
        ``"csv"``, ``"json"``, ``"vtt"`` (WebVTT chapters), ``"audacity"`` (a label track) or ``"elan"`` (tab-delimited
        text); by default the one that the ending stands for: ``.csv``, ``.json``, ``.vtt``, ``.txt``, ``.tsv``.

    Raises
    ------
    InputError
        If there is no such format, or it is for one video and there are more.
    SelaviError
        If it cannot be written.
    """
    form = form or format_of(path)
    if form not in FORMATS:
        raise InputError(
            f"{printable(path)}: the name must end in {', '.join(ending for ending, _ in FORMATS.values())}", path=path
        )
    if form not in OF_MANY and len(timelines) != 1:
        raise InputError(
            f"{printable(path)}: {form} is for one video, not {len(timelines)}; name a folder, or a .csv or .json file",
            option="out",
            path=path,
        )
    with replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(FORMATS[form][1](timelines))


def _clock(seconds: float) -> str:
    """Return a time as ``hh:mm:ss.mmm``."""
    total = round(seconds * 1000)
    return f"{total // 3600000:02d}:{total // 60000 % 60:02d}:{total // 1000 % 60:02d}.{total % 1000:03d}"


def _line(text: str) -> str:
    return " ".join(encodable(text).split())
