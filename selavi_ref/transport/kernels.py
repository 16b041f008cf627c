"""Numba kernels of the plan pass and of the metric. Import this module only where it is used: it starts the compiler.

All exponents are in base 2: the caller multiplies scale and potentials by log2(e). Each kernel works on rows ``lo:hi``
and releases the interpreter lock; the engine gives parts of the rows to threads.

The potentials come as ``f`` in the type that the arithmetic is to have (float32 or float64) and a multiplier ``mult``
near 1 that makes up for the rounding of ``f``, or 0 for a column that is to receive nothing. Kernels for wide data take
both padded to whole vectors, with multipliers of 0, and read a little past the end of a row, into the next one: the
part of a loop that does not fill a vector would take as long as all the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from selavi_ref.compiler import kernel
from selavi_ref.transport.arithmetic import exp2, exponent, greater, lesser, magnitude, magnitude_bits

VECTOR = 32  # entries in a whole number of vectors, unrolled
GROUP = 8  # rows that are added up together
FLUSH = 64  # rows summed in the type of the arithmetic before they are added in float64
TALL = 64  # rows in a block of the kernels for few columns
SIGNIFICANT = 3e-3  # posterior from which an entry counts in the metric
MOST_SIGNIFICANT = 64  # such entries up to which a row counts as peaked
LOW, HIGH = 2.0**-32, 2.0**32  # a row whose sum leaves this range is done again with a new shift
SMALL = 1e-6  # posterior below which `PlanStats` counts an entry as small


@kernel
def one_row(x: Any, scale: Any, f: Any, mult: Any, e: Any) -> Any:
    """Fill ``e`` with ``2 ** (x * scale + f - m)``, m the largest exponent of the row; return m and the sum."""
    zero = f.dtype.type(0)
    m = exponent(x[0], scale, zero, f[0])
    for k in range(1, f.size):
        m = greater(m, exponent(x[k], scale, zero, f[k]))
    s = zero
    for k in range(f.size):
        e[k] = exp2(exponent(x[k], scale, m, f[k]))
        s += e[k] * mult[k]
    return m, s


@kernel
def _shifted_row(x: Any, scale: Any, m: Any, f: Any, mult: Any, e: Any) -> Any:
    """Fill ``e`` with ``2 ** (x * scale + f - m)`` and return the sum."""
    s = f.dtype.type(0)
    for k in range(f.size):
        a = exp2(exponent(x[k], scale, m, f[k]))
        e[k] = a
        s += a * mult[k]
    return s


@kernel
def wide_pass(
    flat: Any, K: int, lo: int, hi: int, scale: Any, f: Any, mult: Any, shift: Any, weight: Any, mass: Any
) -> float:
    """Add the column sums of rows ``lo:hi`` to ``mass``; return the sum of the base-2 logsumexps. One read of the data.

    ``flat`` holds the rows one after the other, K entries each. Instead of looking for the largest entry first, a row
    is shifted by its logsumexp of the pass before (``shift``, kept up to date here). ``weight`` has N entries, or one
    for uniform weights.
    """
    P = f.size
    e = np.zeros((GROUP, P), f.dtype)
    e0, e1, e2, e3, e4, e5, e6, e7 = e[0], e[1], e[2], e[3], e[4], e[5], e[6], e[7]
    part = np.zeros(P, f.dtype)
    total, c = np.ones(GROUP, f.dtype), np.zeros(GROUP, f.dtype)
    value, product = 0.0, 1.0
    for i in range(lo, hi, GROUP):
        n = min(GROUP, hi - i)
        if (i + n - 1) * K + P > flat.size:
            total[:n] = 0  # rows that cannot be read past their end are done by themselves
        else:
            for j in range(n):
                total[j] = _shifted_row(flat[(i + j) * K : (i + j) * K + P], scale, shift[i + j], f, mult, e[j])
        value += _settle_rows(flat, K, i, n, scale, f, mult, shift, weight, e, total, c)
        if weight.size == 1:
            for j in range(n):
                product *= np.float64(total[j])
            if (i - lo) % (2 * GROUP) == GROUP:
                value += np.log2(product)
                product = 1.0
        c0, c1, c2, c3, c4, c5, c6, c7 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
        for k in range(P):
            part[k] += ((e0[k] * c0 + e1[k] * c1) + (e2[k] * c2 + e3[k] * c3)) + (
                (e4[k] * c4 + e5[k] * c5) + (e6[k] * c6 + e7[k] * c7)
            )
        if (i - lo) % FLUSH == FLUSH - GROUP or i + GROUP >= hi:
            _flush(part, mult, mass)
    return value + np.log2(product)


@kernel
def _settle_rows(
    flat: Any,
    K: int,
    i: int,
    n: int,
    scale: Any,
    f: Any,
    mult: Any,
    shift: Any,
    weight: Any,
    e: Any,
    total: Any,
    c: Any,
) -> float:
    """Finish rows ``i:i + n``, whose sums are ``total``: redo those out of range, set the factors ``c`` and new shifts.

    Returns the weighted sum of their logsumexps; with uniform weights without the logarithms of ``total``.
    """
    uniform = weight.size == 1
    low = high = total[0]
    for j in range(n):
        low, high = lesser(low, total[j]), greater(high, total[j])
    if not (low > LOW and high < HIGH):
        for j in range(n):
            if not (LOW < total[j] < HIGH):
                x = flat[(i + j) * K : (i + j + 1) * K]
                shift[i + j], total[j] = one_row(x, scale, f[:K], mult[:K], e[j])
    value = 0.0
    c[:] = 0
    for j in range(n):
        w = weight[0] if uniform else weight[i + j]
        c[j] = w / total[j]
        if uniform:
            value += np.float64(shift[i + j])
        else:
            value += np.float64(w) * (np.float64(shift[i + j]) + np.log2(np.float64(total[j])))
    if not (low > 1 / 256 and high < 256):
        for j in range(n):
            if not (1 / 256 < total[j] < 256):
                shift[i + j] += np.log2(np.float64(total[j]))
    return value


@kernel
def _flush(part: Any, mult: Any, mass: Any) -> None:
    """Add what was summed in the type of the arithmetic to ``mass`` in float64, and begin anew."""
    for k in range(mass.size):
        mass[k] += np.float64(part[k]) * np.float64(mult[k])
    part[:] = 0


@kernel
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
                top[j] = greater(top[j], exponent(t[k, j], scale, zero, fk))
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


@kernel
def _settle_block(start: int, n: int, weight: Any, top: Any, total: Any) -> float:
    """Replace the sums ``total`` of a block by the factors of its rows; return the weighted sum of the logsumexps."""
    value = 0.0
    if weight.size == 1 and n == TALL:
        w = weight[0]
        product = np.ones(8)
        for j in range(0, TALL, 8):
            for i in range(8):
                product[i] *= np.float64(total[j + i])
        for j in range(TALL):
            value += np.float64(top[j])
            total[j] = w / total[j]
        for i in range(8):
            value += np.log2(product[i])
        return value
    for j in range(n):
        w = weight[0] if weight.size == 1 else weight[start + j]
        value += np.float64(w) * (np.float64(top[j]) + np.log2(np.float64(total[j])))
        total[j] = w / total[j]
    total[n:] = 0
    return value


@kernel
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


@kernel
def logits_of(row: Any, scale: float, f: Any, v: Any) -> float:
    """Fill ``v`` with ``row * scale + f`` and return the largest."""
    top = exponent(row[0], scale, 0.0, f[0])
    for k in range(f.size):
        v[k] = exponent(row[k], scale, 0.0, f[k])
        top = greater(top, v[k])
    return float(top)


@kernel
def wide_rows(
    flat: Any, K: int, lo: int, hi: int, scale: float, f: Any, mult: Any, weight: Any, out: Any, mass: Any
) -> tuple[float, float]:
    """Fill ``out`` = (labels, confidence, base-2 logsumexp) of rows ``lo:hi`` and add to ``mass``, all in float64.

    Returns the weighted sums of the logsumexp and of the entry of the data at the label.
    """
    labels, confidence, logsumexp = out
    P = f.size
    v = np.zeros((4, P))
    v0, v1, v2, v3 = v[0], v[1], v[2], v[3]
    c, part = np.zeros(4), np.zeros(P)
    end = np.zeros(P, flat.dtype)
    value = score = 0.0
    for i in range(lo, hi, 4):
        c[:] = 0
        for j in range(min(4, hi - i)):
            start, to = (i + j) * K, v[j]
            x = flat[start : start + P]
            if start + P > flat.size:
                end[: flat.size - start] = x
                x = end
            m = logits_of(x, scale, f, to)
            label = _first(to, m)
            s = 0.0
            for k in range(P):
                a = exp2(to[k] - m) * mult[k]
                to[k] = a
                s += a
            w = weight[0] if weight.size == 1 else weight[i + j]
            c[j] = w / s
            lse = m + np.log2(s)
            labels[i + j], confidence[i + j], logsumexp[i + j] = label, 1.0 / s, lse
            value += w * lse
            score += w * x[label]
        c0, c1, c2, c3 = c[0], c[1], c[2], c[3]
        for k in range(P):
            part[k] += (v0[k] * c0 + v1[k] * c1) + (v2[k] * c2 + v3[k] * c3)
    mass += part[:K]
    return value, score


@kernel
def _first(v: Any, m: float) -> int:
    """Return the first position at which ``v``, of whole vectors, reaches ``m``."""
    start = 0
    while _top(v, start) < m:
        start += VECTOR
    while v[start] < m:
        start += 1
    return start


@kernel
def _top(v: Any, start: int) -> Any:
    """Return the largest of as many entries as fill vectors."""
    top = v[start]
    for k in range(start, start + VECTOR):
        top = greater(top, v[k])
    return top


@kernel
def tall_rows(
    x: Any, lo: int, hi: int, scale: float, f: Any, mult: Any, by_columns: bool, weight: Any, out: Any, mass: Any
) -> tuple[float, float]:
    """Do the work of `wide_rows` in blocks of rows laid out by columns."""
    labels, confidence, logsumexp = out
    K = f.size
    t = np.empty((K, TALL))
    top, total = np.empty(TALL), np.empty(TALL)
    label = np.empty(TALL, np.int64)
    value = score = 0.0
    for start in range(lo, hi, TALL):
        n = min(TALL, hi - start)
        _load_block(x, start, n, by_columns, t)
        for j in range(TALL):
            t[0, j] = exponent(t[0, j], scale, 0.0, f[0])
            top[j] = t[0, j]
            label[j] = 0
            total[j] = 0.0
        for k in range(1, K):
            fk = f[k]
            for j in range(TALL):
                v = exponent(t[k, j], scale, 0.0, fk)
                t[k, j] = v
                label[j] = k if v > top[j] else label[j]
                top[j] = greater(top[j], v)
        for k in range(K):
            mk = mult[k]
            for j in range(TALL):
                a = exp2(t[k, j] - top[j]) * mk
                t[k, j] = a
                total[j] += a
        for j in range(n):
            i = start + j
            w = weight[0] if weight.size == 1 else weight[i]
            lse = top[j] + np.log2(total[j])
            labels[i], confidence[i], logsumexp[i] = label[j], 1.0 / total[j], lse
            value += w * lse
            score += w * x[i, label[j]]
            total[j] = w / total[j]
        total[n:] = 0
        for k in range(K):
            part = 0.0
            for j in range(TALL):
                part += t[k, j] * total[j]
            mass[k] += part
    return value, score


@kernel
def peak_pass(x: Any, lo: int, hi: int, scale: float, f: Any, peak: Any) -> None:
    """Raise ``peak`` to the base-2 logarithm of the largest posterior of each column in rows ``lo:hi``."""
    K = f.size
    v = np.empty(K)
    for i in range(lo, hi):
        m = logits_of(x[i], scale, f, v)
        s = 0.0
        for k in range(K):
            s += exp2(v[k] - m)
        lse = m + np.log2(s)
        for k in range(K):
            log_posterior = v[k] - lse
            peak[k] = log_posterior if log_posterior > peak[k] else peak[k]


@kernel
def stats_pass(x: Any, lo: int, hi: int, step: int, scale: Any, f: Any, mult: Any, weight: Any, sums: Any) -> None:
    """Add the weights of rows ``lo * step``, ..., ``(hi - 1) * step`` and their `PlanStats` to ``sums``."""
    K = f.size
    e = np.empty(K, f.dtype)
    for i in range(lo, hi):
        _, s = one_row(x[i * step], scale, f, mult, e)
        c = 1.0 / np.float64(s)
        squares = many = small = 0.0
        for k in range(K):
            q = np.float64(e[k]) * np.float64(mult[k]) * c
            squares += q * q
            many += q > 1e-3
            small += (q < SMALL) & (mult[k] > 0)
        w = weight[0] if weight.size == 1 else weight[i * step]
        sums[0] += w
        sums[1] += w * (1.0 - squares)
        sums[2] += w * many
        sums[3] += w * small


@kernel
def coupling_pass(
    x: Any,
    lo: int,
    hi: int,
    step: int,
    by_columns: bool,
    scale: Any,
    f: Any,
    mult: Any,
    shift: Any,
    weight: Any,
    total: Any,
) -> None:
    """Add ``w q q^T`` of rows ``lo * step``, ..., ``(hi - 1) * step`` to the lower triangle of ``total`` (K, K).

    Of a row with few significant entries only those count; other rows are collected and added eight at a time. Rows are
    shifted as in `wide_pass`, or by their largest exponent if ``shift`` is empty.
    """
    K, P = x.shape[1], f.size
    block = np.zeros((TALL, P), x.dtype)
    e = np.zeros(P, f.dtype)
    many = np.zeros((8, K), np.float32)
    columns = np.empty(MOST_SIGNIFICANT, np.int64)
    value = np.empty(MOST_SIGNIFICANT, np.float32)
    waiting = 0
    for start in range(lo, hi, TALL):
        n = min(TALL, hi - start)
        _load_rows(x, start, n, step, by_columns, block)
        for i in range(n):
            s = _powers(block[i], scale, shift, (start + i) * step, f, mult, e)
            w = weight[0] if weight.size == 1 else weight[(start + i) * step]
            c = np.sqrt(np.float64(w)) / np.float64(s)
            n_columns = _significant(e, s * f.dtype.type(SIGNIFICANT), columns)
            if n_columns <= MOST_SIGNIFICANT:
                _add_pairs(e, mult, c, columns[:n_columns], value, total)
            else:
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


@kernel
def _powers(x: Any, scale: Any, shift: Any, i: int, f: Any, mult: Any, e: Any) -> Any:
    """Fill ``e`` with the powers of row ``i``, shifted by ``shift[i]`` if that is there and right; return the sum."""
    s = f.dtype.type(0)
    if shift.size > 0:
        s = _shifted_row(x, scale, shift[i], f, mult, e)
    if not (LOW < s < HIGH):
        _, s = one_row(x, scale, f, mult, e)
    return s


@kernel
def _add_pairs(e: Any, mult: Any, c: float, columns: Any, value: Any, total: Any) -> None:
    """Add the products of the entries in ``columns``, which ascend, to the lower triangle of ``total``."""
    for a in range(columns.size):
        q = np.float32(np.float64(e[columns[a]]) * np.float64(mult[columns[a]]) * c)
        value[a] = q
        for b in range(a + 1):
            total[columns[a], columns[b]] += q * value[b]


@kernel
def _load_rows(x: Any, start: int, n: int, step: int, by_columns: bool, block: Any) -> None:
    """Fill ``block`` (TALL, P) with ``n`` rows, the first of which is ``start * step``."""
    if by_columns:
        for k in range(x.shape[1]):
            for i in range(n):
                block[i, k] = x[(start + i) * step, k]
    else:
        for i in range(n):
            for k in range(x.shape[1]):
                block[i, k] = x[(start + i) * step, k]


@kernel
def tall_coupling(
    x: Any, lo: int, hi: int, step: int, by_columns: bool, scale: Any, f: Any, mult: Any, weight: Any, total: Any
) -> None:
    """Do the work of `coupling_pass` for few columns, with all entries of each row."""
    K = x.shape[1]
    block = np.zeros((TALL, K), x.dtype)
    e = np.zeros(K, f.dtype)
    q = np.zeros((K, TALL), np.float32)
    for start in range(lo, hi, TALL):
        n = min(TALL, hi - start)
        _load_rows(x, start, n, step, by_columns, block)
        q[:, n:] = 0
        for i in range(n):
            _, s = one_row(block[i], scale, f[:K], mult[:K], e)
            w = weight[0] if weight.size == 1 else weight[(start + i) * step]
            c = np.sqrt(np.float64(w)) / np.float64(s)
            for k in range(K):
                a = np.float32(np.float64(e[k]) * np.float64(mult[k]) * c)
                q[k, i] = a if a > np.float32(1e-15) else np.float32(0)
        for k in range(K):
            qk = q[k]
            for b in range(k + 1):
                qb = q[b]
                s32 = np.float32(0)
                for i in range(TALL):
                    s32 += qk[i] * qb[i]
                total[k, b] += s32


@kernel
def _significant(e: Any, least: Any, columns: Any) -> int:
    """Put the positions of ``e > least`` into ``columns``, if they fit; return their number."""
    both = np.int32(0)  # the sum of their positions, and in the low bits their number
    for k in range(e.size):
        both += np.int32(65536 * k + 1) if e[k] > least else np.int32(0)
    n = both & 65535
    if n == 1:
        columns[0] = both >> 16
    elif n <= columns.size:
        at = 0
        for start in range(0, e.size, VECTOR):
            if _top(e, start) > least:
                for k in range(start, start + VECTOR):
                    if e[k] > least:
                        columns[at] = k
                        at += 1
    return int(n)


@kernel
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


@kernel
def cholesky(a: Any) -> None:
    """Replace the lower triangle of a positive definite ``a`` (K, K) by its factor, four rows at a time.

    All in the calling thread: LAPACK would bring threads of its own, which wait for each other wherever the machine is
    shared.
    """
    K = a.shape[0]
    whole = K - K % 4
    for j in range(0, whole, 4):
        r0, r1, r2, r3 = a[j], a[j + 1], a[j + 2], a[j + 3]
        for i in range(j):
            other = a[i]
            s0 = s1 = s2 = s3 = 0.0
            for k in range(i):
                o = other[k]
                s0 += r0[k] * o
                s1 += r1[k] * o
                s2 += r2[k] * o
                s3 += r3[k] * o
            d = 1.0 / other[i]
            r0[i], r1[i] = (r0[i] - s0) * d, (r1[i] - s1) * d
            r2[i], r3[i] = (r2[i] - s2) * d, (r3[i] - s3) * d
        for row in range(j, j + 4):
            _finish_row(a, row, j)
    for row in range(whole, K):
        _finish_row(a, row, 0)


@kernel
def _finish_row(a: Any, j: int, first: int) -> None:
    """Finish row j of a Cholesky factor, of which the columns before ``first`` are done."""
    row = a[j]
    for i in range(first, j):
        other = a[i]
        s = row[i]
        for k in range(i):
            s -= row[k] * other[k]
        row[i] = s / other[i]
    s = row[j]
    for k in range(j):
        s -= row[k] * row[k]
    row[j] = np.sqrt(s if s > 1e-300 else 1e-300)


@kernel
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


@kernel
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
