"""What each part of the method is worth: runs that lack it, or have it otherwise, beside one that has it all."""

from __future__ import annotations

from backbones.studies.trials import Trial, Trials, mean_and_spread
from selavi_ref.report.figures import bar_figure
from selavi_ref.report.results import Cell, Table

# The published loop, of which the others but the first lack one thing: gaussian sizes of its spread, no side heads.
_LOOP = {"side_heads": 0, "spread": 0.1}
TRIALS = (
    Trial("with side heads (default)"),
    Trial("published loop", _LOOP),
    Trial("sizes not sorted", {**_LOOP, "match_sizes": False}),
    Trial("no alignment", {**_LOOP, "align": False}),
    Trial("one head", {**_LOOP, "heads": 1}),
    Trial("two groups of heads", {**_LOOP, "groups": 2}),
    Trial("labels from pictures only", {**_LOOP, "label_by": "video"}),
    Trial("labels from sounds only", {**_LOOP, "label_by": "audio"}),
    Trial("K-means, not transport", {**_LOOP, "labeller": "kmeans"}),
)
_SCORES = ("nmi", "accuracy", "ari", "mean_head_nmi", "best_head_nmi", "unseen_nmi", "unseen_accuracy")


def study_ablation(trials: Trials) -> list[Table]:
    """
    Train with and without each part, and write a table and a figure to the study's folder.

    "published loop" has neither side heads nor groups; the rows below it differ from it in what their names say. Sizes
    that are not sorted fall to clusters in the order in which they were drawn; published code does that, and inverts
    them besides.
    """
    done = trials.carry_out(TRIALS)
    rows: list[dict[str, Cell]] = []
    for name, runs in done.items():
        rows.append({"run": name, **mean_and_spread([scores for _, scores in runs], _SCORES)})
    columns = {
        "run": "run",
        "nmi": "NMI",
        "nmi_sd": "+-",
        "accuracy": "accuracy",
        "ari": "ARI",
        "mean_head_nmi": "mean head",
        "best_head_nmi": "best head",
    }
    if trials.unseen is not None:
        columns |= {"unseen_nmi": "unseen NMI", "unseen_accuracy": "unseen accuracy"}
    seeds = len(trials.seeds)
    table = Table(
        "What the parts of the method are worth",
        columns,
        list(rows),
        [
            f"{len(trials.manifest)} videos, {seeds} seed{'s' * (seeds > 1)}; of the consensus, and of single heads.",
            "The best head is found with the true classes, and is for comparison only.",
        ],
        {"seeds": list(trials.seeds), "videos": len(trials.manifest)},
    )
    table.write(trials.folder / "ablation")
    bar_figure(
        trials.folder / "ablation",
        [str(row["run"]) for row in rows],
        {"NMI": [float(row["nmi"] or 0) for row in rows]},
        title=f"What the parts of the method are worth: {len(trials.manifest)} videos",
        y="NMI with the true classes",
        spreads={"NMI": [float(row["nmi_sd"] or 0) for row in rows]},
    )
    return [table]
