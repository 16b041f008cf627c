"""Labels as people have left them, for the tables and folders that others go on with."""

from __future__ import annotations

from selavi_ref.browser.collection import Collection
from selavi_ref.errors import InputError
from selavi_ref.report.exported import Finished


def finished(collection: Collection, labelling: str = "consensus") -> Finished:
    """
    Return the labels of one labelling with all that people have said of it.

    Where clusters were joined, confidence and runner-up are those of the joined clusters; a video that was moved
    keeps those of the cluster in which it was learnt.

    Raises
    ------
    InputError
        If there is no such labelling, or the annotations cannot be read.
    """
    if labelling not in collection.labellings:
        raise InputError(f"there is no labelling {labelling!r}; there are {', '.join(collection.labellings)}")
    edits = collection.annotations.read().of(labelling)
    found = learnt = collection.labelling(labelling)
    if edits.merged:
        found = collection.make(labelling, edits.joined(collection.clusters))
    placed = edits.placed(collection.paths, learnt.label)
    return Finished(
        paths=collection.paths,
        cluster=placed,
        name=[edits.names.get(cluster, "") for cluster in placed.tolist()],
        learnt=learnt.label,
        confidence=found.confidence,
        runner_up=found.runner_up,
        modalities=collection.modalities,
        reasons=collection.reasons,
        mark=edits.marks(collection.paths),
        classes=collection.classes,
        heads=found.heads,
    )
