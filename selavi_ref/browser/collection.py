"""The videos that the page shows: of a run, a store or a table of labels, with all labellings."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from selavi_ref.browser.annotations import Annotations, annotations_beside, annotations_of
from selavi_ref.browser.labelling import CONSENSUS, Labelling
from selavi_ref.browser.posterior_index import PosteriorIndex
from selavi_ref.browser.store_labels import StoredLabels
from selavi_ref.browser.table_labels import TableLabels
from selavi_ref.datasets.locations import locate
from selavi_ref.datasets.run_lists import labelled_videos
from selavi_ref.datasets.video_files import VIDEO_EXTENSIONS
from selavi_ref.ensemble.label_table import look_up_classes
from selavi_ref.errors import InputError, printable
from selavi_ref.media.container import VideoInfo
from selavi_ref.media.segments import file_of
from selavi_ref.naming.proposals import ProposalsFile
from selavi_ref.runs.csv_file import without_surrogates
from selavi_ref.runs.run import Run, RunKind


class LabelSource(Protocol):
    """
    Computes the labellings of a collection: `StoredLabels` from a store, `TableLabels` from a table.

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
        """Return a labelling, without edits."""

    def merge(self, name: str, targets: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return confidence and runner-up of each video when cluster k is merged into ``targets[k]``."""


@dataclass
class Collection:
    """
    Videos, their labels and their properties.

    Parameters
    ----------
    source : Path
        The run, store or table.
    folder : Path
        Folder for cached files of the page.
    annotations : Annotations
        The edits.
    paths, classes, modalities, reasons : list of str
        For each of N videos: its path as listed, its true class ("" if unknown), the modalities of its label, such as
        ``"video+audio"``, and why it has no label ("" if it has one).
    labels : LabelSource
        All labellings.
    posterior_index : PosteriorIndex or None
        Posteriors and neighbours; None for a table.
    features_file : Path or None
        The store.
    files : list of str
        Absolute path of each video.
    info : mapping
        Properties of some files, by path.
    relative_to_source : bool
        Whether relative paths start from a folder of the table or store, not from the current folder.
    """

    source: Path
    folder: Path
    annotations: Annotations
    paths: list[str]
    classes: list[str]
    modalities: list[str]
    reasons: list[str]
    labels: LabelSource
    posterior_index: PosteriorIndex | None = None
    features_file: Path | None = None
    files: list[str] = field(default_factory=list)
    info: Mapping[str, VideoInfo] = field(default_factory=dict)
    relative_to_source: bool = False
    _labellings: dict[str, Labelling] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def title(self) -> str:
        """Title of the collection on the page."""
        return without_surrogates(self.source.resolve().name)

    @property
    def rows(self) -> dict[str, list[int]]:
        """Row numbers of the videos with each path: one, unless a table lists a path more than once."""
        rows: dict[str, list[int]] = {}
        for row, path in enumerate(self.paths):
            rows.setdefault(path, []).append(row)
        return rows

    @property
    def links_folder(self) -> Path:
        """Folder in which the page creates links to labelled videos."""
        return Run(self.source).links_folder if self.source.is_dir() else self.folder / "labelled"

    @property
    def names_file(self) -> Path:
        """File of the proposals of names, beside that of the annotations."""
        file = self.annotations.file
        return file.with_name(file.name.removesuffix("annotations.json") + "names.json")

    @property
    def encoded_folder(self) -> Path:
        """Folder of features that encoders have computed of the videos, beside the file of the annotations."""
        file = self.annotations.file
        return file.with_name(file.name.removesuffix("annotations.json") + "encoded")

    def proposals(self) -> ProposalsFile:
        """Return the proposals of names for these clusters."""
        return ProposalsFile.read(self.names_file, self.labels.clusters)

    def labelling(self, name: str) -> Labelling:
        """
        Return a labelling, computed at the first call.

        Raises
        ------
        InputError
            If there is no labelling of this name.
        """
        if not isinstance(name, str) or name not in self.labels.titles:
            known = ", ".join(self.labels.titles)
            raise InputError(f"there is no labelling {name!r}; there are {known}", option="labelling", value=name)
        with self._lock:
            if name not in self._labellings:
                self._labellings[name] = self.labels.make(name)
            return self._labellings[name]


def open_collection(
    source: str | os.PathLike[str],
    *,
    truth: str | os.PathLike[str] | None = None,
    videos: str | os.PathLike[str] | None = None,
) -> Collection:
    """
    Open a run, a feature store or a table of labels.

    Parameters
    ----------
    source : path
        A run, a feature store, or a table of labels. Without its store, the table of a run is opened.
    truth : path, optional
        CSV with the columns path and class; by default the classes of the store, or the names of folders.
    videos : path, optional
        New folder of the videos, if they have moved: replaces the common folder of the listed paths.

    Raises
    ------
    InputError
        If the source does not exist, or a file does not fit.
    """
    path = Path(source)
    if not path.exists():
        message = f"{printable(path)} does not exist; name a run, a table of labels, or a store of features"
        raise InputError(message, path=path)
    run = _run_of(path)
    if run is not None:
        opened = _open_run(run)
    elif path.is_dir():
        message = f"{printable(path)} holds no run: it has no config.toml; name a run, labels.csv or a store"
        raise InputError(message, path=path)
    else:
        folder = path.with_name(f"{path.stem}.browser")
        opened = _open_store(path, folder) if _is_store(path) else _open_table(path, folder)
    opened.files, opened.relative_to_source = _locate(opened.paths, path if path.is_dir() else path.parent, videos)
    if truth is not None:
        opened.classes = look_up_classes(opened.paths, truth)
        if not any(opened.classes):
            message = f"--truth {printable(truth)} names none of the {len(opened)} videos of {printable(path)}"
            raise InputError(message, path=truth, option="--truth")
    elif len(set(opened.classes) - {""}) < 2:
        opened.classes = [""] * len(opened)  # a single folder of all videos is no class
    return opened


def _run_of(path: Path) -> Run | None:
    """Return the run that a folder, or the labels or the store of a run, belongs to."""
    if path.is_dir():
        return Run(path) if Run(path).config_file.exists() else None
    run = Run(path.parent)
    own = path.resolve() in (run.labels_file.resolve(), run.features_file.resolve())
    return run if own and run.config_file.exists() else None


def _open_run(run: Run) -> Collection:
    if run.kind is RunKind.FINETUNE:
        message = f"{printable(run.folder)} is no run that labels videos, but one of selavi {run.kind}"
        raise InputError(message, path=run.folder)
    if run.features_file.exists():
        opened = _open_store(run.features_file, run.browser_folder)
    elif run.labels_file.exists():
        # Tables number the clusters of each head differently; only the store aligns them with the edited ones.
        opened = _open_table(run.labels_file, run.browser_folder, heads=False)
    else:
        folder = printable(run.folder)
        message = f"{folder} has no labels yet; go on with: selavi train --resume --out {folder}"
        raise InputError(message, path=run.folder)
    opened.source, opened.annotations = run.folder, annotations_of(run)
    opened.info = {entry.path: entry.info for entry in labelled_videos(run) if entry.info is not None}
    return opened


def _is_store(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _open_store(path: Path, folder: Path) -> Collection:
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
        posterior_index=labels.posterior_index,
        features_file=path,
    )


def _open_table(path: Path, folder: Path, *, heads: bool = True) -> Collection:
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


def _locate(paths: Sequence[str], beside: Path, moved: str | os.PathLike[str] | None) -> tuple[list[str], bool]:
    """Return absolute paths of listed videos, and whether they are relative to the folder of the list."""
    if moved is not None:
        if not os.path.isdir(moved):
            raise InputError(f"--videos {printable(moved)} is not a folder", path=moved, option="--videos")
        absolute = [os.path.abspath(path) for path in paths]
        common = os.path.commonpath([os.path.dirname(path) for path in absolute]) if absolute else ""
        return [os.path.abspath(os.path.join(moved, os.path.relpath(path, common))) for path in absolute], False
    files, base = locate(paths, beside)
    return files, base is not None


def video_file(path: str) -> str | None:
    """Return the file of a video or segment if it is a regular file with the extension of a video, else None."""
    path = file_of(path)
    try:
        endings = {os.path.splitext(name)[1].lower() for name in (path, os.path.realpath(path))}
        regular = endings.issubset(VIDEO_EXTENSIONS) and stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):  # the latter: a name that no file can have
        return None
    return path if regular else None
