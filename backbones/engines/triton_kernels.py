"""Fused Triton kernels of the plan pass: every entry of the data is read once, and no array of its size is written.

Import this module only where it is used: it needs the package ``triton``, which comes with PyTorch for CUDA. With
``TRITON_INTERPRET=1`` in the environment it also runs, slowly, on the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

from selavi_ref.errors import InputError

triton: Any = import_module("triton")
tl: Any = import_module("triton.language")

MOST_COLUMNS = 4096  # a whole row is held in registers
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_TILE = 2048  # entries per tile in float32, which has at least two rows; half as many in float64
_WARP = 1024  # columns per warp in float32; a quarter as many in float64
_MOST_TILES = 64  # per program, which accumulates them in the dtype of the arithmetic
_LEAST_ROWS = 32  # per program, which writes K numbers
_PROGRAMS_PER_SM = 4  # programs per multiprocessor


class Fused(NamedTuple):
    """The two fused operations: the sums of a pass, and the results per row."""

    sums: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    rows: Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor, Tensor]]


def kernels_for(x: Tensor) -> Fused:
    """Return `fused_pass` and `fused_rows`; raise if the number of columns or the device is not supported."""
    if x.shape[1] > MOST_COLUMNS:
        raise InputError(f"{x.shape[1]} columns are more than {MOST_COLUMNS}")
    if not (x.device.type == "cuda" or _INTERPRETED):
        raise InputError(f"Triton does not run on {x.device}")
    return Fused(fused_pass, fused_rows)


def fused_pass(x: Tensor, packed: Tensor, weight: Tensor | None) -> Tensor:
    """Return the column sums of the plan, and the sum of the base-2 logsumexps of ``x * scale + f``: (K + 1,) float64.

    Each program sums a few tiles of rows, and the partial sums are added in order: results are reproducible to the last
    bit on the same device.

    Parameters
    ----------
    x : (N, K) float32 or float64
        Data of any layout.
    packed : (2 K + 1,)
        In the dtype of the arithmetic: potentials f in base 2; factors that correct their rounding, by which the column
        sums are not multiplied; and the scale of ``x``.
    weight : (N,), optional
        Row weights, 1 by default; of the same dtype as ``packed``.
    """
    N, K = x.shape
    programs, tiling = _tiling(x, packed)
    sums = torch.empty((programs, K + 1), dtype=torch.float64, device=x.device)
    with torch.cuda.device_of(x):
        _kernel[(programs,)](
            x,
            packed,
            x if weight is None else weight,
            sums,
            N,
            K,
            *x.stride(),
            SINGLE=packed.dtype == torch.float32,
            WEIGHTED=weight is not None,
            **tiling,
        )
    return sums.sum(0)


def fused_rows(x: Tensor, packed: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return label (N,) int32, its probability (N,) float32 and base-2 logsumexp (N,) of each row; and sums (K + 2,).

    Parameters are those of `fused_pass`, in float64. The sums are over the columns, the logsumexps, and ``x`` at the
    labels.
    """
    N, K = x.shape
    programs, tiling = _tiling(x, packed)
    labels = torch.empty(N, dtype=torch.int32, device=x.device)
    confidence = torch.empty(N, dtype=torch.float32, device=x.device)
    logsumexp = torch.empty(N, dtype=torch.float64, device=x.device)
    sums = torch.empty((programs, K + 2), dtype=torch.float64, device=x.device)
    with torch.cuda.device_of(x):
        _rows_kernel[(programs,)](
            x,
            packed,
            x if weight is None else weight,
            labels,
            confidence,
            logsumexp,
            sums,
            N,
            K,
            *x.stride(),
            WEIGHTED=weight is not None,
            **tiling,
        )
    return labels, confidence, logsumexp, sums.sum(0)


