"""Labelled segments as clips of their own: packets are copied, nothing is encoded again."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from selavi_ref.datasets.tables import read_table
from selavi_ref.datasets.video_files import LINKS_MARKER
from selavi_ref.errors import FilePath, InputError, MediaError, printable
from selavi_ref.media.container import import_av, media_error, media_errors, open_media
from selavi_ref.media.segments import file_of
from selavi_ref.report.animations import cut_animation, is_animation
from selavi_ref.report.export import FinalLabels, write_linked_csv
from selavi_ref.report.links import INDEX, places_of

_MADE = "selavi-ref cuts clips into this folder; a stopped export continues here.\n"
_BACK = (0.0, 5.0, 30.0, math.inf)  # seconds before the start from which on a key frame is looked for
_SAME_TIME = 0.001  # seconds
_MOST_UNKNOWN = 64  # packets without the time at which they are decoded


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
    """Return whether a folder was made by `write_cuts`."""
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
    picture at or after the end. Of animated GIF and PNG files, which have no key frames but the first picture, exactly
    the segment is encoded again; see `selavi_ref.report.animations.cut_animation`.

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
        for seconds in _BACK:
            with open_media(name) as media:
                if is_animation(media):
                    cut_animation(media, partial)
                    break
                packets = _from_key_frame(media, seconds)
                if packets is None:
                    continue
                with av.open(partial, "w") as out:
                    copies = {stream.index: out.add_stream_from_template(stream) for stream in _streams(media)}
                    _copy(media, packets, out, copies)
                break
        os.replace(partial, target)
    except media_errors() as error:
        raise media_error(name, f"no clip can be cut from it: {error}") from error
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


def _streams(media: Any) -> list[Any]:
    """Return the streams to copy, the one that is cut at key frames first."""
    return [stream for stream in (media.video, media.audio) if stream is not None]


def _time(media: Any, packet: Any) -> float:
    """Return when a packet is shown, seconds after the start of the segment."""
    return float(packet.pts * packet.time_base) - media.origin


def _from_key_frame(media: Any, seconds: float) -> Iterator[Any] | None:
    """
    Return the packets from the last key frame at or before the start on; None if there is none after a seek.

    Some containers seek to any frame, so that it is looked for from so many seconds before the start on.
    """
    media.seek(-seconds)
    main, at_beginning = _streams(media)[0], not media.seeks(-seconds)
    source = (packet for packet in media.packets(*_streams(media)) if packet.pts is not None)
    held: list[Any] = []
    begun = False
    for packet in source:
        time = _time(media, packet)
        if packet.stream.index != main.index:
            held.append(packet)
            continue
        if packet.is_keyframe and (time <= _SAME_TIME or (at_beginning and not begun)):
            held = [one for one in held if one.stream.index != main.index]
            begun = True
        if begun:
            held.append(packet)
        if time > _SAME_TIME and (packet.dts is None or float(packet.dts * packet.time_base) - media.origin > 0):
            break
    if begun or at_beginning:
        return _ascending(_with_decoding_times(chain(held, source)))
    return None


def _with_decoding_times(packets: Iterable[Any]) -> Iterator[Any]:
    """Set the decoding times of the first packets after a seek, which Matroska leaves open."""
    waiting: dict[int, list[Any]] = {}
    for packet in packets:
        unknown = waiting.setdefault(packet.stream.index, [])
        if packet.dts is None and len(unknown) < _MOST_UNKNOWN:
            unknown.append(packet)
            continue
        if packet.dts is None:  # of none of them: they are stored as they are shown
            packet.dts = packet.pts
        latest = packet.dts
        for one in reversed(unknown):
            latest = one.dts = min(one.pts, latest - max(1, one.duration or 0))
        yield from unknown
        unknown.clear()
        yield packet
    for unknown in waiting.values():
        for packet in unknown:
            packet.dts = packet.pts
            yield packet


def _ascending(packets: Iterable[Any]) -> Iterator[Any]:
    """Delay packets that would be decoded before or with the one before, which muxers refuse."""
    last: dict[int, int] = {}
    for packet in packets:
        index = packet.stream.index
        packet.dts = last[index] = max(packet.dts, last.get(index, packet.dts - 1) + 1)
        packet.pts = max(packet.pts, packet.dts)
        yield packet


def _copy(media: Any, packets: Iterable[Any], out: Any, copies: dict[int, Any]) -> None:
    """Copy the packets of the segment, with times that begin at 0."""
    main, end = _streams(media)[0], media.segment.end - media.offset
    begin: float | None = None
    waiting: list[Any] = []
    ended: set[int] = set()
    for packet in packets:
        if packet.stream.index in ended:
            continue
        if float(packet.dts * packet.time_base) - media.origin >= end:
            ended.add(packet.stream.index)
            if len(ended) == len(copies):
                break
            continue
        if begin is None and packet.stream.index != main.index:
            waiting.append(packet)
            continue
        if begin is None:
            begin = _time(media, packet)
            for earlier in waiting:
                _mux(media, out, copies, earlier, begin)
        _mux(media, out, copies, packet, begin)


def _mux(media: Any, out: Any, copies: dict[int, Any], packet: Any, begin: float) -> None:
    """Write a packet, unless it ends before the clip begins."""
    if packet.stream.index != _streams(media)[0].index:
        end = float((packet.pts + (packet.duration or 0)) * packet.time_base) - media.origin
        if end <= begin:
            return
    shift = round((begin + media.origin) / packet.time_base)
    copy = copies[packet.stream.index]
    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
    packet.stream = copy
    out.mux(packet)
