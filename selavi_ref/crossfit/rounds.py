"""One round of self-labelling of several runs at once: heads fitted on folds predict the videos of the other folds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selavi_ref.crossfit.logistic import fit_logistic, log_softmax
from selavi_ref.errors import ConvergenceWarning
from selavi_ref.selflabel.self_labelling import predicted_mass
from selavi_ref.transport import assign, marginals

_TOL = 1e-4  # L1 error of the cluster sizes: new folds change far more
_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class FeatureSpace:
    """
    Components of one modality.

    Parameters
    ----------
    x : array
        float32, shape (N, C); zeros for videos that lack the modality.
    present : array
        bool, shape (N,): which videos have it.
    """

    x: NDArray[np.float32]
    present: NDArray[np.bool_]

    def take(self, rows: NDArray[np.int64]) -> FeatureSpace:
        """Return the space of some of the videos."""
        return FeatureSpace(self.x[rows], self.present[rows])


@dataclass(frozen=True)
class HeldOut:
    """
    Predictions for videos by heads that were not fitted on them.

    Parameters
    ----------
    log_ratio : array
        float32, shape (M, S, N, K): for each modality and run ``log p(k | x) - log prior(k)``; zeros for videos that
        lack the modality.
    information : array
        float64, shape (S,): the sum over modalities of ``H(labels) + mean log p(label | x)``, nats; a lower bound of
        the mutual information between the labels and each modality, up to the error of a finite sample.
    weights : list of array
        Of each modality, float32, shape (C + 1, S, F, K); the last row holds the biases.
    log_prior : array
        float32, shape (S, K).
    """

    log_ratio: NDArray[np.float32]
    information: NDArray[np.float64]
    weights: list[NDArray[np.float32]]
    log_prior: NDArray[np.float32]

    @property
    def scores(self) -> NDArray[np.float32]:
        """Sum of `log_ratio` over modalities, float32, shape (S, N, K)."""
        return np.asarray(self.log_ratio.sum(0))


def predict_held_out(
    spaces: Sequence[FeatureSpace],
    labels: NDArray[np.int32],
    K: int,
    *,
    folds: int,
    penalty: NDArray[np.float64],
    iterations: int,
    rng: np.random.Generator,
) -> HeldOut:
    """
    Fit heads on all folds but one and predict the videos of that one; each run has its own folds, drawn anew.

    All heads of all runs are problems of one call of `fit_logistic` per modality. It stops after a few steps: a head
    that is not fitted to the end is one more guard against memorised labels.

    The logarithm of the class prior is subtracted from each modality's log-probabilities, because their sum over M
    modalities would count it M times: large clusters would grow, and without prescribed sizes all videos would end in
    one.

    Parameters
    ----------
    spaces : sequence of FeatureSpace
        Components of N videos.
    labels : array
        int32, shape (S, N): pseudo-labels of S runs.
    K : int
        Number of clusters.
    folds : int
        Number of folds F.
    penalty : array
        Shape (S,): penalty on the squared weights of each run, see `fit_logistic`.
    iterations : int
        Steps of L-BFGS, from weights of zero.
    rng : Generator
        Source of the folds.
    """
    S, N = labels.shape
    fold = np.stack([rng.permutation(N) % folds for _ in range(S)])
    fitted_on = (fold[:, None] != np.arange(folds)[:, None]).reshape(S * folds, N)
    repeated = np.repeat(labels, folds, 0)
    counts = np.stack([np.bincount(run, minlength=K) for run in labels]) + 1.0
    prior = counts / counts.sum(1, keepdims=True)
    log_prior = np.log(prior).astype(np.float32)
    log_ratio = np.zeros((len(spaces), S, N, K), np.float32)
    information = np.zeros(S)
    all_weights = []
    for space, its_ratio in zip(spaces, log_ratio, strict=True):
        heads = fit_logistic(
            space.x,
            repeated,
            fitted_on & space.present,
            K,
            penalty=np.repeat(penalty, folds),
            max_iterations=iterations,
        )
        weights = heads.weights.reshape(-1, S, folds, K)
        information += _predict(space, weights, fold, labels, log_prior, its_ratio)
        all_weights.append(weights)
    return HeldOut(log_ratio, information - len(spaces) * (prior * log_prior).sum(1), all_weights, log_prior)


def transport(
    scores: NDArray[np.float32],
    marginal: NDArray[np.float64],
    strength: float,
    marginal_penalty: float | None,
    potentials: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """
    Label videos by optimal transport of their scores.

    Parameters
    ----------
    scores : array
        float32, shape (N, K).
    marginal : array
        float64, shape (K,): cluster sizes; of unequal ones, the cluster with the largest predicted mass gets the
        largest.
    strength, marginal_penalty
        As in `selavi_ref.transport.assign`.
    potentials : array, optional
        Potentials to start from, as returned.

    Returns
    -------
    labels, potentials : array
        int32, shape (N,), and float64, shape (K,), in units of the scores.
    """
    if np.ptp(marginal) > 0:
        marginal = marginals.match(marginal, predicted_mass(scores))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = assign(
            scores,
            marginal,
            strength=strength,
            marginal_penalty=marginal_penalty,
            tol=_TOL,
            potentials=None if potentials is None else potentials * strength,
        )
    return solution.labels, solution.potentials / strength


def _predict(
    space: FeatureSpace,
    weights: NDArray[np.float32],
    fold: NDArray[np.int64],
    labels: NDArray[np.int32],
    log_prior: NDArray[np.float32],
    log_ratio: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Write one modality's held-out log ratios; return its mean held-out log-probability of the labels, shape (S,)."""
    S, N, K = log_ratio.shape
    F = weights.shape[2]
    step = max(64, _BLOCK_BYTES // (4 * F * K))
    likelihood = np.zeros(S)
    for run in range(S):
        flat = weights[:, run].reshape(-1, F * K)
        for first in range(0, N, step):
            rows = slice(first, first + step)
            logits = (space.x[rows] @ flat[:-1] + flat[-1]).reshape(-1, F, K)
            log_prob = log_softmax(np.take_along_axis(logits, fold[run, rows, None, None], 1)[:, 0])
            log_prob *= space.present[rows, None]
            likelihood[run] += np.take_along_axis(log_prob, labels[run, rows, None].astype(np.int64), 1).sum()
            log_ratio[run, rows] = log_prob - log_prior[run] * space.present[rows, None]
    return likelihood / max(1, int(space.present.sum()))
