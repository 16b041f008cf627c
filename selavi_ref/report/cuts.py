"""Labelled segments as clips of their own: packets are copied, nothing is encoded again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selavi_ref.datasets.tables import read_table
from selavi_ref.datasets.video_files import LINKS_MARKER
from selavi_ref.errors import FilePath, InputError, MediaError, printable
from selavi_ref.media.container import import_av, media_error, media_errors, open_media
from selavi_ref.media.segments import file_of
from selavi_ref.report.export import FinalLabels, write_linked_csv
from selavi_ref.report.links import INDEX, places_of

_MADE = "selavi-ref cuts clips into this folder; a stopped export continues here.\n"


@dataclass(frozen=True)
class Cuts:
    """
    Result of `write_cuts`: the folder, how many clips it has, and what could not be cut.

    Parameters
    ----------
    folder
        The folder.
    clips
        How many clips it has.
    failures
        Why others could not be cut.
    """

    folder: Path
    clips: int
    failures: list[str]


def write_cuts(
    finished: FinalLabels,
    folder: FilePath,
    *,
    files: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Cuts:
    """
    Cut a clip for each labelled row into a folder for each cluster; see `cut`.

    ``labels.csv`` says in its column ``link`` where each clip lies. Clips that are there already stay, unless the file
    that they were cut from is younger, so that a stopped export is continued. Clips of an earlier export that lie
    elsewhere now, since a video was moved or a cluster got another name, are removed.

    Parameters
    ----------
    finished
        The labels.
    folder
        New, empty, or one that was begun by this function.
    files
        Where the videos or segments are, if not at their paths.
    progress
        Called with 1 after each clip.

    Raises
    ------
    InputError
        If there is something else in the folder.
    """
    target = Path(os.path.abspath(folder))
    if target.exists() and (not target.is_dir() or (any(target.iterdir()) and not _holds_clips(target))):
        raise InputError(f"{printable(target)} is there already; name a new folder", path=folder)
    target.mkdir(parents=True, exist_ok=True)
    (target / LINKS_MARKER).write_text(_MADE, encoding="utf-8")
    places, failures, done = places_of(finished), [], 0
    _remove_outdated(target, dict(zip(places, finished.paths, strict=True)))
    write_linked_csv(finished, places, target / INDEX)  # so that the next call knows the clips of this one
    for row, name in enumerate(finished.paths if files is None else files):
        clip_file = target / places[row]
        clip_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not _is_up_to_date(clip_file, file_of(name)):
                cut(name, clip_file)
            done += 1
        except MediaError as error:
            failures.append(str(error))
            places[row] = ""
        if progress is not None:
            progress(1)
    write_linked_csv(finished, places, target / INDEX)
    return Cuts(target, done, failures)


def _holds_clips(folder: Path) -> bool:
    """Tell whether `write_cuts` has made a folder."""
    try:
        return (folder / LINKS_MARKER).read_text(encoding="utf-8", errors="replace") == _MADE
    except OSError:
        return False


def _remove_outdated(folder: Path, wanted: dict[str, str]) -> None:
    """Remove clips of an earlier export that no longer have their place; `wanted`: place -> row."""
    if not (folder / INDEX).exists():
        return
    for row in read_table(folder / INDEX, {"path": ("path",)}, kind="list of clips"):
        place = row.get("link", "")
        if place and ".." not in Path(place).parts and wanted.get(place) != row["path"]:
            clip_file = folder / place.lstrip(os.sep)
            clip_file.unlink(missing_ok=True)
            with suppress(OSError):  # other clips are in it
                clip_file.parent.rmdir()


def _is_up_to_date(clip_file: Path, source: str) -> bool:
    """Tell whether a clip is there, and not older than the file that it is cut from."""
    try:
        return clip_file.stat().st_mtime_ns >= os.stat(source).st_mtime_ns
    except OSError:
        return clip_file.exists()


def cut(name: FilePath, target: FilePath) -> None:
    """
    Copy a segment (or a whole file) to a file of its own without encoding it again.

    The clip begins at the last key frame at or before the start, up to some seconds earlier, and ends with the first
    picture at or after the end.

    Parameters
    ----------
    name
        A segment; see `selavi_ref.media.segments`.
    target
        The file; its ending chooses the container.

    Raises
    ------
    MediaError
        If it cannot be read, or the container does not take its codecs.
    """
    av = import_av()
    partial = f"{os.fspath(target)}.part{os.path.splitext(target)[1]}"
    try:
        with open_media(name) as media, av.open(partial, "w") as out:
            copies = {
                stream.index: out.add_stream_from_template(stream)
                for stream in (media.video, media.audio)
                if stream is not None
            }
            _copy(media, out, copies)
        os.replace(partial, target)
    except media_errors() as error:
        raise media_error(name, f"no clip can be cut from it: {error}") from error
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


def _copy(media: Any, out: Any, copies: dict[int, Any]) -> None:
    """Copy the packets of the segment, with times that begin at 0."""
    media.seek(0.0)
    main = media.video if media.video is not None else media.audio
    end = media.segment.end - media.offset
    begin: float | None = None
    waiting: list[Any] = []
    ended: set[int] = set()
    for packet in media.packets(*(stream for stream in (media.video, media.audio) if stream is not None)):
        if packet.dts is None or packet.pts is None or packet.stream.index in ended:
            continue
        time = float(packet.dts * packet.time_base) - media.origin
        if begin is None and packet.stream.index != main.index:
            waiting.append(packet)
            continue
        if time >= end:
            ended.add(packet.stream.index)
            if len(ended) == len(copies):
                break
            continue
        if begin is None:
            begin = float(packet.pts * packet.time_base) - media.origin
            for earlier in waiting:
                _mux(media, out, copies, earlier, begin)
        _mux(media, out, copies, packet, begin)


def _mux(media: Any, out: Any, copies: dict[int, Any], packet: Any, begin: float) -> None:
    """Write a packet, unless it ends before the clip begins."""
    if packet.stream.index != (media.video or media.audio).index:
        end = float((packet.pts + (packet.duration or 0)) * packet.time_base) - media.origin
        if end <= begin:
            return
    shift = round((begin + media.origin) / packet.time_base)
    copy = copies[packet.stream.index]
    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
    packet.stream = copy
    out.mux(packet)
