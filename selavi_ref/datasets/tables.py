"""Tolerant reading of tables that people write: lists of videos, true classes and labels, as CSV or plain text."""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from selavi_ref.datasets.video_files import VIDEO_EXTENSIONS
from selavi_ref.errors import FilePath, InputError, printable, reason
from selavi_ref.media.segments import Segment, file_of, path_before_times, read_times

PATH_NAMES = ("path", "file", "filename", "file_name", "filepath", "file_path", "video", "video_path")
CLASS_NAMES = ("class", "class_name", "classname", "category")
_DELIMITERS = ",\t;"
_TIMES = {"start", "end"}
_TO_COMMA = re.compile(r"#t=[-+0-9:.]*$")  # the name of a segment up to its comma
_AFTER_COMMA = re.compile(r"[-+0-9:.]+|nan|inf")


def read_table(
    path: FilePath,
    names: Mapping[str, Sequence[str]],
    *,
    headerless: Sequence[str] = (),
    checked: Sequence[str] = ("path", "class"),
    kind: str = "table",
) -> list[dict[str, str]]:
    """
    Read a table with a header, or a list without one, as text.

    Commas, tabs or semicolons separate the cells; spaces around all of them are ignored, blank lines too. The encoding
    is UTF-8 or, with a byte order mark or recognisable zero bytes, UTF-16; bytes that are not UTF-8 survive
    (surrogateescape). Where a table has columns ``path`` and ``start`` or ``end``, ``path`` is returned as the name of
    the segment (see `selavi_ref.media.segments`). Such a name in ``path``, whose comma stands without quotes, is joined
    again, in a list without header, or if its row has more cells than the header.

    Parameters
    ----------
    path
        The file.
    names
        Other accepted names of columns, in lower case: ``{"path": ("path", "file")}``. The first key is the column by
        which a header is recognised.
    headerless
        Columns of a file without header; by default a header is required.
    checked
        Columns that may hold no zero byte.
    kind
        Description of the file in errors.

    Returns
    -------
    list
        A mapping of column to text for each row; names of columns are in lower case, missing cells "".

    Raises
    ------
    InputError
        If the file cannot be read, is no text, or has no header where one is required. `path` is set, and `row` for a
        row with zero bytes.
    """
    lines = _read_lines(path, kind)
    key = next(iter(names))
    delimiter = _find_delimiter(lines[0] if lines else "", names[key], os.fspath(path).lower().endswith(".tsv"))
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise InputError(f"{printable(path)} is no {kind}: {error}", path=path) from error
    if _is_padded(rows):
        rows = [[cell.strip() for cell in row] for row in rows]
    header = [_canonical(cell, names) for cell in rows[0]] if rows else []
    least = 1  # cells of a row
    if headerless and any(path_before_times(cell).lower().endswith(VIDEO_EXTENSIONS) for cell in header):
        header = list(headerless)
    elif key in header:
        rows, least = rows[1:], len(header)
    elif headerless and not {*names, *_TIMES} & set(header):
        header = list(headerless)
    elif rows or not headerless:
        columns = ", ".join(cell for cell in (rows[0] if rows else [])[:20])
        raise InputError(
            f'{printable(path)} is no {kind}: one of its columns must be called "{key}"'
            + (f"; its first line has {printable(columns)}" if columns else ""),
            path=path,
            option=key,
        )
    if key == "path" and key in header and delimiter == ",":
        rows = [_with_whole_name(row, header.index(key), least) for row in rows]
    records = [{name: row[i] if i < len(row) else "" for i, name in enumerate(header) if name} for row in rows]
    for number, record in enumerate(records):
        if any("\0" in record.get(name, "") for name in checked):
            why = f"row {number + 1} holds a zero byte, so it is no {kind}"
            raise InputError(f"{printable(path)}: {why}", path=path, row=number)
    return _name_segments(path, records) if key == "path" else records


def _with_whole_name(row: list[str], column: int, least: int) -> list[str]:
    """Join the halves of a name such as ``a.mp4#t=1,2`` that stands without quotes; `least`: cells of other rows."""
    if len(row) <= max(least, column + 1):
        return row
    start, end = row[column : column + 2]
    if not _TO_COMMA.search(start) or not _AFTER_COMMA.fullmatch(end):
        return row
    return [*row[:column], f"{start},{end}", *row[column + 2 :]]


def _name_segments(path: FilePath, records: list[dict[str, str]]) -> list[dict[str, str]]:
    """Replace the path of each record that has a start or an end by the name of the segment."""
    if records and _TIMES & set(records[0]):
        for number, record in enumerate(records):
            record["path"] = _segment_name(path, number, record)
    return records


def _segment_name(path: FilePath, number: int, record: Mapping[str, str]) -> str:
    """Return the name of the segment that a row of a table stands for."""
    cells = (record.get(name, "") for name in ("start", "end"))
    try:
        start, end = read_times(*(cell if cell.strip() else None for cell in cells))
    except InputError as error:
        why = f"{printable(path)}, row {number + 1}: {error}"
        raise InputError(why, path=path, option=error.option, value=error.value, row=number) from error
    return Segment(record["path"], start, end).name if record["path"] else ""


