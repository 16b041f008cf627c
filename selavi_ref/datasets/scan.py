"""Scan of a collection: properties of all videos, in parallel, robust to damaged files, and incremental."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from selavi_ref.datasets.manifest import (
    Manifest,
    ManifestEntry,
    find_videos,
    is_scan_list,
    manifest_row,
    read_manifest,
    write_manifest,
)
from selavi_ref.datasets.video_files import LIST_EXTENSIONS
from selavi_ref.errors import FilePath, InputError, MediaError, SelaviError, TransientMediaError, printable, reason
from selavi_ref.media.container import VideoInfo, import_av, probe
from selavi_ref.media.decoder import LIMIT, parallel_map, run_guarded
from selavi_ref.runs.cores import usable_cores

REQUIREMENTS = ("both", "picture", "any")
_NO_VIDEO = "not a video: "  # starts the reason of files that are unusable until they change
_AHEAD = 32  # files per thread that are opened before their results are needed


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
    progress
        Called after each video with the numbers of videos done and in total.

    Returns
    -------
    Manifest
        All videos; the unusable ones have a reason in `skipped`.

    Raises
    ------
    InputError
        If the folder, list or file is missing, or holds no video.
    """
    listed = videos if isinstance(videos, Manifest) else list_videos(videos)
    entries = []
    for entry in _scan_entries(listed, min_seconds, require, workers, limit, known):
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
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
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
    min_seconds, require, workers, limit, progress
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
    write_manifest(Manifest(known), journal)
    written = {os.path.abspath(entry.path): entry.stamp for entry in known}
    try:
        with open(journal, "a", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            for entry in _scan_entries(listed, min_seconds, require, workers, limit, known):
                entries.append(entry)
                if entry.stamp and written.get(os.path.abspath(entry.path)) != entry.stamp:
                    writer.writerow(manifest_row(entry, journal))
                    file.flush()
                if progress is not None:
                    progress(len(entries), len(listed))
    except OSError as error:
        why = error.strerror or error
        raise SelaviError(f"{printable(journal)} cannot be written: {why}", path=journal) from error
    manifest = replace(listed, entries=entries)
    write_manifest(manifest, name)
    with suppress(OSError):
        os.unlink(journal)
    return manifest


def _refuse_other_list(name: str, listed: Manifest) -> None:
    """Refuse to replace a file that no scan wrote, or that lists none of the videos of this collection."""
    advice = "name another file, or replace it by --force"
    if not is_scan_list(name):
        raise InputError(f"{printable(name)} exists already and is not a list that a scan wrote; {advice}", path=name)
    earlier = {os.path.abspath(entry.path) for entry in read_manifest(name)}
    if earlier and not any(os.path.abspath(entry.path) in earlier for entry in listed):
        raise InputError(f"{printable(name)} lists other videos; {advice}", path=name)


def list_videos(videos: FilePath) -> Manifest:
    """Return the videos of a folder, a list or a single file, without opening them; see `scan`."""
    path = os.fspath(videos)
    if os.path.isdir(path):
        return find_videos(path)
    if not os.path.exists(path):
        raise InputError(
            f"{printable(path)} does not exist; expected a folder of videos, a list of them or a video", path=path
        )
    if os.path.splitext(path)[1].lower() in LIST_EXTENSIONS:
        return read_manifest(path)
    return Manifest([ManifestEntry(os.path.abspath(path))], path)


def _read_earlier(path: str) -> list[ManifestEntry]:
    """Return the entries of an earlier scan, without a last row that was cut off, which has no stamp."""
    try:
        return [entry for entry in read_manifest(path) if entry.stamp]
    except InputError:
        return []


def _scan_entries(
    listed: Manifest,
    min_seconds: float,
    require: str,
    workers: int | None,
    limit: float,
    known: Iterable[ManifestEntry],
) -> Iterator[ManifestEntry]:
    """Yield the scanned entries of a list, in order."""
    import_av()
    if require not in REQUIREMENTS:
        choices = ", ".join(REQUIREMENTS)
        raise InputError(f"require={require!r}: choose {choices}", option="require", value=require)
    earlier = {os.path.abspath(entry.path): entry for entry in known if entry.stamp}

    def scan_entry(entry: ManifestEntry) -> ManifestEntry:
        entry = _probe_entry(entry, earlier, limit)
        if entry.info is None:
            return entry
        return replace(entry, skipped=_why_unusable(entry.info, min_seconds, require))

    threads = min(workers or usable_cores(), len(listed))
    for _, entry in parallel_map(scan_entry, listed, threads, _AHEAD):
        yield entry


def _probe_entry(entry: ManifestEntry, earlier: Mapping[str, ManifestEntry], limit: float) -> ManifestEntry:
    """Return an entry with the properties of its file, or why it cannot be read."""
    try:
        status = os.stat(entry.path)
    except OSError as error:
        return replace(entry, info=None, skipped=entry.skipped or reason(error), stamp="")
    stamp = f"{status.st_size}-{status.st_mtime_ns}"
    for known in (entry, earlier.get(os.path.abspath(entry.path))):
        if known is not None and known.stamp == stamp and (known.info or known.skipped.startswith(_NO_VIDEO)):
            return replace(entry, info=known.info, skipped=known.skipped, stamp=stamp)
    try:
        return replace(entry, info=run_guarded(probe, entry.path, limit=limit), skipped="", stamp=stamp)
    except MediaError as error:
        why = str(error).removeprefix(f"{printable(entry.path)}: ")
        prefix = "" if isinstance(error, TransientMediaError) else _NO_VIDEO
        return replace(entry, info=None, skipped=f"{prefix}{why}", stamp=stamp)


def _why_unusable(info: VideoInfo, min_seconds: float, require: str) -> str:
    """Return why a video is not usable, or ""."""
    lengths = {"picture": info.video_seconds, "sound": info.audio_seconds}
    present = {"picture": info.has_video, "sound": info.has_audio}
    if not any(present.values()):
        return f"{_NO_VIDEO}neither picture nor sound"
    faults = {
        what: f"no {what}" if not present[what] else f"{what} shorter than {min_seconds:g} s"
        for what, seconds in lengths.items()
        if not present[what] or seconds < min_seconds
    }
    if require == "any":
        return "; ".join(faults.values()) if len(faults) == 2 else ""
    if require == "picture":
        return faults.get("picture", "")
    return "; ".join(faults.values())
