"""Scan of a collection: properties of all videos, in parallel, robust to damaged files, and incremental."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace

from selavi_ref.datasets.entry_scan import scan_entries
from selavi_ref.datasets.manifest import (
    Manifest,
    ManifestEntry,
    find_videos,
    is_scan_list,
    manifest_row,
    read_manifest,
    write_manifest,
)
from selavi_ref.datasets.segmentation import Segmentation
from selavi_ref.datasets.video_files import LIST_EXTENSIONS, describe_ignored, left_out_media
from selavi_ref.errors import FilePath, InputError, SelaviError, printable
from selavi_ref.media.decoder import LIMIT
from selavi_ref.media.segments import file_of, parse_segment, segment_of
from selavi_ref.runs.reporter import SILENT, ProgressBar, Reporter, counted


def scan(
    videos: FilePath | Manifest,
    *,
    min_seconds: float = 1.1,
    require: str = "both",
    workers: int | None = None,
    limit: float = LIMIT,
    known: Iterable[ManifestEntry] = (),
    segments: str | float | Segmentation = "whole",
    reporter: Reporter = SILENT,
) -> Manifest:
    """
    List the videos of a collection with their lengths, and whether they have video and audio.

    Files are opened in separate processes (see `selavi_ref.media.decoder`). A file that has not changed since an
    earlier scan is not opened again.

    Parameters
    ----------
    videos
        A folder (see `find_videos`), a list of videos (see `read_manifest`), one video file, or a manifest.
    min_seconds
        Shorter videos are not usable.
    require
        Streams of that length that a usable video needs: ``"both"`` video and audio, a ``"picture"``, or ``"any"``.
    workers
        Threads, each with a process; by default as many as there are processors.
    limit
        Seconds allowed for one file.
    known
        Entries of earlier scans, in addition to those of `videos`.
    segments
        How videos are cut: ``"whole"`` (not at all), ``"scenes"``, seconds of a window, or ``"auto"``; see
        `selavi_ref.datasets.segmentation.Segmentation`. Entries that are segments already stay as they are.
    reporter
        Receives progress, how many videos were cut, and what else lies in a folder.

    Returns
    -------
    Manifest
        All videos or segments; the unusable ones have a reason in `skipped`.

    Raises
    ------
    InputError
        If the folder, list or file is missing, or holds no video.
    """
    listed = videos if isinstance(videos, Manifest) else list_videos(videos)
    if listed is not videos and (left_out := left_out_media(listed.ignored)):
        reporter.info(f"left out of the folder: {describe_ignored(left_out)}; a list of files takes them, too")
    entries: list[ManifestEntry] = []
    cut = Segmentation.parse(segments)
    scanned = scan_entries(
        listed,
        min_seconds=min_seconds,
        require=require,
        workers=workers,
        limit=limit,
        known=known,
        segments=cut,
    )
    with _scanning(listed, reporter) as bar:
        for _, parts in scanned:
            entries += parts
            bar.update(1)
    _say_how_cut(listed, entries, cut, reporter)
    return replace(listed, entries=entries)


def scan_playable(
    videos: FilePath | Manifest,
    *,
    workers: int | None = None,
    segments: str | float | Segmentation = "whole",
    reporter: Reporter = SILENT,
) -> Manifest:
    """Return the files of a collection as `scan` does; those with a picture or sound of any length are usable."""
    return scan(videos, min_seconds=0.0, require="any", workers=workers, segments=segments, reporter=reporter)


def scan_to(
    out: FilePath,
    listed: Manifest,
    *,
    min_seconds: float = 1.1,
    require: str = "both",
    workers: int | None = None,
    limit: float = LIMIT,
    force: bool = False,
    segments: str | float | Segmentation = "whole",
    reporter: Reporter = SILENT,
) -> Manifest:
    """
    Scan a collection and write its manifest; continues an interrupted scan, and opens only files that changed.

    Results are saved in ``{out}.partial`` until the manifest is complete.

    Parameters
    ----------
    out
        CSV file; an existing one provides the properties of files that have not changed.
    listed
        The videos, see `list_videos` and `selavi_ref.datasets.layouts`.
    min_seconds, require, workers, limit, segments, reporter
        As in `scan`.
    force
        Replace `out` whatever it is.

    Raises
    ------
    InputError
        If `out` exists and was not written by a scan of some of these videos, or its folder is missing.
    SelaviError
        If it cannot be written.
    """
    name = os.fspath(out)
    journal = f"{name}.partial"
    if not os.path.isdir(os.path.dirname(os.path.abspath(name))):
        raise InputError(f"{printable(name)} cannot be written: its folder does not exist", path=name)
    if os.path.exists(name) and not force:
        _refuse_other_list(name, listed)
    known = list({os.path.abspath(e.path): e for e in (*_read_earlier(name), *_read_earlier(journal))}.values())
    entries: list[ManifestEntry] = []
    cut = Segmentation.parse(segments)
    write_manifest(Manifest(known), journal)
    has_segments = any(not segment_of(entry.path).whole for entry in known)
    written = {os.path.abspath(entry.path): entry.stamp for entry in known}
    try:
        with (
            open(journal, "a", encoding="utf-8", errors="surrogateescape", newline="") as file,
            _scanning(listed, reporter) as bar,
        ):
            writer = csv.writer(file)
            scanned = scan_entries(
                listed,
                min_seconds=min_seconds,
                require=require,
                workers=workers,
                limit=limit,
                known=known,
                segments=cut,
            )
            for whole, parts in scanned:
                entries += parts
                full = os.path.abspath(whole.path)
                if whole.stamp and written.get(full) != whole.stamp:
                    written[full] = whole.stamp
                    writer.writerow(manifest_row(whole, journal, segments=has_segments))
                    file.flush()
                bar.update(1)
    except OSError as error:
        why = error.strerror or error
        raise SelaviError(f"{printable(journal)} cannot be written: {why}", path=journal) from error
    _say_how_cut(listed, entries, cut, reporter)
    manifest = replace(listed, entries=entries)
    write_manifest(manifest, name)
    with suppress(OSError):
        os.unlink(journal)
    return manifest


def _scanning(listed: Manifest, reporter: Reporter) -> AbstractContextManager[ProgressBar]:
    return reporter.bar(len(listed), "scanning", "video")


def _say_how_cut(listed: Manifest, found: Iterable[ManifestEntry], cut: Segmentation, reporter: Reporter) -> None:
    """Report how many videos were cut into how many segments, if any were."""
    given = {entry.path for entry in listed if not segment_of(entry.path).whole}
    parts = [segment_of(entry.path) for entry in found if entry.path not in given]
    parts = [part for part in parts if not part.whole]
    if not parts:
        return
    files = len({part.file for part in parts})
    what, hint = ("long video", "; --segments whole leaves them whole") if cut.kind == "auto" else ("video", "")
    reporter.info(f"{counted(files, what)} cut into {counted(len(parts), 'segment')}{hint}")


def _refuse_other_list(name: str, listed: Manifest) -> None:
    """Refuse to replace a file that no scan wrote, or that lists none of the videos of this collection."""
    advice = "name another file, or replace it by --force"
    if not is_scan_list(name):
        raise InputError(f"{printable(name)} exists already and is not a list that a scan wrote; {advice}", path=name)
    earlier = {os.path.abspath(file_of(entry.path)) for entry in read_manifest(name)}
    if earlier and not any(os.path.abspath(file_of(entry.path)) in earlier for entry in listed):
        raise InputError(f"{printable(name)} lists other videos; {advice}", path=name)


def list_videos(videos: FilePath, types: Collection[str] | None = None) -> Manifest:
    """
    Return the files of a folder, a list, or a single file or segment, without opening them.

    Parameters
    ----------
    videos
        A folder, a list, a file, or a part of one (see `selavi_ref.media.segments`).
    types
        As in `find_videos`; of a folder only.

    Raises
    ------
    InputError
        If it does not exist, holds no video, the times of a part are wrong, or `types` are unknown or given for
        something that is no folder.
    """
    path = os.fspath(videos)
    if os.path.isdir(path):
        return find_videos(path, types)
    segment = parse_segment(path)
    if not (os.path.exists(path) or os.path.isfile(segment.file)):
        raise InputError(
            f"{printable(path)} does not exist; expected a folder of videos, a list of them or a video", path=path
        )
    if types is not None:
        raise InputError(f"--files goes with a folder, and {printable(path)} is none", option="files", path=path)
    if segment.whole and os.path.splitext(path)[1].lower() in LIST_EXTENSIONS:
        return read_manifest(path)
    return Manifest([ManifestEntry(os.path.abspath(segment.name))], path)


def _read_earlier(path: str) -> list[ManifestEntry]:
    """Return the entries of an earlier scan, without a last row that was cut off, which has no stamp."""
    try:
        return [entry for entry in read_manifest(path) if entry.stamp]
    except InputError:
        return []
