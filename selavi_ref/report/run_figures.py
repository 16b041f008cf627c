"""Draw all figures of a finished run, with their tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.datasets.manifest import read_manifest
from selavi_ref.ensemble.label_table import read_csv, read_truths
from selavi_ref.errors import InputError, StoreError
from selavi_ref.install_hints import missing_package
from selavi_ref.report.embedding import Progress, cached_embedding
from selavi_ref.report.evaluation import confusion_table, true_classes
from selavi_ref.report.own_files import refuse_foreign
from selavi_ref.report.plot_agreement import draw_agreement
from selavi_ref.report.plot_confusion import cluster_name, draw_confusion
from selavi_ref.report.plot_map import centres_of, draw_map, spread_colours, write_places
from selavi_ref.report.plot_sizes import (
    Sizes,
    draw_sizes,
    draw_summed_sizes,
    relative_sizes,
    sizes_table,
    target_and_actual_sizes,
)
from selavi_ref.report.training_curves import training_curve
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore


@dataclass(frozen=True)
class RunFigures:
    """
    The figures of a run.

    Parameters
    ----------
    pictures : dict
        Name of each figure to its PNG file.
    left_out : dict
        Name of each figure that cannot be drawn to the reason.
    """

    pictures: dict[str, Path] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def draw_run_figures(
    run: Run,
    folder: Path,
    *,
    only: Sequence[str] | None = None,
    truth: str | os.PathLike[str] | None = None,
    state: Mapping[str, Any] | None = None,
    names: Mapping[int, str] | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> RunFigures:
    """
    Draw a run: figures as PNG and SVG, tables as text, CSV and JSON.

    Parameters
    ----------
    run : Run
        A run on videos, or of heads on features.
    folder : Path
        Folder of the written files.
    only : sequence of str, optional
        Some of `FIGURES`; by default all.
    truth : path, optional
        CSV with the columns path and class; by default the classes that the run knows.
    state : mapping, optional
        The state of the loop in the run's last checkpoint, which has the sizes wanted.
    names : mapping, optional
        Names that a user gave to clusters.
    progress : callable, optional
        Called with the finished fraction of the map.
    force : bool
        Whether tables and figures that this program has not written are replaced.

    Returns
    -------
    RunFigures
        Figures, and those left out with the reason.

    Raises
    ------
    InputError
        If true classes are given that cannot be read, or a file of somebody else would be replaced.
    SelaviError
        If a file cannot be written.
    """
    if truth is not None:
        read_truths(truth)
    for name in () if force else only or FIGURES:
        refuse_foreign(folder / name, [folder / stem for stem in _STEMS[name]], advice=", or replace it by --force")
    data = _RunData(run, folder, truth, state, names or {}, progress)
    plots = RunFigures()
    for name in only or FIGURES:
        try:
            drawn = _DRAW[name](data)
        except (InputError, StoreError) as error:
            plots.left_out[name] = str(error)
        else:
            plots.pictures.update({stem: folder / f"{stem}.png" for stem in drawn})
    return plots


@dataclass
class _RunData:
    """A run, the classes and names of its videos and clusters, and the folder of its figures."""

    run: Run
    folder: Path
    truth: str | os.PathLike[str] | None
    state: Mapping[str, Any] | None
    names: Mapping[int, str]
    progress: Progress | None

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The run's table of labels."""
        if not self.run.labels_file.exists():
            raise InputError(f"{self.run.folder} has no labels yet; go on with it first", path=self.run.folder)
        return read_csv(self.run.labels_file)

    @property
    def labels(self) -> NDArray[np.int32]:
        """Cluster of each video, -1 without."""
        return self.column("label")

    @cached_property
    def heads(self) -> dict[str, NDArray[np.int32]]:
        """Labels of each head, by its name."""
        names = [name for name in self.rows[0] if name.startswith("head_")]
        return {name.replace("_", " "): self.column(name) for name in names}

    @cached_property
    def clusters(self) -> list[str]:
        """What each cluster is called."""
        known = int(self.run.config.get("clusters", 0))
        most = max([known - 1, *(int(labels.max(initial=-1)) for labels in (self.labels, *self.heads.values()))])
        return [cluster_name(k, self.names) for k in range(most + 1)]

    @cached_property
    def classes(self) -> list[str]:
        """
        True class of each video.

        Raises
        ------
        InputError
            If fewer than two are known.
        """
        paths = [row["path"] for row in self.rows]
        return true_classes(str(self.run.folder), paths, self._listed(paths), self.truth)

    def column(self, name: str) -> NDArray[np.int32]:
        """Return the clusters that stand in a column of the table."""
        return np.array([int(row[name]) if row.get(name) else -1 for row in self.rows], np.int32)

    def _listed(self, paths: Sequence[str]) -> list[str]:
        """Return the classes that the run's store or list of videos names."""
        if self.run.features_file.exists():
            with FeatureStore(self.run.features_file) as store:
                known = dict(zip(store.paths, store.classes, strict=True))
        elif self.run.videos_file.exists():
            manifest = read_manifest(self.run.videos_file)
            known = dict(zip([entry.path for entry in manifest], manifest.classes, strict=True))
        else:
            known = {}
        return [known.get(path, "") for path in paths]


