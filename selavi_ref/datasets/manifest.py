"""Manifests: lists of videos with their properties, from folders and list files."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from selavi_ref.errors import FilePath, InputError, SelaviError, printable
from selavi_ref.media.container import VideoInfo

VIDEO_EXTENSIONS = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv"),
    *(".ts", ".mts", ".m2ts", ".3gp", ".3g2", ".ogv"),
)
LIST_EXTENSIONS = (".csv", ".tsv", ".txt", ".lst")  # extensions of list files
_INFO_COLUMNS = ("video_seconds", "audio_seconds", "fps", "width", "height", "sample_rate")
_COLUMNS = ("path", "class", "split", *_INFO_COLUMNS, "skipped", "stamp")
_OLD_COLUMNS = {"picture_seconds": "video_seconds", "sound_seconds": "audio_seconds"}  # names that 0.1.0 wrote


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """
    One video of a manifest.

    Parameters
    ----------
    path
        The file.
    class_name
        True class, for reporting only; "" if unknown.
    info
        Properties of the file; None before scanning, or if it cannot be read.
    skipped
        Why it cannot be used; "" if it can, or before scanning.
    split
        Split that it belongs to, such as ``train``; "" without splits.
    stamp
        Size and time of change of the file when it was scanned, to recognise it in a later scan; "" before.
    """

    path: str
    class_name: str = ""
    info: VideoInfo | None = None
    skipped: str = ""
    split: str = ""
    stamp: str = ""


@dataclass(frozen=True)
class Manifest:
    """
    A list of videos in a fixed order.

    Parameters
    ----------
    entries
        The videos.
    source
        The folder, list or file that it was read from.
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

    def only(self, split: str) -> Manifest:
        """Return the entries of one split."""
        return replace(self, entries=[entry for entry in self.entries if entry.split == split])

    @property
    def usable(self) -> Manifest:
        """The usable entries."""
        return replace(self, entries=[entry for entry in self.entries if not entry.skipped])

    @property
    def skipped(self) -> Manifest:
        """The entries that cannot be used, each with a reason."""
        return replace(self, entries=[entry for entry in self.entries if entry.skipped])


def find_videos(folder: FilePath) -> Manifest:
    """
    List the video files of a folder at any depth, sorted by path.

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
        for path in sorted(iter_videos(root.rstrip(os.sep) or os.sep))
    ]
    if not entries:
        raise InputError(f"{printable(root)} holds no video: no file in it ends in {', '.join(VIDEO_EXTENSIONS)}")
    return Manifest(entries, root)


def read_manifest(path: FilePath) -> Manifest:
    """
    Read a list file.

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
    folder = os.path.dirname(name)
    try:
        with open(name, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows: Iterator[list[str]] = filter(any, csv.reader(file, delimiter=delimiter))
            first = next(rows, [])
            header = [_OLD_COLUMNS.get(name, name) for name in (cell.strip().lower() for cell in first)]
            if "path" not in header:
                if "class" in header:
                    columns = ", ".join(header)
                    raise InputError(f'{printable(name)} has the columns {columns}; one must be called "path"')
                header, rows = ["path", "class"], chain([first], rows)
            entries = [_entry_of(dict(zip(header, row, strict=False)), folder) for row in rows]
    except OSError as error:
        raise InputError(f"{printable(name)} cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise InputError(f"{printable(name)} is no list of videos: {error}") from error
    entries = [entry for entry in entries if entry.path]
    if not entries:
        raise InputError(f"{printable(name)} lists no video")
    return Manifest(entries, name)


def write_manifest(manifest: Manifest, path: FilePath) -> None:
    """
    Write a manifest as CSV; `read_manifest` returns the same manifest.

    Paths below the folder of the list are written relative to it, so that both can be moved together.
    The file is replaced atomically.

    Raises
    ------
    SelaviError
        If it cannot be written; the old one stays.
    """
    name = os.fspath(path)
    partial = f"{name}.part"
    try:
        with open(partial, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            writer.writerows(manifest_row(entry, name) for entry in manifest)
        os.replace(partial, name)
    except OSError as error:
        with suppress(OSError):
            os.unlink(partial)
        raise SelaviError(f"{printable(name)} cannot be written: {error.strerror or error}") from error


def is_scan_list(path: FilePath) -> bool:
    """Tell whether a file has the header of `write_manifest`."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            header = file.readline().strip().split(",")
    except OSError:
        return False
    return tuple(_OLD_COLUMNS.get(name, name) for name in header) == _COLUMNS


def manifest_row(entry: ManifestEntry, path: FilePath) -> list[object]:
    """Return the cells of one entry for the list at `path`, in the order of its columns."""
    folder = os.path.dirname(os.path.abspath(os.fspath(path)))
    full = os.path.abspath(entry.path)
    below = full.startswith(folder.rstrip(os.sep) + os.sep)
    info = [getattr(entry.info, column) if entry.info else "" for column in _INFO_COLUMNS]
    cell = os.path.relpath(full, folder) if below else full
    return [cell, entry.class_name, entry.split, *info, entry.skipped, entry.stamp]


def iter_videos(root: str) -> Iterator[str]:
    """Yield the video files below a folder; each real folder is visited once, as links may form loops."""
    visited: set[tuple[int, int]] = set()
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            listing = list(os.scandir(folder))
        except OSError:  # a folder that may not be entered, or vanished
            continue
        for item in listing:
            if item.name.startswith("."):
                continue
            if item.is_dir():
                pending.append(item.path)
            elif item.name.lower().endswith(VIDEO_EXTENSIONS):
                yield item.path


def _entry_of(row: dict[str, str], folder: str) -> ManifestEntry:
    """Return the entry of a row; relative paths start from the folder of the list."""
    path = row.get("path", "")
    full = os.path.join(folder, path) if path else ""
    return ManifestEntry(
        full,
        row.get("class", "").strip(),
        _info_of(row, full),
        row.get("skipped", ""),
        row.get("split", "").strip(),
        row.get("stamp", ""),
    )


def _info_of(row: dict[str, str], path: str) -> VideoInfo | None:
    """Return the properties in a row of `write_manifest`, or None."""
    try:
        width, sample_rate = int(row["width"]), int(row["sample_rate"])
        return VideoInfo(
            path=path,
            video_seconds=float(row["video_seconds"]),
            audio_seconds=float(row["audio_seconds"]),
            fps=float(row["fps"]),
            width=width,
            height=int(row["height"]),
            sample_rate=sample_rate,
            has_video=width > 0,
            has_audio=sample_rate > 0,
        )
    except (KeyError, ValueError):
        return None
