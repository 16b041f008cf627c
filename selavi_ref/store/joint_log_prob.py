"""Log-probabilities of a head, added up over the modalities of each video."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError, printable
from selavi_ref.store.reader import FeatureStore


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
        Use this modality alone.

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
        raise InputError(f"{printable(store.path)} holds no log-probabilities", path=store.path)
    return total


def labelling_modalities(store: FeatureStore, head: str | int, only: str | None = None) -> list[str]:
    """
    Return the modalities of which a store has log-probabilities of a head; of others it may have features only.

    Raises
    ------
    InputError
        If the store has none of the modality `only`.
    """
    modalities = [modality for modality in store.modalities if store.has(f"log_prob/{modality}/{head}")]
    if only is None:
        return modalities
    if only not in modalities:
        has = ", ".join(map(printable, modalities)) or "none"
        raise InputError(
            f"{printable(store.path)} has no log-probabilities of {only} for head {head}; it has {has}",
            path=store.path,
            value=only,
        )
    return [only]


def _check_finite(
    store: FeatureStore, modality: str, head: str | int, values: NDArray[np.float32], rows: slice | None
) -> None:
    if np.isfinite(values).all():
        return
    row, cluster = (int(index) for index in np.argwhere(~np.isfinite(values))[0])
    first = 0 if rows is None or rows.start is None else rows.start
    raise InputError(
        f"{printable(store.path)}: log_prob/{modality}/{head} is {values[row, cluster]} "
        f"in row {first + row}, cluster {cluster}; log-probabilities must be finite numbers",
        path=store.path,
        row=first + row,
        column=cluster,
    )
