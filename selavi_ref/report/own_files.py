"""Tables and figures that this program has written, so that it replaces no others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from selavi_ref.errors import FilePath, InputError, printable

TABLE_ENDINGS = ("json", "txt", "csv")  # the JSON first: it tells that the others are of this program
PLACES_COLUMNS = ("path", "x", "y", "label", "class")  # of the table of a map, which has no JSON
_FIGURE_ENDINGS = ("png", "svg")


def refuse_foreign(stem: FilePath, figures: Sequence[FilePath] = (), *, advice: str = "") -> None:
    """
    Refuse to replace a table and its figures, if they exist and this program has not written the table.

    Parameters
    ----------
    stem : path
        Path of the table without its ending.
    figures : sequence of path
        Paths of its figures without their endings; a figure without a table beside it is of somebody else.
    advice : str
        What else can be done, at the end of the message.

    Raises
    ------
    InputError
        If such a file is of somebody else.
    """
    paths = [Path(f"{os.fspath(stem)}.{ending}") for ending in TABLE_ENDINGS]
    paths += [Path(f"{os.fspath(figure)}.{ending}") for figure in figures for ending in _FIGURE_ENDINGS]
    existing = [path for path in paths if os.path.lexists(path)]
    if existing and not _is_own_table(os.fspath(stem)):
        path = existing[0]
        what = "table" if path.suffix[1:] in TABLE_ENDINGS else "figure"
        message = f"{printable(path)} is no {what} that selavi has written; move it, or name another folder by --out"
        raise InputError(f"{message}{advice}", path=path, option="--out")


def _is_own_table(stem: str) -> bool:
    starts = {}
    for ending in ("json", "csv"):
        try:
            with open(f"{stem}.{ending}", encoding="utf-8", errors="replace") as file:
                starts[ending] = file.read(4096)
        except OSError:
            continue
    return '"columns":' in starts.get("json", "") or starts.get("csv", "").startswith(",".join(PLACES_COLUMNS) + "\n")
