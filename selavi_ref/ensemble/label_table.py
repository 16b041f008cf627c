"""The table of labels: its columns, and how it is written to CSV and read from it."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from selavi_ref.datasets.tables import CLASS_NAMES, PATH_NAMES, class_of, match_paths, read_table
from selavi_ref.ensemble.labels import Labels
from selavi_ref.errors import InputError, printable
from selavi_ref.media.segments import segment_of
from selavi_ref.runs.atomic import replacing
from selavi_ref.runs.checksums import forget_checksum, record_checksum, verify_checksum
from selavi_ref.runs.csv_file import encodable, plain_text, write_rows
from selavi_ref.runs.run import Run

MAX_CLUSTERS = 100_000  # larger cluster numbers in a table are taken for a mistake
HEAD = "head_"  # prefix of the columns of the heads


@dataclass(frozen=True)
class Column:
    """
    A column of a table of labels.

    Parameters
    ----------
    kind : str
        ``"text"`` ("" if missing), ``"cluster"`` (int32, -1 if missing), ``"probability"`` (float32, NaN if missing) or
        ``"seconds"`` (float64, NaN if missing).
    about : str
        What its values are.
    digits : int
        Decimals of a number in CSV.
    """

    kind: Literal["text", "cluster", "probability", "seconds"]
    about: str
    digits: int = 4


# All columns that a table of labels may have, in their order; columns of heads stand before ``link``.
COLUMNS = {
    "path": Column("text", "the video; where a name is not UTF-8, U+FFFD replaces what is not: see path_bytes"),
    "start": Column("seconds", "start of the segment of the video, seconds; only in tables of segments", 3),
    "end": Column("seconds", "end of the segment, seconds; missing up to the end of the video", 3),
    "label": Column("cluster", "cluster of the video, after all videos and clusters that the user has moved or joined"),
    "name": Column("text", "name that the user has given to the cluster"),
    "confidence": Column("probability", "posterior of the label as learnt, or of the cluster that it was joined into"),
    "runner_up": Column("cluster", "second most probable cluster"),
    "modalities": Column("text", "modalities that the label as learnt is based on"),
    "disagreement": Column("probability", "fraction of the video's clips whose own label differs, mean over heads", 3),
    "mark": Column("text", "moved: the user chose the label; wrong: the user says that it is wrong"),
    "learnt": Column("cluster", "cluster of the video as learnt"),
    "class": Column("text", "true class, if known"),
    "reason": Column("text", "why there is no label"),
    "head_N": Column("cluster", "label by head N, in its own cluster numbers"),
    "link": Column("text", "link to the video in this folder"),
}
_VERBATIM = ("path", "class", "link")  # paths and parts of paths, which programs must read back byte for byte

Values = Sequence[str] | NDArray[np.int32] | NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True)
class LabelTable:
    """
    A table of labels.

    Parameters
    ----------
    columns : mapping of str to sequence
        Values of some of `COLUMNS`, in their order, each of length N. Paths may be names of segments; columns
        ``start`` and ``end`` are made of them when the table is written.
    """

    columns: Mapping[str, Values]

    @property
    def written_columns(self) -> Mapping[str, Values]:
        """The columns as they are written: with ``start`` and ``end`` beside the file, if any video is a segment."""
        segments = [segment_of(path) for path in self.columns["path"]]
        if all(segment.whole for segment in segments):
            return self.columns
        ends = [math.nan if segment.end == math.inf else segment.end for segment in segments]
        return {
            "path": [segment.file for segment in segments],
            "start": np.array([segment.start for segment in segments], np.float64),
            "end": np.array(ends, np.float64),
            **{name: values for name, values in self.columns.items() if name != "path"},
        }

    def rows(self) -> Iterator[list[Any]]:
        """Yield the values of each video in the order of the written columns; None if missing."""
        plain = [_plain_values(name, values) for name, values in self.written_columns.items()]
        yield from map(list, zip(*plain, strict=True))

    def write(self, file: IO[str]) -> None:
        """
        Write the table as CSV.

        Paths and classes are written as they are, byte for byte; see `selavi_ref.runs.csv_file.write_rows` for others.

        Parameters
        ----------
        file : text file
            Opened with ``newline=""`` and ``errors="surrogateescape"``.
        """
        names = list(self.written_columns)
        digits = [column_of(name).digits for name in names]
        rows = ([_as_text(value, places) for value, places in zip(row, digits, strict=True)] for row in self.rows())
        write_rows(file, names, rows, _VERBATIM)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> LabelTable:
        """
        Read a table of labels with all its columns that are in `COLUMNS`.

        Raises
        ------
        InputError
            If it cannot be read, has no columns ``path`` and ``label``, or a value does not fit its column.
        """
        rows = read_csv(path)
        known = [name for name in rows[0] if name in COLUMNS or name.removeprefix(HEAD).isdecimal()]
        known = [name for name in known if name not in ("start", "end")]  # which are part of the path
        return cls({name: _typed_values(path, name, [row[name] for row in rows]) for name in known})


def column_of(name: str) -> Column:
    """Return the schema of a column."""
    return COLUMNS["head_N" if name.startswith(HEAD) else name]


def label_table(labels: Labels, names: Mapping[int, str] | None = None) -> LabelTable:
    """
    Return labels as a table.

    Parameters
    ----------
    labels : Labels
        Labels of N videos.
    names : mapping of int to str, optional
        Names of clusters, for a column ``name``; without any, there is no such column.
    """
    labelled = labels.label >= 0
    disagreement = np.full(len(labelled), np.nan) if labels.disagreement is None else labels.disagreement
    columns: dict[str, Values] = {"path": labels.paths, "label": labels.label}
    if names:
        columns["name"] = [names.get(cluster, "") for cluster in labels.label.tolist()]
    return LabelTable(
        columns
        | {
            "confidence": np.where(labelled, labels.confidence, np.nan),
            "runner_up": labels.runner_up,
            "modalities": labels.modalities,
            "disagreement": np.where(labelled, disagreement, np.nan),
            "reason": labels.reasons,
        }
        | {f"{HEAD}{h}": of_head for h, of_head in enumerate(labels.heads.T)}
    )


def write_csv(labels: Labels, path: str | os.PathLike[str], names: Mapping[int, str] | None = None) -> None:
    """
    Write labels as CSV, atomically; parameters are those of `label_table`, see `LabelTable.write`.

    For the table of a run, number of rows and checksum are recorded, see `selavi_ref.runs.checksums`.
    """
    of_run = run_of_table(path) is not None
    if of_run:
        forget_checksum(Path(path))
    with replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        label_table(labels, names).write(file)
    if of_run:
        record_checksum(Path(path))


def read_csv(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """
    Read a table of labels: rows as mappings of column to text.

    Raises
    ------
    InputError
        If it cannot be read, has no columns ``path`` and ``label``, lists a path twice, or is the table of a run and
        has changed since the run has written it.
    """
    if run_of_table(path) is not None:
        store = shlex.join(["selavi", "label", str(Run(Path(path).parent).features_file), "--out", str(path)])
        verify_checksum(path, f"copy it elsewhere to use it as it is, or write it anew by {printable(store)} --force")
    names = {"path": PATH_NAMES, "label": ("label", "cluster")}
    rows = read_table(path, names, checked=("label",), kind="table of labels")
    rows = _with_columns(path, rows, "label", "table of labels")
    _refuse_duplicates(path, [row["path"] for row in rows])
    return rows


def read_truths(path: str | os.PathLike[str]) -> dict[str, str]:
    """
    Read true classes from a CSV file with the columns ``path`` and ``class``.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column, or has two classes for one path.
    """
    kind = "table of true classes"
    rows = read_table(path, {"path": PATH_NAMES, "class": CLASS_NAMES}, kind=kind)
    if rows and "label" in rows[0]:
        rows = [{**row, "class": class_of(row)} for row in rows if "confidence" not in row]
    rows = _with_columns(path, rows, "class", kind)
    pairs = list(dict.fromkeys((row["path"], row["class"]) for row in rows))
    _refuse_duplicates(path, [video for video, _ in pairs], "has two classes for")
    return dict(pairs)


def look_up_classes(paths: Sequence[str], truth: str | os.PathLike[str]) -> list[str]:
    """
    Return the true class of each video by a table of true classes, "" where it has none.

    Paths may be written in another way there, see `selavi_ref.datasets.tables.match_paths`.

    Raises
    ------
    InputError
        If the table cannot be read or lacks a column.
    """
    known = read_truths(truth)
    folder = os.path.dirname(os.path.abspath(truth))
    return ["" if match is None else known[match] for match in match_paths(paths, known, folder)]


def run_of_table(path: str | os.PathLike[str]) -> Run | None:
    """Return the run whose table of labels a file is, or None."""
    run = Run(Path(path).parent)
    return run if Path(path).name == run.labels_file.name and run.config_file.exists() else None


def _refuse_duplicates(path: str | os.PathLike[str], videos: Sequence[str], what: str = "lists twice:") -> None:
    """Raise an InputError if a table has a path twice, since nothing says which of the rows should count."""
    seen: set[str] = set()
    for row, video in enumerate(videos):
        if video in seen:
            raise InputError(f"{printable(path)} {what} {printable(video)}", path=path, value=video, row=row)
        seen.add(video)


def _with_columns(
    path: str | os.PathLike[str], rows: list[dict[str, str]], column: str, kind: str
) -> list[dict[str, str]]:
    """Return the rows of a table, or raise InputError if it has none or lacks a column beside the path."""
    if not rows or column not in rows[0]:
        raise InputError(
            f"{printable(path)} is no {kind}: it needs a header with the columns path and {column}",
            path=path,
            option=column,
        )
    return rows


def _plain_values(name: str, values: Values) -> list[Any]:
    """Return the values of a column as Python's own, None if missing."""
    kind = column_of(name).kind
    if kind == "text":
        return [value or None for value in values]
    numbers = np.asarray(values).tolist()
    return [value if (value >= 0 if kind == "cluster" else math.isfinite(value)) else None for value in numbers]


