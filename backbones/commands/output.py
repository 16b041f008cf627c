"""Results of a command: printed on standard output, and files that do not replace a user's own."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import click

from selavi_ref.errors import InputError, printable

STANDARD_OUTPUT = "-"
_LABEL_COLUMNS = {"path", "label", "confidence", "runner_up", "modalities"}

force_option = click.option("--force", is_flag=True, help="Replace existing files, whatever they are.")


class OutPath(click.Path):
    """
    A file or folder to write.

    Refused are ``-``, for standard output shows messages, where it is not allowed; and a video, sound file or picture
    that exists, even with ``--force``: no command writes one, so its name is a slip.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if value == STANDARD_OUTPUT and not self.allow_dash:
            self.fail("'-': this command cannot write to standard output; name a file or folder.", param, ctx)
        if os.path.isfile(value):
            from selavi_ref.datasets.video_files import file_type

            if file_type(os.fspath(value)):
                self.fail(f"{printable(value)} is a video, sound file or picture; name another file.", param, ctx)
        return super().convert(value, param, ctx)


def echo(text: str) -> None:
    """Print a text with the bytes that it would have in a file: names that are not UTF-8 keep theirs."""
    click.echo(text.rstrip("\n").encode("utf-8", "surrogateescape"))


def refuse_foreign_table(out: str, given: bool, force: bool) -> None:
    """
    Refuse to replace a file, unless it was named and is a table of labels written by this program.

    A file in a folder that does not exist is refused, too, before any long work.

    Parameters
    ----------
    out : str
        The file to write.
    given : bool
        Whether the user has named it; a default name never replaces a file.
    force : bool
        Replace whatever it is.

    Raises
    ------
    InputError
        If the file must not be replaced, or its folder does not exist.
    """
    refuse_missing_folder(out)
    if force or not os.path.lexists(out) or (given and _is_label_table(out)):
        return
    what = "is not a table of labels written by selavi label" if given else "exists already"
    raise InputError(f"{out} {what}; name another file by --out, or replace it by --force", path=out, option="--out")


def refuse_missing_folder(out: str) -> None:
    """Raise an `InputError` if the folder in which a file or folder is to be written does not exist."""
    folder = os.path.dirname(out.rstrip(os.sep))
    if folder and not os.path.isdir(folder):
        raise InputError(f"--out {out}: there is no folder {folder}; make it first", path=folder, option="--out")


def refuse_foreign_store(out: str) -> None:
    """
    Refuse to write a store in place of something else, or in a folder that does not exist, before any long work.

    Raises
    ------
    InputError
        If its folder does not exist.
    StoreError
        If there is something else than a store.
    """
    from selavi_ref.store import FORMAT
    from selavi_ref.store.checks import check_is_file, check_replaceable

    refuse_missing_folder(out)
    check_is_file(Path(out))
    check_replaceable(Path(out), FORMAT)


def _is_label_table(path: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return set(next(csv.reader(file), [])) >= _LABEL_COLUMNS
    except (OSError, csv.Error):
        return False
