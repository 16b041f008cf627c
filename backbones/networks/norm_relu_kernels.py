"""Compiled kernels of a batch norm followed by a ReLU, on activations (rows, C) whose channels lie side by side.

Arrays are float32, or uint16 with the bits of bfloat16; sums are taken in float32 over a few rows, and in float64 over
all. After a change of a function that kernels call, delete their caches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import extending, types

from selavi_ref.compiler import IS_DISABLED, STRICT, compiled

_BLOCK = 128  # rows whose sums are taken in float32

intrinsic: Any = extending.intrinsic
overload: Any = extending.overload

_ROUNDING = np.uint32(0x7FFF)
_ONE = np.uint32(1)
_HALF = np.uint32(16)


@intrinsic
def _float_of_bits(typingctx: Any, bits: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.uint32), codegen


@intrinsic
def _bits_of_float(typingctx: Any, x: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), codegen


def _load(x: Any) -> Any:
    """Return an entry of an array as float32."""
    return np.uint32(int(x) << 16).view(np.float32) if isinstance(x, np.uint16) else x


def _round(value: Any, like: Any) -> Any:
    """Return a float32 as an entry of an array: for uint16, the bits of the nearest bfloat16."""
    if not isinstance(like, np.uint16):
        return np.float32(value)
    bits = int(np.float32(value).view(np.uint32))
    return np.uint16(((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFFFFFF) >> 16)


if not IS_DISABLED:

    @overload(_load, jit_options=STRICT)
    def _compiled_load(x):  # type: ignore[no-untyped-def]
        if x == types.uint16:
            return lambda x: _float_of_bits(np.uint32(x) << _HALF)
        return lambda x: x

    @overload(_round, jit_options=STRICT)
    def _compiled_round(value, like):  # type: ignore[no-untyped-def]
        if like == types.uint16:

            def rounded(value, like):  # type: ignore[no-untyped-def]
                bits = _bits_of_float(np.float32(value))
                return np.uint16((bits + _ROUNDING + ((bits >> _HALF) & _ONE)) >> _HALF)

            return rounded
        return lambda value, like: np.float32(value)


_OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True}


@compiled(**_OPTIONS)
def moments(x):  # type: ignore[no-untyped-def]
    """Return mean and variance of the columns of x (rows, C), float64; deviations from the first row are summed up."""
    n, channels = x.shape
    near = np.empty(channels, np.float32)
    for c in range(channels):
        near[c] = _load(x[0, c])
    first, second = np.zeros(channels), np.zeros(channels)
    one, two = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for start in range(0, n, _BLOCK):
        stop = min(n, start + _BLOCK)
        one[:] = 0
        two[:] = 0
        row = start
        while row + 4 <= stop:
            for c in range(channels):
                a, b = _load(x[row, c]) - near[c], _load(x[row + 1, c]) - near[c]
                d, e = _load(x[row + 2, c]) - near[c], _load(x[row + 3, c]) - near[c]
                one[c] += (a + b) + (d + e)
                two[c] += (a * a + b * b) + (d * d + e * e)
            row += 4
        while row < stop:
            for c in range(channels):
                a = _load(x[row, c]) - near[c]
                one[c] += a
                two[c] += a * a
            row += 1
        for c in range(channels):
            first[c] += one[c]
            second[c] += two[c]
    for c in range(channels):
        first[c] /= n
        second[c] = max(second[c] / n - first[c] * first[c], 0.0)
        first[c] += near[c]
    return first, second


@compiled(**_OPTIONS)
def scale_relu(x, scale, shift, out):  # type: ignore[no-untyped-def]
    """Write max(0, x * scale + shift) to out (rows, C); NaN stays NaN."""
    n, channels = x.shape
    for row in range(n):
        for c in range(channels):
            value = _load(x[row, c]) * scale[c] + shift[c]
            out[row, c] = _round(np.float32(0) if value <= 0 else value, x[row, c])


@compiled(**_OPTIONS)
def gradient_sums(x, slope, scale, shift, mean):  # type: ignore[no-untyped-def]
    """Return sums over rows of the gradients by the batch norm's output, and of their products with x - mean."""
    n, channels = x.shape
    first, second = np.zeros(channels), np.zeros(channels)
    one, two = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for start in range(0, n, _BLOCK):
        stop = min(n, start + _BLOCK)
        one[:] = 0
        two[:] = 0
        row = start
        while row + 2 <= stop:
            for c in range(channels):
                a, b = _load(x[row, c]), _load(x[row + 1, c])
                g = np.float32(0) if a * scale[c] + shift[c] <= 0 else _load(slope[row, c])
                h = np.float32(0) if b * scale[c] + shift[c] <= 0 else _load(slope[row + 1, c])
                one[c] += g + h
                two[c] += g * (a - mean[c]) + h * (b - mean[c])
            row += 2
        while row < stop:
            for c in range(channels):
                a = _load(x[row, c])
                g = np.float32(0) if a * scale[c] + shift[c] <= 0 else _load(slope[row, c])
                one[c] += g
                two[c] += g * (a - mean[c])
            row += 1
        for c in range(channels):
            first[c] += one[c]
            second[c] += two[c]
    return first, second


@compiled(**_OPTIONS)
def gradient(x, slope, scale, shift, factor, offset, out):  # type: ignore[no-untyped-def]
    """Write the gradient by x, scale * (gradient by the batch norm's output) + factor * x + offset, to out."""
    n, channels = x.shape
    for row in range(n):
        for c in range(channels):
            a = _load(x[row, c])
            g = np.float32(0) if a * scale[c] + shift[c] <= 0 else _load(slope[row, c])
            out[row, c] = _round(g * scale[c] + (a * factor[c] + offset[c]), x[row, c])
