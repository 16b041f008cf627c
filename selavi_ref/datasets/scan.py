"""Looking into the videos of a collection: side by side, guarded against damaged files, and only into what is new."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from selavi_ref.datasets.manifest import (
    LIST_EXTENSIONS,
    Manifest,
    ManifestEntry,
    find_videos,
    is_scan_list,
    manifest_row,
    read_manifest,
    write_manifest,
)
from selavi_ref.errors import FilePath, InputError, MediaError, SelaviError, TransientMediaError, printable, reason
from selavi_ref.media.container import VideoInfo, import_av, probe
from selavi_ref.media.decoder import LIMIT, parallel_map, run_guarded

REQUIREMENTS = ("both", "picture", "any")
_NO_VIDEO = "not a video: "  # begins the reason of files that stay useless as long as they stay the same
_AHEAD = 32  # files per thread that are handed out before their turn


def scan(
    videos: FilePath | Manifest,
    *,
    min_seconds: float = 1.1,
    require: str = "both",
    workers: int | None = None,
    limit: float = LIMIT,
    known: Iterable[ManifestEntry] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """
    Find the videos of a collection and look into each: how long it is, and whether it has picture and sound.

    Files are opened in processes of their own (see `selavi_ref.media.decoder`). A file that has not changed since an
    earlier scan is not opened again.

    Parameters
    ----------
    videos
        A folder (see `find_videos`), a list of videos (see `read_manifest`), one video file, or a manifest.
    min_seconds
        What is shorter than this cannot be used.
    require
        What a video needs (of that length) to be usable: ``"both"`` picture and sound, a ``"picture"``, or ``"any"``.
    workers
        Threads, each with a process; by default as many as there are processors.
    limit
        Seconds that one file may take.
    known
        What earlier scans found; so do the entries of a list of videos that was scanned before.
    progress
        Called after each video with the numbers of videos done and in all.

    Returns
    -------
    Manifest
        All videos; those that cannot be used say why in `skipped`.

    Raises
    ------
    InputError
        If the folder, list or file is missing, or holds no video.
    """
    listed = videos if isinstance(videos, Manifest) else list_videos(videos)
    entries = []
    for entry in _scanned(listed, min_seconds, require, workers, limit, known):
        entries.append(entry)
        if progress is not None:
            progress(len(entries), len(listed))
    return replace(listed, entries=entries)


def scan_to(
    out: FilePath,
    listed: Manifest,
    *,
    min_seconds: float = 1.1,
    require: str = "both",
    workers: int | None = None,
    limit: float = LIMIT,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """
    Scan a collection and write its list; a scan that was cut off is continued, and a later one looks into what changed.

    What is found is kept in ``{out}.partial`` until the list is complete.

    Parameters
    ----------
    out
        CSV file; if it is there already, what it says of files that have not changed is taken over.
    listed
        The videos, see `list_videos` and `selavi_ref.datasets.layouts`.
    min_seconds, require, workers, limit, progress
        As in `scan`.

    Raises
    ------
    InputError
        If `out` is there and was not written by a scan, or its folder is missing.
    SelaviError
        If it cannot be written.
    """
    name = os.fspath(out)
    journal = f"{name}.partial"
    if not os.path.isdir(os.path.dirname(os.path.abspath(name))):
        raise InputError(f"{printable(name)} cannot be written: its folder does not exist")
    if os.path.exists(name) and not is_scan_list(name):
        raise InputError(f"{printable(name)} is there already and is no list that a scan wrote; name another file")
    known = list({os.path.abspath(e.path): e for e in (*_earlier(name), *_earlier(journal))}.values())
    entries: list[ManifestEntry] = []
    write_manifest(Manifest(known), journal)
    settled = {os.path.abspath(entry.path): entry.stamp for entry in known}
    try:
        with open(journal, "a", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            for entry in _scanned(listed, min_seconds, require, workers, limit, known):
                entries.append(entry)
                if entry.stamp and settled.get(os.path.abspath(entry.path)) != entry.stamp:
                    writer.writerow(manifest_row(entry, journal))
                    file.flush()
                if progress is not None:
                    progress(len(entries), len(listed))
    except OSError as error:
        raise SelaviError(f"{printable(journal)} cannot be written: {error.strerror or error}") from error
    manifest = replace(listed, entries=entries)
    write_manifest(manifest, name)
    with suppress(OSError):
        os.unlink(journal)
    return manifest


def list_videos(videos: FilePath) -> Manifest:
    """Return the videos of a folder, of a list or of one file, without opening them; see `scan`."""
    path = os.fspath(videos)
    if os.path.isdir(path):
        return find_videos(path)
    if not os.path.exists(path):
        raise InputError(f"{printable(path)} does not exist; expected a folder of videos, a list of them or a video")
    if os.path.splitext(path)[1].lower() in LIST_EXTENSIONS:
        return read_manifest(path)
    return Manifest([ManifestEntry(path)], path)


def _earlier(path: str) -> list[ManifestEntry]:
    """Return what an earlier scan found; the row in which it was cut off, if it was, has no stamp."""
    try:
        return [entry for entry in read_manifest(path) if entry.stamp]
    except InputError:
        return []


def _scanned(
    listed: Manifest,
    min_seconds: float,
    require: str,
    workers: int | None,
    limit: float,
    known: Iterable[ManifestEntry],
) -> Iterator[ManifestEntry]:
    """Yield the entries of a list, looked into, in their order."""
    import_av()
    if require not in REQUIREMENTS:
        raise InputError(f"require={require!r}: choose {', '.join(REQUIREMENTS)}")
    earlier = {os.path.abspath(entry.path): entry for entry in known if entry.stamp}

    def look(entry: ManifestEntry) -> ManifestEntry:
        entry = _looked_into(entry, earlier, limit)
        if entry.info is None:
            return entry
        return replace(entry, skipped=_why_unusable(entry.info, min_seconds, require))

    threads = min(workers or os.cpu_count() or 1, len(listed))
    for _, entry in parallel_map(look, listed, threads, _AHEAD):
        yield entry


def _looked_into(entry: ManifestEntry, earlier: Mapping[str, ManifestEntry], limit: float) -> ManifestEntry:
    """Return an entry with what its file holds, or why that cannot be told."""
    try:
        status = os.stat(entry.path)
    except OSError as error:
        return replace(entry, info=None, skipped=entry.skipped or reason(error), stamp="")
    stamp = f"{status.st_size}-{status.st_mtime_ns}"
    for before in (entry, earlier.get(os.path.abspath(entry.path))):
        if before is not None and before.stamp == stamp and (before.info or before.skipped.startswith(_NO_VIDEO)):
            return replace(entry, info=before.info, skipped=before.skipped, stamp=stamp)
    try:
        return replace(entry, info=run_guarded(probe, entry.path, limit=limit), skipped="", stamp=stamp)
    except MediaError as error:
        why = str(error).removeprefix(f"{printable(entry.path)}: ")
        lasting = "" if isinstance(error, TransientMediaError) else _NO_VIDEO
        return replace(entry, info=None, skipped=f"{lasting}{why}", stamp=stamp)


def _why_unusable(info: VideoInfo, min_seconds: float, require: str) -> str:
    """Reason why a video cannot be used, or ""."""
    lengths = {"picture": info.video_seconds, "sound": info.audio_seconds}
    there = {"picture": info.has_video, "sound": info.has_audio}
    if not any(there.values()):
        return f"{_NO_VIDEO}neither picture nor sound"
    faults = {
        what: f"no {what}" if not there[what] else f"{what} shorter than {min_seconds:g} s"
        for what, seconds in lengths.items()
        if not there[what] or seconds < min_seconds
    }
    if require == "any":
        return "; ".join(faults.values()) if len(faults) == 2 else ""
    if require == "picture":
        return faults.get("picture", "")
    return "; ".join(faults.values())
