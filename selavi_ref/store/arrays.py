"""A store made of arrays of features that any models have computed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError
from selavi_ref.store.writer import StoreWriter

_BLOCK_BYTES = 32 << 20


def write_arrays(
    path: str | os.PathLike[str],
    features: Mapping[str, Any],
    *,
    paths: Sequence[str | os.PathLike[str]],
    classes: Sequence[str] | None = None,
    log_prob: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """
    Write arrays of features as a store, and return its path; see `FeatureStore.from_arrays`.

    A store that exists stays untouched until the new one is complete.
    """
    sources = {f"features/{_space(name)}": _matrix(name, array, "features") for name, array in features.items()}
    for name, array in (log_prob or {}).items():
        modality, _, head = name.partition("/")
        sources[f"log_prob/{_space(modality)}/{_space(head or '0')}"] = _matrix(name, array, "log_prob")
    if not features:
        raise InputError("a store of arrays needs at least one array of features", option="features")
    n_videos = len(paths)
    for dataset, array in sources.items():
        if array.shape[0] != n_videos:
            raise InputError(
                f"{dataset} has {array.shape[0]} rows for {n_videos} paths", option=dataset, value=array.shape[0]
            )
    widths = {dataset: int(array.shape[1]) for dataset, array in sources.items()}
    writer = StoreWriter(path, paths, widths, classes=classes, provenance=provenance, resume=False)
    step = max(1, _BLOCK_BYTES // (4 * sum(widths.values())))
    try:
        with writer:
            for start in range(0, n_videos, step):
                rows = slice(start, min(start + step, n_videos))
                blocks = {dataset: _float32(dataset, array[rows], start) for dataset, array in sources.items()}
                writer.write(rows, blocks, present=_present(blocks))
            return writer.finish()
    except BaseException:
        writer.partial.unlink(missing_ok=True)
        raise


def _space(name: str) -> str:
    if not name or "/" in name or "\0" in name or name.strip(".") == "":
        raise InputError(f"{name!r} cannot be the name of a feature space; use letters and digits", value=name)
    return name


def _matrix(name: str, array: Any, option: str) -> Any:
    """Check shape and type of an array, or of anything with a shape that can be sliced, such as a file mapped."""
    values = array if hasattr(array, "shape") and hasattr(array, "dtype") else np.asarray(array)
    if len(values.shape) != 2 or values.shape[1] < 1:
        hint = "; for one number a video use array[:, None]" if len(values.shape) == 1 else ""
        raise InputError(
            f"{option} {name!r} has shape {tuple(values.shape)}, not (videos, numbers){hint}", option=option, value=name
        )
    if np.dtype(values.dtype).kind not in "fiub":
        raise InputError(f"{option} {name!r} holds {values.dtype}, not numbers", option=option, value=name)
    return values


def _float32(dataset: str, block: Any, start: int) -> NDArray[np.float32]:
    """Return a block as float32; rows must be finite, or NaN from end to end, which means missing."""
    with np.errstate(over="ignore"):
        values = np.asarray(block).astype(np.float32)
    wrong = ~np.isfinite(values)
    wrong &= ~np.isnan(values).all(1, keepdims=True)
    if wrong.any():
        row, column = (int(index) for index in np.argwhere(wrong)[0])
        raise InputError(
            f"{dataset} holds {np.asarray(block)[row, column]} in row {start + row}, column {column}; numbers must be "
            "finite in float32, and a row is NaN as a whole where the video lacks the modality",
            option=dataset,
            row=start + row,
            column=column,
        )
    return values


def _present(blocks: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.bool_]]:
    """Return which videos have each modality; features and log-probabilities must lack the same ones."""
    present: dict[str, NDArray[np.bool_]] = {}
    for dataset, block in blocks.items():
        modality = dataset.split("/")[1]
        here = ~np.isnan(block[:, 0])
        if not np.array_equal(present.setdefault(modality, here), here):
            raise InputError(f"{dataset}: other rows are NaN than in the other arrays of {modality!r}", option=dataset)
    return present
