"""Joint log-probabilities and posteriors of the modalities that a store holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError, printable
from selavi_ref.store import FeatureStore
from selavi_ref.transport import Blocks

_IN_MEMORY = 1 << 30  # bytes of the log-probabilities of one head up to which they are solved in memory


def joint_log_prob(
    store: FeatureStore, head: str | int, rows: slice | None = None, only: str | None = None
) -> NDArray[np.float32]:
    """
    Add up the log-probabilities of the modalities that each video has.

    Parameters
    ----------
    store : FeatureStore
        With data sets ``log_prob/{modality}/{head}``.
    head : str or int
        Which head.
    rows : slice, optional
        Which videos; all by default.
    only : str, optional
        The one modality to look at.

    Returns
    -------
    array
        float32, shape (N, K); zeros where a video has no modality at all.

    Raises
    ------
    InputError
        If a value is NaN or infinite; the video and the cluster are named.
    """
    total: NDArray[np.float32] | None = None
    for modality in labelling_modalities(store, head, only):
        values = store.log_prob(modality, head, rows)
        present = store.present(modality)[rows if rows is not None else slice(None)]
        values[~present] = 0.0
        _check_finite(store, modality, head, values, rows)
        total = values if total is None else np.add(total, values, out=total)
    if total is None:
        raise InputError(f"{printable(store.path)} holds no log-probabilities")
    return total


def labelling_modalities(store: FeatureStore, head: str | int, only: str | None = None) -> list[str]:
    """
    Return the modalities of which a store has log-probabilities; of others it may have features alone.

    Raises
    ------
    InputError
        If `only` one is asked for, which it lacks.
    """
    found = [modality for modality in store.modalities if store.has(f"log_prob/{modality}/{head}")]
    if only is None:
        return found
    if only not in found:
        has = ", ".join(map(printable, found)) or "none"
        raise InputError(f"{printable(store.path)} has no log-probabilities of {only} for head {head}; it has {has}")
    return [only]


def joint_scores(
    store: FeatureStore, head: str | int, most_bytes: int = _IN_MEMORY, only: str | None = None
) -> NDArray[np.float32] | Blocks:
    """Return what `joint_log_prob` does, but left in the file where it is larger than ``most_bytes``."""
    modalities = labelling_modalities(store, head, only)
    names = [f"log_prob/{modality}/{head}" for modality in modalities]
    if not names or 4 * store.n_videos * store.width(names[0]) <= most_bytes:
        return joint_log_prob(store, head, only=only)
    if all(store.present(modality).all() for modality in modalities):
        return Blocks(*(store.views(name) for name in names))
    return Blocks(_Joint(store, head, (store.n_videos, store.width(names[0])), only))


@dataclass(frozen=True)
class _Joint:
    """Joint log-probabilities that are read and added up anew whenever they are asked for."""

    store: FeatureStore
    head: str | int
    shape: tuple[int, int]
    only: str | None = None
    dtype = np.dtype(np.float32)

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        return joint_log_prob(self.store, self.head, rows, self.only)


def posterior(log_prob: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the row softmax (N, K) of joint log-probabilities (N, K)."""
    shares = np.exp(log_prob - log_prob.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return shares


def _check_finite(
    store: FeatureStore, modality: str, head: str | int, values: NDArray[np.float32], rows: slice | None
) -> None:
    if np.isfinite(values).all():
        return
    row, cluster = (int(index) for index in np.argwhere(~np.isfinite(values))[0])
    first = 0 if rows is None or rows.start is None else rows.start
    raise InputError(
        f"{printable(store.path)}: log_prob/{modality}/{head} is {values[row, cluster]} "
        f"in row {first + row}, cluster {cluster}; log-probabilities must be finite numbers"
    )
