"""What each part of the method is worth: runs that lack it, or have it otherwise, beside one that has it all."""

from __future__ import annotations

from dataclasses import replace

from backbones.studies.trials import Trial, Trials, mean_and_spread
from selavi_ref.report.figures import bar_figure
from selavi_ref.report.table import Cell, Table

# The published loop, from which the others but the first differ in one thing: gaussian sizes of its spread that
# are met, no side heads, one group. All but the first take as many epochs as it does.
_LOOP = {"overclustering_heads": 0, "groups": 1, "spread": 0.1, "soft_sizes": 0.0}
_PLAIN = "default, without side heads"
_DEFAULT = "default, with side heads"
_SIDE = "with side heads"
TRIALS = (
    Trial(_DEFAULT),
    Trial("published loop", _LOOP),
    Trial(_SIDE, _LOOP),
    Trial("soft sizes", {**_LOOP, "soft_sizes": 10.0}),
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

    "published loop" has neither side heads nor groups; the rows below it differ from it in what their names say, and
    take as many epochs. Sizes that are not sorted fall to clusters in the order in which they were drawn; published
    code does that, and inverts them besides. The default takes the epochs that it needs; where it has no side heads, as
    in collections of fewer than 16 videos for each cluster, the first row says so, and there is no row with them.
    """
    done = trials.run_all(ablation_trials(trials))
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


def ablation_trials(trials: Trials) -> list[Trial]:
    """Return `TRIALS` as they are for a collection: with equal epochs, and side heads where there are videos enough."""
    seed = trials.seeds[0]
    overclustering_heads = trials.settings(TRIALS[0], seed).training.overclustering_heads
    epochs = trials.shared.get("epochs") or trials.settings(TRIALS[1], seed).training.epochs
    found = [TRIALS[0] if overclustering_heads else replace(TRIALS[0], name=_PLAIN)]
    for trial in TRIALS[1:]:
        options = {**trial.options, "epochs": epochs}
        if trial.name != _SIDE:
            found.append(replace(trial, options=options))
        elif overclustering_heads:
            found.append(replace(trial, options={**options, "overclustering_heads": overclustering_heads}))
    return found