def _training(data: _RunData) -> list[str]:
    training_curve(data.run, data.folder / "training", force=True)  # whatever may not be replaced was refused before
    return list(_STEMS["training"])


def _sizes(data: _RunData) -> list[str]:
    K = len(data.clusters)
    labellings = {"consensus": data.labels, **data.heads}
    ways: dict[str, tuple[Sizes | None, Sizes]] = {n: (None, relative_sizes(of, K)) for n, of in labellings.items()}
    learnt = {}
    if data.state is not None:
        heads = range(int(data.run.config.get("heads", 1)))
        learnt = {f"head {head}, self-labelling": target_and_actual_sizes(data.state, head) for head in heads}
    stem = data.folder / "sizes"
    note = "Shares of all labelled videos, sorted by size. Self-labelling: the last one in learning."
    sizes_table({**ways, **learnt}, note).write(stem, force=True)
    draw_sizes(stem, data.labels, data.clusters, data.state)
    if not learnt:
        return ["sizes"]
    draw_summed_sizes(f"{stem}-summed", dict(list(learnt.items())[:1]))
    return ["sizes", "sizes-summed"]


def _confusion(data: _RunData) -> list[str]:
    table = confusion_table(data.rows, data.classes)
    table.write(data.folder / "confusion", force=True)
    return _stems(draw_confusion(data.folder / "confusion", table, data.names))


def _agreement(data: _RunData) -> list[str]:
    if len(data.heads) < 2:
        raise InputError("there is only one head")
    draw_agreement(data.folder / "agreement", {**data.heads, "consensus": data.labels}, force=True)
    return ["agreement"]


def _embedding(data: _RunData) -> list[str]:
    run, labels = data.run, data.labels
    if not run.features_file.exists():
        raise InputError(f"{run.features_file} is missing", path=run.features_file)
    try:
        embedding = cached_embedding(run.features_file, run.browser_folder, data.progress)
    except ModuleNotFoundError as error:
        raise InputError(missing_package(error.name)) from error
    with FeatureStore(run.features_file) as store:
        at = dict(zip(store.paths, embedding.xy, strict=True))
    nowhere = np.full(2, np.nan, np.float32)
    places = np.stack([at.get(row["path"], nowhere) for row in data.rows])
    try:
        classes = data.classes
    except InputError:
        classes = []
    stem = data.folder / "embedding"
    paths = [row["path"] for row in data.rows]
    write_places(stem.with_suffix(".csv"), paths, places, labels, classes or [""] * len(paths))
    colours = spread_colours(centres_of(places, labels))
    by = f"{embedding.words}, {int(np.isfinite(places).all(1).sum()):,} videos"
    named = {k: data.clusters[k] for k in colours}
    drawn = draw_map(stem, places, labels, title="Videos by cluster", names=named, colours=colours, note=by)
    if classes:
        drawn += _by_class(data, places, colours, by)
    return _stems(drawn)


def _by_class(data: _RunData, places: NDArray[np.float32], colours: Mapping[int, str], by: str) -> list[Path]:
    """Draw the map by true class; a class has the colour of the cluster that it is matched with."""
    table = confusion_table(data.rows, data.classes)
    names = sorted(set(data.classes) - {""})
    number = {name: k for k, name in enumerate(names)}
    clusters = list(table.columns.values())[1:]
    pairs = list(zip(table.rows, clusters, strict=False))[: int(table.facts["matched"])]
    given = {number[str(row["class"])]: colours[int(k)] for row, k in pairs if int(k) in colours}
    classes = np.array([number.get(name, -1) for name in data.classes], np.int32)
    return draw_map(
        data.folder / "embedding-classes",
        places,
        classes,
        title="Videos by true class, in the colours of the clusters matched with them",
        names=dict(enumerate(names)),
        colours=spread_colours(centres_of(places, classes), given),
        note=by,
    )


def _stems(files: Sequence[Path]) -> list[str]:
    """Return the names of some figures without their endings, each once."""
    return list(dict.fromkeys(file.stem for file in files))


_DRAW: dict[str, Callable[[_RunData], list[str]]] = {
    "training": _training,
    "sizes": _sizes,
    "confusion": _confusion,
    "agreement": _agreement,
    "embedding": _embedding,
}
FIGURES = tuple(_DRAW)
_STEMS = {  # files of each figure, without their endings
    "training": ("training", "training-loss", "training-rate"),
    "sizes": ("sizes", "sizes-summed"),
    "confusion": ("confusion", "confusion-worst"),
    "agreement": ("agreement",),
    "embedding": ("embedding", "embedding-classes"),
}
