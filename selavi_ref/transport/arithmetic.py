"""The arithmetic of the kernels: a base-2 exponential and comparisons that vectorise.

After a change here, change ``kernels.py`` and ``exact_kernels.py`` too, or delete their caches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, njit, types

from selavi_ref.compiler import IS_DISABLED, STRICT

intrinsic: Any = extending.intrinsic
overload: Any = extending.overload


@intrinsic
def _as_int(typingctx: Any, x: Any) -> Any:
    """Reinterpret the bits of a float as an integer of the same width."""
    target = types.int32 if x == types.float32 else types.int64

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(target))

    return target(x), codegen


@intrinsic
def _as_float(typingctx: Any, x: Any) -> Any:
    """Reinterpret the bits of an integer as a float of the same width."""
    target = types.float32 if x == types.int32 else types.float64

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(target))

    return target(x), codegen


@intrinsic
def _add_exponent(typingctx: Any, power: Any, whole: Any) -> Any:
    """Add the integer in the low bits of ``whole`` to the exponent of the float whose bits are ``power``."""
    bits = 23 if power == types.int32 else 52

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        width = args[0].type
        return builder.add(args[0], builder.shl(args[1], ir.Constant(width, bits)))

    return power(power, whole), codegen


@intrinsic
def _above(typingctx: Any, array: Any, start: Any, least: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[2].type
        vector = ir.VectorType(kind, 32)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        entries = builder.load(builder.bitcast(builder.gep(data, [args[1]]), vector.as_pointer()), align=4)
        whole = builder.insert_element(ir.Constant(vector, ir.Undefined), args[2], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), 32), [0] * 32)
        whole = builder.shuffle_vector(whole, whole, zeros)
        bits = builder.bitcast(builder.fcmp_ordered(">", entries, whole), ir.IntType(32))
        return builder.zext(bits, ir.IntType(64))

    return types.int64(array, start, least), codegen


@intrinsic
def _count_trailing_zeros(typingctx: Any, bits: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return bits(bits), codegen


def _one_of(which: str) -> Any:
    """Make the function of two floats, neither of them NaN, that is one vector instruction."""

    @intrinsic
    def function(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = args[0].type
            called = builder.module.declare_intrinsic(which, [kind], ir.FunctionType(kind, [kind, kind]))
            return builder.call(called, args, fastmath=("nnan", "nsz"))

        return a(a, a), codegen

    return function


# Two comparisons in a row, which clamp, are merged by the compiler into seven instructions where two would do.
lesser, greater = _one_of("llvm.minnum"), _one_of("llvm.maxnum")


def exp2(t: float) -> float:
    """Return ``2 ** t`` to a few units in the last place, for t clamped to the range of normal numbers."""
    return float(2.0 ** min(max(t, -900.0), 900.0))


@overload(exp2, jit_options=STRICT)
def _exp2(t: Any) -> Any:
    return _exp2_single if t == types.float32 else _exp2_double


# Adding 1.5 * 2^(bits of the mantissa) rounds to an integer, which then stands in the low bits. The polynomials are
# minimax for 2^r on [-0.5, 0.5] (relative error 8e-8 and 1e-15).
_MAGIC32, _LOW32, _HIGH32 = np.float32(12582912.0), np.float32(-90.0), np.float32(100.0)
_MAGIC64, _LOW64, _HIGH64 = 6755399441055744.0, -900.0, 900.0
_A0, _A1, _A2 = np.float32(1.0000000716547141), np.float32(0.693146967065035), np.float32(0.2402211972371072)
_A3, _A4, _A5 = np.float32(0.05550713271855644), np.float32(0.009675541343121327), np.float32(0.0013276472631950877)
_B0, _B1, _B2, _B3 = 1.0, 0.6931471805599498, 0.24022650695908768, 0.05550410866445883
_B4, _B5, _B6, _B7 = 0.009618129108034589, 0.0013333558228561476, 1.5403529961135955e-4, 1.5252658116561384e-5
_B8, _B9, _B10 = 1.3215662831846103e-6, 1.0208537904552163e-7, 7.03737953058280352e-9


def _exp2_single(t: Any) -> Any:
    t = lesser(greater(t, _LOW32), _HIGH32)
    shifted = t + _MAGIC32
    r = t - (shifted - _MAGIC32)
    p = _A0 + r * (_A1 + r * (_A2 + r * (_A3 + r * (_A4 + r * _A5))))
    return _as_float(_add_exponent(_as_int(p), _as_int(shifted)))


def _exp2_double(t: Any) -> Any:
    t = lesser(greater(t, _LOW64), _HIGH64)
    shifted = t + _MAGIC64
    r = t - (shifted - _MAGIC64)
    p = _B5 + r * (_B6 + r * (_B7 + r * (_B8 + r * (_B9 + r * _B10))))
    p = _B0 + r * (_B1 + r * (_B2 + r * (_B3 + r * (_B4 + r * p))))
    return _as_float(_add_exponent(_as_int(p), _as_int(shifted)))


@njit(**STRICT)
def exponent(x: Any, scale: Any, shift: Any, f: Any) -> Any:
    """Return ``(x * scale - shift) + f``, in this order: what is large goes first."""
    return (x * scale - shift) + f


@njit(**STRICT)
def above(array: Any, start: Any, least: Any) -> Any:
    """Return the positions of ``array[start : start + 32] > least`` as bits of an integer."""
    return _above(array, start, least)


@njit(**STRICT)
def lowest_bit(bits: Any) -> Any:
    """Return the position of the lowest bit that is set."""
    return _count_trailing_zeros(bits)


if IS_DISABLED:  # plain Python in place of vector instructions
    lesser, greater = min, max

    def above(array: Any, start: Any, least: Any) -> Any:
        """Return the positions of ``array[start : start + 32] > least`` as bits of an integer."""
        return sum(1 << k for k in range(32) if array[start + k] > least)

    def lowest_bit(bits: Any) -> Any:
        """Return the position of the lowest bit that is set."""
        return (int(bits) & -int(bits)).bit_length() - 1
