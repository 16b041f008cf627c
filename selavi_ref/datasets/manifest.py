"""Manifests: lists of videos with their properties, from folders and list files."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from selavi_ref.datasets.tables import CLASS_NAMES, PATH_NAMES, class_of, delimiter_of, read_table
from selavi_ref.datasets.video_files import FILE_TYPES, VideoFiles, describe_ignored
from selavi_ref.errors import FilePath, InputError, SelaviError, printable
from selavi_ref.media.container import VideoInfo
from selavi_ref.media.segments import parse_segment, segment_of
from selavi_ref.runs.csv_file import plain_text, write_rows

_INFO_COLUMNS = ("video_seconds", "audio_seconds", "fps", "width", "height", "sample_rate")
_COLUMNS = ("path", "class", "split", *_INFO_COLUMNS, "skipped", "stamp")
_SEGMENT_COLUMNS = ("path", "start", "end", *_COLUMNS[1:])
_NAMES = {
    "path": PATH_NAMES,
    "class": CLASS_NAMES,
    "video_seconds": ("video_seconds", "picture_seconds"),  # the latter as 0.1.0 wrote it
    "audio_seconds": ("audio_seconds", "sound_seconds"),
}
SPLIT_FOLDERS = {  # names of folders that are splits, and of the split
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """
    One video of a manifest, or a segment of one.

    Parameters
    ----------
    path
        The file, or the name of a segment of it (see `selavi_ref.media.segments`).
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
    ignored
        Numbers of files of the folder that are no videos, by extension, and of folders that were not entered.
    """

    entries: list[ManifestEntry] = field(default_factory=list)
    source: str = ""
    ignored: Mapping[str, int] = field(default_factory=dict, compare=False)

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


def find_videos(folder: FilePath, types: Collection[str] | None = None) -> Manifest:
    """
    List the media files of a folder at any depth, sorted by path; see `selavi_ref.datasets.video_files`.

    Videos, if there are any; else sound files; else pictures; or those of the given types, such as
    ``["videos", "sounds"]``.

    A file in a folder below `folder` has that folder's name as its class. In a folder of the form
    ``ROOT/{train,val,test}/{class}/x.mp4``, the upper folders are the splits.

    Raises
    ------
    InputError
        If the folder is missing or holds no video, or `types` are unknown.
    """
    given = os.fspath(folder)
    if types is not None and (isinstance(types, str) or not types or not set(types) <= set(FILE_TYPES)):
        raise InputError(
            f"types of files must be a list of {', '.join(FILE_TYPES)}, and are {types!r:.60}",
            option="files",
            value=types,
        )
    if not os.path.isdir(given):
        raise InputError(f"{printable(given)} is not a folder", path=given)
    files = VideoFiles(os.path.abspath(given), types)
    paths = sorted(files)
    if not paths:
        if files.of_run:
            raise InputError(f"{printable(given)} is the folder of a run; name that of its videos", path=given)
        ignored = describe_ignored(files.ignored)
        found = f"it has {ignored}" if ignored else "it is empty"
        wanted = "video, sound file or picture" if types is None else " or ".join(sorted(types))
        raise InputError(f"{printable(given)} holds no {wanted}: {found}", path=given)
    parts = [os.path.relpath(os.path.dirname(path), files.root).split(os.sep) for path in paths]
    has_splits = _are_splits(parts)
    entries = []
    for path, folders in zip(paths, parts, strict=True):
        split = SPLIT_FOLDERS[folders[0].lower()] if has_splits else ""
        class_folders = folders[1:] if has_splits else folders
        class_name = class_folders[-1] if class_folders and class_folders[-1] != "." else ""
        entries.append(ManifestEntry(path, class_name, split=split))
    return Manifest(entries, given, dict(files.ignored))


def _are_splits(parts: Sequence[Sequence[str]]) -> bool:
    """Tell whether the upper folders of all videos are splits; a single one is if there are folders below it."""
    upper = {folders[0].lower() for folders in parts}
    return upper <= set(SPLIT_FOLDERS) and (len(upper) > 1 or all(len(folders) > 1 for folders in parts))


def read_manifest(path: FilePath) -> Manifest:
    """
    Read a list file; its forms are those of `selavi_ref.datasets.tables.read_table`.

    Either a table whose header has a column ``path`` (or ``file``, ``filename``, ``video``) and, optionally, ``class``
    (or ``category``, ``label``), ``start`` and ``end`` (of a segment, seconds; a video may have many rows), with the
    columns that `write_manifest` adds, and any others; or a file without header:
    one path a line, or path and class. Relative paths start from the folder of the list.

    Raises
    ------
    InputError
        If the list is missing, empty, no text, has a header without a column ``path``, or a segment does not end after
        its start.
    """
    name = os.fspath(path)
    folder = os.path.dirname(os.path.abspath(name))
    rows = read_table(name, _NAMES, headerless=("path", "class"), kind="list of videos")
    entries = [_entry_of(row, folder, name, number) for number, row in enumerate(rows) if row.get("path")]
    if not entries:
        raise InputError(f"{printable(name)} lists no video", path=name)
    return Manifest(entries, name)


def write_manifest(manifest: Manifest, path: FilePath) -> None:
    """
    Write a manifest as CSV, or separated by tabs to ``*.tsv``; `read_manifest` returns the same manifest.

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
            segments = any(not segment_of(entry.path).whole for entry in manifest)
            columns = _SEGMENT_COLUMNS if segments else _COLUMNS
            rows = (manifest_row(entry, name, segments) for entry in manifest)
            verbatim = set(columns) - {"skipped"}  # paths, classes and splits are read back byte for byte
            write_rows(file, columns, rows, verbatim, delimiter=delimiter_of(name))
        os.replace(partial, name)
    except OSError as error:
        with suppress(OSError):
            os.unlink(partial)
        why = error.strerror or error
        raise SelaviError(f"{printable(name)} cannot be written: {why}", path=name) from error


