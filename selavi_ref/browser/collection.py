"""What the browser shows: the videos of a run, a store or a table of labels, with all labellings of them."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selavi_ref.annotations import Annotations, annotations_beside, annotations_of
from selavi_ref.browser.labelling import Labelling, keep_labelling, read_labelling
from selavi_ref.browser.opinions import CONSENSUS, Opinions, typicality
from selavi_ref.errors import InputError, StoreError
from selavi_ref.labels import folder_class, label, read_csv, read_truths
from selavi_ref.media.container import VideoInfo, printable
from selavi_ref.media.manifest import ENDINGS, read_manifest
from selavi_ref.run import Run
from selavi_ref.store import FeatureStore


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
    files : list of str
        Where each video lies now, as an absolute path.
    info : mapping
        What is known of some files, by path.
    labellings : mapping
        Name and title of each labelling, the main one first.
    clusters : int
        Number K of clusters of each labelling.
    opinions : Opinions or None
        Posteriors and neighbours; None for a table.
    make : callable
        Works out a labelling from its name and, if not None, the cluster that each cluster was joined into.
    features_file : Path or None
        The store.
    """

    source: Path
    folder: Path
    annotations: Annotations
    paths: list[str]
    classes: list[str]
    modalities: list[str]
    reasons: list[str]
    files: list[str]
    info: Mapping[str, VideoInfo]
    labellings: dict[str, str]
    clusters: int
    make: Callable[[str, NDArray[np.int32] | None], Labelling]
    opinions: Opinions | None = None
    features_file: Path | None = None
    _made: dict[str, Labelling] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def title(self) -> str:
        """What the collection is called on the page."""
        return self.source.resolve().name

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
        if name not in self.labellings:
            raise InputError(f"there is no labelling {name!r}; there are {', '.join(self.labellings)}")
        with self._lock:
            if name not in self._made:
                self._made[name] = self.make(name, None)
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
    if run is None:
        folder = path.with_name(f"{path.stem}.browser")
        if path.is_dir():
            raise InputError(
                f"{printable(path)} holds no run: it has no config.toml; name a run, labels.csv or a store"
            )
        opened = _of_store(path, folder) if _is_store(path) else _of_table(path, folder)
    else:
        if run.features_file.exists():
            opened = _of_store(run.features_file, run.browser_folder)
        elif run.labels_file.exists():
            opened = _of_table(run.labels_file, run.browser_folder)
        else:
            raise InputError(f"{printable(path)} has no labels yet; go on with: selavi train --resume --out {path}")
        if run.config.get("kind") not in (None, "heads"):
            raise InputError(f"{printable(path)} is no run that labels videos, but one of selavi {run.config['kind']}")
        opened.source, opened.annotations = run.folder, annotations_of(run)
        if run.videos_file.exists():
            entries = read_manifest(run.videos_file)
            opened.info = {entry.path: entry.info for entry in entries if entry.info is not None}
    opened.files = _located(opened.paths, path if path.is_dir() else path.parent, videos)
    if truth is not None:
        known = read_truths(truth)
        opened.classes = [known.get(p, "") for p in opened.paths]
        if not any(opened.classes):
            raise InputError(f"{printable(truth)} names none of the {len(opened)} videos of {printable(source)}")
    return opened


def _run_of(path: Path) -> Run | None:
    """Return the run that a folder, or the labels or the store of a run, belongs to."""
    if path.is_dir():
        return Run(path) if Run(path).config_file.exists() else None
    run = Run(path.parent)
    own = path.resolve() in (run.labels_file.resolve(), run.features_file.resolve())
    return run if own and run.config_file.exists() else None


