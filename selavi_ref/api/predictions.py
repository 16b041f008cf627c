"""Labels of videos as arrays, and as a table of pandas."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.api.video_runs import Videos
from selavi_ref.browser.edit_history import EditHistory
from selavi_ref.ensemble.label_table import LabelTable, label_table
from selavi_ref.ensemble.labels import Labels, label_store
from selavi_ref.errors import FilePath, InputError, SelaviError
from selavi_ref.store import FeatureStore


@dataclass(frozen=True)
class Predictions:
    """
    Labels that a run predicts for N videos.

    Parameters
    ----------
    paths : list of str
        The videos.
    labels : array
        Cluster of each video, int32, shape (N,); -1 without a label. Clusters that a person has merged are one.
    confidence : array
        Posterior of the label, float32, shape (N,); 0 without a label.
    names : dict of int to str
        Names that a person has given to clusters.
    table : LabelTable
        All columns, as `selavi label` writes them.
    """

    paths: list[str]
    labels: NDArray[np.int32]
    confidence: NDArray[np.float32]
    names: dict[int, str]
    table: LabelTable

    def __len__(self) -> int:
        return len(self.paths)

    def to_pandas(self) -> Any:
        """
        Return the table as a ``pandas.DataFrame`` with one row for each video.

        Raises
        ------
        SelaviError
            If pandas is not installed.
        """
        return to_pandas(self.table)


def predictions(labels: Labels, names: Mapping[int, str]) -> Predictions:
    """Return labels and names of clusters as predictions."""
    return Predictions(labels.paths, labels.label, labels.confidence, dict(names), label_table(labels, names))


def label_features(
    store: str | os.PathLike[str],
    *,
    head: str = "consensus",
    balanced: bool = False,
    annotations: EditHistory | None = None,
    with_posterior: bool = False,
) -> tuple[Labels, dict[int, str]]:
    """
    Label the videos of a store, and return the names of the clusters, too.

    Parameters
    ----------
    store : path
        Store with log-probabilities.
    head, balanced, with_posterior
        See `selavi_ref.ensemble.labels.label_store`.
    annotations : EditHistory, optional
        Names and merged clusters of the run that the log-probabilities are by.
    """
    with FeatureStore(store) as opened:
        labels = label_store(opened, head=head, balanced=balanced, with_posterior=with_posterior)
        if annotations is None:
            return labels, {}
        edits = annotations.edits_of(labels.labelling)
        if edits.merged:
            targets = edits.merge_targets(opened.n_clusters)
            labels = label_store(
                opened, head=head, balanced=balanced, merge_targets=targets, with_posterior=with_posterior
            )
        return labels, dict(edits.names)


def to_pandas(table: LabelTable) -> Any:
    """Return a table of labels as a ``pandas.DataFrame``; missing clusters are -1, missing probabilities NaN."""
    try:
        import pandas  # type: ignore[import-untyped,unused-ignore]
    except ModuleNotFoundError as error:
        if error.name != "pandas":
            raise
        raise SelaviError("to_pandas needs the package pandas; install it with pip install pandas") from error
    return pandas.DataFrame({name: np.asarray(values) for name, values in table.columns.items()})


def as_feature_store(videos: Videos | Mapping[str, Any], folder: str) -> FilePath:
    """Return the path of a store of features: the given one, or a new one of the given arrays in a folder."""
    if isinstance(videos, (str, os.PathLike)):
        return videos
    if not isinstance(videos, Mapping):
        raise InputError(
            "the run has learnt from features: give the path of a store, or a mapping of feature spaces to arrays",
            option="videos",
        )
    spaces = {name: np.asarray(values) for name, values in videos.items()}
    n_rows = max((len(values) for values in spaces.values()), default=0)
    path = Path(folder) / "input.h5"
    FeatureStore.from_arrays(path, spaces, paths=[f"row {row}" for row in range(n_rows)]).close()
    return path
