"""Evaluate retrieval: how often the nearest videos have the class of the query, within and across modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from selavi_ref.ensemble.posterior import HeadPosteriors
from selavi_ref.errors import InputError
from selavi_ref.metrics import nearest, retrieval_recall
from selavi_ref.report.table import Cell, Table
from selavi_ref.store import FeatureStore
from selavi_ref.store.joint_log_prob import labelling_modalities

AT = (1, 5, 10, 20, 50)


@dataclass(frozen=True)
class Gallery:
    """
    Videos as queries or items of a retrieval.

    Parameters
    ----------
    paths, classes : list of str
        The N videos and their true classes, "" where unknown.
    features : mapping of str to array
        Of each modality, float32, shape (N, D).
    root_posteriors : mapping of str to array
        Of each modality, float32, shape (N, sum of K over the heads): square roots of the posteriors of all heads that
        look at all of these modalities, whose products add up to Bhattacharyya's coefficient. Both modalities mean the
        same clusters, so that a picture can be compared with a sound.
    present : mapping of str to array
        Which videos have the modality: bool, shape (N,).
    """

    paths: list[str]
    classes: list[str]
    features: Mapping[str, NDArray[np.float32]]
    root_posteriors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    present: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: FeatureStore, features: FeatureStore | None = None) -> Gallery:
        """Take a store's log-probabilities, and its features or those of another store of the same videos."""
        other = features or store
        if other.paths != store.paths:
            raise InputError(f"{other.path} is of other videos than {store.path}", path=other.path)
        modalities = [m for m in other.modalities if other.has(f"features/{m}")]
        present = {m: store.present(m) & other.present(m) for m in modalities}
        values = {m: other.features(m) for m in modalities}
        seen_by = {head: set(labelling_modalities(store, head)) for head in store.heads}
        with_posteriors = [m for m in modalities if any(m in seen for seen in seen_by.values())]
        heads = [
            head for head, seen in seen_by.items() if seen.issuperset(with_posteriors)
        ]  # others cannot be compared
        root_posteriors = {}
        for m in with_posteriors if heads else ():
            of_heads = HeadPosteriors(store, heads, only=m)
            columns = [of_heads.of_head(head, slice(0, store.n_videos))[0] for head in heads]
            root_posteriors[m] = np.sqrt(np.concatenate(columns, 1) / len(heads))
        finite = {m: present[m] & np.isfinite(values[m]).all(1) for m in modalities}
        return cls(store.paths, store.classes, values, root_posteriors, finite)


def retrieval_table(
    items: Gallery, queries: Gallery | None = None, *, metric: str = "euclidean", at: Sequence[int] = AT
) -> Table:
    """
    Score retrieval in each direction: pictures by pictures, sounds by sounds, and each by the other.

    Within a modality by its features; from one to the other by what all heads think of the clusters (`Gallery`), and
    by that within a modality as well. A query counts at k when one of the k nearest items has its class.

    Parameters
    ----------
    items : Gallery
        Videos to be found, with true classes.
    queries : Gallery, optional
        Videos to find others for; without, each item looks for others.
    metric : str
        ``"euclidean"``, as published, or ``"cosine"``; of features.
    at : sequence of int
        Numbers k of nearest items; those larger than the collection are left out.

    Raises
    ------
    InputError
        If there is no video with a class to look for.
    """
    asked = queries or items
    names = list(items.features)
    rows: list[Mapping[str, Cell]] = []
    most = 0
    for by, spaces in (("features", ("features",)), ("clusters", ("root_posteriors",))):
        for a in names:
            for b in names if by == "clusters" else (a,):
                result = _recall(asked, items, a, b, spaces[0], metric, at, queries is None)
                if result is not None:
                    n, recall = result
                    most = max(most, n)
                    recalls = {f"at_{k}": value for k, value in recall.items()}
                    rows.append({"query": a, "item": b, "by": by, "queries": n, **recalls})
    if not rows:
        raise InputError("there are no two videos with features and true classes, so nothing can be retrieved")
    used = [k for k in at if any(f"at_{k}" in row for row in rows)]
    return Table(
        "Retrieval: share of the queries of whose class one of the k nearest is",
        {"query": "query", "item": "found", "by": "by", "queries": "queries", **{f"at_{k}": f"at {k}" for k in used}},
        rows,
        [
            f"{len(items.paths):,} items; features by {metric} distance, clusters by what all heads think of them",
            *(["each video looks for others, not for itself"] if queries is None else []),
        ],
        {"items": len(items.paths), "queries": most, "metric": metric},
    )


def neighbours_table(items: Gallery, queries: Gallery | None, k: int, *, metric: str = "euclidean") -> Table:
    """Return the k nearest items of each query by each modality's features, the nearest first."""
    asked = queries or items
    rows: list[Mapping[str, Cell]] = []
    for m in (m for m in items.features if m in asked.features):
        query_rows, item_rows = np.flatnonzero(asked.present[m]), np.flatnonzero(items.present[m])
        n_nearest = min(k, len(item_rows) - (queries is None))
        if not len(query_rows) or n_nearest < 1:
            continue
        nearest_rows, distances = nearest(
            asked.features[m][query_rows],
            items.features[m][item_rows],
            n_nearest,
            metric=metric,
            leave_out_self=queries is None,
        )
        for row, neighbours, far in zip(query_rows, nearest_rows, distances, strict=True):
            for rank, (index, distance) in enumerate(zip(neighbours, far, strict=True), 1):
                rows.append(
                    {
                        "query": asked.paths[row],
                        "modality": m,
                        "rank": rank,
                        "found": items.paths[item_rows[index]],
                        "distance": float(distance),
                    }
                )
    columns = {"query": "query", "modality": "by", "rank": "rank", "found": "found", "distance": "distance"}
    return Table("Nearest videos", columns, rows, facts={"metric": metric})


def _recall(
    asked: Gallery,
    items: Gallery,
    a: str,
    b: str,
    space: str,
    metric: str,
    at: Sequence[int],
    alone: bool,
) -> tuple[int, dict[int, float]] | None:
    """Return the number of queries and their recall, or None where there is nothing to compare."""
    sources, targets = getattr(asked, space), getattr(items, space)
    if a not in sources or b not in targets:
        return None
    with_class = [np.array([bool(name) for name in gallery.classes]) for gallery in (asked, items)]
    who, what = asked.present[a] & with_class[0], items.present[b] & with_class[1]
    if alone:
        who = what = who & what
    if space == "root_posteriors":
        metric = "cosine"
    n_items = int(what.sum()) - alone
    known = [k for k in at if k <= n_items]
    if not who.any() or not known:
        return None
    classes = [[g.classes[row] for row in np.flatnonzero(has)] for g, has in ((asked, who), (items, what))]
    recall = retrieval_recall(
        sources[a][who], classes[0], targets[b][what], classes[1], at=known, metric=metric, leave_out_self=alone
    )
    return int(who.sum()), recall