def class_of(row: Mapping[str, str]) -> str:
    """Return the class in a row of `read_table`: from the column ``class``, or ``label`` if labels are no clusters."""
    if "class" not in row and "confidence" not in row:
        return row.get("label", "").strip()
    return row.get("class", "").strip()


def delimiter_of(path: FilePath) -> str:
    """Return the delimiter for writing a list: a tab for ``*.tsv``, else a comma."""
    return "\t" if os.fspath(path).lower().endswith(".tsv") else ","


def match_paths(paths: Sequence[str], known: Iterable[str], folder: FilePath) -> list[str | None]:
    """
    Match videos with the paths of another table that may be written differently.

    Paths match if they are equal, or lead to the same place from the current folder or from `folder`, with characters
    composed or decomposed; or else by the name of the file, if no other path of either table has that name. A segment
    that matches nothing matches what its whole file matches.

    Parameters
    ----------
    paths
        The videos.
    known
        The paths of the other table.
    folder
        Folder of the other table.

    Returns
    -------
    list
        The known path of each video, or None.
    """
    known = list(known)
    exact = set(known)
    places: dict[str, str] = {}
    for other in known:
        for base in ("", folder):
            places.setdefault(_place(other, base), other)
    by_name = {name: other for other, name in zip(known, map(_name, known), strict=True)}
    counts = Counter(map(_name, known))
    own_counts = Counter(map(_name, dict.fromkeys(map(_place, paths))))
    matches: list[str | None] = []
    for path in paths:
        name = _name(path)
        unique = counts[name] == 1 == own_counts[name]
        match = path if path in exact else places.get(_place(path), places.get(_place(path, folder)))
        matches.append(match if match is not None else by_name[name] if unique else None)
    segments = {
        row: file for row, match in enumerate(matches) if match is None and (file := file_of(paths[row])) != paths[row]
    }
    if segments:
        files = list(dict.fromkeys(segments.values()))
        of_files = dict(zip(files, match_paths(files, known, folder), strict=True))
        for row, file in segments.items():
            matches[row] = of_files[file]
    return matches


def folder_classes(paths: Sequence[str]) -> list[str]:
    """
    Return the name of each video's folder as its class.

    A bare file name has no class, nor has a video in the common folder of all, if others are in folders below it.
    """
    folders = [os.path.dirname(path) for path in paths]
    root = os.path.commonpath(map(os.path.abspath, folders)) if folders else ""
    mixed = any(os.path.abspath(folder) != root for folder in folders)
    return ["" if mixed and os.path.abspath(folder) == root else os.path.basename(folder) for folder in folders]


def _read_lines(path: FilePath, kind: str) -> list[str]:
    """Return the lines of a text file, decoded."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read: {reason(error)}", path=path) from error
    encoding = "utf-8-sig"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    else:
        even, odd = data[:200:2].count(0), data[1:200:2].count(0)
        if max(even, odd) > len(data[:200]) // 5:  # every other byte of Latin text is zero, without a byte order mark
            encoding = "utf-16-be" if even > odd else "utf-16-le"
    errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
    try:
        text = data.decode(encoding, errors)
    except UnicodeDecodeError as error:
        raise InputError(f"{printable(path)} is no {kind}: it is not text in UTF-8 or UTF-16", path=path) from error
    lines = io.StringIO(text, newline="").readlines()
    while lines and not lines[0].strip():
        del lines[0]
    return lines


def _find_delimiter(line: str, names: Sequence[str], tabs: bool) -> str:
    """Return the delimiter of a table by its first line."""
    for delimiter in _DELIMITERS:
        cells = [cell.strip().strip('"').lower() for cell in line.split(delimiter)]
        if len(cells) > 1 and set(cells) & set(names):
            return delimiter
    if tabs and "\t" in line:
        return "\t"
    # Without header: commas and tabs may be part of a name, but then they are quoted; a semicolon rarely separates.
    if "," in line or '"' in line:
        return ","
    first, *others = line.split(";")
    if others and os.path.splitext(first)[1] and not os.path.splitext(others[-1].strip())[1]:
        return ";"
    return "\t" if "\t" in line and os.path.splitext(line.split("\t")[0])[1] else ","


def _is_padded(rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether all delimiters of a table have spaces before or after them, which are then no part of the cells."""
    after = [cell for row in rows for cell in row[1:] if cell]
    before = [cell for row in rows for cell in row[:-1] if cell]
    return bool(after) and (all(cell[0] == " " for cell in after) or all(cell[-1] == " " for cell in before))


def _canonical(cell: str, names: Mapping[str, Sequence[str]]) -> str:
    name = cell.strip().lower()
    return next((key for key, accepted in names.items() if name in accepted), name)


def _place(path: str, folder: FilePath = "") -> str:
    return unicodedata.normalize("NFC", os.path.abspath(os.path.join(folder, path)))


def _name(path: str) -> str:
    return unicodedata.normalize("NFC", os.path.basename(path))
