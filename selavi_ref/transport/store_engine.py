"""The plan pass out of core: blocks of rows come from a file, and compiled code passes over each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from selavi_ref.errors import InputError
from selavi_ref.transport.arguments import Vector, normalised, refuse_entry
from selavi_ref.transport.blocks import Blocks
from selavi_ref.transport.numba_engine import NumbaPass, symmetric
from selavi_ref.transport.plan_pass import STATS_ROWS, PlanStats, Rows
from selavi_ref.transport.row_offsets import HUGE, ShiftedPass


class StorePass:
    """`PlanPass` on scores in a file, of which memory holds a few blocks, and 12 bytes for each row.

    Every pass reads the file once. `Rows.logsumexp` stays empty.

    Parameters
    ----------
    log_prob : Blocks, or what `Blocks` takes
        Scores (N, K).
    strength, weight
        As for every engine.
    """

    def __init__(self, log_prob: Any, strength: float, weight: Vector | None = None) -> None:
        self._blocks = log_prob if isinstance(log_prob, Blocks) else Blocks(log_prob)
        self.shape = self._blocks.shape
        self.weight = normalised(weight)
        self._passes: list[NumbaPass | ShiftedPass] = []
        self._parts: list[float] = []
        for _, rows, scores in self._blocks.walk():
            own = None if self.weight is None else self.weight[rows]
            part = len(scores) / self.shape[0] if own is None else float(own.sum())
            own = own if part > 0 else None
            try:
                make = partial(NumbaPass, strength=strength, weight=own, keeps=False)
                block: NumbaPass | ShiftedPass = make(scores)
                if block.largest * abs(strength) >= HUGE:
                    block = ShiftedPass(make, scores, strength)
            except InputError:
                finite = np.isfinite(scores)
                if finite.all():
                    raise
                i, k = divmod(int(np.argmin(finite)), self.shape[1])
                refuse_entry(rows.start + i, k, float(scores[i, k]))
            block.lend(None)
            self._passes.append(block)
            self._parts.append(part)

    def __call__(self, potentials: Vector, sharpness: float = 1.0, *, precise: bool = False) -> tuple[float, Vector]:
        """See `PlanPass`."""
        value, mass = 0.0, np.zeros(self.shape[1])
        for part, _, block in self._walk():
            own = block(potentials, sharpness, precise=precise)
            value += part * own[0]
            mass += part * own[1]
        return value, mass

    def rows(self, potentials: Vector) -> Rows:
        """See `PlanPass`."""
        N, K = self.shape
        labels, confidence = np.empty(N, np.int32), np.empty(N, np.float32)
        value = score = 0.0
        mass = np.zeros(K)
        for part, rows, block in self._walk():
            own = block.rows(potentials)
            labels[rows], confidence[rows] = own.labels, own.confidence
            value += part * own.value
            score += part * own.score
            mass += part * own.mass
        return Rows(labels, confidence, np.empty(0), mass, value, score)

    def peak(self, potentials: Vector) -> Vector:
        """See `PlanPass`."""
        highest = np.full(self.shape[1], -np.inf)
        for _, _, block in self._walk():
            highest = np.maximum(highest, block.peak(potentials))
        return highest

    def stats(self, potentials: Vector, sharpness: float = 1.0) -> PlanStats:
        """See `PlanPass`; rows are taken from blocks that are spread evenly."""
        sums = np.zeros(4)
        n_blocks = max(8, len(self._passes) * STATS_ROWS // self.shape[0])
        for part, _, block in self._walk(max(1, len(self._passes) // n_blocks)):
            own = block.stats(potentials, sharpness)
            sums += part * np.array([own.weight, own.softness, own.many, own.small])
        return PlanStats(*sums.tolist())

    def coupling(self, potentials: Vector, step: int, sharpness: float = 1.0) -> Vector:
        """See `PlanPass`; where rows are left out, so are blocks."""
        apart = max(1, min(step, len(self._passes) // 16))
        step = max(1, step // apart)
        if self.weight is None:
            sums, n_rows = None, 0
            for _, rows, block in self._walk(apart):
                sums = block.add_coupling(sums, potentials, step, sharpness)
                n_rows += len(range(rows.start, rows.stop, step))
            assert sums is not None
            return symmetric(sums) / n_rows
        total, weight = np.zeros((self.shape[1], self.shape[1])), 0.0
        for part, _, block in self._walk(apart):
            total += part * block.coupling(potentials, step, sharpness)
            weight += part
        return np.asarray(total / max(weight, 1e-300))

    def _walk(self, apart: int = 1) -> Iterator[tuple[float, slice, NumbaPass | ShiftedPass]]:
        """Yield every ``apart``-th block with its part of all weight and its rows."""
        for number, rows, scores in self._blocks.walk(apart):
            block = self._passes[number]
            block.lend(scores)
            yield self._parts[number], rows, block
            block.lend(None)
