"""Scores and labels as plain text."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping

import numpy as np

from selavi_ref.errors import InputError
from selavi_ref.labels import Labels, folder_class, read_csv, read_truths
from selavi_ref.media import Manifest
from selavi_ref.media.container import printable
from selavi_ref.metrics import summary

_MOST_REASONS = 8

SCORES = {
    "nmi": "NMI",
    "ami": "adjusted MI",
    "ari": "ARI",
    "accuracy": "accuracy",
    "mean_purity": "purity",
    "mean_entropy": "entropy",
}


def evaluate_csv(labels: str | os.PathLike[str], truth: str | os.PathLike[str] | None = None) -> dict[str, float | int]:
    """
    Compare a table of labels with true classes.

    Parameters
    ----------
    labels : path
        CSV with the columns path and label.
    truth : path, optional
        CSV with the columns path and class; by default the name of each video's folder is its class.

    Returns
    -------
    dict
        Scores of `selavi_ref.metrics.summary`, ``videos`` (rows of the table) and ``unlabelled``.

    Raises
    ------
    InputError
        If a table does not fit, no labelled video has a true class, or all of them are in one folder.
    """
    rows = read_csv(labels)
    if truth is None:
        classes = [folder_class(row["path"]) for row in rows]
        labelled = [true for true, row in zip(classes, rows, strict=True) if row["label"] != ""]
        if labelled and len(set(labelled) - {""}) < 2:
            raise InputError(
                f"{printable(labels)}: all labelled videos are in one folder, so folders name no classes; give --truth"
            )
    else:
        known = read_truths(truth)
        classes = [_look_up(row["path"], known, truth) for row in rows]
    pairs = [(true, row["label"]) for true, row in zip(classes, rows, strict=True) if true and row["label"] != ""]
    if not pairs:
        raise InputError(f"{printable(labels)}: none of {len(rows)} videos has both a label and a true class")
    scores: dict[str, float | int] = {"videos": len(rows), "unlabelled": sum(row["label"] == "" for row in rows)}
    return scores | summary([true for true, _ in pairs], [label for _, label in pairs])


def scores_table(rows: Mapping[str, Mapping[str, float | int]]) -> str:
    """Return scores as a table of text, one row for each labelling."""
    rows = {printable(name): scores for name, scores in rows.items()}
    width = max(map(len, rows)) + 2
    lines = [" " * width + "".join(f"{title:>13}" for title in SCORES.values())]
    lines += [f"{name:<{width}}" + "".join(f"{scores[key]:>13.3f}" for key in SCORES) for name, scores in rows.items()]
    first = next(iter(rows.values()))
    lines.append(
        f"{first['n']} videos, {first['classes']} classes, {first['clusters']} clusters; entropy: lower is better"
    )
    return "\n".join(lines)


def labels_summary(labels: Labels) -> str:
    """Return in a few lines how many videos got which labels, and what they rest on."""
    labelled = labels.label >= 0
    n = int(labelled.sum())
    if not n:
        why = next(filter(None, labels.reasons), "they have neither picture nor sound")
        return f"0 of {len(labels.paths)} videos labelled: {printable(why)}"
    sizes = np.bincount(labels.label[labelled])
    lines = [
        f"{n} of {len(labels.paths)} videos labelled by {printable(labels.source)}; "
        f"{np.count_nonzero(sizes)} clusters of {sizes[sizes > 0].min()} to {sizes.max()} videos, "
        f"mean confidence {labels.confidence[labelled].mean():.2f}"
    ]
    kinds, counts = np.unique(
        [m for m, has in zip(labels.modalities, labelled, strict=True) if has], return_counts=True
    )
    if len(kinds) > 1 or kinds[0] != "video+audio":
        lines.append("labels rest on " + ", ".join(f"{printable(k)} ({c})" for k, c in zip(kinds, counts, strict=True)))
    if n < len(labels.paths):
        lines.append(f"{len(labels.paths) - n} without a label; the column reason says why")
    if labels.disagreement is not None:
        lines.append(
            f"clips disagree with their video's label in {labels.disagreement[labelled].mean():.1%} of the cases"
        )
    return "\n".join(lines)


def manifest_summary(manifest: Manifest) -> str:
    """Return in a few lines how many videos of a scanned collection can be used, and why others cannot."""
    usable = manifest.usable
    hours = sum(entry.info.seconds for entry in usable if entry.info) / 3600
    length = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
    classes = len(set(usable.classes) - {""})
    named = f", {classes} classes" if classes else ""
    lines = [f"{len(usable)} of {len(manifest)} videos can be used: {length}{named}"]
    reasons = Counter(entry.skipped for entry in manifest.skipped)
    lines += [f"{count:>8}  {printable(why)}" for why, count in reasons.most_common(_MOST_REASONS)]
    if rest := sum(reasons.values()) - sum(count for _, count in reasons.most_common(_MOST_REASONS)):
        lines.append(f"{rest:>8}  for other reasons; the list has the reason of each video")
    return "\n".join(lines)


def _look_up(path: str, known: Mapping[str, str], truth: str | os.PathLike[str]) -> str:
    """Find a video among the true classes: by its path as written, or as seen from the folder of the list."""
    if path in known:
        return known[path]
    folder = os.path.dirname(os.path.abspath(os.fspath(truth)))
    return known.get(os.path.abspath(path), known.get(os.path.relpath(os.path.abspath(path), folder), ""))
