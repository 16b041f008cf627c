"""Figures of the confusion of classes and clusters, readable for any number of classes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from selavi_ref.report.figures import MOST_NAMED, matrix_figure
from selavi_ref.report.table import Table

_WORST = 30  # classes shown by name where there are too many to name all
_REST = "others"


def cluster_name(cluster: str | int, names: Mapping[int, str] | None) -> str:
    """Return number and, if any, name of a cluster."""
    given = (names or {}).get(int(cluster)) if str(cluster).isdecimal() else None
    return f"{cluster} {given}" if given else str(cluster)


def draw_confusion(stem: str | os.PathLike[str], table: Table, names: Mapping[int, str] | None = None) -> list[Path]:
    """
    Draw the videos of each class in each cluster, matched ones on the diagonal.

    Of more than 40 classes or clusters, the whole is drawn without names, with colours by the root of the share of the
    class, and, as ``STEM-worst``, the 30 classes that have most videos off the diagonal.

    Parameters
    ----------
    stem : path
        Of the figures.
    table : Table
        As `selavi_ref.report.evaluation.confusion_table` gives it.
    names : mapping, optional
        Names that a user gave to clusters.
    """
    columns = list(table.columns)[1:]
    counts = np.array([[int(row[name] or 0) for name in columns] for row in table.rows])
    classes = [str(row["class"]) for row in table.rows]
    clusters = [cluster_name(table.columns[name], names) for name in columns]
    if max(counts.shape) <= MOST_NAMED:
        return matrix_figure(stem, counts, title=table.title, x="cluster", y="class", rows=classes, columns=clusters)
    matched = int(table.facts["matched"])
    written = matrix_figure(
        stem,
        counts / counts.sum(1, keepdims=True),
        title=f"{table.title}: {counts.shape[0]} classes, {counts.shape[1]} clusters, share of each class",
        x="clusters",
        y="classes",
        limits=(0, 1),
        root=True,
    )
    right = np.zeros(len(counts), int)
    right[:matched] = np.diagonal(counts)[:matched]
    worst = np.argsort(right - counts.sum(1), kind="stable")[:_WORST]
    own = worst[worst < matched]
    # Beside the clusters matched with them, the other clusters that hold most of their videos.
    rest = np.setdiff1d(np.arange(counts.shape[1]), own)
    taken = rest[np.argsort(-counts[np.ix_(worst, rest)].sum(0), kind="stable")[: MOST_NAMED - 1 - len(own)]]
    chosen = np.concatenate([own, taken])
    part = counts[np.ix_(worst, chosen)]
    beyond = counts[worst].sum(1) - part.sum(1)
    return written + matrix_figure(
        f"{os.fspath(stem)}-worst",
        np.column_stack([part, beyond]),
        title=f"The {len(worst)} classes with most videos off the diagonal",
        x="cluster",
        y="class",
        rows=[classes[row] for row in worst],
        columns=[*(clusters[column] for column in chosen), _REST],
        root=True,
    )