def is_scan_list(path: FilePath) -> bool:
    """Tell whether a file has the header of `write_manifest`."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            line = file.readline().strip()
    except OSError:
        return False
    names = [line.split(delimiter) for delimiter in ",\t"]
    old = {old: new for new, (_, old) in list(_NAMES.items())[2:]}
    known = (_COLUMNS, _SEGMENT_COLUMNS)
    return any(tuple(old.get(name, name) for name in header) in known for header in names)


def manifest_row(entry: ManifestEntry, path: FilePath, segments: bool = False) -> list[object]:
    """Return the cells of one entry for the list at `path`, in the order of its columns, of segments or not."""
    folder = os.path.dirname(os.path.abspath(os.fspath(path)))
    segment = segment_of(entry.path)
    full = os.path.abspath(segment.file)
    below = full.startswith(folder.rstrip(os.sep) + os.sep)
    info = [getattr(entry.info, column) if entry.info else "" for column in _INFO_COLUMNS]
    cell = os.path.relpath(full, folder) if below else full
    bounds: list[object] = []
    if segments and not segment.whole:
        bounds = [segment.start, "" if segment.end == math.inf else segment.end]
    elif segments:
        bounds = ["", ""]
    return [cell, *bounds, entry.class_name, entry.split, *info, entry.skipped, entry.stamp]


def _entry_of(row: dict[str, str], folder: str, source: str, number: int) -> ManifestEntry:
    """Return the entry of a row of a list; relative paths start from the folder of the list."""
    full = os.path.join(folder, row["path"])
    if not (row.get("start") or row.get("end")):  # with these, it is a name that the program has written
        try:
            full = parse_segment(full).name
        except InputError as error:
            why = f"{printable(source)}, row {number + 1}: {error}"
            raise InputError(why, path=source, option=error.option, value=error.value, row=number) from error
    return ManifestEntry(
        full,
        class_of(row),
        _info_of(row, full),
        plain_text(row.get("skipped", "")),
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
