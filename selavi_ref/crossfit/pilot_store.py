"""The store of cross-fitted heads with more clusters than there may be, from which their number is estimated."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from selavi_ref.crossfit.model import fit_ensemble
from selavi_ref.crossfit.search import CrossfitSettings, Round
from selavi_ref.store import FeatureStore

PILOT_HEADS = 5


def write_pilot_store(
    path: str | os.PathLike[str],
    features: Mapping[str, NDArray[np.float32]],
    n_clusters: int,
    *,
    paths: Sequence[str] | None = None,
    settings: CrossfitSettings | None = None,
    seed: int | np.random.Generator = 0,
    on_round: Callable[[Round], None] = lambda _: None,
) -> None:
    """
    Write the log-probabilities of five heads from independent starts, for `selavi_ref.ensemble.n_clusters`.

    Parameters
    ----------
    path : path
        The store, which is replaced when it is complete.
    features : mapping of str to array
        Features of two modalities or more, float32, shape (N, D); a row of NaN lacks the modality.
    n_clusters : int
        Clusters of each head, see `selavi_ref.ensemble.n_clusters.pilot_n_clusters`.
    paths : sequence of str, length N, optional
        The videos.
    settings, seed, on_round
        As in `selavi_ref.crossfit.crossfit`.
    """
    heads = fit_ensemble(features, n_clusters, PILOT_HEADS, settings=settings, seed=seed, on_round=on_round)
    log_prob = {
        f"{modality}/{head}": values
        for head, model in enumerate(heads)
        for modality, values in model.log_prob(features).items()
    }
    names = [str(row) for row in range(len(next(iter(features.values()))))] if paths is None else paths
    FeatureStore.from_arrays(path, features, paths=names, log_prob=log_prob).close()


def n_pilot_rounds(settings: CrossfitSettings) -> int:
    """Return the number of rounds of `write_pilot_store`."""
    return settings.rounds + PILOT_HEADS * settings.final_rounds
