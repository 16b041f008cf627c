"""Collections of videos: found in folders, read from and written to lists, and looked into."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from selavi_ref.errors import InputError, MediaError, SelaviError
from selavi_ref.media.container import FilePath, VideoInfo, import_av, printable, probe

ENDINGS = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv"),
    *(".ts", ".mts", ".m2ts", ".3gp", ".3g2", ".ogv"),
)
_LISTS = (".csv", ".tsv", ".txt", ".lst")  # endings of files that are taken for a list of videos
_COLUMNS = ("path", "class", "picture_seconds", "sound_seconds", "fps", "width", "height", "sample_rate", "skipped")


@dataclass(frozen=True)
class ManifestEntry:
    """
    One video of a collection.

    Parameters
    ----------
    path
        The file.
    class_name
        Its class, for reporting only; "" if unknown.
    info
        What it holds; None before scanning, or if it cannot be read.
    skipped
        Why it cannot be used; "" if it can, or before scanning.
    """

    path: str
    class_name: str = ""
    info: VideoInfo | None = None
    skipped: str = ""


@dataclass(frozen=True)
class Manifest:
    """
    The videos of a collection, in a fixed order.

    Parameters
    ----------
    entries
        All of them.
    source
        The folder, list or file that they come from.
    """

    entries: list[ManifestEntry] = field(default_factory=list)
    source: str = ""

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[ManifestEntry]:
        return iter(self.entries)

    @property
    def paths(self) -> list[str]:
        """Path of each entry."""
        return [entry.path for entry in self.entries]

    @property
    def classes(self) -> list[str]:
        """Class of each entry."""
        return [entry.class_name for entry in self.entries]

    @property
    def usable(self) -> Manifest:
        """The entries that can be used."""
        return replace(self, entries=[entry for entry in self.entries if not entry.skipped])

    @property
    def skipped(self) -> Manifest:
        """The entries that cannot be used; each says why."""
        return replace(self, entries=[entry for entry in self.entries if entry.skipped])


def scan(
    videos: FilePath,
    *,
    min_seconds: float = 1.1,
    require_both: bool = True,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """
    Find the videos of a collection and look into each: how long it is, and whether it has picture and sound.

    Parameters
    ----------
    videos
        A folder (see `find_videos`), a list of videos (see `read_manifest`), or one video file.
    min_seconds
        What is shorter than this cannot be used.
    require_both
        Whether a video needs both picture and sound (each of that length) to be usable, or either.
    workers
        Threads; by default as many as there are processors.
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
    import_av()
    listed = list_videos(videos)

    def look(entry: ManifestEntry) -> ManifestEntry:
        try:
            info = probe(entry.path)
        except MediaError as error:
            text = str(error).removeprefix(f"{printable(entry.path)}: ")
            return replace(entry, info=None, skipped=f"not a video: {text}" if os.path.exists(entry.path) else text)
        return replace(entry, info=info, skipped=_why_unusable(info, min_seconds, require_both))

    entries = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for entry in pool.map(look, listed.entries):
            entries.append(entry)
            if progress is not None:
                progress(len(entries), len(listed))
    return replace(listed, entries=entries)


def list_videos(videos: FilePath) -> Manifest:
    """Return the videos of a folder, of a list or of one file, without opening them; see `scan`."""
    path = os.fspath(videos)
    if os.path.isdir(path):
        return find_videos(path)
    if not os.path.exists(path):
        raise InputError(f"{printable(path)} does not exist; expected a folder of videos, a list of them or a video")
    if os.path.splitext(path)[1].lower() in _LISTS:
        return read_manifest(path)
    return Manifest([ManifestEntry(path)], path)


def find_videos(folder: FilePath) -> Manifest:
    """
    Find the video files of a folder at any depth, in the order of their paths.

    A file in a folder below `folder` has that folder's name as its class (``ROOT/{class}/x.mp4`` as well as
    ``ROOT/{split}/{class}/x.mp4``). Hidden files and folders, and files
    with endings that no video has, are passed over; links are followed, but no folder is entered twice.

    Raises
    ------
    InputError
        If the folder is missing or holds no video.
    """
    root = os.fspath(folder)
    if not os.path.isdir(root):
        raise InputError(f"{printable(root)} is not a folder")
    entries = [
        ManifestEntry(path, "" if os.path.dirname(path) == root.rstrip(os.sep) else Path(path).parent.name)
        for path in sorted(_walk(root.rstrip(os.sep) or os.sep))
    ]
    if not entries:
        raise InputError(f"{printable(root)} holds no video: no file in it ends in {', '.join(ENDINGS)}")
    return Manifest(entries, root)


