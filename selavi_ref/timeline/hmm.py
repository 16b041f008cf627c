"""
A hidden Markov model over windows of videos: clusters as states, posteriors of windows as observations.

From one window to the next a cluster stays with probability a, or changes to each other one alike. A window's posterior
p says p_k to cluster k, or nothing with probability e: its likelihood is (1 - e) K p_k + e. Both are chosen by maximum
likelihood on the windows themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_STAY, _NOISE = (1e-6, 1 - 1e-6), (1e-6, 0.5)  # least and largest
_TOLERANCE = 1e-6  # of the log-likelihood of a window
_MOST_ITERATIONS = 200


@dataclass(frozen=True)
class Smoother:
    """
    Parameters of the model.

    Parameters
    ----------
    stay
        Probability that the next window is of the same cluster.
    noise
        Probability that the posterior of a window says nothing.
    """

    stay: float
    noise: float

    def likelihood(self, posterior: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the likelihood (T, K) of each window under each cluster; rows of zeros say nothing."""
        K = posterior.shape[1]
        values = (1 - self.noise) * K * posterior.astype(np.float64) + self.noise
        values[~posterior.any(axis=1)] = 1.0
        return values

    def forward_backward(self, posterior: NDArray[np.floating]) -> tuple[NDArray[np.float64], float, float]:
        """
        Return what all windows of a video together say about each.

        Parameters
        ----------
        posterior
            Of T windows in order, shape (T, K); rows sum to 1, or are zero for windows that say nothing.

        Returns
        -------
        smoothed, stays, log_likelihood
            Posterior of each window given all, float64, shape (T, K); the expected number of windows that have the
            cluster of the one before; and the log-likelihood.
        """
        T, K = posterior.shape
        observed = self.likelihood(posterior)
        change = (1 - self.stay) / max(1, K - 1)
        forward, scale = np.empty((T, K)), np.empty(T)
        state = np.full(K, 1 / K)
        for t in range(T):
            state = observed[t] * (state if t == 0 else change + (self.stay - change) * state)
            scale[t] = state.sum()
            forward[t] = state = state / scale[t]
        smoothed, stays = forward.copy(), 0.0
        backward = np.ones(K)
        for t in range(T - 1, 0, -1):
            seen = observed[t] * backward / scale[t]
            stays += self.stay * float(forward[t - 1] @ seen)
            backward = change * seen.sum() + (self.stay - change) * seen
            smoothed[t - 1] *= backward
        return smoothed, stays, float(np.log(scale).sum())

    def most_probable(self, posterior: NDArray[np.floating]) -> NDArray[np.int32]:
        """Return the most probable path of clusters of the windows of a video (T, K), int32, shape (T,) (Viterbi)."""
        T, K = posterior.shape
        observed = np.log(self.likelihood(posterior))
        stay, change = np.log(self.stay), np.log((1 - self.stay) / max(1, K - 1))
        score = observed[0].copy() if T else np.zeros(K)
        came_from = np.empty((T, K), np.int32)
        for t in range(1, T):
            order = score.argsort()
            other = np.full(K, order[-1])  # the best other cluster
            other[order[-1]] = order[-min(2, K)]
            stays = score + stay >= score[other] + change
            came_from[t] = np.where(stays, np.arange(K), other)
            score = np.where(stays, score + stay, score[other] + change) + observed[t]
        path = np.empty(T, np.int32)
        if T:
            path[-1] = score.argmax()
        for t in range(T - 1, 0, -1):
            path[t - 1] = came_from[t, path[t]]
        return path


def fit(posteriors: Sequence[NDArray[np.floating]], start: Smoother = Smoother(0.9, 0.1)) -> Smoother:
    """
    Return the model of maximum likelihood for the windows of some videos, by expectation-maximisation.

    Parameters
    ----------
    posteriors
        Of the windows of each video, in order, shape (T, K); see `Smoother.forward_backward`.
    start
        Where to start.
    """
    posteriors = [part for part in posteriors if len(part)]
    steps = sum(len(part) - 1 for part in posteriors)
    if not steps or posteriors[0].shape[1] == 1:
        return start
    model, before = start, -np.inf
    for _ in range(_MOST_ITERATIONS):
        stays = silent = windows = likelihood = 0.0
        for part in posteriors:
            smoothed, stayed, value = model.forward_backward(part)
            says = part.any(axis=1)
            silent += float((smoothed[says] * model.noise / model.likelihood(part)[says]).sum())
            windows += int(says.sum())
            stays, likelihood = stays + stayed, likelihood + value
        model = Smoother(float(np.clip(stays / steps, *_STAY)), float(np.clip(silent / max(1.0, windows), *_NOISE)))
        if likelihood - before < _TOLERANCE * (steps + 1):
            break
        before = likelihood
    return model
