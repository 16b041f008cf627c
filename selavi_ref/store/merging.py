"""A new store made of rows of other stores."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from selavi_ref.errors import InputError
from selavi_ref.store.reader import FeatureStore
from selavi_ref.store.writer import StoreWriter

_WHOLE = ("potentials", "alignment", "groups")
_ROWS = 4096  # rows that are copied at once


def merge(
    out: str | os.PathLike[str],
    stores: Sequence[FeatureStore],
    store_of: ArrayLike,
    row_of: ArrayLike,
    paths: Sequence[str],
    classes: Sequence[str],
    *,
    whole: Mapping[str, ArrayLike] | None = None,
) -> Path:
    """
    Write a store whose rows are rows of other stores; provenance and data sets are those of the first one.

    Parameters
    ----------
    out : path
        The store to write.
    stores : sequence of FeatureStore
        Where the rows come from. Of a data set that only the first one has, the rows of others stay empty.
    store_of, row_of : array of int, shape (N,)
        Number of the store, and of the row in it, that becomes each row.
    paths, classes : sequence of str, length N
        Names and true classes of the rows, in place of those that they had.
    whole : mapping of str to array, optional
        Data sets of the store as a whole that replace those of the first store.

    Raises
    ------
    InputError
        If a data set has another width in another store.
    StoreError
        If a store cannot be read or written.
    """
    first = stores[0]
    widths = {name: first.width(name) for name in first.names}
    for store in stores[1:]:
        for name in set(store.names) & set(widths):
            if store.width(name) != widths[name]:
                raise InputError(
                    f"{name} has {store.width(name)} columns in {store.path} and {widths[name]} in {first.path}",
                    path=store.path,
                    option=name,
                )
    given = whole or {}
    kept = {name: given.get(name, first.get(name)) for name in _WHOLE if first.has(name)}
    sources, rows = np.asarray(store_of), np.asarray(row_of)
    with StoreWriter(
        out, paths, widths, classes=classes, provenance=first.provenance, whole=kept, resume=False
    ) as writer:
        for number, store in enumerate(stores):
            present = {modality: store.present(modality) for modality in store.modalities}
            mine = np.flatnonzero(sources == number)
            for start in range(0, len(mine), _ROWS):
                part = mine[start : start + _ROWS]
                picked = rows[part]
                values: dict[str, Any] = {name: store.get(name, picked) for name in widths if name in store.names}
                has = {modality: values_of[picked] for modality, values_of in present.items()}
                writer.write(part, values, present=has, reason=[store.reasons[row] for row in picked])
        return writer.finish()
