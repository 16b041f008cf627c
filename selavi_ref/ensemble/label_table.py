"""The table of labels (CSV): how it is written and read."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from typing import Any

from selavi_ref.ensemble.labels import Labels
from selavi_ref.errors import InputError, printable
from selavi_ref.runs.atomic import replacing

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # beginnings of cells that a spreadsheet program calculates


COLUMNS = ("path", "label", "confidence", "runner_up", "modalities", "disagreement", "reason")


def write_csv(labels: Labels, path: str | os.PathLike[str], names: Mapping[int, str] | None = None) -> None:
    """
    Write labels as CSV, one row for each video: `COLUMNS`, then ``head_0`` and so on.

    Paths that are not UTF-8 survive (surrogateescape). The file is replaced whole or not at all.

    Parameters
    ----------
    labels : Labels
        Of the videos.
    path : path
        The file.
    names : mapping, optional
        Names of clusters; with some, they stand in a column ``name`` behind the labels.
    """
    with replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        heads = [f"head_{h}" for h in range(labels.heads.shape[1])]
        if not names:
            writer.writerow([*COLUMNS, *heads])
            writer.writerows(_rows(labels))
            return
        writer.writerow([*COLUMNS[:2], "name", *COLUMNS[2:], *heads])
        for cluster, row in zip(labels.label.tolist(), _rows(labels), strict=True):
            writer.writerow([*row[:2], as_cell(names.get(cluster, "")), *row[2:]])


def read_csv(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """
    Read a table of labels: rows as mappings of column to text.

    Raises
    ------
    InputError
        If it cannot be read, or lacks the columns ``path`` and ``label``.
    """
    rows = _read_table(path)
    if not rows or not {"path", "label"} <= set(rows[0]):
        raise InputError(f"{printable(path)} is no table of labels: it needs a header with the columns path and label")
    return rows


def read_truths(path: str | os.PathLike[str]) -> dict[str, str]:
    """
    Read true classes from a CSV file with the columns ``path`` and ``class``.

    Raises
    ------
    InputError
        If it cannot be read or lacks a column.
    """
    rows = _read_table(path)
    if not rows or not {"path", "class"} <= set(rows[0]):
        raise InputError(f"{printable(path)} holds no true classes: it needs a header with the columns path and class")
    return {row["path"]: row["class"] for row in rows}


def as_cell(text: str) -> str:
    """Return a text that people have written as no spreadsheet program calculates it: with an apostrophe before it."""
    return f"'{text}" if text.lstrip("'").startswith(_FORMULAS) else text


def plain_name(cell: str) -> str:
    """Return the text that `as_cell` was given."""
    return cell[1:] if cell[:1] == "'" and cell.lstrip("'").startswith(_FORMULAS) else cell


def folder_class(path: str) -> str:
    """Return the class that a video's folder names, ``.../{class}/{video}``; "" for a bare file name."""
    return os.path.basename(os.path.dirname(path))


def _read_table(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return [{str(k): v or "" for k, v in row.items() if k is not None} for row in csv.DictReader(file)]
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read: {error.strerror or error}") from error
    except csv.Error as error:
        raise InputError(f"{printable(path)} is no CSV file: {error}") from error


def _rows(labels: Labels) -> Iterator[list[Any]]:
    for i, path in enumerate(labels.paths):
        labelled = labels.label[i] >= 0
        differs = "" if labels.disagreement is None or not labelled else f"{labels.disagreement[i]:.3f}"
        yield [
            path,
            labels.label[i] if labelled else "",
            f"{labels.confidence[i]:.4f}" if labelled else "",
            labels.runner_up[i] if labels.runner_up[i] >= 0 else "",
            labels.modalities[i],
            differs,
            labels.reasons[i],
            *(value if value >= 0 else "" for value in labels.heads[i]),
        ]
