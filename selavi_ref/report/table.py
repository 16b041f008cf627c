"""Tables of results: one content as text for people, and as CSV and JSON for programs."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selavi_ref.errors import InputError, printable
from selavi_ref.report.own_files import TABLE_ENDINGS, refuse_foreign
from selavi_ref.runs.atomic import replacing
from selavi_ref.runs.csv_file import write_rows

FORMATS = ("text", "csv", "json")
_FORMAT_OF = {"json": "json", "txt": "text", "csv": "csv"}  # by the ending of the file
_VERBATIM = ("path", "class")  # which programs must read back byte for byte

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Table:
    """
    A table of results.

    Parameters
    ----------
    title : str
        What it is about, in one line.
    columns : mapping of str to str
        Name of each column in files, and its heading for people.
    rows : sequence of mapping
        Cells by the name of their column; one that is missing or None is empty.
    notes : sequence of str
        Sentences below the table.
    facts : mapping
        What else the JSON holds, such as settings and versions.
    """

    title: str
    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, Cell]] = field(default_factory=list)
    notes: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Return the table for people: columns aligned, numbers to three decimals."""
        grid = [list(self.columns.values())]
        grid += [[_shown(row.get(name)) for name in self.columns] for row in self.rows]
        numeric = [any(isinstance(row.get(name), (int, float)) for row in self.rows) for name in self.columns]
        widths = [max(len(line[column]) for line in grid) for column in range(len(self.columns))]
        lines = [
            "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(line, widths, numeric, strict=True)
            ).rstrip()
            for line in grid
        ]
        title = [printable(self.title)] if self.title else []
        return "\n".join([*title, *lines, *map(printable, self.notes)])

    def csv(self) -> str:
        """Return the table as CSV, numbers in full; of the text, paths and classes are written as they are."""
        out = io.StringIO(newline="")
        write_rows(out, list(self.columns), ([row.get(n) for n in self.columns] for row in self.rows), _VERBATIM)
        return out.getvalue()

    def json(self) -> str:
        """Return the table as JSON: ``title``, ``columns``, ``rows``, ``notes``, and the facts; NaN becomes null."""
        content = {
            "title": self.title,
            "columns": dict(self.columns),
            "rows": [{name: row.get(name) for name in self.columns} for row in self.rows],
            "notes": list(self.notes),
            **self.facts,
        }
        return json.dumps(_plain(content), indent=1, allow_nan=False) + "\n"

    def to(self, kind: str) -> str:
        """
        Return the table in one of `FORMATS`.

        Raises
        ------
        InputError
            If there is no such format.
        """
        if kind not in FORMATS:
            raise InputError(f"a table can be had as {', '.join(FORMATS)}, not as {kind}", option="kind", value=kind)
        return {"text": self.text, "csv": self.csv, "json": self.json}[kind]()

    def write(
        self, stem: str | os.PathLike[str], *, figures: Sequence[str | os.PathLike[str]] = (), force: bool = False
    ) -> list[Path]:
        """
        Write ``STEM.txt``, ``STEM.csv`` and ``STEM.json``, each whole or not at all, and return their paths.

        Parameters
        ----------
        stem : path
            Path of the files without their endings.
        figures : sequence of path
            Paths, without endings, of the figures that the caller draws of the table.
        force : bool
            Whether files of these names are replaced, whoever has written them.

        Raises
        ------
        InputError
            If there are tables or figures of these names that this program has not written.
        """
        paths = {_FORMAT_OF[ending]: Path(f"{os.fspath(stem)}.{ending}") for ending in TABLE_ENDINGS}
        if not force:
            refuse_foreign(stem, figures)
        for kind, path in paths.items():
            content = self.to(kind)
            with replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                file.write(content if content.endswith("\n") else content + "\n")
        return [paths[kind] for kind in FORMATS]


def results_folder(out: str | os.PathLike[str]) -> Path:
    """
    Make the folder of some results, unless it is there.

    Raises
    ------
    InputError
        If it cannot be made.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{printable(folder)} cannot be made: {error.strerror}", path=folder) from error
    return folder


def _shown(value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value  # of NumPy
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else printable(value)


def _plain(value: Any) -> Any:
    """Return what JSON can hold: numbers of NumPy as Python's, NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
