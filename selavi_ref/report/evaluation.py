"""Evaluate labels by true classes: scores with intervals, a report for each cluster, and the matched confusion."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from selavi_ref.datasets.tables import folder_classes
from selavi_ref.ensemble.label_table import look_up_classes, read_csv
from selavi_ref.errors import InputError, printable
from selavi_ref.metrics import bootstrap_intervals, cluster_report, matched_confusion, summary
from selavi_ref.report.table import Cell, Table

SCORES = {
    "nmi": "NMI",
    "ami": "adjusted MI",
    "ari": "ARI",
    "accuracy": "accuracy",
    "mean_purity": "purity",
    "mean_entropy": "entropy",
    "homogeneity": "homogeneity",
    "completeness": "completeness",
    "fmi": "Fowlkes-Mallows",
}
BRIEF = ("nmi", "ami", "ari", "accuracy", "mean_purity", "mean_entropy")  # what fits on a narrow screen
_WITH_INTERVALS = ("nmi", "ami", "ari", "accuracy")
_RESAMPLES = 1000


def read_labelled(
    labels: str | os.PathLike[str], truth: str | os.PathLike[str] | None = None
) -> tuple[list[dict[str, str]], list[str]]:
    """
    Read a table of labels and the true class of each of its videos.

    Parameters
    ----------
    labels : path
        CSV with the columns path and label.
    truth : path, optional
        CSV with the columns path and class; by default the name of each video's folder is its class.

    Returns
    -------
    rows, classes : list
        Rows of the table as they are, and the class of each, "" where it is unknown.

    Raises
    ------
    InputError
        If a table does not fit, no labelled video has a true class, or all of them are in one folder.
    """
    rows = read_csv(labels)
    if truth is None:
        classes = folder_classes([row["path"] for row in rows])
        labelled = [true for true, row in zip(classes, rows, strict=True) if row["label"] != ""]
        if labelled and len(set(labelled) - {""}) < 2:
            raise InputError(
                f"{printable(labels)}: all labelled videos are in one folder, so folders name no classes; give --truth",
                path=labels,
                option="truth",
            )
    else:
        classes = look_up_classes([row["path"] for row in rows], truth)
    if not any(true and row["label"] != "" for true, row in zip(classes, rows, strict=True)):
        raise InputError(
            f"{printable(labels)}: none of {len(rows)} videos has both a label and a true class", path=labels
        )
    return rows, classes


def evaluate_csv(labels: str | os.PathLike[str], truth: str | os.PathLike[str] | None = None) -> dict[str, float | int]:
    """
    Compare a table of labels with true classes; parameters and errors as in `read_labelled`.

    Returns
    -------
    dict
        Scores of `selavi_ref.metrics.summary`, and the numbers of ``videos`` (rows of the table), of ``unlabelled``
        ones, and of those ``without_class``.
    """
    rows, classes = read_labelled(labels, truth)
    scores: dict[str, float | int] = {
        "videos": len(rows),
        "unlabelled": sum(row["label"] == "" for row in rows),
        "without_class": sum(not true for true in classes),
    }
    return scores | summary(*_pairs(rows, classes, "label"))


def scores_table(rows: Mapping[str, Mapping[str, float | int]], names: Sequence[str] = BRIEF) -> Table:
    """Return some of the scores of `selavi_ref.metrics.summary` as a table with one row for each labelling."""
    first = next(iter(rows.values()))
    counts = {"n": "videos", "classes": "classes", "clusters": "clusters"}
    return Table(
        "",
        {"labels": "labels", **{key: SCORES[key] for key in names}},
        [{"labels": name, **{key: scores[key] for key in names}} for name, scores in rows.items()],
        [", ".join(f"{first[key]:,} {text}" for key, text in counts.items()) + "; entropy: lower is better"],
        {name: first[key] for key, name in counts.items()},
    )


def evaluation_table(
    rows: Sequence[Mapping[str, str]], classes: Sequence[str], *, heads: bool = False, intervals: bool = False
) -> Table:
    """
    Return the scores of a table of labels, and optionally of each of its heads.

    Parameters
    ----------
    rows, classes
        As `read_labelled` gives them.
    heads : bool
        Whether each head has a row of its own, in whose labels no consensus is.
    intervals : bool
        Whether there are intervals in which the scores of the population lie with a chance of 95 %, of which the videos
        are taken for a random sample (`selavi_ref.metrics.bootstrap_intervals`, 1,000 resamples, seed 0).
    """
    columns = {"label": "labels"}
    if heads:
        columns |= {name: name.replace("_", " ") for name in rows[0] if name.startswith("head_")}
    scores = {shown: summary(*_pairs(rows, classes, name)) for name, shown in columns.items()}
    table = scores_table(scores, tuple(SCORES))
    lines: list[Mapping[str, Cell]] = list(table.rows)
    unlabelled = sum(row["label"] == "" for row in rows)
    notes = list(table.notes)
    unknown = sum(not true for true in classes)
    for count, what in ((unlabelled, "label"), (unknown, "true class")):
        if count:
            notes.append(f"{count:,} of {len(rows):,} videos have no {what} and do not count")
    if intervals:
        bounds = bootstrap_intervals(
            *_pairs(rows, classes, "label"),
            n_resamples=_RESAMPLES,
            rng=np.random.default_rng(0),
            scores=_WITH_INTERVALS,
        )
        for name, side in (("95 % from", 0), ("95 % to", 1)):
            lines.insert(side + 1, {"labels": name, **{key: bounds[key][side] for key in bounds}})
    facts = {**table.facts, "unlabelled": unlabelled, "without_class": unknown}
    return Table("", table.columns, lines, notes, facts)


def clusters_table(rows: Sequence[Mapping[str, str]], classes: Sequence[str]) -> Table:
    """Return each cluster's size, most frequent class, purity and entropy, the largest cluster first."""
    report = cluster_report(*_pairs(rows, classes, "label"))
    order = np.argsort(-report.sizes, kind="stable")
    return Table(
        "Clusters",
        {
            "cluster": "cluster",
            "videos": "videos",
            "class": "most frequent class",
            "purity": "purity",
            "entropy": "entropy",
        },
        [
            {
                "cluster": str(report.clusters[k]),
                "videos": int(report.sizes[k]),
                "class": str(report.majority[k]),
                "purity": float(report.purity[k]),
                "entropy": float(report.entropy[k]),
            }
            for k in order
        ],
        ["entropy in nats: 0 where a cluster holds one class only"],
    )


