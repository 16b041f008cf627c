"""Nearest videos of a collection to other files, without any class: by features, and by clusters across modalities."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.ensemble.posterior import HeadPosteriors
from selavi_ref.errors import InputError, printable
from selavi_ref.metrics import nearest
from selavi_ref.report.table import Cell, Table
from selavi_ref.store import FeatureStore
from selavi_ref.store.joint_log_prob import labelling_modalities

CLUSTERS = "clusters"
_NOTE = (
    "video and audio: distance of features; clusters: 1 minus the overlap of the posteriors of all heads, which "
    "picture and sound have in common, so that a sound finds pictures and a picture sounds"
)


def similar_files(items: FeatureStore, queries: FeatureStore, n: int, *, metric: str = "euclidean") -> Table:
    """
    Return the n nearest items of each query, exactly, in each space that both have; a file does not find itself.

    The store of the items is read in blocks, so that memory does not grow with it.

    Parameters
    ----------
    items : FeatureStore
        The collection.
    queries : FeatureStore
        The files to find others for, by the same networks.
    n : int
        Number of neighbours.
    metric : str
        ``"euclidean"`` or ``"cosine"``, of features.

    Returns
    -------
    Table
        Columns ``query``, ``by`` (the modality, or ``"clusters"``), ``rank``, ``found`` and ``distance``.

    Raises
    ------
    InputError
        If no space is common to both, or no query could be decoded.
    """
    spaces: list[_Features | _Posteriors] = [
        _Features(modality)
        for modality in queries.modalities
        if queries.has(f"features/{modality}") and items.has(f"features/{modality}")
    ]
    if heads := [head for head in queries.heads if head in items.heads]:
        spaces.append(_Posteriors(heads))
    if not spaces:
        raise InputError(
            f"{printable(items.path)} and {printable(queries.path)} have no feature space in common", path=items.path
        )
    nearest_by_space: dict[str, tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = {}
    for space in spaces:
        values, has = space.read(queries, slice(0, queries.n_videos))
        if has.any():
            asked = np.flatnonzero(has)
            # Some more, of which a query that is an item itself loses one.
            nearest_by_space[space.name] = asked, *_nearest(space, items, values[asked], n + 1, metric)
    if not nearest_by_space:
        why = next(filter(None, queries.reasons), "it has neither picture nor sound that the networks know")
        first = queries.paths[0]
        why = why.removeprefix(f"{printable(first)}: ")
        raise InputError(f"{printable(first)} has no neighbours: {printable(why)}", path=first)
    paths, rows = items.paths, []
    for query, path in enumerate(queries.paths):
        for by, (asked, numbers, distances) in nearest_by_space.items():
            for row in np.flatnonzero(asked == query):
                rows += _ranked(path, by, paths, numbers[row], distances[row], n)
    columns = {"query": "query", "by": "by", "rank": "rank", "found": "found", "distance": "distance"}
    return Table("Nearest files", columns, rows, [_NOTE], {"metric": metric})


def _ranked(
    query: str, by: str, paths: list[str], numbers: NDArray[np.int64], distances: NDArray[np.float32], n: int
) -> list[Mapping[str, Cell]]:
    """Return the rows of one query in one space."""
    own = {query, os.path.abspath(query)}
    pairs = [
        (paths[number], float(distance))
        for number, distance in zip(numbers.tolist(), distances.tolist(), strict=True)
        if number >= 0 and paths[number] not in own
    ]
    return [
        {"query": query, "by": by, "rank": rank, "found": path, "distance": distance}
        for rank, (path, distance) in enumerate(pairs[:n], 1)
    ]


class _Features:
    """Features of one modality."""

    def __init__(self, modality: str) -> None:
        self.name = modality

    def read(self, store: FeatureStore, rows: slice) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return the vectors (n, D) of some rows, and which rows have one."""
        values = store.features(self.name, rows)
        return values, store.present(self.name)[rows] & np.isfinite(values).all(1)


class _Posteriors:
    """Square roots of the posteriors of all heads, whose product is the mean overlap (Bhattacharyya's coefficient)."""

    name = CLUSTERS

    def __init__(self, heads: list[str]) -> None:
        self._heads = heads

    def read(self, store: FeatureStore, rows: slice) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return the vectors (n, H * K) of some rows, and which rows have one."""
        posteriors = HeadPosteriors(store, self._heads)
        parts = [posteriors.of_head(head, rows) for head in self._heads if labelling_modalities(store, head)]
        values = np.sqrt(np.concatenate([values for values, _ in parts], 1) / len(parts))
        return values, np.logical_and.reduce([present for _, present in parts])


def _nearest(
    space: _Features | _Posteriors, items: FeatureStore, queries: NDArray[Any], n: int, metric: str
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return rows of the n nearest items of each query and their distances; -1 and infinity where there are fewer."""
    best = np.full((len(queries), n), -1, np.int64)
    distances = np.full((len(queries), n), np.inf, np.float32)
    for rows in items.blocks():
        values, has = space.read(items, rows)
        numbers = np.flatnonzero(has)
        if not len(numbers):
            continue
        by = "cosine" if space.name == CLUSTERS else metric
        nearest_rows, far = nearest(queries, values[numbers], min(n, len(numbers)), metric=by)
        best = np.concatenate([best, numbers[nearest_rows] + rows.start], 1)
        distances = np.concatenate([distances, far], 1)
        order = np.argsort(distances, axis=1, kind="stable")[:, :n]
        best, distances = np.take_along_axis(best, order, 1), np.take_along_axis(distances, order, 1)
    return best, distances
