"""Nearest videos of a collection to other files, without any class: by features, and by clusters across modalities."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.ensemble.posterior import HeadPosteriors
from selavi_ref.errors import InputError, printable
from selavi_ref.report.store_search import nearest_by_features, nearest_by_posteriors
from selavi_ref.report.table import Cell, Table
from selavi_ref.store import FeatureStore

CLUSTERS = "clusters"
_NOTE = (
    "video and audio: distance of features; clusters: 1 minus the overlap of the posteriors of all heads, which "
    "picture and sound have in common, so that a sound finds pictures and a picture sounds"
)


def similar_files(items: FeatureStore, queries: FeatureStore, n: int, *, metric: str = "euclidean") -> Table:
    """
    Return the n nearest items of each query, exactly, in each space that both have; a file does not find itself.

    The store of the items is mapped into memory in blocks, so that a search holds about a MiB of it.

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
    nearest_by_space: dict[str, tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = {}
    common = [m for m in queries.modalities if queries.has(f"features/{m}") and items.has(f"features/{m}")]
    heads = [head for head in queries.heads if head in items.heads]
    if not common and not heads:
        raise InputError(
            f"{printable(items.path)} and {printable(queries.path)} have no feature space in common", path=items.path
        )
    many = n + 1  # one more, since a query that is an item itself loses one
    for m in common:
        values = queries.features(m)
        asked = np.flatnonzero(queries.present(m) & np.isfinite(values).all(1))
        if len(asked):
            nearest_by_space[m] = asked, *nearest_by_features(items, m, values[asked], many, metric)
    if heads:
        values, has = _root_posteriors(queries, heads)
        asked = np.flatnonzero(has)
        if len(asked):
            nearest_by_space[CLUSTERS] = asked, *nearest_by_posteriors(items, heads, values[asked], many)
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


def _root_posteriors(store: FeatureStore, heads: list[str]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the square roots of the posteriors (N, H * K) of some heads, and which videos have all of them."""
    posteriors, rows = HeadPosteriors(store, heads), slice(0, store.n_videos)
    parts = [posteriors.of_head(head, rows) for head in heads]
    values = np.sqrt(np.concatenate([values for values, _ in parts], 1))
    return values, np.logical_and.reduce([present for _, present in parts])
