"""Scan of single entries of a list: their files opened once, cut into segments, and judged usable or not."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace

from selavi_ref.datasets.manifest import Manifest, ManifestEntry
from selavi_ref.datasets.modalities import modalities_of
from selavi_ref.datasets.segmentation import Segmentation
from selavi_ref.errors import InputError, MediaError, TransientMediaError, printable, reason
from selavi_ref.media.container import VideoInfo, import_av
from selavi_ref.media.decoder import parallel_map, run_guarded
from selavi_ref.media.probing import probe
from selavi_ref.media.segments import Segment, segment_of
from selavi_ref.runs.cores import usable_cores

REQUIREMENTS = ("both", "picture", "any")
_NO_VIDEO = "not a video: "  # starts the reason of files that are unusable until they change
_AHEAD = 32  # files per thread that are opened before their results are needed


def scan_entries(
    listed: Manifest,
    *,
    min_seconds: float,
    require: str,
    workers: int | None,
    limit: float,
    known: Iterable[ManifestEntry],
    segments: Segmentation,
) -> Iterator[tuple[ManifestEntry, list[ManifestEntry]]]:
    """
    Yield for each entry of a list, in order, that of its whole file, and the entries that it becomes.

    Parameters are those of `selavi_ref.datasets.scan.scan`.
    """
    import_av()
    if require not in REQUIREMENTS:
        choices = ", ".join(REQUIREMENTS)
        raise InputError(f"require={require!r}: choose {choices}", option="require", value=require)
    earlier = {os.path.abspath(entry.path): entry for entry in known if entry.stamp}
    scanner = _Scanner(earlier, min_seconds, require, limit, segments)
    threads = min(workers or usable_cores(), len(listed))
    for _, result in parallel_map(scanner.scan, listed, threads, _AHEAD):
        yield result


class _Scanner:
    """Scans entries, in any number of threads; a file of which a list has many segments is opened once."""

    def __init__(
        self,
        earlier: Mapping[str, ManifestEntry],
        min_seconds: float,
        require: str,
        limit: float,
        segments: Segmentation,
    ) -> None:
        self._earlier, self._limit, self._segments = earlier, limit, segments
        self._min_seconds, self._require = min_seconds, require
        self._lock = threading.Lock()
        self._files: dict[str, Future[ManifestEntry]] = {}

    def scan(self, entry: ManifestEntry) -> tuple[ManifestEntry, list[ManifestEntry]]:
        """Return the entry of the whole file, and the entries that this one becomes."""
        segment = segment_of(entry.path)
        if not segment.whole:
            with suppress(OSError):
                if entry.info is not None and entry.stamp == _stamp(segment.file):
                    return replace(entry, stamp=""), [self._judged(entry)]
            whole = self._file(replace(entry, path=segment.file, info=None, skipped="", stamp=""))
            return whole, [self._judged(_within(entry, whole, segment))]
        whole = self._judged(_probe_entry(entry, self._earlier, self._limit))
        if whole.info is None or whole.skipped:
            return whole, [whole]
        try:
            parts = self._segments.segments(whole.info, self._limit)
        except MediaError as error:
            why = str(error).removeprefix(f"{printable(entry.path)}: ")
            return whole, [replace(whole, skipped=f"its scenes cannot be found: {why}")]
        if len(parts) == 1:
            return whole, [whole]
        return whole, [self._judged(_within(whole, whole, part)) for part in parts]

    def _file(self, whole: ManifestEntry) -> ManifestEntry:
        """Return the entry of a whole file with its properties, or why it cannot be read."""
        with self._lock:
            first = whole.path not in self._files
            future = self._files.setdefault(whole.path, Future())
        if first:
            try:
                future.set_result(_probe_entry(whole, self._earlier, self._limit))
            except BaseException as error:
                future.set_exception(error)
                raise
        return future.result()

    def _judged(self, entry: ManifestEntry) -> ManifestEntry:
        """Return an entry with the reason why it is not usable, if there is one."""
        if entry.info is None:
            return entry
        return replace(entry, skipped=_why_unusable(entry, entry.info, self._min_seconds, self._require))


def _within(entry: ManifestEntry, whole: ManifestEntry, segment: Segment) -> ManifestEntry:
    """Return the entry of a segment of a file that has been scanned."""
    entry = replace(entry, path=segment.name, stamp=whole.stamp)
    if whole.info is None:
        return replace(entry, info=None, skipped=whole.skipped)
    info = whole.info.within(segment)
    if not info.seconds:
        why = f"starts at {segment.start:g} s, after the end of the file at {whole.info.seconds:g} s"
        return replace(entry, info=None, skipped=why)
    return replace(entry, info=info, skipped="")


def _probe_entry(entry: ManifestEntry, earlier: Mapping[str, ManifestEntry], limit: float) -> ManifestEntry:
    """Return an entry with the properties of its file, or why it cannot be read."""
    try:
        stamp = _stamp(entry.path)
    except OSError as error:
        return replace(entry, info=None, skipped=entry.skipped or reason(error), stamp="")
    for known in (entry, earlier.get(os.path.abspath(entry.path))):
        if known is not None and known.stamp == stamp and (known.info or known.skipped.startswith(_NO_VIDEO)):
            return replace(entry, info=known.info, skipped=known.skipped, stamp=stamp)
    try:
        return replace(entry, info=run_guarded(probe, entry.path, limit=limit), skipped="", stamp=stamp)
    except MediaError as error:
        why = str(error).removeprefix(f"{printable(entry.path)}: ")
        prefix = "" if isinstance(error, TransientMediaError) else _NO_VIDEO
        return replace(entry, info=None, skipped=f"{prefix}{why}", stamp=stamp)


def _stamp(path: str) -> str:
    """Return size and time of change of a file."""
    status = os.stat(path)
    return f"{status.st_size}-{status.st_mtime_ns}"


def _why_unusable(entry: ManifestEntry, info: VideoInfo, min_seconds: float, require: str) -> str:
    """Return why a video is not usable, or ""."""
    present = {"picture": info.has_video, "sound": info.has_audio}
    if not any(present.values()):
        return f"{_NO_VIDEO}neither picture nor sound"
    long_enough = modalities_of(entry, min_seconds)
    faults = {
        what: f"no {what}" if not present[what] else f"{what} shorter than {min_seconds:g} s"
        for what, modality in (("picture", "video"), ("sound", "audio"))
        if modality not in long_enough
    }
    if require == "any":
        return "; ".join(faults.values()) if len(faults) == 2 else ""
    if require == "picture":
        return faults.get("picture", "")
    return "; ".join(faults.values())
