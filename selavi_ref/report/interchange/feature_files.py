"""Features of videos with their labels as arrays for other programs: NumPy (.npz) or Parquet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import FilePath, InputError, printable
from selavi_ref.report.export import FinalLabels
from selavi_ref.report.interchange.labelled_videos import refuse_existing
from selavi_ref.runs.atomic import replacing
from selavi_ref.runs.csv_file import without_surrogates

ENDINGS = (".npz", ".parquet")


def write_features(
    labels: FinalLabels, spaces: Mapping[str, NDArray[np.float32]], out: FilePath, *, force: bool = False
) -> None:
    """
    Write features and labels.

    ``.npz``: an array (N, D) for each feature space, and ``paths``, ``label``, ``name``, ``confidence`` and, if known,
    ``classes``. ``.parquet``: a row for each video, with a column of lists for each feature space. Both are read by
    ``selavi extract --embeddings``. A video without features has NaN; in Parquet, no list.

    Parameters
    ----------
    labels : FinalLabels
        Labels of the N videos.
    spaces : mapping of str to array
        Features of each feature space, shape (N, D).
    out : path
        File ending in .npz or .parquet.
    force : bool
        Replace an existing one.

    Raises
    ------
    InputError
        If the file exists, the ending is another one, there are no features, or pyarrow is missing.
    """
    check_features_file(out, force)
    if not spaces:
        raise InputError(
            "there are no features to write; name a run or a store that has them, or compute some: selavi extract",
            option="embeddings",
        )
    columns: dict[str, Any] = {
        "paths": [without_surrogates(path) for path in labels.paths],
        "label": labels.cluster,
        "name": [without_surrogates(name) for name in labels.name],
        "confidence": labels.confidence,
    }
    if any(labels.classes):
        columns["classes"] = [without_surrogates(name) for name in labels.classes]
    if taken := set(spaces) & set(columns):
        raise InputError(f"a feature space is called {', '.join(sorted(taken))}, as a column of labels is")
    if os.fspath(out).lower().endswith(".npz"):
        with replacing(out) as file:
            arrays: dict[str, Any] = {name: np.asarray(values) for name, values in {**spaces, **columns}.items()}
            np.savez(file, **arrays)
        return
    _write_parquet(columns, spaces, out)


def check_features_file(out: FilePath, force: bool) -> None:
    """
    Refuse a file of features of another ending, or one that exists and may not be replaced.

    Raises
    ------
    InputError
        If it does not fit.
    """
    if os.path.splitext(os.fspath(out))[1].lower() not in ENDINGS:
        raise InputError(
            f"--embeddings {printable(out)}: the name must end in .npz or .parquet", path=out, option="embeddings"
        )
    refuse_existing(out, force)


def _write_parquet(columns: Mapping[str, Any], spaces: Mapping[str, NDArray[np.float32]], out: FilePath) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError("writing Parquet needs the package pyarrow: pip install pyarrow") from error
    names = {"paths": "path", "classes": "class"}
    arrays = {names.get(name, name): pa.array(values) for name, values in columns.items()}
    for space, features in spaces.items():
        missing = ~np.isfinite(features).all(1)
        flat = pa.array(np.ascontiguousarray(features, np.float32).ravel())
        lists = pa.FixedSizeListArray.from_arrays(flat, features.shape[1], mask=pa.array(missing))
        arrays[space] = lists
    with replacing(out) as file:
        pq.write_table(pa.table(arrays), file, compression="zstd")