def _tiling(x: Tensor, packed: Tensor) -> tuple[int, dict[str, int]]:
    """Return the number of programs, and the number and size of the tiles of each."""
    N, K = x.shape
    width = max(16, triton.next_power_of_2(K))
    single = packed.dtype == torch.float32
    rows = max(2, _TILE // width) if single else max(1, _TILE // 2 // width)
    tiles = triton.cdiv(N, rows)
    n_tiles = min(tiles // (_PROGRAMS_PER_SM * _multiprocessors(x.device)), _MOST_TILES)
    n_tiles = max(n_tiles, triton.cdiv(_LEAST_ROWS, rows))
    return triton.cdiv(tiles, n_tiles), {
        "n_tiles": n_tiles,
        "ROWS": rows,
        "WIDTH": width,
        "num_warps": max(4, width // (_WARP if single else _WARP // 4)),
    }


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@triton.jit
def _kernel(
    x: tl.tensor,
    packed: tl.tensor,
    weight: tl.tensor,
    sums: tl.tensor,
    N: tl.tensor,
    K: tl.tensor,
    row_stride: tl.tensor,
    column_stride: tl.tensor,
    n_tiles: tl.tensor,
    SINGLE: tl.constexpr,
    WEIGHTED: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    """Sum a pass over ``n_tiles`` tiles of ``ROWS`` whole rows."""
    program = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, WIDTH)
    inside = columns < K
    potential = tl.load(packed + columns, mask=inside, other=float("-inf"))[None, :]
    factor = tl.load(packed + K + columns, mask=inside, other=0.0)[None, :]
    scale = tl.load(packed + 2 * K)
    offsets = columns.to(tl.int64)[None, :] * column_stride
    mass = tl.zeros((ROWS, WIDTH), potential.dtype)
    value = tl.zeros((ROWS,), tl.float64)
    for tile in range(n_tiles):
        row = (program * n_tiles + tile) * ROWS + tl.arange(0, ROWS)
        valid = row < N
        mask = valid[:, None] & inside[None, :]
        entry = tl.load(x + row[:, None] * row_stride + offsets, mask=mask, other=0.0).to(potential.dtype)
        logit = tl.fma(entry, scale, potential)
        top = tl.max(logit, 1)
        if SINGLE:  # large terms first, so that float32 keeps the small differences
            logit = tl.fma(entry, scale, -top[:, None]) + potential
        else:
            logit -= top[:, None]
        power = tl.exp2(logit)
        total = tl.sum(power * factor, 1)
        w = tl.load(weight + row, mask=valid, other=0.0) if WEIGHTED else valid.to(potential.dtype)
        mass += power * (w / total)[:, None]
        value += w.to(tl.float64) * (top.to(tl.float64) + tl.log2(total).to(tl.float64))
    own = sums + program * (K + 1)
    tl.store(own + columns, tl.sum(mass.to(tl.float64), 0), mask=inside)
    tl.store(own + K, tl.sum(value, 0))


@triton.jit
def _rows_kernel(
    x: tl.tensor,
    packed: tl.tensor,
    weight: tl.tensor,
    labels: tl.tensor,
    confidence: tl.tensor,
    logsumexp: tl.tensor,
    sums: tl.tensor,
    N: tl.tensor,
    K: tl.tensor,
    row_stride: tl.tensor,
    column_stride: tl.tensor,
    n_tiles: tl.tensor,
    WEIGHTED: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    """Compute the results per row of ``n_tiles`` tiles of ``ROWS`` whole rows."""
    program = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, WIDTH)
    inside = columns < K
    potential = tl.load(packed + columns, mask=inside, other=float("-inf"))[None, :]
    scale = tl.load(packed + 2 * K)
    offsets = columns.to(tl.int64)[None, :] * column_stride
    mass = tl.zeros((ROWS, WIDTH), tl.float64)
    value = tl.zeros((ROWS,), tl.float64)
    score = tl.zeros((ROWS,), tl.float64)
    for tile in range(n_tiles):
        row = (program * n_tiles + tile) * ROWS + tl.arange(0, ROWS)
        valid = row < N
        mask = valid[:, None] & inside[None, :]
        entry = tl.load(x + row[:, None] * row_stride + offsets, mask=mask, other=0.0).to(tl.float64)
        logit = tl.fma(entry, scale, potential)
        top, label = tl.max(logit, 1, return_indices=True)
        power = tl.exp2(logit - top[:, None])
        total = tl.sum(power, 1)
        exponent = top + tl.log2(total)
        w = tl.load(weight + row, mask=valid, other=0.0) if WEIGHTED else valid.to(tl.float64)
        mass += power * (w / total)[:, None]
        value += w * exponent
        score += w * tl.sum(tl.where(columns[None, :] == label[:, None], entry, 0.0), 1)
        tl.store(labels + row, label, mask=valid)
        tl.store(confidence + row, (1.0 / total).to(tl.float32), mask=valid)
        tl.store(logsumexp + row, exponent, mask=valid)
    own = sums + program * (K + 2)
    tl.store(own + columns, tl.sum(mass, 0), mask=inside)
    tl.store(own + K, tl.sum(value, 0))
    tl.store(own + K + 1, tl.sum(score, 0))
