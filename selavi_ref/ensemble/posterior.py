"""Posteriors of the heads of a store over their clusters, and their mean over several heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from selavi_ref.store import FeatureStore
from selavi_ref.store.joint_log_prob import joint_log_prob, labelling_modalities


class HeadPosteriors:
    """
    Posteriors of some heads of a store, each by the summed log-probabilities of the modalities that a video has.

    Parameters
    ----------
    store : FeatureStore
        With log-probabilities.
    heads : sequence of str, optional
        Names of the heads; all by default.
    only : str, optional
        Use this modality alone.
    shifts : mapping of str to array, optional
        What is added to the log-probabilities of each head, such as scaled potentials, float32, shape (K,).

    Attributes
    ----------
    modalities : dict of str to list of str
        The modalities that each head uses.
    """

    def __init__(
        self,
        store: FeatureStore,
        heads: Sequence[str] | None = None,
        *,
        only: str | None = None,
        shifts: Mapping[str, NDArray[np.float32]] | None = None,
    ):
        self.store = store
        self.modalities = {
            head: [m for m in labelling_modalities(store, head) if only in (None, m)]
            for head in (store.heads if heads is None else heads)
        }
        self._only, self._shifts = only, shifts or {}
        used = {m for modalities in self.modalities.values() for m in modalities}
        self._present = {m: store.present(m) for m in store.modalities if m in used}

    def present(self, head: str) -> NDArray[np.bool_]:
        """Return which videos (N,) have a modality that a head uses."""
        none = np.zeros(self.store.n_videos, bool)
        return np.logical_or.reduce([none, *(self._present[m] for m in self.modalities[head])])

    def of_head(self, head: str, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the posterior (n, K) of a head, zero for videos without its modalities, and which videos have one."""
        present = self.present(head)[rows]
        if not self.modalities[head]:
            return np.zeros((len(present), self.store.n_clusters), np.float32), present
        log_prob = joint_log_prob(self.store, head, rows, self._only)
        values = posterior(log_prob + self._shifts[head] if head in self._shifts else log_prob)
        values[~present] = 0
        return values, present

    def mean(
        self, rows: slice, memberships: Mapping[str, NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """
        Average the posteriors of several heads over groups of their clusters.

        Parameters
        ----------
        rows : slice
            The videos.
        memberships : mapping of str to array
            The heads, and which group each of their clusters is in: float32, shape (K, G), one 1 in each row.

        Returns
        -------
        mean, present : array
            The mean posterior over the heads that have one, float32, shape (n, G), and which videos have any.
        """
        votes = np.stack([self.present(head)[rows] for head in memberships]).sum(0, dtype=np.float32)
        mean = np.zeros((len(votes), next(iter(memberships.values())).shape[1]), np.float32)
        for head, membership in memberships.items():
            mean += self.of_head(head, rows)[0] @ membership / np.maximum(votes, 1)[:, None]
        return mean, votes > 0


def posterior(log_prob: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the row softmax (N, K) of joint log-probabilities (N, K)."""
    posteriors = np.exp(log_prob - log_prob.max(1, keepdims=True))
    posteriors /= posteriors.sum(1, keepdims=True)
    return posteriors
