"""How many right and wrong labels each threshold of the confidence leaves out, on any tables of labels.

python -m pip install -e ".[all]" && python benchmarks/confidence.py NAME=RUN/labels.csv NAME=unseen.csv ...

The name of a video's folder is its class; a label is right where its cluster is the one matched with that class, one
to one (the matching of the accuracy). The calibration error is the mean distance between confidence and the
proportion of right labels in ten bins of equally many videos.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selavi_ref.metrics import matched_confusion
from selavi_ref.report.evaluation import read_labelled
from selavi_ref.report.table import Table

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
_BINS = 10


def read(path: Path) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return whether the label of each video is right, and its confidence."""
    rows, classes = read_labelled(path)
    kept = [(row, true) for row, true in zip(rows, classes, strict=True) if row["label"] != "" and true]
    labels = [row["label"] for row, _ in kept]
    truth = [true for _, true in kept]
    found = matched_confusion(truth, labels)
    class_of = dict(zip(found.clusters[: found.matched], found.classes, strict=False))
    right = np.array([class_of.get(label) == true for label, true in zip(labels, truth, strict=True)])
    return right, np.array([float(row["confidence"]) for row, _ in kept])


def calibration_error(right: NDArray[np.bool_], confidence: NDArray[np.float64]) -> float:
    """Return the expected calibration error over bins of equally many videos."""
    bins = np.array_split(np.argsort(confidence, kind="stable"), _BINS)
    return float(sum(len(rows) * abs(right[rows].mean() - confidence[rows].mean()) for rows in bins) / len(right))


def main() -> None:
    """Print a row for each table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", metavar="NAME=LABELS.csv")
    parser.add_argument("--out", type=Path, help="write the table as .csv, .json and .txt beside this name")
    options = parser.parse_args()
    rows: list[dict[str, str | float | int]] = []
    for text in options.tables:
        name, _, path = text.partition("=")
        right, confidence = read(Path(path))
        row: dict[str, str | float | int] = {
            "labels": name,
            "videos": len(right),
            "accuracy": float(right.mean()),
            "confidence": float(confidence.mean()),
            "error": calibration_error(right, confidence),
        }
        for threshold in THRESHOLDS:
            out = confidence < threshold
            row[f"below_{threshold}"] = f"{(out & ~right).sum()} / {(~right).sum()}, {(out & right).sum()}"
        rows.append(row)
    columns = {"labels": "labels", "videos": "videos", "accuracy": "accuracy", "confidence": "mean confidence"}
    columns |= {"error": "calibration error", **{f"below_{t}": f"< {t}" for t in THRESHOLDS}}
    note = "columns < T: wrong labels left out by --min-confidence T / all wrong labels, right labels left out"
    table = Table("Labels left out by their confidence", columns, rows, [note])
    print(table.text())
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        table.write(options.out)


if __name__ == "__main__":
    main()
