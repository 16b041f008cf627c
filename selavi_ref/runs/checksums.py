"""Checksums of tables that a run has written, by which a later command notices that they were cut off or changed."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selavi_ref.errors import InputError, printable, reason
from selavi_ref.runs.atomic import write_text

CHECKSUMS_NAME = "checksums.json"  # beside the tables


def record_checksum(*files: Path) -> None:
    """
    Record number of rows and checksum of tables in one folder, in ``checksums.json`` beside them.

    Parameters
    ----------
    *files : Path
        CSV files in one folder.
    """
    folder = files[0].parent
    found = {file.name: dict(zip(("rows", "sha256"), _measure(file), strict=True)) for file in files}
    _write(folder, {**_read(folder), **found})


def forget_checksum(file: Path) -> None:
    """Remove the record of a table that is about to be replaced, so that a killed process leaves no wrong one."""
    recorded = _read(file.parent)
    if recorded.pop(file.name, None) is not None:
        _write(file.parent, recorded)


def is_recorded(file: Path) -> bool:
    """Return whether a table is unchanged since a run has recorded it."""
    recorded = _read(file.parent).get(file.name)
    return isinstance(recorded, Mapping) and recorded.get("sha256") == _measure(file)[1]


def verify_checksum(file: str | os.PathLike[str], advice: str) -> None:
    """
    Refuse a table that has changed since it was recorded; one that was never recorded is accepted.

    Parameters
    ----------
    file : path
        The table.
    advice : str
        What to do, in the error.

    Raises
    ------
    InputError
        If number of rows or checksum differ from those that were recorded.
    """
    path = Path(file)
    recorded = _read(path.parent).get(path.name)
    if not isinstance(recorded, Mapping) or not isinstance(recorded.get("sha256"), str) or not path.is_file():
        return
    rows, digest = _measure(path)
    if recorded["sha256"] == digest:
        return
    before = recorded.get("rows")
    changed = f"has {rows:,} rows, of {before:,}" if isinstance(before, int) and before != rows else "has changed"
    raise InputError(f"{printable(path)} {changed} since this run has written it; {advice}", path=path)


def _measure(path: Path) -> tuple[int, str]:
    """Return the number of rows below the header, and the SHA-256 of a file."""
    try:
        with open(path, "rb") as binary:
            digest = hashlib.file_digest(binary, "sha256").hexdigest()
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as text:
            return max(0, sum(1 for row in csv.reader(text) if row) - 1), digest
    except csv.Error:
        return -1, digest
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read: {reason(error)}", path=path) from error


def _read(folder: Path) -> dict[str, Any]:
    """Return what was recorded; nothing if there is no record, or it is damaged."""
    try:
        recorded = json.loads((folder / CHECKSUMS_NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return recorded if isinstance(recorded, dict) else {}


def _write(folder: Path, recorded: Mapping[str, Any]) -> None:
    write_text(folder / CHECKSUMS_NAME, json.dumps(recorded, indent=1, sort_keys=True) + "\n")
