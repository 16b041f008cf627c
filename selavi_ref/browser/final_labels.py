"""Labels after all edits, for exported tables and folders."""

from __future__ import annotations

from selavi_ref.browser.collection import Collection
from selavi_ref.report.export import FinalLabels


def final_labels(collection: Collection, labelling: str = "consensus") -> FinalLabels:
    """
    Return the labels of one labelling with all edits applied.

    Confidence and runner-up of merged clusters are those of the merged cluster; a moved video keeps those of the
    cluster that it was moved from.

    Raises
    ------
    InputError
        If there is no such labelling, or the annotations cannot be read.
    """
    learnt = collection.labelling(labelling)
    edits = collection.annotations.read().edits_of(labelling)
    confidence, runner_up = learnt.confidence, learnt.runner_up
    if edits.merged:
        confidence, runner_up = collection.labels.merge(labelling, edits.merge_targets(learnt.clusters))
    clusters = edits.apply(collection.paths, learnt.label)
    return FinalLabels(
        # Paths relative to the folder of a list would be invalid in a table elsewhere.
        paths=collection.files if collection.relative_to_source else collection.paths,
        cluster=clusters,
        name=[edits.names.get(cluster, "") for cluster in clusters.tolist()],
        learnt=learnt.label,
        confidence=confidence,
        runner_up=runner_up,
        modalities=collection.modalities,
        reasons=collection.reasons,
        mark=edits.marks(collection.paths),
        classes=collection.classes,
        heads=learnt.heads,
        source=learnt.title,
    )