def confusion_table(rows: Sequence[Mapping[str, str]], classes: Sequence[str]) -> Table:
    """Return the videos of each class in each cluster; clusters matched with classes stand on the diagonal."""
    confusion = matched_confusion(*_pairs(rows, classes, "label"))
    names = [f"cluster_{cluster}" for cluster in confusion.clusters]
    return Table(
        "Classes and clusters, matched",
        {"class": "class", **{name: str(cluster) for name, cluster in zip(names, confusion.clusters, strict=True)}},
        [
            {"class": str(name), **dict(zip(names, counts.tolist(), strict=True))}
            for name, counts in zip(confusion.classes, confusion.counts, strict=True)
        ],
        [f"the first {confusion.matched} classes and clusters are matched; videos off the diagonal are wrong"],
        {"matched": confusion.matched},
    )


def true_classes(
    source: str, paths: Sequence[str], classes: Sequence[str], truth: str | os.PathLike[str] | None = None
) -> list[str]:
    """
    Return the true class of each video: as a file says, if one is given, or else as a list or store does.

    Raises
    ------
    InputError
        If there are fewer than two classes to be scored against.
    """
    known = list(classes)
    if truth is not None:
        known = look_up_classes(paths, truth)
    if len(set(known) - {""}) < 2:
        raise InputError(
            f"{printable(source)} names fewer than two true classes to score against; put the videos into folders by "
            "class, or give --truth",
            path=source,
        )
    return known


def _pairs(rows: Sequence[Mapping[str, str]], classes: Sequence[str], column: str) -> tuple[list[str], list[str]]:
    """Return class and label of the videos that have both."""
    both = [(true, row[column]) for true, row in zip(classes, rows, strict=True) if true and row.get(column)]
    return [true for true, _ in both], [label for _, label in both]