def _as_text(value: Any, digits: int) -> str:
    """Return a value as text of a CSV file."""
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return "" if value is None else encodable(str(value))


def _typed_values(path: str | os.PathLike[str], name: str, cells: list[str]) -> Values:
    """Return the cells of a column in the type that it has."""
    kind = column_of(name).kind
    if kind == "text":
        return cells if name in _VERBATIM else [plain_text(cell) for cell in cells]
    values = [_number(cell, kind) for cell in cells]
    if None in values:
        row = values.index(None)
        kinds = {"cluster": f"a cluster number, from 0 to {MAX_CLUSTERS - 1}", "probability": "a number"}
        raise InputError(
            f"{printable(path)}, row {row + 2}: {name} must be {kinds[kind]}, not {cells[row]!r:.60}",
            path=path,
            option=name,
            value=cells[row],
            row=row,
        )
    return np.array(values, np.int32) if kind == "cluster" else np.array(values, np.float32)


def _number(cell: str, kind: str) -> float | None:
    """Return the number in a cell, the missing value of its kind if it is empty, or None if it is no such number."""
    if kind == "cluster":
        if cell and not (cell.isascii() and cell.isdecimal() and len(cell) < 9 and int(cell) < MAX_CLUSTERS):
            return None
        return int(cell or -1)
    try:
        return float(cell or "nan")
    except ValueError:
        return None
