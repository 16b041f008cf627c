"""Ablation study: trainings with parts of the method removed or changed, compared with the default."""

from __future__ import annotations

from dataclasses import replace

from backbones.studies.trials import Trial, Trials, mean_and_spread
from selavi_ref.report.figures import bar_figure
from selavi_ref.report.table import Cell, Table

# The published training loop: exact gaussian sizes, no over-clustering heads, one group of heads. All trials but the
# first differ from it in one setting, and have its number of epochs.
_PUBLISHED_LOOP = {"overclustering_heads": 0, "groups": 1, "spread": 0.1, "soft_sizes": 0.0}
_WITHOUT_OVERCLUSTERING = "default, without over-clustering"
_WITH_OVERCLUSTERING = "default, with over-clustering"
_OVERCLUSTERING = "with over-clustering"
TRIALS = (
    Trial(_WITH_OVERCLUSTERING),
    Trial("published loop", _PUBLISHED_LOOP),
    Trial(_OVERCLUSTERING, _PUBLISHED_LOOP),
    Trial("soft sizes", {**_PUBLISHED_LOOP, "soft_sizes": 10.0}),
    Trial("sizes not sorted", {**_PUBLISHED_LOOP, "match_sizes": False}),
    Trial("no alignment", {**_PUBLISHED_LOOP, "align": False}),
    Trial("one head", {**_PUBLISHED_LOOP, "heads": 1}),
    Trial("two groups of heads", {**_PUBLISHED_LOOP, "groups": 2}),
    Trial("labels from pictures only", {**_PUBLISHED_LOOP, "label_by": "video"}),
    Trial("labels from sounds only", {**_PUBLISHED_LOOP, "label_by": "audio"}),
    Trial("concatenated features", {**_PUBLISHED_LOOP, "concatenate_features": True}),
    Trial("K-means, not transport", {**_PUBLISHED_LOOP, "labeller": "kmeans"}),
)
_SCORES = ("nmi", "accuracy", "ari", "mean_head_nmi", "best_head_nmi", "unseen_nmi", "unseen_accuracy")


def study_ablation(trials: Trials) -> list[Table]:
    """
    Train the trials, and write a table and a figure to the study's folder.

    "published loop" has neither over-clustering heads nor groups; the rows below it differ from it in what their names
    say. Unsorted sizes are assigned to clusters in the order of drawing, as the published code does, which also inverts
    them. With "concatenated features", one set of heads sees the features of both networks side by side, in place of a
    set for each, and labels follow its predictions. The default chooses its own number of epochs; in collections of
    fewer than 16 videos per cluster it has no over-clustering heads, and there is no row with them.
    """
    finished = trials.run_all(ablation_trials(trials))
    rows: list[dict[str, Cell]] = []
    for name, runs in finished.items():
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
        "Ablation of the method",
        columns,
        list(rows),
        [
            f"{len(trials.manifest)} videos, {seeds} seed{'s' * (seeds > 1)}; of the consensus, and of single heads.",
            "The best head is adapted with the true classes, and is for comparison only.",
        ],
        {"seeds": list(trials.seeds), "videos": len(trials.manifest)},
    )
    table.write(trials.folder / "ablation", figures=[trials.folder / "ablation"])
    bar_figure(
        trials.folder / "ablation",
        [str(row["run"]) for row in rows],
        {"NMI": [float(row["nmi"] or 0) for row in rows]},
        title=f"Ablation of the method: {len(trials.manifest)} videos",
        y="NMI with the true classes",
        spreads={"NMI": [float(row["nmi_sd"] or 0) for row in rows]},
    )
    return [table]


def ablation_trials(trials: Trials) -> list[Trial]:
    """Return `TRIALS` for a collection: with equal epochs, and over-clustering if there are enough videos."""
    seed = trials.seeds[0]
    overclustering_heads = trials.settings(TRIALS[0], seed).training.overclustering_heads
    epochs = trials.shared.get("epochs") or trials.settings(TRIALS[1], seed).training.epochs
    adapted = [TRIALS[0] if overclustering_heads else replace(TRIALS[0], name=_WITHOUT_OVERCLUSTERING)]
    for trial in TRIALS[1:]:
        options = {**trial.options, "epochs": epochs}
        if trial.name != _OVERCLUSTERING:
            adapted.append(replace(trial, options=options))
        elif overclustering_heads:
            adapted.append(replace(trial, options={**options, "overclustering_heads": overclustering_heads}))
    return adapted
