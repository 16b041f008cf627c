"""Cross-fitted self-labelling of features in memory, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.crossfit.components import FeatureRows, iterate_blocks
from selavi_ref.crossfit.model import DEFAULT_MARGINAL_PENALTY, CrossfitModel, fit_crossfit
from selavi_ref.crossfit.search import CrossfitSettings, Round, SearchResult


@dataclass(frozen=True)
class CrossfitResult:
    """
    Labels of N videos, and the heads that label others.

    Parameters
    ----------
    labels : array
        int32, shape (N,): the cluster with the largest posterior; -1 for videos without any modality.
    log_posterior : array
        float32, shape (N, K), by held-out heads; NaN for videos without any modality.
    model : CrossfitModel
        The heads.
    search : SearchResult
        How the search chose them: penalty, candidate, held-out information, agreement of the runs.
    """

    labels: NDArray[np.int32]
    log_posterior: NDArray[np.float32]
    model: CrossfitModel
    search: SearchResult

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Posterior of each label, float32, shape (N,); NaN without a label."""
        return np.asarray(np.exp(self.log_posterior.max(1)))


def crossfit(
    features: Mapping[str, FeatureRows],
    K: int,
    *,
    marginal: ArrayLike | None = None,
    marginal_penalty: float | None = DEFAULT_MARGINAL_PENALTY,
    settings: CrossfitSettings | None = None,
    seed: int | np.random.Generator = 0,
    on_round: Callable[[Round], None] = lambda _: None,
) -> CrossfitResult:
    """
    Label videos from the features of one, two or more modalities by cross-fitted self-labelling.

    A linear head with a thousand inputs can fit any labels of a thousand videos. Its log-probabilities then repeat the
    labels that it was fitted to, and self-labelling (Asano et al., 2020) stops at once. Here, the videos are divided
    into folds, and those of one fold are predicted by heads fitted on the others.

    Parameters
    ----------
    features : mapping of str to rows
        Features of each modality, float32, shape (N, D): arrays, or data sets in a file, which are read in blocks. A
        row that is not finite lacks the modality.
    K : int
        Number of clusters.
    marginal : array, optional
        Sizes of the clusters, shape (K,), in any unit; uniform by default.
    marginal_penalty : float or None
        Penalty for missing these sizes, see `selavi_ref.transport.assign`; None: they are met.
    settings : CrossfitSettings, optional
        Settings of the search.
    seed : int or Generator
        Seed of starts, folds, and the sample.
    on_round : callable
        Called after each round of self-labelling.

    Returns
    -------
    CrossfitResult

    Raises
    ------
    InputError
        If shapes do not fit, or there are fewer videos than twice the clusters.

    References
    ----------
    Asano, Patrick, Rupprecht and Vedaldi, Labelling unlabelled videos from scratch with multi-modal self-supervision,
    NeurIPS 2020; Chernozhukov et al., Double/debiased machine learning, Econometrics J. 21 (2018), for cross-fitting.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> kinds = np.repeat([0, 1, 2], 40)
    >>> video, audio = (4 * np.eye(3, width)[kinds] + rng.normal(size=(120, width)) for width in (20, 10))
    >>> result = crossfit({"video": video, "audio": audio}, 3)
    >>> result.labels.shape, np.bincount(result.labels).tolist()
    ((120,), [40, 40, 40])
    >>> unseen = {"audio": 4 * np.eye(3, 10)[[2, 2]].astype(np.float32)}
    >>> bool((result.model.log_posterior(unseen).argmax(1) == result.labels[-1]).all())
    True
    """
    model, search = fit_crossfit(
        features,
        K,
        marginal=marginal,
        marginal_penalty=marginal_penalty,
        settings=settings,
        seed=seed,
        on_round=on_round,
    )
    widest = max(features.values(), key=lambda x: x.shape[1])
    log_posterior = np.empty((widest.shape[0], K), np.float32)
    for rows, _ in iterate_blocks(widest):
        block = {name: np.asarray(x[rows], np.float32) for name, x in features.items()}
        log_posterior[rows] = model.log_posterior(block)
    labels = np.where(np.isnan(log_posterior[:, 0]), -1, log_posterior.argmax(1)).astype(np.int32)
    return CrossfitResult(labels, log_posterior, model, search)
