"""Features of videos that lack a modality, or whose clips could not be decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_NAMES = {"video": "picture", "audio": "sound"}


def nan_where_absent(values: Tensor, present: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return float32 values, NaN in the rows of videos that lack the modality."""
    array = values.float().cpu().numpy()
    return np.where(present[:, None], array, np.float32(np.nan))


def replace_failed(
    values: dict[str, NDArray[np.float32]], failed: NDArray[np.bool_], last_values: list[NDArray[np.float32]]
) -> None:
    """Replace the features of videos that could not be decoded by the mean of their batch, or of the previous one."""
    for index, array in enumerate(values.values()):
        decoded = array[~failed] if not failed.all() else (last_values[index] if last_values else np.zeros_like(array))
        array[failed] = decoded.mean(0)


def reasons_of(
    reasons: list[str], present: Mapping[str, NDArray[np.bool_]], modalities: Sequence[str], concatenated: bool
) -> list[str]:
    """Return why videos have no label: those that could be decoded may lack every modality of the networks."""
    absent = f"no {_NAMES[modalities[0]]}"
    if len(modalities) > 1:
        absent = "not both picture and sound" if concatenated else "neither picture nor sound"
    has_any = np.logical_or.reduce(list(present.values()))
    return [reason or ("" if has else absent) for reason, has in zip(reasons, has_any, strict=True)]
