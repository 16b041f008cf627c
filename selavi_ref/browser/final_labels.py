"""Labels as people have left them, for the tables and folders that others go on with."""

from __future__ import annotations

from selavi_ref.browser.collection import Collection
from selavi_ref.report.export import FinalLabels


def final_labels(collection: Collection, labelling: str = "consensus") -> FinalLabels:
    """
    Return the labels of one labelling with all that people have said of it.

    Where clusters were joined, confidence and runner-up are those of the joined clusters; a video that was moved
    keeps those of the cluster in which it was learnt.

    Raises
    ------
    InputError
        If there is no such labelling, or the annotations cannot be read.
    """
    learnt = collection.labelling(labelling)
    edits = collection.annotations.read().of(labelling)
    confidence, runner_up = learnt.confidence, learnt.runner_up
    if edits.merged:
        confidence, runner_up = collection.labels.joined(labelling, edits.joined(learnt.clusters))
    placed = edits.placed(collection.paths, learnt.label)
    return FinalLabels(
        # Elsewhere, paths that start from the folder of a list would lead nowhere.
        paths=collection.files if collection.from_list else collection.paths,
        cluster=placed,
        name=[edits.names.get(cluster, "") for cluster in placed.tolist()],
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