def read_manifest(path: FilePath) -> Manifest:
    """
    Read a list of videos.

    Either a CSV file whose header has a column ``path`` and, optionally, ``class``, with the columns that
    `write_manifest` adds, and any others; or a file without header: one path a line, or path and class separated by a
    comma (CSV, with quotes where needed). A file called ``*.tsv`` is separated by tabs. Relative paths start from
    the folder of the list. Bytes that are not UTF-8 survive (surrogateescape).

    Raises
    ------
    InputError
        If the list is missing, empty, or has a header without a column ``path``.
    """
    name = os.fspath(path)
    delimiter = "\t" if name.lower().endswith(".tsv") else ","
    try:
        with open(name, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = [row for row in csv.reader(file, delimiter=delimiter) if any(row)]
    except OSError as error:
        raise InputError(f"{printable(name)} cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise InputError(f"{printable(name)} is no list of videos: {error}") from error
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if "path" in header:
        rows = rows[1:]
    elif "class" in header:
        raise InputError(f'{printable(name)} has the columns {", ".join(header)}; one must be called "path"')
    else:
        header = ["path", "class"]
    folder = os.path.dirname(name)
    entries = [_entry_of(dict(zip(header, row, strict=False)), folder) for row in rows]
    entries = [entry for entry in entries if entry.path]
    if not entries:
        raise InputError(f"{printable(name)} lists no video")
    return Manifest(entries, name)


def write_manifest(manifest: Manifest, path: FilePath) -> None:
    """
    Write a list of videos as CSV, with what is known of each; `read_manifest` gives the same manifest back.

    Paths below the folder of the list are written relative to it, so that both can be moved together.
    The file is replaced whole or not at all.

    Raises
    ------
    SelaviError
        If it cannot be written; the old one stays.
    """
    name = os.fspath(path)
    folder = os.path.dirname(os.path.abspath(name))
    partial = f"{name}.part"
    rows: list[list[object]] = []
    for entry in manifest:
        full = os.path.abspath(entry.path)
        inside = full.startswith(folder.rstrip(os.sep) + os.sep)
        info = [getattr(entry.info, column) if entry.info else "" for column in _COLUMNS[2:-1]]
        rows.append([os.path.relpath(full, folder) if inside else full, entry.class_name, *info, entry.skipped])
    try:
        with open(partial, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            csv.writer(file).writerows([_COLUMNS, *rows])
        os.replace(partial, name)
    except OSError as error:
        with suppress(OSError):
            os.unlink(partial)
        raise SelaviError(f"{printable(name)} cannot be written: {error.strerror or error}") from error


def _why_unusable(info: VideoInfo, min_seconds: float, require_both: bool) -> str:
    """Reason why a video cannot be used, or ""."""
    lengths = {"picture": info.picture_seconds, "sound": info.sound_seconds}
    there = {"picture": info.has_video, "sound": info.has_audio}
    if not any(there.values()):
        return "not a video: neither picture nor sound"
    faults = [
        f"no {what}" if not there[what] else f"{what} shorter than {min_seconds:g} s"
        for what, seconds in lengths.items()
        if not there[what] or seconds < min_seconds
    ]
    return "; ".join(faults) if require_both or len(faults) == 2 else ""


def _walk(root: str) -> Iterator[str]:
    """Video files below a folder, each real folder visited once (links may form loops)."""
    seen: set[tuple[int, int]] = set()
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            listing = list(os.scandir(folder))
        except OSError:  # a folder that may not be entered, or vanished
            continue
        for item in listing:
            if item.name.startswith("."):
                continue
            if item.is_dir():
                pending.append(item.path)
            elif item.name.lower().endswith(ENDINGS):
                yield item.path


def _entry_of(row: dict[str, str], folder: str) -> ManifestEntry:
    """One row of a list; a relative path starts from the list's folder."""
    path = row.get("path", "")
    full = os.path.join(folder, path) if path else ""
    return ManifestEntry(full, row.get("class", "").strip(), _info_of(row, full), row.get("skipped", ""))


def _info_of(row: dict[str, str], path: str) -> VideoInfo | None:
    """Return what `write_manifest` noted of a video, or None."""
    try:
        width, sample_rate = int(row["width"]), int(row["sample_rate"])
        return VideoInfo(
            path=path,
            picture_seconds=float(row["picture_seconds"]),
            sound_seconds=float(row["sound_seconds"]),
            fps=float(row["fps"]),
            width=width,
            height=int(row["height"]),
            sample_rate=sample_rate,
            has_video=width > 0,
            has_audio=sample_rate > 0,
        )
    except (KeyError, ValueError):
        return None
