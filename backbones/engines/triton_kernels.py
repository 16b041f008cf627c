"""The plan pass as fused Triton kernels: every entry of the data is read once, and nothing of its size is written.

Import it where it is used only: it needs the package ``triton``, which comes with PyTorch for CUDA. With
``TRITON_INTERPRET=1`` in the environment beforehand it runs, slowly, on data of the CPU as well.
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

MOST_COLUMNS = 4096  # a row is held in registers
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_TILE = 2048  # entries of a tile of rows in float32, which has two at least; half as many in float64
_WARP = 1024  # columns that a warp takes in float32; a quarter as many in float64
_MOST_TILES = 64  # of a program, which sums them in the type of the arithmetic
_LEAST_ROWS = 32  # of a program, which leaves K numbers behind
_PROGRAMS = 4  # per multiprocessor


class Fused(NamedTuple):
    """What is done by a kernel each: the sums of a pass, and the walk over the rows."""

    sums: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    rows: Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor, Tensor]]


def kernels_for(x: Tensor) -> Fused:
    """Return `fused_pass` and `fused_rows`, or raise if they are not made for the columns of ``x`` or its device."""
    if x.shape[1] > MOST_COLUMNS:
        raise InputError(f"{x.shape[1]} columns are more than {MOST_COLUMNS}")
    if not (x.device.type == "cuda" or _INTERPRETED):
        raise InputError(f"Triton does not run on {x.device}")
    return Fused(fused_pass, fused_rows)


def fused_pass(x: Tensor, given: Tensor, weight: Tensor | None) -> Tensor:
    """Return column sums of the shares, and the sum of the base-2 logsumexps of ``x * scale + f``: (K + 1,) float64.

    Programs take a few tiles of rows each and leave sums of their own, which are added in order: results repeat to the
    last bit on the same device.

    Parameters
    ----------
    x : (N, K) float32 or float64
        Data of any layout.
    given : (2 K + 1,)
        In the type that the arithmetic is to have: potentials f in base 2; the factors that make up for their rounding,
        without which the column sums are; and the factor of ``x``.
    weight : (N,), optional
        Row weights, 1 by default; of the same type as ``given``.
    """
    N, K = x.shape
    programs, tiling = _tiled(x, given)
    sums = torch.empty((programs, K + 1), dtype=torch.float64, device=x.device)
    with torch.cuda.device_of(x):
        _kernel[(programs,)](
            x,
            given,
            x if weight is None else weight,
            sums,
            N,
            K,
            *x.stride(),
            SINGLE=given.dtype == torch.float32,
            WEIGHTED=weight is not None,
            **tiling,
        )
    return sums.sum(0)


def fused_rows(x: Tensor, given: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return label (N,) int32, its share (N,) float32, and base-2 logsumexp (N,) of each row; and sums (K + 2,).

    Parameters are those of `fused_pass`, in float64. Sums are of columns, of logsumexps, and of ``x`` at the labels.
    """
    N, K = x.shape
    programs, tiling = _tiled(x, given)
    labels = torch.empty(N, dtype=torch.int32, device=x.device)
    confidence = torch.empty(N, dtype=torch.float32, device=x.device)
    logsumexp = torch.empty(N, dtype=torch.float64, device=x.device)
    sums = torch.empty((programs, K + 2), dtype=torch.float64, device=x.device)
    with torch.cuda.device_of(x):
        _rows_kernel[(programs,)](
            x,
            given,
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


def _tiled(x: Tensor, given: Tensor) -> tuple[int, dict[str, int]]:
    """Return the number of programs, and how many tiles of which size each of them takes."""
    N, K = x.shape
    width = max(16, triton.next_power_of_2(K))
    single = given.dtype == torch.float32
    rows = max(2, _TILE // width) if single else max(1, _TILE // 2 // width)
    tiles = triton.cdiv(N, rows)
    n_tiles = min(tiles // (_PROGRAMS * _multiprocessors(x.device)), _MOST_TILES)
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
    given: tl.tensor,
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
    """Pass ``n_tiles`` tiles of ``ROWS`` whole rows."""
    program = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, WIDTH)
    inside = columns < K
    potential = tl.load(given + columns, mask=inside, other=float("-inf"))[None, :]
    factor = tl.load(given + K + columns, mask=inside, other=0.0)[None, :]
    times = tl.load(given + 2 * K)
    place = columns.to(tl.int64)[None, :] * column_stride
    mass = tl.zeros((ROWS, WIDTH), potential.dtype)
    value = tl.zeros((ROWS,), tl.float64)
    for tile in range(n_tiles):
        row = (program * n_tiles + tile) * ROWS + tl.arange(0, ROWS)
        valid = row < N
        mask = valid[:, None] & inside[None, :]
        entry = tl.load(x + row[:, None] * row_stride + place, mask=mask, other=0.0).to(potential.dtype)
        logit = tl.fma(entry, times, potential)
        top = tl.max(logit, 1)
        if SINGLE:  # what is large goes first; exponents that are left to float64 might not come back to 0
            logit = tl.fma(entry, times, -top[:, None]) + potential
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
    given: tl.tensor,
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
    """Walk over ``n_tiles`` tiles of ``ROWS`` whole rows."""
    program = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, WIDTH)
    inside = columns < K
    potential = tl.load(given + columns, mask=inside, other=float("-inf"))[None, :]
    times = tl.load(given + 2 * K)
    place = columns.to(tl.int64)[None, :] * column_stride
    mass = tl.zeros((ROWS, WIDTH), tl.float64)
    value = tl.zeros((ROWS,), tl.float64)
    score = tl.zeros((ROWS,), tl.float64)
    for tile in range(n_tiles):
        row = (program * n_tiles + tile) * ROWS + tl.arange(0, ROWS)
        valid = row < N
        mask = valid[:, None] & inside[None, :]
        entry = tl.load(x + row[:, None] * row_stride + place, mask=mask, other=0.0).to(tl.float64)
        logit = tl.fma(entry, times, potential)
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
