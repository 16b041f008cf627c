"""Study of cluster sizes: target and actual sizes, and quality under true, wrong and soft target sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.learner.checkpoint import read_newest
from backbones.studies.trials import Trial, Trials, mean_and_spread
from selavi_ref.errors import InputError
from selavi_ref.report.figures import bar_figure
from selavi_ref.report.plot_sizes import draw_summed_sizes, sizes_table, target_and_actual_sizes
from selavi_ref.report.table import Cell, Table
from selavi_ref.runs.atomic import replacing
from selavi_ref.runs.run import Run

SOFT = 10.0  # marginal penalty of the trial with soft sizes
_SCORES = ("nmi", "accuracy", "ari", "unseen_nmi", "unseen_accuracy")


def study_marginals(trials: Trials) -> list[Table]:
    """
    Train with uniform, gaussian, zipf, right and soft sizes, and write tables and figures to the study's folder.

    Right sizes are those of the true classes. Gaussian ones have a standard deviation of 0.1 of the mean, as published.
    Soft ones are uniform, with a penalty on deviations instead of a constraint.

    Returns
    -------
    list of Table
        Quality; and target and actual sizes of the first head in the last self-labelling.
    """
    clusters = int(trials.shared["clusters"])
    sized_trials = [
        Trial("uniform", {"distribution": "uniform"}),
        Trial("gaussian", {"distribution": "gaussian", "spread": 0.1}),
        Trial("zipf", {"distribution": "zipf"}),
        Trial("right", {"distribution": str(_right_sizes(trials, clusters))}),
        Trial("soft", {"distribution": "uniform", "soft_sizes": SOFT}),
    ]
    finished = trials.run_all(sized_trials)
    quality: list[Mapping[str, Cell]] = []
    sizes = {name: sizes_of(runs[0][0]) for name, runs in finished.items()}
    for name, runs in finished.items():
        missed = [float(np.abs(np.subtract(*sizes_of(run))).sum()) for run, _ in runs]
        scores = mean_and_spread([scores for _, scores in runs], _SCORES)
        quality.append({"sizes": name, **scores, "missed": float(np.mean(missed))})
    note = "Shares of all videos; the first head of the first seed, sorted by size."
    tables = [_quality_table(trials, quality), sizes_table(dict(sizes), note)]
    for name, table in zip(("quality", "sizes"), tables, strict=True):
        table.write(trials.folder / name, figures=[trials.folder / name])
    draw_summed_sizes(trials.folder / "sizes", sizes)
    bar_figure(
        trials.folder / "quality",
        [str(row["sizes"]) for row in quality],
        {"NMI": [float(row["nmi"] or 0) for row in quality]},
        title=f"Labels under prescribed sizes: {len(trials.manifest)} videos",
        y="NMI with the true classes",
        spreads={"NMI": [float(row["nmi_sd"] or 0) for row in quality]},
    )
    return tables


def sizes_of(run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return target and actual relative cluster sizes of the first head in the last self-labelling, descending."""
    return target_and_actual_sizes(read_newest(run)["state"])


def _right_sizes(trials: Trials, clusters: int) -> Path:
    """Write the sizes of the true classes to a file for the run; there must be as many classes as clusters."""
    counts = Counter(trials.manifest.classes)
    counts.pop("", None)
    if len(counts) != clusters:
        raise InputError(
            f"--clusters {clusters}: the study of sizes needs one for each of {len(counts)} true classes",
            option="clusters",
        )
    path = trials.folder / "right_sizes.txt"
    with replacing(path, "w") as file:
        file.write("".join(f"{count}\n" for count in sorted(counts.values(), reverse=True)))
    return path


def _quality_table(trials: Trials, rows: Sequence[Mapping[str, Cell]]) -> Table:
    seeds = len(trials.seeds)
    counts = sorted(Counter(filter(None, trials.manifest.classes)).values(), reverse=True)
    columns = {
        "sizes": "sizes",
        "nmi": "NMI",
        "nmi_sd": "+-",
        "accuracy": "accuracy",
        "accuracy_sd": "+-",
        "ari": "ARI",
    }
    if trials.unseen is not None:
        columns |= {"unseen_nmi": "unseen NMI", "unseen_nmi_sd": "+-", "unseen_accuracy": "unseen accuracy"}
    return Table(
        "Quality under prescribed cluster sizes",
        columns | {"missed": "L1 of sizes"},
        list(rows),
        [
            f"{len(trials.manifest)} videos in classes of {counts[-1]} to {counts[0]}; seeds: {seeds}.",
            f"right: the sizes of the true classes. soft: uniform, missed at a price of {SOFT:g}.",
            "L1 of sizes: what was got under the last self-labelling against what was wanted, both sorted.",
        ],
        {"seeds": list(trials.seeds), "videos": len(trials.manifest), "class_sizes": counts},
    )
