"""The videos of an export: files, labels, names of clusters, properties; and outputs that replace nothing unasked."""

from __future__ import annotations

import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from selavi_ref.datasets.video_files import LINKS_MARKER
from selavi_ref.errors import FilePath, InputError, SelaviError, printable
from selavi_ref.media.container import VideoInfo
from selavi_ref.report.export import FinalLabels
from selavi_ref.report.links import is_regular_file, put_in_place, safe_name
from selavi_ref.runs.csv_file import without_surrogates

_MADE = "selavi export made this folder, and replaces it with --force.\n"


@dataclass(frozen=True)
class LabelledVideos:
    """
    N videos with their final labels.

    Parameters
    ----------
    labels : FinalLabels
        The labels.
    files : sequence of str
        Absolute path of each video.
    info : mapping
        Properties of some videos, by their path in `labels`.
    """

    labels: FinalLabels
    files: Sequence[str]
    info: Mapping[str, VideoInfo] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def classes(self) -> dict[int, str]:
        """Name of each cluster that has videos; two of the same name are told apart by their number."""
        names = {
            int(k): without_surrogates(name).strip() or f"cluster-{k:03d}"
            for k, name in zip(self.labels.cluster, self.labels.name, strict=True)
            if k >= 0
        }
        number = Counter(names.values())
        return {k: f"{name} ({k})" if number[name] > 1 else name for k, name in sorted(names.items())}

    @cached_property
    def usable(self) -> list[int]:
        """Rows of the videos that exist, have a label, and are not marked as wrong: those to learn from."""
        marks, clusters = self.labels.mark, self.labels.cluster
        return [
            row
            for row, file in enumerate(self.files)
            if clusters[row] >= 0 and marks[row] != "wrong" and is_regular_file(file)
        ]

    def class_of(self, row: int) -> str:
        """Return the name of a video's cluster; "" without a label."""
        return self.classes.get(int(self.labels.cluster[row]), "")

    def confidence_of(self, row: int) -> float | None:
        """Return the confidence of a video's label; None if it is not known, or the user chose the label."""
        value = float(self.labels.confidence[row])
        known = self.labels.cluster[row] >= 0 and value > 0 and self.labels.mark[row] != "moved"
        return round(value, 6) if known else None

    def info_of(self, row: int) -> VideoInfo | None:
        """Return the properties of a video, if they are known."""
        return self.info.get(self.labels.paths[row])


def refuse_existing(path: FilePath, force: bool) -> None:
    """
    Refuse a file to write that exists.

    Raises
    ------
    InputError
        If it exists and may not be replaced, or is a folder.
    """
    if os.path.isdir(path):
        raise InputError(f"{printable(path)} is a folder; name a file", path=path)
    if os.path.lexists(path) and not force:
        raise InputError(f"{printable(path)} exists already; name another, or replace it by --force", path=path)


def refuse_existing_folder(folder: FilePath, force: bool) -> None:
    """
    Refuse a folder to write that holds something, unless an export has made it and it may be replaced.

    Raises
    ------
    InputError
        If it must not be replaced.
    """
    target = Path(folder)
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise InputError(f"{printable(target)} is there already and is no folder; name another", path=target)
    if any(target.iterdir()):
        if not (target / LINKS_MARKER).is_file():
            raise InputError(f"{printable(target)} holds other files; name a new or an empty folder", path=target)
        if not force:
            raise InputError(f"{printable(target)} exists already; name another, or replace it by --force", path=target)


@contextmanager
def replacing_folder(folder: FilePath, force: bool) -> Iterator[Path]:
    """
    Give an empty folder to fill, which takes the place of `folder` when the block ends, whole or not at all.

    Raises
    ------
    InputError
        As `refuse_existing_folder`.
    SelaviError
        If it cannot be written.
    """
    target = Path(os.path.abspath(folder))
    refuse_existing_folder(target, force)
    new = target.parent / f".{safe_name(target.name, 100)}.{secrets.token_hex(4)}.partial"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        new.mkdir()
        (new / LINKS_MARKER).write_text(_MADE, encoding="utf-8")
        yield new
        put_in_place(new, target)
    except OSError as error:
        raise SelaviError(f"{printable(target)} cannot be written: {error.strerror or error}", path=target) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
