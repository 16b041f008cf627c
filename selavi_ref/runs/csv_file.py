"""CSV files that spreadsheet programs may open: no cell of text is taken for a formula."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Sequence
from typing import IO, Any

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # beginnings of cells that a spreadsheet program calculates


def write_rows(
    file: IO[str],
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    verbatim: Collection[str] = (),
    *,
    delimiter: str = ",",
) -> None:
    """
    Write a header and rows as CSV; None becomes an empty cell.

    Parameters
    ----------
    file : text file
        Opened with ``newline=""`` and ``errors="surrogateescape"``, so that names that are not UTF-8 keep their bytes.
    columns : sequence of str
        Names of the columns.
    rows : iterable of sequences
        Values in the order of the columns.
    verbatim : collection of str
        Columns whose text is written as it is, such as paths, which must be read back byte for byte. In all others,
        text that looks like a formula gets an apostrophe in front; see `as_cell`.
    delimiter : str
        What separates the cells.
    """
    guarded = [name not in verbatim for name in columns]
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(
            as_cell(value) if guard and isinstance(value, str) else value
            for value, guard in zip(row, guarded, strict=True)
        )


def as_cell(text: str) -> str:
    """Return a text as a cell that no spreadsheet program calculates: with an apostrophe in front if necessary."""
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA_STARTS) else text


def plain_text(cell: str) -> str:
    """Return the text that `as_cell` was given."""
    return cell[1:] if cell[:1] == "'" and cell.lstrip("'").startswith(_FORMULA_STARTS) else cell


def encodable(text: str) -> str:
    """Return a text that can be written with ``surrogateescape``: U+FFFD in place of surrogates that mean no byte."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return without_surrogates(text)
    return text


def without_surrogates(text: str) -> str:
    """Return a text that every program can read: U+FFFD in place of surrogates."""
    return text if text.isascii() else "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