def _is_store(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _of_store(path: Path, folder: Path) -> Collection:
    store = FeatureStore(path)
    if not store.heads:
        raise StoreError(f"{printable(path)} holds no log-probabilities, so there are no labels to show")
    names = {CONSENSUS: "consensus", **{name: f"head {name}" for name in store.heads}}
    if len(store.heads) > 1:
        names[CONSENSUS] = f"consensus of {len(store.heads)} heads"
    K = store.n_clusters
    present = {m: store.present(m) for m in store.modalities}
    opinions = Opinions(store)

    def make(name: str, joined: NDArray[np.int32] | None) -> Labelling:
        kept = folder / f"labelling-{len(names)}-{list(names).index(name)}.npz"
        if joined is None and (old := read_labelling(kept, path, name, names[name])) is not None:
            return old
        with opinions.lock:
            found = label(store, head=name, joined=joined)
            order = typicality(store, found.label, found.confidence)
        made = Labelling(
            name, names[name], K, found.label, found.runner_up, found.confidence, found.entropy, order, found.heads
        )
        if joined is None:
            keep_labelling(made, kept, path)
        return made

    return Collection(
        source=path,
        folder=folder,
        annotations=Annotations(annotations_beside(path), dict.fromkeys(names, K)),
        paths=store.paths,
        classes=_told_apart(store.classes),
        modalities=["+".join(m for m in present if present[m][row]) for row in range(store.n_videos)],
        reasons=store.reasons,
        files=[],
        info={},
        labellings=names,
        clusters=K,
        make=make,
        opinions=opinions,
        features_file=path,
    )


def _of_table(path: Path, folder: Path) -> Collection:
    rows = read_csv(path)
    columns = {CONSENSUS: "label"}
    columns |= {name.removeprefix("head_"): name for name in rows[0] if name.startswith("head_")}
    labels = {name: _numbers(rows, column, path) for name, column in columns.items()}
    K = 1 + max(int(values.max()) for values in labels.values())
    if K < 1:
        raise InputError(f"{printable(path)}: none of {len(rows)} videos has a label")
    confidence, nobody = _shares(rows, path), np.full(len(rows), -1, np.int32)
    heads = np.stack([labels[name] for name in columns if name != CONSENSUS] or [nobody], 1)[:, : len(columns) - 1]
    titles = {name: "labels" if name == CONSENSUS else f"head {name}" for name in columns}

    def make(name: str, joined: NDArray[np.int32] | None) -> Labelling:
        main = name == CONSENSUS
        own, second = labels[name], _numbers(rows, "runner_up", path) if main else nobody
        if joined is not None:
            own, second = (np.where(of < 0, -1, joined[of]).astype(np.int32) for of in (own, second))
            second[second == own] = -1
        sure = confidence if main else (own >= 0).astype(np.float32)
        order = np.lexsort((np.arange(len(rows)), -sure.astype(np.float64)))
        return Labelling(name, titles[name], K, own, second, sure, None, order[own[order] >= 0], heads)

    return Collection(
        source=path,
        folder=folder,
        annotations=Annotations(
            annotations_beside(path), dict.fromkeys(columns, K), {CONSENSUS: _given_names(rows, labels[CONSENSUS])}
        ),
        paths=[row["path"] for row in rows],
        classes=_told_apart([row.get("class") or folder_class(row["path"]) for row in rows]),
        modalities=[row.get("modalities", "") for row in rows],
        reasons=[row.get("reason", "") for row in rows],
        files=[],
        info={},
        labellings=titles,
        clusters=K,
        make=make,
    )


def _told_apart(classes: Sequence[str]) -> list[str]:
    """Return classes, or none where all videos are in one: then the folder names no class."""
    return list(classes) if len(set(classes) - {""}) > 1 else [""] * len(classes)


def _numbers(rows: Sequence[Mapping[str, str]], column: str, path: Path) -> NDArray[np.int32]:
    """Read a column of cluster numbers; -1 where it is empty or not there."""
    values = np.full(len(rows), -1, np.int32)
    for number, row in enumerate(rows):
        text = row.get(column, "")
        if text:
            try:
                values[number] = int(text)
            except (ValueError, OverflowError):
                values[number] = -2
            if not 0 <= values[number] < 1_000_000:
                raise InputError(
                    f"{printable(path)}, row {number + 2}: {column} must be a cluster number, not {text!r}"
                )
    return values


def _shares(rows: Sequence[Mapping[str, str]], path: Path) -> NDArray[np.float32]:
    values = np.zeros(len(rows), np.float32)
    for number, row in enumerate(rows):
        if text := row.get("confidence", ""):
            try:
                values[number] = float(text)
            except ValueError as error:
                raise InputError(
                    f"{printable(path)}, row {number + 2}: confidence must be a number, not {text!r}"
                ) from error
    return np.nan_to_num(values)


def _given_names(rows: Sequence[Mapping[str, str]], labels: NDArray[np.int32]) -> dict[int, str]:
    """Return the names that a table's column ``name`` gives to clusters."""
    named = zip(rows, labels, strict=True)
    return {int(cluster): row["name"] for row, cluster in named if row.get("name") and cluster >= 0}


def _located(paths: Sequence[str], beside: Path, moved: str | os.PathLike[str] | None) -> list[str]:
    """Find out where listed videos lie: as listed, or else as seen from the folder of the list; or where they moved."""
    if moved is not None:
        if not os.path.isdir(moved):
            raise InputError(f"--videos {printable(moved)} is not a folder")
        absolute = [os.path.abspath(path) for path in paths]
        common = os.path.commonpath([os.path.dirname(path) for path in absolute]) if absolute else ""
        return [os.path.abspath(os.path.join(moved, os.path.relpath(path, common))) for path in absolute]
    # Whether lists are relative to the folder of the list is asked once, not for each of a million videos.
    relative = next((path for path in paths if not os.path.isabs(path)), None)
    from_list = relative is not None and not os.path.exists(relative) and (beside / relative).exists()
    return [os.path.abspath(os.path.join(beside if from_list else "", path)) for path in paths]


def video_file(path: str) -> str | None:
    """Return a listed path if it is that of a video, or else None: a list may name anything."""
    try:
        regular = os.path.splitext(path)[1].lower() in ENDINGS and stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):  # the latter: a name that no file can have
        return None
    return path if regular else None
