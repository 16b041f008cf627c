"""Folds: divisions of a collection into training and test videos, with their classes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from selavi_ref.datasets import Manifest, read_manifest, scan, write_manifest
from selavi_ref.datasets.layouts import list_layout
from selavi_ref.datasets.manifest import ManifestEntry
from selavi_ref.datasets.scan import list_videos
from selavi_ref.errors import FilePath, InputError, printable
from selavi_ref.runs.reporter import SILENT, Reporter

TRAIN = "train"
_SPLITS = (TRAIN, "val", "test")


@dataclass(frozen=True)
class Fold:
    """
    One division of a collection into training and test videos.

    Parameters
    ----------
    number : int
        Number of the fold, from 1.
    train, test : Manifest
        Usable training videos, and all test videos.
    skipped : Manifest
        Training videos that cannot be used.
    """

    number: int
    train: Manifest
    test: Manifest
    skipped: Manifest = Manifest()  # noqa: RUF009

    @property
    def classes(self) -> list[str]:
        """The C classes, sorted; a class number is an index into this list."""
        return sorted(set(self.train.classes))

    @property
    def train_labels(self) -> NDArray[np.int64]:
        """Class numbers of the training videos, int64, shape (N,)."""
        return self._labels(self.train)

    @property
    def test_labels(self) -> NDArray[np.int64]:
        """Class numbers of the test videos, int64, shape (N,)."""
        return self._labels(self.test)

    def _labels(self, manifest: Manifest) -> NDArray[np.int64]:
        number_of = {name: number for number, name in enumerate(self.classes)}
        return np.array([number_of[name] for name in manifest.classes], np.int64)

    def write(self, path: FilePath) -> None:
        """Write the manifest of the fold: training, skipped and test videos."""
        write_manifest(replace(self.train, entries=[*self.train, *self.skipped, *self.test]), path)

    @classmethod
    def read(cls, number: int, path: FilePath) -> Fold:
        """Read a manifest of `write`."""
        listed = read_manifest(path)
        train, test = listed.only(TRAIN), [entry for entry in listed if entry.split != TRAIN]
        return cls(number, train.usable, replace(listed, entries=test), train.skipped)


def list_folds(
    videos: str,
    layout: str = "",
    *,
    annotations: str | None = None,
    numbers: Sequence[int] = (1,),
    test_split: str = "test",
) -> dict[int, Manifest]:
    """
    Return the videos of each fold with their classes and splits, without opening them.

    Parameters
    ----------
    videos : str
        The folder of a published collection, a list with the columns path, class and split, or a folder of the form
        ``ROOT/{train,test}/{class}/{video}``.
    layout : str
        ``"ucf101"`` or ``"hmdb51"`` for a published collection, which has several folds; "" for any other.
    annotations : str, optional
        Folder of its lists, if not at a usual place.
    numbers : sequence of int
        Folds of a published collection.
    test_split : str
        Name of the split of test videos.

    Raises
    ------
    InputError
        If there is no such fold, or a split of it has no video; also as in `list_layout`.
    """
    if layout:
        folds = {number: list_layout(videos, layout, annotations=annotations, fold=number) for number in numbers}
    else:
        folds = {1: _with_splits(list_videos(videos), videos)}
    for number, manifest in folds.items():
        name = _describe(videos, layout, number)
        splits = sorted({entry.split for entry in manifest} - {""})
        for split in (TRAIN, test_split):
            if split not in splits:
                known = f"its splits are {', '.join(splits)}" if splits else "it names no splits"
                form = (
                    "" if layout else "; a list needs a column split, a folder the form ROOT/{train,test}/{class}/VIDEO"
                )
                raise InputError(f"{name} has no video of the split {split}: {known}{form}")
    return folds


def scan_folds(
    listed: Mapping[int, Manifest],
    test_split: str,
    *,
    workers: int | None = None,
    reporter: Reporter = SILENT,
) -> list[Fold]:
    """
    Scan every video of some folds once, and return the folds.

    Raises
    ------
    InputError
        If a fold has no usable video, fewer than two classes, or a test class without a training video.
    """
    unique = {entry.path: entry for entry in _entries(listed, (TRAIN, test_split))}
    source = next(iter(listed.values())).source
    files = Manifest(list(unique.values()), source)
    scanned = scan(files, min_seconds=0.0, require="picture", workers=workers, reporter=reporter)
    scanned_by_path = {entry.path: entry for entry in scanned}
    folds = []
    for number, manifest in listed.items():
        entries = [
            _with_scan(entry, scanned_by_path[entry.path])
            for entry in _entries({number: manifest}, (TRAIN, test_split))
        ]
        whole = replace(manifest, entries=entries)
        train = whole.only(TRAIN)
        folds.append(Fold(number, train.usable, whole.only(test_split), train.skipped))
        _check(folds[-1], whole)
    return folds


def _entries(listed: Mapping[int, Manifest], splits: tuple[str, ...]) -> list[ManifestEntry]:
    return [entry for manifest in listed.values() for entry in manifest if entry.split in splits]


def _with_scan(entry: ManifestEntry, scanned: ManifestEntry) -> ManifestEntry:
    """Return the scanned entry of a file with the class and split that it has in this fold."""
    return replace(scanned, path=os.path.abspath(entry.path), class_name=entry.class_name, split=entry.split)


def _check(fold: Fold, whole: Manifest) -> None:
    name = f"{printable(whole.source)}, fold {fold.number}"
    if not len(fold.train) or not len(fold.test.usable):
        part = TRAIN if not len(fold.train) else fold.test.entries[0].split
        first = whole.only(part).skipped.entries[0]
        reason = f"{printable(first.path)}: {first.skipped}"
        raise InputError(
            f"{name}: none of the {len(whole.only(part))} videos of the split {part} can be used; {reason}"
        )
    unnamed = next((entry for entry in [*fold.train, *fold.test] if not entry.class_name), None)
    if unnamed is not None:
        raise InputError(f"{name}: {printable(unnamed.path)} has no class")
    if len(fold.classes) < 2:
        raise InputError(f"{name}: learning needs two classes, but all its videos are of {printable(fold.classes[0])}")
    unknown = sorted(set(fold.test.classes) - set(fold.classes))
    if unknown:
        which = printable(unknown[0])
        raise InputError(f"{name}: the class {which} is tested, but has no usable video in the split {TRAIN}")


def _with_splits(manifest: Manifest, videos: str) -> Manifest:
    """Return entries with the splits that the folders ``ROOT/{split}/{class}/{video}`` name."""
    if not os.path.isdir(videos):
        return manifest

    def split_of(entry: ManifestEntry) -> str:
        first = os.path.relpath(entry.path, videos).split(os.sep)[0]
        return first if first in _SPLITS else ""

    return replace(manifest, entries=[replace(entry, split=split_of(entry)) for entry in manifest])


def _describe(videos: str, layout: str, number: int) -> str:
    return f"{printable(videos)}, fold {number} of {layout}" if layout else printable(videos)
