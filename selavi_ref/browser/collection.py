"""What the browser shows: the videos of a run, a store or a table of labels, with all labellings of them."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from selavi_ref.browser.annotations import Annotations, annotations_beside, annotations_of
from selavi_ref.browser.labelling import CONSENSUS, Labelling
from selavi_ref.browser.posterior_index import PosteriorIndex
from selavi_ref.browser.store_labels import StoredLabels
from selavi_ref.browser.table_labels import TableLabels
from selavi_ref.datasets.manifest import VIDEO_EXTENSIONS, read_manifest
from selavi_ref.ensemble.label_table import read_truths
from selavi_ref.errors import InputError, printable
from selavi_ref.media.container import VideoInfo
from selavi_ref.report.export import whole_text
from selavi_ref.runs.run import Run, RunKind

_ASKED = 100  # relative paths that are looked for to find out what they are relative to


class LabelSource(Protocol):
    """
    Where labels come from.

    Attributes
    ----------
    titles : dict
        Name and title of each labelling, the main one first.
    clusters : int
        Number K of clusters of each labelling.
    """

    titles: dict[str, str]
    clusters: int

    def make(self, name: str) -> Labelling:
        """Return a labelling as it was learnt."""

    def joined(self, name: str, joined: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return confidence and runner-up of each video when each cluster is joined into another, or itself."""


