"""Target and actual sizes of clusters, as a table and figures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.report.figures import line_figure, sizes_figure
from selavi_ref.report.table import Cell, Table

Sizes = NDArray[np.float64]


def target_and_actual_sizes(state: Mapping[str, Any], head: int = 0) -> tuple[Sizes, Sizes]:
    """
    Return the sizes, as shares that fall, that a head was to have and has under the last self-labelling.

    Parameters
    ----------
    state : mapping
        Of a run's checkpoint: ``sizes_{head}``, shape (K,), and ``labels``, shape (N, heads).
    head : int
        The head.
    """
    target = np.sort(np.asarray(state[f"sizes_{head}"], np.float64))[::-1]
    return target / target.sum(), relative_sizes(np.asarray(state["labels"])[:, head], len(target))


def relative_sizes(labels: ArrayLike, K: int) -> Sizes:
    """Return the share of all labelled videos that each of K clusters holds, falling; -1 is no label."""
    labelled = np.asarray(labels)
    labelled = labelled[labelled >= 0]
    return np.sort(np.bincount(labelled, minlength=K))[::-1] / max(1, len(labelled))


def sizes_table(ways: Mapping[str, tuple[Sizes | None, Sizes]], note: str) -> Table:
    """
    Return sizes as a table, the largest cluster of each way first.

    Parameters
    ----------
    ways : mapping
        Name of each way to the sizes wanted, if they are known, and got, as shares that fall.
    note : str
        What they are sizes of.
    """
    rows: list[Mapping[str, Cell]] = []
    for name, (target, actual) in ways.items():
        for k in range(len(actual)):
            row: dict[str, Cell] = {"sizes": name, "cluster": k + 1, "got": float(actual[k])}
            row["got_sum"] = float(actual[: k + 1].sum())
            if target is not None:
                row |= {"wanted": float(target[k]), "wanted_sum": float(target[: k + 1].sum())}
            rows.append(row)
    return Table(
        "Cluster sizes, wanted and got, the largest first",
        {
            "sizes": "sizes",
            "cluster": "cluster",
            "wanted": "wanted",
            "got": "got",
            "wanted_sum": "wanted, summed",
            "got_sum": "got, summed",
        },
        rows,
        [note],
    )


def draw_summed_sizes(stem: str | os.PathLike[str], ways: Mapping[str, tuple[Sizes, Sizes]]) -> None:
    """Draw how many of all videos the largest clusters hold, wanted and got, as lines for each of some ways."""
    lines = {}
    for name, both in ways.items():
        for kind, sizes in zip(("wanted", "got"), both, strict=True):
            lines[f"{name}, {kind}"] = (np.arange(1, len(sizes) + 1), np.cumsum(sizes))
    line_figure(
        stem,
        lines,
        title="Videos in the largest clusters, wanted and got",
        x="clusters, the largest first",
        y="share of all videos",
        points=False,
        twins={f"{name}, wanted": f"{name}, got" for name in ways},
    )


def draw_sizes(
    stem: str | os.PathLike[str],
    labels: ArrayLike,
    names: Sequence[str],
    state: Mapping[str, Any] | None,
) -> None:
    """
    Draw the videos of each cluster, with the sizes wanted and got in learning.

    Parameters
    ----------
    stem : path
        Of the figure.
    labels : array
        Cluster of each video, shape (N,); -1 for none.
    names : sequence of str
        What each of K clusters is called.
    state : mapping, optional
        Of a run's checkpoint, as in `target_and_actual_sizes`.
    """
    labelled = np.asarray(labels)
    labelled = labelled[labelled >= 0]
    counts = np.bincount(labelled, minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    lines: dict[str, Sequence[float]] = {}
    if state is not None:
        target, actual = target_and_actual_sizes(state)
        if len(target) == len(counts):
            total = len(labelled)
            lines = {"wanted": list(target * total), "got by the last self-labelling": list(actual * total)}
    sizes_figure(
        stem,
        counts[order].tolist(),
        lines,
        title=f"Cluster sizes: {len(labelled):,} labelled videos",
        x="cluster" if len(names) <= 40 else "clusters, the largest first",
        y="videos",
        bars="labels",
        names=[names[int(k)] for k in order],
    )
