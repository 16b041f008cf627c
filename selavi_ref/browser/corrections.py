"""What edits made on the page say about the clusters of videos, as constraints for further learning."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selavi_ref.browser.edit_history import Edits
from selavi_ref.selflabel.constraints import Constraints


def final_clusters(edits: Edits, K: int) -> NDArray[np.int32]:
    """
    Return the cluster that each cluster belongs to after all merges, int32, shape (K,).

    A cluster that a person has created, and that has no video, is -1.

    Parameters
    ----------
    edits : Edits
        Edits of one labelling.
    K : int
        Learnt clusters, created ones, and any new ones.
    """
    final = np.array([edits.merged.get(k, k) for k in range(K)], np.int32)
    used = set(final[list(edits.moved.values())].tolist())
    for cluster in edits.created:
        if final[cluster] == cluster and cluster not in used:
            final[final == cluster] = -1
    return final


def constraints_of(
    edits: Edits, paths: Sequence[str], learnt: NDArray[np.int32], groups: NDArray[np.int32], K: int
) -> Constraints | None:
    """
    Return the constraints that edits of a labelling put on the labels of videos; None without any.

    A video that was moved must be in its cluster; one that was marked as wrong must neither be in the cluster that it
    is in, nor in any in which it was wrong before; merged clusters are one.

    Parameters
    ----------
    edits : Edits
        Edits of the consensus.
    paths : sequence of str, length N
        The videos.
    learnt : array
        Their labels as learnt, int32, shape (N,).
    groups : array
        Cluster of the consensus of each cluster of each head, int32, shape (H, K).
    K : int
        Number of clusters of each head: those before, those that people have created, and any new ones.
    """
    final = final_clusters(edits, K)
    now = edits.apply(paths, learnt)
    rows, allowed = [], []
    for row, path in enumerate(paths):
        may_be = final >= 0
        if path in edits.moved:
            may_be &= final == final[edits.moved[path]]
        else:
            wrong_in = {int(final[cluster]) for cluster in edits.excluded.get(path, ())}
            if path in edits.wrong and now[row] >= 0:
                wrong_in.add(int(now[row]))
            if not wrong_in:
                continue
            may_be &= ~np.isin(final, list(wrong_in))
        if may_be.any():
            rows.append(row)
            allowed.append(may_be)
    if not rows and (final == np.arange(K)).all():
        return None
    table = np.array(allowed, bool) if rows else np.zeros((0, K), bool)
    return Constraints(np.array(rows, np.int64), table, final, groups)


def summary_of(edits: Edits, paths: Sequence[str], learnt: NDArray[np.int32]) -> str:
    """Return the constraints of these videos as text; it changes when they do, but not by learning with them."""
    now = edits.apply(paths, learnt)
    wrong = {path: set(map(int, clusters)) for path, clusters in edits.excluded.items()}
    for path, cluster in zip(paths, now.tolist(), strict=True):
        if path in edits.wrong and cluster >= 0:
            wrong.setdefault(path, set()).add(cluster)
    moved = {path: edits.merged.get(cluster, cluster) for path, cluster in edits.moved.items()}
    kept = {path: sorted({edits.merged.get(k, k) for k in clusters}) for path, clusters in wrong.items()}
    excluded = {path: clusters for path, clusters in kept.items() if path not in moved}
    merged = {str(cluster): into for cluster, into in edits.merged.items()}
    return json.dumps({"moved": moved, "excluded": excluded, "merged": merged}, sort_keys=True)