@dataclass
class Collection:
    """
    Videos, their labels and what is known of them.

    Parameters
    ----------
    source : Path
        The run, store or table that they come from.
    folder : Path
        Where what is made for the browser is kept.
    annotations : Annotations
        What people say of them.
    paths, classes, modalities, reasons : list of str
        Of each of N videos: how it is listed, its true class ("" if unknown), what its label rests on, such as
        ``"video+audio"``, and why it has no label ("" if it has one).
    labels : LabelSource
        All labellings.
    opinions : Opinions or None
        Posteriors and neighbours; None for a table.
    features_file : Path or None
        The store.
    files : list of str
        Where each video lies now, as an absolute path.
    info : mapping
        What is known of some files, by path.
    from_list : bool
        Whether relative paths start from the folder of the table or store, not from where the program is.
    """

    source: Path
    folder: Path
    annotations: Annotations
    paths: list[str]
    classes: list[str]
    modalities: list[str]
    reasons: list[str]
    labels: LabelSource
    opinions: PosteriorIndex | None = None
    features_file: Path | None = None
    files: list[str] = field(default_factory=list)
    info: Mapping[str, VideoInfo] = field(default_factory=dict)
    from_list: bool = False
    _made: dict[str, Labelling] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def title(self) -> str:
        """What the collection is called on the page."""
        return whole_text(self.source.resolve().name)

    @property
    def rows(self) -> dict[str, list[int]]:
        """Numbers of the videos that are listed by a path: one, unless a table lists it more than once."""
        rows: dict[str, list[int]] = {}
        for row, path in enumerate(self.paths):
            rows.setdefault(path, []).append(row)
        return rows

    @property
    def links_folder(self) -> Path:
        """Where the page has a folder of links made."""
        return Run(self.source).links_folder if self.source.is_dir() else self.folder / "labelled"

    def labelling(self, name: str) -> Labelling:
        """
        Return a labelling, worked out when it is first asked for.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        if not isinstance(name, str) or name not in self.labels.titles:
            raise InputError(f"there is no labelling {name!r}; there are {', '.join(self.labels.titles)}")
        with self._lock:
            if name not in self._made:
                self._made[name] = self.labels.make(name)
            return self._made[name]


def open_collection(
    source: str | os.PathLike[str],
    *,
    truth: str | os.PathLike[str] | None = None,
    videos: str | os.PathLike[str] | None = None,
) -> Collection:
    """
    Open what is to be shown.

    Parameters
    ----------
    source : path
        A run, or a feature store, or a table of labels. Of a run whose store is missing, its table is taken.
    truth : path, optional
        CSV with the columns path and class; by default what the store says, or folders that name classes.
    videos : path, optional
        The folder that takes the place of the one that all listed videos are in, if they have moved.

    Raises
    ------
    InputError
        If there is nothing to show, or a file does not fit.
    """
    path = Path(source)
    if not path.exists():
        raise InputError(f"{printable(path)} does not exist; name a run, a table of labels, or a store of features")
    run = _run_of(path)
    if run is not None:
        opened = _of_run(run)
    elif path.is_dir():
        raise InputError(f"{printable(path)} holds no run: it has no config.toml; name a run, labels.csv or a store")
    else:
        folder = path.with_name(f"{path.stem}.browser")
        opened = _of_store(path, folder) if _is_store(path) else _of_table(path, folder)
    opened.files, opened.from_list = _located(opened.paths, path if path.is_dir() else path.parent, videos)
    if truth is not None:
        known = read_truths(truth)
        opened.classes = [known.get(p, "") for p in opened.paths]
        if not any(opened.classes):
            raise InputError(f"--truth {printable(truth)} names none of the {len(opened)} videos of {printable(path)}")
    elif len(set(opened.classes) - {""}) < 2:
        opened.classes = [""] * len(opened)  # a folder that holds all videos names no class
    return opened


def _run_of(path: Path) -> Run | None:
    """Return the run that a folder, or the labels or the store of a run, belongs to."""
    if path.is_dir():
        return Run(path) if Run(path).config_file.exists() else None
    run = Run(path.parent)
    own = path.resolve() in (run.labels_file.resolve(), run.features_file.resolve())
    return run if own and run.config_file.exists() else None


def _of_run(run: Run) -> Collection:
    if run.kind is RunKind.FINETUNE:
        raise InputError(f"{printable(run.folder)} is no run that labels videos, but one of selavi {run.kind}")
    if run.features_file.exists():
        opened = _of_store(run.features_file, run.browser_folder)
    elif run.labels_file.exists():
        # Heads have numbers of their own there, which only the store brings into those that names are given to.
        opened = _of_table(run.labels_file, run.browser_folder, heads=False)
    else:
        folder = printable(run.folder)
        raise InputError(f"{folder} has no labels yet; go on with: selavi train --resume --out {folder}")
    opened.source, opened.annotations = run.folder, annotations_of(run)
    if run.videos_file.exists():
        entries = read_manifest(run.videos_file)
        opened.info = {entry.path: entry.info for entry in entries if entry.info is not None}
    return opened


def _is_store(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _of_store(path: Path, folder: Path) -> Collection:
    labels = StoredLabels(path, folder)
    return Collection(
        source=path,
        folder=folder,
        annotations=Annotations(annotations_beside(path), dict.fromkeys(labels.titles, labels.clusters)),
        paths=labels.store.paths,
        classes=labels.store.classes,
        modalities=labels.modalities,
        reasons=labels.store.reasons,
        labels=labels,
        opinions=labels.opinions,
        features_file=path,
    )


def _of_table(path: Path, folder: Path, *, heads: bool = True) -> Collection:
    labels = TableLabels(path, heads=heads)
    clusters = dict.fromkeys(labels.titles, labels.clusters)
    return Collection(
        source=path,
        folder=folder,
        annotations=Annotations(annotations_beside(path), clusters, {CONSENSUS: labels.names}),
        paths=labels.paths,
        classes=labels.classes,
        modalities=labels.column("modalities"),
        reasons=labels.column("reason"),
        labels=labels,
    )


def _located(paths: Sequence[str], beside: Path, moved: str | os.PathLike[str] | None) -> tuple[list[str], bool]:
    """Find out where listed videos lie, and whether that is as seen from the folder of the list."""
    if moved is not None:
        if not os.path.isdir(moved):
            raise InputError(f"--videos {printable(moved)} is not a folder")
        absolute = [os.path.abspath(path) for path in paths]
        common = os.path.commonpath([os.path.dirname(path) for path in absolute]) if absolute else ""
        return [os.path.abspath(os.path.join(moved, os.path.relpath(path, common))) for path in absolute], False
    # Asked of a few: a list is relative to its folder, or to where the program is, as a whole.
    relative = list(islice((path for path in paths if not os.path.isabs(path)), _ASKED))
    from_list = not any(map(os.path.exists, relative)) and any((beside / path).exists() for path in relative)
    return [os.path.abspath(os.path.join(beside if from_list else "", path)) for path in paths], from_list


def video_file(path: str) -> str | None:
    """Return a listed path if it is that of a video, or else None: a list may name anything, a link lead anywhere."""
    try:
        endings = {os.path.splitext(name)[1].lower() for name in (path, os.path.realpath(path))}
        regular = endings.issubset(VIDEO_EXTENSIONS) and stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):  # the latter: a name that no file can have
        return None
    return path if regular else None
