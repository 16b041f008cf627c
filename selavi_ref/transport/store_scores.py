"""Joint log-probabilities of a head of a feature store, as scores for the solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selavi_ref.store import FeatureStore
from selavi_ref.store.joint_log_prob import joint_log_prob, labelling_modalities
from selavi_ref.transport.blocks import Blocks

_IN_MEMORY = 1 << 30  # bytes of the log-probabilities of one head up to which they are solved in memory


Change = Callable[[slice, NDArray[np.float32]], NDArray[np.float32]]


def joint_scores(
    store: FeatureStore,
    head: str | int,
    most_bytes: int = _IN_MEMORY,
    only: str | None = None,
    change: Change | None = None,
) -> NDArray[np.float32] | Blocks:
    """
    Return `joint_log_prob` as an array, or as `Blocks` that are read when needed if it exceeds ``most_bytes``.

    ``change``, if given, turns the log-probabilities of a slice of the videos into their scores.
    """
    modalities = labelling_modalities(store, head, only)
    names = [f"log_prob/{modality}/{head}" for modality in modalities]
    if not names or 4 * store.n_videos * store.width(names[0]) <= most_bytes:
        whole = joint_log_prob(store, head, only=only)
        return whole if change is None else change(slice(0, store.n_videos), whole)
    if change is None and all(store.present(modality).all() for modality in modalities):
        views = [store.views(name) for name in names]
        return Blocks(*views, cache=store.path.parent if len(views) > 1 else None)
    joint = _JointLogProb(store, head, (store.n_videos, store.width(names[0])), only, change)
    return Blocks(joint, cache=store.path.parent)


@dataclass(frozen=True)
class _JointLogProb:
    """Joint log-probabilities that are read and added up anew at each access."""

    store: FeatureStore
    head: str | int
    shape: tuple[int, int]
    only: str | None = None
    change: Change | None = None
    dtype = np.dtype(np.float32)

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        scores = joint_log_prob(self.store, self.head, rows, self.only)
        return scores if self.change is None else self.change(rows, scores)
