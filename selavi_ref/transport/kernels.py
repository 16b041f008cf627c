"""Numba kernels of the plan pass, and the small linear algebra of the metric. Imported where they are used only.

All exponents are in base 2: the caller multiplies scale and potentials by log2(e). Each kernel works on rows ``lo:hi``
and releases the interpreter lock; the engine gives parts of the rows to threads.

The potentials come as ``f`` in the type that the arithmetic is to have (float32 or float64) and a multiplier ``mult``
near 1 that makes up for the rounding of ``f``, or 0 for a column that is to receive nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from selavi_ref.transport.arithmetic import KERNEL, exp2, exponent, from_ordered, magnitude, magnitude_bits, ordered

FLUSH = 64  # rows summed in the type of the arithmetic before they are added in float64
TALL = 64  # rows in a block of the kernel for few columns
SHARE = 3e-4  # a share that matters for the metric
SIGNIFICANT = 32  # such shares up to which a row counts as peaked
LOW, HIGH = 2.0**-32, 2.0**32  # a row whose sum leaves this range is done again with a new shift


@njit(**KERNEL)
def one_row(x: Any, scale: Any, f: Any, mult: Any, e: Any) -> Any:
    """Fill ``e`` with ``2 ** (x * scale + f - m)``, m the largest exponent of the row; return m and the sum."""
    zero = f.dtype.type(0)
    top = ordered(exponent(x[0], scale, zero, f[0]))
    for k in range(1, f.size):
        t = ordered(exponent(x[k], scale, zero, f[k]))
        top = t if t > top else top
    m = from_ordered(top)
    s = zero
    for k in range(f.size):
        e[k] = exp2(exponent(x[k], scale, m, f[k]))
        s += e[k] * mult[k]
    return m, s


@njit(**KERNEL)
def wide_pass(x: Any, lo: int, hi: int, scale: Any, f: Any, mult: Any, shift: Any, weight: Any, mass: Any) -> float:
    """Add the column sums of rows ``lo:hi`` to ``mass``; return the sum of the base-2 logsumexps. One read of ``x``.

    Instead of looking for the largest entry first, a row is shifted by its logsumexp of the pass before (``shift``,
    kept up to date here). Four rows at a time share the loads of ``f`` and keep more sums in flight. ``weight`` has N
    entries, or one for uniform weights.
    """
    K = f.size
    e = np.zeros((4, K), f.dtype)
    e0, e1, e2, e3 = e[0], e[1], e[2], e[3]
    part = np.zeros(K, f.dtype)
    total, c = np.zeros(4, f.dtype), np.zeros(4, f.dtype)
    value = 0.0
    for i in range(lo, hi, 4):
        n = min(4, hi - i)
        if n == 4:
            x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
            m0, m1, m2, m3 = shift[i], shift[i + 1], shift[i + 2], shift[i + 3]
            s0 = s1 = s2 = s3 = f.dtype.type(0)
            for k in range(K):
                a0 = exp2(exponent(x0[k], scale, m0, f[k]))
                a1 = exp2(exponent(x1[k], scale, m1, f[k]))
                a2 = exp2(exponent(x2[k], scale, m2, f[k]))
                a3 = exp2(exponent(x3[k], scale, m3, f[k]))
                e0[k] = a0
                e1[k] = a1
                e2[k] = a2
                e3[k] = a3
                s0 += a0 * mult[k]
                s1 += a1 * mult[k]
                s2 += a2 * mult[k]
                s3 += a3 * mult[k]
            total[0], total[1], total[2], total[3] = s0, s1, s2, s3
        else:
            total[:] = 0
            e[n:] = 0
        value += _settle_rows(x, i, n, scale, f, mult, shift, weight, e, total, c)
        c0, c1, c2, c3 = c[0], c[1], c[2], c[3]
        for k in range(K):
            part[k] += (e0[k] * c0 + e1[k] * c1) + (e2[k] * c2 + e3[k] * c3)
        if (i - lo) % FLUSH == FLUSH - 4 or i + 4 >= hi:
            _flush(part, mult, mass)
    return value


@njit(**KERNEL)
def _settle_rows(
    x: Any, i: int, n: int, scale: Any, f: Any, mult: Any, shift: Any, weight: Any, e: Any, total: Any, c: Any
) -> float:
    """Finish rows ``i:i + n``, whose sums are ``total``: redo those out of range, set the factors ``c`` and new shifts.

    Returns the weighted sum of their logsumexps. With uniform weights one logarithm of a product does for all.
    """
    uniform = weight.size == 1
    value, product = 0.0, 1.0
    c[:] = 0
    for j in range(n):
        s = total[j]
        if not (LOW < s < HIGH):
            shift[i + j], s = one_row(x[i + j], scale, f, mult, e[j])
        w = weight[0] if uniform else weight[i + j]
        c[j] = w / s
        if uniform:
            value += np.float64(shift[i + j])
            product *= np.float64(s)
        else:
            value += np.float64(w) * (np.float64(shift[i + j]) + np.log2(np.float64(s)))
        if not (1 / 256 < s < 256):
            shift[i + j] += np.log2(np.float64(s))
    return value + (np.log2(product) if uniform else 0.0)


@njit(**KERNEL)
def _flush(part: Any, mult: Any, mass: Any) -> None:
    """Add what was summed in the type of the arithmetic to ``mass`` in float64, and begin anew."""
    for k in range(part.size):
        mass[k] += np.float64(part[k]) * np.float64(mult[k])
        part[k] = 0


@njit(**KERNEL)
def tall_pass(
    x: Any, lo: int, hi: int, scale: Any, f: Any, mult: Any, by_columns: bool, weight: Any, mass: Any
) -> float:
    """Do the work of `wide_pass` in blocks of rows laid out by columns: for few columns, or data stored by columns."""
    K = f.size
    zero = f.dtype.type(0)
    t = np.empty((K, TALL), f.dtype)
    top = np.empty(TALL, f.dtype)
    total = np.empty(TALL, f.dtype)
    value = 0.0
    for start in range(lo, hi, TALL):
        n = min(TALL, hi - start)
        _load_block(x, start, n, by_columns, t)
        for j in range(TALL):
            top[j] = exponent(t[0, j], scale, zero, f[0])
            total[j] = 0
        for k in range(1, K):
            fk = f[k]
            for j in range(TALL):
                v = exponent(t[k, j], scale, zero, fk)
                top[j] = v if v > top[j] else top[j]
        for k in range(K):
            fk, mk = f[k], mult[k]
            for j in range(TALL):
                a = exp2(exponent(t[k, j], scale, top[j], fk))
                t[k, j] = a
                total[j] += a * mk
        value += _settle_block(start, n, weight, top, total)
        for k in range(K):
            part = zero
            for j in range(TALL):
                part += t[k, j] * total[j]
            mass[k] += np.float64(part) * np.float64(mult[k])
    return value


@njit(**KERNEL)
def _settle_block(start: int, n: int, weight: Any, top: Any, total: Any) -> float:
    """Replace the sums ``total`` of a block by the factors of its rows; return the weighted sum of the logsumexps."""
    uniform = weight.size == 1
    value, product = 0.0, 1.0
    for j in range(n):
        s = np.float64(total[j])
        w = weight[0] if uniform else weight[start + j]
        total[j] = w / total[j]
        if uniform:
            value += np.float64(top[j])
            product *= s
            if j % 16 == 15:
                value += np.log2(product)
                product = 1.0
        else:
            value += np.float64(w) * (np.float64(top[j]) + np.log2(s))
    total[n:] = 0
    return value + np.log2(product)


@njit(**KERNEL)
def _load_block(x: Any, start: int, n: int, by_columns: bool, t: Any) -> None:
    """Fill ``t`` (K, TALL) with rows ``start:start + n``; the rest repeats row ``start``."""
    if by_columns:
        for k in range(t.shape[0]):
            for j in range(n):
                t[k, j] = x[start + j, k]
    else:
        for j in range(n):
            for k in range(t.shape[0]):
                t[k, j] = x[start + j, k]
    for k in range(t.shape[0]):
        for j in range(n, TALL):
            t[k, j] = t[k, 0]


@njit(**KERNEL)
def logits_of(row: Any, scale: float, f: Any, v: Any) -> float:
    """Fill ``v`` with ``row * scale + f`` and return the largest."""
    top = ordered(exponent(row[0], scale, 0.0, f[0]))
    for k in range(f.size):
        t = exponent(row[k], scale, 0.0, f[k])
        v[k] = t
        bits = ordered(t)
        top = bits if bits > top else top
    return float(from_ordered(top))


@njit(**KERNEL)
def rows_pass(
    x: Any, lo: int, hi: int, scale: float, f: Any, mult: Any, weight: Any, out: Any, mass: Any
) -> tuple[float, float]:
    """Fill ``out`` = (labels, confidence, base-2 logsumexp) of rows ``lo:hi`` and add to ``mass``.

    Returns the weighted sums of the logsumexp and of the entry of ``x`` at the label.
    """
    labels, confidence, logsumexp = out
    K = f.size
    v = np.empty(K)
    value = score = 0.0
    for i in range(lo, hi):
        m = logits_of(x[i], scale, f, v)
        label = 0
        while v[label] < m:
            label += 1
        s = 0.0
        for k in range(K):
            e = exp2(v[k] - m) * mult[k]
            v[k] = e
            s += e
        w = weight[0] if weight.size == 1 else weight[i]
        c = w / s
        for k in range(K):
            mass[k] += v[k] * c
        lse = m + np.log2(s)
        labels[i], confidence[i], logsumexp[i] = label, 1.0 / s, lse
        value += w * lse
        score += w * x[i, label]
    return value, score


@njit(**KERNEL)
def peak_pass(x: Any, lo: int, hi: int, scale: float, f: Any, peak: Any) -> None:
    """Raise ``peak`` to the base-2 logarithm of the largest share that a column has in rows ``lo:hi``."""
    K = f.size
    v = np.empty(K)
    for i in range(lo, hi):
        m = logits_of(x[i], scale, f, v)
        s = 0.0
        for k in range(K):
            s += exp2(v[k] - m)
        lse = m + np.log2(s)
        for k in range(K):
            share = v[k] - lse
            peak[k] = share if share > peak[k] else peak[k]


@njit(**KERNEL)
def shares_pass(x: Any, lo: int, hi: int, step: int, scale: Any, f: Any, mult: Any, shares: Any) -> None:
    """Fill ``shares`` (n, K) with the softmax of rows ``lo * step``, ..., ``(hi - 1) * step``."""
    for i in range(lo, hi):
        _, s = one_row(x[i * step], scale, f, mult, shares[i])
        c = 1 / s
        for k in range(f.size):
            share = shares[i, k] * (mult[k] * c)
            shares[i, k] = share if share > 1e-15 else 0  # products of smaller ones would be subnormal, and slow


@njit(**KERNEL)
def coupling_pass(x: Any, lo: int, hi: int, step: int, scale: Any, f: Any, mult: Any, weight: Any, total: Any) -> None:
    """Add ``w q q^T`` of rows ``lo * step``, ..., ``(hi - 1) * step`` to the lower triangle of ``total`` (K, K).

    Of a row with few significant shares only those count; other rows are collected and added eight at a time.
    """
    K = f.size
    e = np.zeros(-(-K // 16) * 16, f.dtype)
    many = np.zeros((8, K), np.float32)
    found = np.empty(SIGNIFICANT, np.int64)
    share = np.empty(SIGNIFICANT)
    waiting = 0
    for i in range(lo, hi):
        _, s = one_row(x[i * step], scale, f, mult, e)
        w = weight[0] if weight.size == 1 else weight[i * step]
        n = _significant(e, K, s * f.dtype.type(SHARE), found)
        if n <= SIGNIFICANT:
            for a in range(n):
                share[a] = np.float64(e[found[a]]) * np.float64(mult[found[a]]) / np.float64(s)
                for b in range(a + 1):
                    total[found[a], found[b]] += w * share[a] * share[b]
        else:
            c = np.sqrt(w) / np.float64(s)
            for k in range(K):
                q = np.float32(np.float64(e[k]) * np.float64(mult[k]) * c)
                many[waiting, k] = q if q > np.float32(1e-15) else np.float32(0)
            waiting += 1
            if waiting == 8:
                _add_products(many, total)
                waiting = 0
    if waiting > 0:
        many[waiting:] = 0
        _add_products(many, total)


@njit(**KERNEL)
def _significant(e: Any, K: int, least: Any, found: Any) -> int:
    """Put the columns with ``e > least`` into ``found``; return how many there are, or more than fit."""
    n = 0
    for start in range(0, K, 16):
        several = 0
        for k in range(start, start + 16):
            several += e[k] > least
        if several > 0:
            if n + several > found.size:
                return n + several
            for k in range(start, min(start + 16, K)):
                if e[k] > least:
                    found[n] = k
                    n += 1
    return n


@njit(**KERNEL)
def _add_products(q: Any, total: Any) -> None:
    """Add the lower triangle of ``q^T q`` of eight rows to ``total``."""
    q0, q1, q2, q3, q4, q5, q6, q7 = q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7]
    for k in range(q.shape[1]):
        row = total[k]
        a0, a1, a2, a3, a4, a5, a6, a7 = q0[k], q1[k], q2[k], q3[k], q4[k], q5[k], q6[k], q7[k]
        for j in range(k + 1):
            row[j] += (a0 * q0[j] + a1 * q1[j] + a2 * q2[j] + a3 * q3[j]) + (
                a4 * q4[j] + a5 * q5[j] + a6 * q6[j] + a7 * q7[j]
            )


@njit(**KERNEL)
def cholesky(a: Any) -> None:
    """Replace the lower triangle of a positive definite ``a`` (K, K) by its factor, row by row; in the calling thread.

    LAPACK would bring threads of its own, which wait for each other wherever the machine is shared.
    """
    K = a.shape[0]
    for j in range(K):
        row = a[j]
        for i in range(j):
            other = a[i]
            s = row[i]
            for k in range(i):
                s -= row[k] * other[k]
            row[i] = s / other[i]
        s = row[j]
        for k in range(j):
            s -= row[k] * row[k]
        row[j] = np.sqrt(s if s > 1e-300 else 1e-300)


@njit(**KERNEL)
def cholesky_solve(a: Any, b: Any) -> Any:
    """Return in ``b`` the solution of ``L L^T x = b``, L the lower triangle of ``a``."""
    K = a.shape[0]
    for i in range(K):
        row = a[i]
        s = b[i]
        for k in range(i):
            s -= row[k] * b[k]
        b[i] = s / row[i]
    for i in range(K - 1, -1, -1):
        row = a[i]
        b[i] /= row[i]
        for k in range(i):
            b[k] -= row[k] * b[i]
    return b


@njit(**KERNEL)
def largest(x: Any, lo: int, hi: int) -> float:
    """Return the largest absolute entry of rows ``lo:hi``; infinity or NaN if there is one that is not finite.

    Without their sign, the bits of floats are ordered as integers, and NaN comes last.
    """
    most = magnitude_bits(x[lo, 0])
    for i in range(lo, hi):
        for k in range(x.shape[1]):
            bits = magnitude_bits(x[i, k])
            most = bits if bits > most else most
    return float(magnitude(most))
