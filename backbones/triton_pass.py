"""The plan pass as one fused Triton kernel: every entry of the data is read once, and nothing of its size is written.

Import it where it is used only: it needs the package ``triton``, which comes with PyTorch for CUDA. With
``TRITON_INTERPRET=1`` in the environment beforehand it runs, slowly, on data of the CPU as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from selavi_ref.errors import InputError

triton: Any = import_module("triton")
tl: Any = import_module("triton.language")

MOST_COLUMNS = 4096  # a row is held in registers
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_TILE = 1 << 13  # bytes of a tile of rows, in the type of the arithmetic; one row may have more
_WARP = 1 << 11  # bytes that a warp takes
_MOST_TILES = 64  # of a program, which sums them in the type of the arithmetic
_LEAST_ROWS = 32  # of a program, which leaves K numbers behind
_PROGRAMS = 16  # per multiprocessor, so that all are busy to the end


def kernel_for(x: Tensor) -> Callable[[Tensor, Tensor, Tensor, float, Tensor | None], tuple[Tensor, Tensor]]:
    """Return `fused_pass`, or raise if it is not made for the columns of ``x`` or its device."""
    if x.shape[1] > MOST_COLUMNS:
        raise InputError(f"{x.shape[1]} columns are more than {MOST_COLUMNS}")
    if not (x.device.type == "cuda" or _INTERPRETED):
        raise InputError(f"Triton does not run on {x.device}")
    return fused_pass


def fused_pass(x: Tensor, f: Tensor, mult: Tensor, scale: float, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the sum of the base-2 logsumexps of ``x * scale + f`` and the column sums of the shares, in float64.

    Programs take a few tiles of rows each and leave sums of their own, which are added in order: results repeat to the
    last bit on the same device.

    Parameters
    ----------
    x : (N, K) float32 or float64
        Data of any layout.
    f, mult : (K,)
        Potentials in base 2, in the type that the arithmetic is to have, and the factors that make up for their
        rounding; the column sums are without these factors.
    scale : float
        Factor of ``x``.
    weight : (N,), optional
        Row weights, 1 by default; of the same type as ``f``.
    """
    N, K = x.shape
    width = max(16, triton.next_power_of_2(K))
    rows = max(1, _TILE // (width * f.element_size()))
    tiles = triton.cdiv(N, rows)
    n_tiles = min(tiles // (_PROGRAMS * _multiprocessors(x.device)), _MOST_TILES)
    n_tiles = max(n_tiles, triton.cdiv(_LEAST_ROWS, rows))
    programs = triton.cdiv(tiles, n_tiles)
    masses = torch.empty((programs, K), dtype=torch.float64, device=x.device)
    values = torch.empty(programs, dtype=torch.float64, device=x.device)
    with torch.cuda.device_of(x):
        _kernel[(programs,)](
            x,
            f,
            mult,
            torch.tensor([scale], dtype=f.dtype, device=x.device),
            x if weight is None else weight,
            masses,
            values,
            N,
            K,
            *x.stride(),
            n_tiles,
            SINGLE=f.dtype == torch.float32,
            WEIGHTED=weight is not None,
            ROWS=rows,
            WIDTH=width,
            num_warps=max(4, width * f.element_size() // _WARP),
        )
    return values.sum(), masses.sum(0)


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@triton.jit
def _kernel(
    x: tl.tensor,
    f: tl.tensor,
    mult: tl.tensor,
    scale: tl.tensor,
    weight: tl.tensor,
    masses: tl.tensor,
    values: tl.tensor,
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
    potential = tl.load(f + columns, mask=inside, other=float("-inf"))[None, :]
    factor = tl.load(mult + columns, mask=inside, other=0.0)[None, :]
    times = tl.load(scale)
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
    tl.store(masses + program * K + columns, tl.sum(mass.to(tl.float64), 0), mask=inside)
    tl.store(values + program, tl.sum(value, 0))
