"""Inputs of the networks for clips of all videos; those that are the same every time are computed once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from backbones.data.clips import ClipSource, StoredClips, empty_shape
from backbones.data.loader import EvalBatch
from backbones.learner.loss import LAYOUTS

_MAX_BYTES = 512 << 20  # of inputs that are held in memory


@dataclass(frozen=True)
class InputBatch:
    """
    Inputs for clips of some videos.

    Parameters
    ----------
    rows : array
        The videos, int64, shape (B,).
    reasons : list of str
        Why a video could not be decoded; "" where it could.
    inputs : dict of str to Tensor
        Of each modality, float32.
    """

    rows: NDArray[np.int64]
    reasons: list[str]
    inputs: dict[str, Tensor]


class ClipInputs:
    """
    Computes inputs, and holds those of centre clips if all videos are in memory and 512 MiB are enough.

    Parameters
    ----------
    source : ClipSource
        The videos.
    compute : callable
        Returns the inputs of a batch by modality.
    """

    def __init__(self, source: ClipSource, compute: Callable[[EvalBatch], dict[str, Tensor]]):
        self._compute = compute
        self._in_memory = isinstance(source, StoredClips) and source.in_memory_only
        self._bytes_per_video = 4 * sum(math.prod(empty_shape(m, source.settings)[1:]) for m in LAYOUTS)
        self._held: tuple[range, list[InputBatch]] | None = None

    def batches(self, rows: range, clips: Iterable[EvalBatch], *, same_every_time: bool) -> Iterator[InputBatch]:
        """Yield the inputs of the networks for clips of some videos; inputs that are held are not computed again."""
        if same_every_time and self._held is not None and self._held[0] == rows:
            yield from self._held[1]
            return
        hold = same_every_time and self._in_memory and len(rows) * self._bytes_per_video <= _MAX_BYTES
        held = []
        for batch in clips:
            inputs = {m: x.contiguous(memory_format=LAYOUTS[m]) for m, x in self._compute(batch).items()}
            item = InputBatch(batch.rows, batch.reasons, inputs)
            if hold:
                held.append(item)
            yield item
        if hold:
            self._held = rows, held
