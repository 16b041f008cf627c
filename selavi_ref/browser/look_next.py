"""Which videos a person should look at next: those of which least is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selavi_ref.browser.annotations import Annotations, annotations_beside, annotations_of
from selavi_ref.browser.collection import Collection
from selavi_ref.browser.edit_history import Edits
from selavi_ref.ensemble.labels import label_store
from selavi_ref.errors import FilePath
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore


def look_next(
    paths: Sequence[str],
    label: NDArray[np.int32],
    uncertainty: NDArray[np.float32],
    edits: Edits,
    most: int = 20,
) -> list[int]:
    """
    Return the rows of the least certain videos that nobody has judged yet, the least certain first.

    Videos that were moved or marked as wrong have been judged. Of equally uncertain videos, such as copies, one of each
    cluster comes first.

    Parameters
    ----------
    paths : sequence of str, length N
        The videos.
    label : array
        Their labels as learnt, int32, shape (N,); -1 for none.
    uncertainty : array
        Such as the entropy of the posterior, float32, shape (N,).
    edits : Edits
        What people have done so far.
    most : int
        Number of rows, at most.
    """
    judged = {*edits.moved, *edits.wrong, *edits.excluded}
    rows = [row for row, path in enumerate(paths) if label[row] >= 0 and path not in judged]
    counts: Counter[tuple[float, int]] = Counter()
    keyed = []
    for row in rows:
        key = float(uncertainty[row]), int(label[row])
        counts[key] += 1
        if np.isfinite(key[0]):
            keyed.append((-key[0], counts[key], row))
    return [row for _, _, row in sorted(keyed)[:most]]


def look_next_in(collection: Collection, labelling: str = "consensus", most: int = 20) -> list[int]:
    """Return the rows of the least certain videos of a collection that nobody has judged yet; see `look_next`."""
    learnt = collection.labelling(labelling)
    edits = collection.annotations.read().edits_of(labelling)
    uncertainty = 1 - learnt.confidence if learnt.entropy is None else learnt.entropy
    return look_next(collection.paths, learnt.label, uncertainty, edits, most)


def least_certain(source: FilePath | Run, most: int = 20) -> list[str]:
    """
    Return the paths of the videos of a run or a store that a person should look at next; see `look_next`.

    Raises
    ------
    InputError
        If there are no log-probabilities, or the annotations cannot be read.
    """
    features = source.features_file if isinstance(source, Run) else source
    with FeatureStore(features) as store:
        labels = label_store(store)
        clusters = dict.fromkeys(["consensus", *store.heads], store.n_clusters)
    beside = annotations_beside(features)
    annotations = annotations_of(source) if isinstance(source, Run) else Annotations(beside, clusters)
    edits = annotations.read().edits_of("consensus")
    return [labels.paths[row] for row in look_next(labels.paths, labels.label, labels.entropy, edits, most)]
