"""Numba kernels of the plan pass and of the metric. Import this module only where it is used: it starts the compiler.

All exponents are in base 2: the caller multiplies scale and potentials by log2(e). Each kernel works on rows ``lo:hi``
and releases the interpreter lock; the engine gives parts of the rows to threads.

The potentials come as ``f`` in the type that the arithmetic is to have (float32 or float64) and a factor that makes up
for the rounding of ``f``, or 0 for a column that is to receive nothing. The powers ``2 ** (x * scale + f)`` of a pass
may be kept for the next passes, which then only multiply: changes of the potentials since are in the factors as well.
Kernels for wide data take both padded to whole vectors, with factors of 0, and read a little past the end of a row,
into the next one: the part of a loop that does not fill a vector would take as long as all the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from selavi_ref.compiler import inner, kernel
from selavi_ref.transport.arithmetic import above, exp2, exponent, greater, lowest_bit

VECTOR = 32  # entries in a whole number of vectors, unrolled; the number that `above` looks at
GROUP = 8  # rows that are added up together
FLUSH = 64  # rows summed in the type of the arithmetic before they are added in float64
TALL = 64  # rows in a block of the kernels for few columns
SIGNIFICANT = 3e-3  # posterior from which an entry counts in the metric
MOST_SIGNIFICANT = 64  # such entries up to which a row counts as peaked
LOW, HIGH = 2.0**-16, 2.0**24  # a row whose sum leaves this range is done again with a new shift
UNKNOWN = np.inf  # shift of a row before the first pass


@inner
def one_row(x: Any, scale: Any, f: Any, factor: Any, e: Any) -> Any:
    """Fill ``e`` with ``2 ** (x * scale + f - m)``, m the largest exponent of the row; return m and the sum."""
    zero = f.dtype.type(0)
    m = exponent(x[0], scale, zero, f[0])
    for k in range(1, f.size):
        m = greater(m, exponent(x[k], scale, zero, f[k]))
    s = zero
    for k in range(f.size):
        e[k] = exp2(exponent(x[k], scale, m, f[k]))
        s += e[k] * factor[k]
    return m, s


@inner
def _fill_row(flat: Any, K: int, i: int, scale: Any, f: Any, factor: Any, shift: Any, e: Any) -> Any:
    """Fill ``e`` with ``2 ** (x * scale + f - shift)`` of row ``i``, the shift corrected if need be; return the sum."""
    start, P = i * K, f.size
    m, s = shift[i], f.dtype.type(0)
    if start + P <= flat.size and m < UNKNOWN:
        x = flat[start : start + P]
        for k in range(P):
            a = exp2(exponent(x[k], scale, m, f[k]))
            e[k] = a
            s += a * factor[k]
    if not (LOW < s < HIGH):
        shift[i], s = one_row(flat[start : start + K], scale, f[:K], factor[:K], e)
    return s


@kernel
def wide_pass(
    flat: Any,
    K: int,
    lo: int,
    hi: int,
    scale: Any,
    f: Any,
    factor: Any,
    shift: Any,
    powers: Any,
    fills: bool,
    weight: Any,
    mass: Any,
) -> float:
    """Add the column sums of rows ``lo:hi`` to ``mass``; return the sum of the base-2 logsumexps. One read of the data.

    ``flat`` holds the rows one after the other, K entries each. Instead of looking for the largest entry first, a row
    is shifted by that of an earlier pass (``shift``, `UNKNOWN` at first, kept up to date here). ``weight`` has N
    entries, or one for uniform weights. ``powers`` keeps the powers of all rows, if it has rows, and unless ``fills``,
    they are there already and ``flat`` is not read.
    """
    P = f.size
    keeps = powers.shape[0] > 0
    uniform = weight.size == 1
    if not keeps:
        powers = _zeros(GROUP, P, f)
    part = _zeros(1, P, f)[0]
    row_sums = _zeros(2, GROUP, f)
    total, c = row_sums[0], row_sums[1]
    value, product = 0.0, 1.0
    for i in range(lo, hi, GROUP):
        n = min(GROUP, hi - i)
        e = powers[i : i + GROUP] if keeps else powers
        if fills:
            for j in range(n):
                total[j] = _fill_row(flat, K, i + j, scale, f, factor, shift, e[j])
        else:
            _dots(e[:n], factor, total)
        _clear(c[n:])
        for j in range(n):
            w = weight[0] if uniform else weight[i + j]
            c[j] = w / total[j]
            if uniform:
                value += np.float64(shift[i + j])
                product *= np.float64(total[j])
            else:
                value += np.float64(w) * (np.float64(shift[i + j]) + np.log2(np.float64(total[j])))
        if (i - lo) % (2 * GROUP) == GROUP:
            value += np.log2(product)
            product = 1.0
        e0, e1, e2, e3, e4, e5, e6, e7 = e[0], e[1], e[2], e[3], e[4], e[5], e[6], e[7]
        c0, c1, c2, c3, c4, c5, c6, c7 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
        for k in range(P):
            part[k] += ((e0[k] * c0 + e1[k] * c1) + (e2[k] * c2 + e3[k] * c3)) + (
                (e4[k] * c4 + e5[k] * c5) + (e6[k] * c6 + e7[k] * c7)
            )
        if (i - lo) % FLUSH == FLUSH - GROUP or i + GROUP >= hi:
            _flush(part, factor, mass)
    return value + np.log2(product)


@inner
def _clear(a: Any) -> None:
    """Set ``a`` to zero; the assignment to a slice takes long to compile."""
    for i in range(a.size):
        a[i] = 0


@inner
def _zeros(m: int, n: int, like: Any) -> Any:
    """Return zeros (m, n) of the type of ``like``."""
    a = np.empty((m, n), like.dtype)
    for i in range(m):
        for j in range(n):
            a[i, j] = 0
    return a


@inner
def _dots(e: Any, factor: Any, total: Any) -> None:
    """Fill ``total`` with the sums of the rows of ``e``, times ``factor``."""
    for j in range(e.shape[0]):
        row = e[j]
        s = factor.dtype.type(0)
        for k in range(factor.size):
            s += row[k] * factor[k]
        total[j] = s


@inner
def _flush(part: Any, factor: Any, mass: Any) -> None:
    """Add what was summed in the type of the arithmetic to ``mass`` in float64, and begin anew."""
    for k in range(mass.size):
        mass[k] += np.float64(part[k]) * np.float64(factor[k])
    _clear(part)


@kernel
def tall_pass(
    x: Any,
    lo: int,
    hi: int,
    scale: Any,
    f: Any,
    factor: Any,
    by_columns: bool,
    shift: Any,
    powers: Any,
    fills: bool,
    weight: Any,
    mass: Any,
) -> float:
    """Do the work of `wide_pass` in blocks of rows laid out by columns: for few columns, or data stored by columns.

    ``powers`` is (blocks, K, TALL), and ``shift`` needs to be there only if it has blocks.
    """
    K = f.size
    zero = f.dtype.type(0)
    t = np.empty((K, TALL), f.dtype)
    row_sums = np.empty((2, TALL), f.dtype)
    top, total = row_sums[0], row_sums[1]
    value = 0.0
    for start in range(lo, hi, TALL):
        n = min(TALL, hi - start)
        if powers.shape[0] > 0:
            t, top = powers[start // TALL], shift[start : start + TALL]
        if fills:
            _fill_block(x, start, n, np.int64(1), scale, f, by_columns, t, top)
        _clear(total)
        for k in range(K):
            a = factor[k]
            for j in range(TALL):
                total[j] += t[k, j] * a
        value += _settle_block(start, n, weight, top, total)
        for k in range(K):
            part = zero
            for j in range(TALL):
                part += t[k, j] * total[j]
            mass[k] += np.float64(part) * np.float64(factor[k])
    return value


@inner
def _fill_block(x: Any, start: int, n: int, step: int, scale: Any, f: Any, by_columns: bool, t: Any, top: Any) -> None:
    """Fill ``t`` with ``2 ** (x * scale + f - top)`` of the rows of `_load_block`, ``top`` their largest exponents."""
    _load_block(x, start, n, step, by_columns, t)
    zero = f.dtype.type(0)
    for j in range(TALL):
        top[j] = exponent(t[0, j], scale, zero, f[0])
    for k in range(1, f.size):
        fk = f[k]
        for j in range(TALL):
            top[j] = greater(top[j], exponent(t[k, j], scale, zero, fk))
    for k in range(f.size):
        fk = f[k]
        for j in range(TALL):
            t[k, j] = exp2(exponent(t[k, j], scale, top[j], fk))


@inner
def _settle_block(start: int, n: int, weight: Any, top: Any, total: Any) -> float:
    """Replace the sums ``total`` of a block by the factors of its rows; return the weighted sum of the logsumexps."""
    value = 0.0
    if weight.size == 1 and n == TALL:
        w = weight[0]
        a = b = c = d = 1.0
        for j in range(0, TALL, 4):
            a *= np.float64(total[j])
            b *= np.float64(total[j + 1])
            c *= np.float64(total[j + 2])
            d *= np.float64(total[j + 3])
        for j in range(TALL):
            value += np.float64(top[j])
            total[j] = w / total[j]
        return value + np.log2(a) + np.log2(b) + np.log2(c) + np.log2(d)
    for j in range(n):
        w = weight[0] if weight.size == 1 else weight[start + j]
        value += np.float64(w) * (np.float64(top[j]) + np.log2(np.float64(total[j])))
        total[j] = w / total[j]
    _clear(total[n:])
    return value


@inner
def _load_block(x: Any, start: int, n: int, step: int, by_columns: bool, t: Any) -> None:
    """Fill ``t`` (K, TALL) with ``n`` of every ``step``-th row from ``start * step`` on; the rest repeats the first."""
    if by_columns:
        for k in range(t.shape[0]):
            for j in range(n):
                t[k, j] = x[(start + j) * step, k]
    else:
        for j in range(n):
            for k in range(t.shape[0]):
                t[k, j] = x[(start + j) * step, k]
    for k in range(t.shape[0]):
        for j in range(n, TALL):
            t[k, j] = t[k, 0]


@inner
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
    v = _zeros(4, P, f)
    v0, v1, v2, v3 = v[0], v[1], v[2], v[3]
    c, part = _zeros(1, 4, f)[0], _zeros(1, P, f)[0]
    end = _zeros(1, P, flat)[0]
    value = score = 0.0
    for i in range(lo, hi, 4):
        _clear(c)
        for j in range(min(4, hi - i)):
            start, to = (i + j) * K, v[j]
            x = flat[start : start + P]
            if start + P > flat.size:
                for k in range(x.size):
                    end[k] = x[k]
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
    for k in range(K):
        mass[k] += part[k]
    return value, score


@inner
def _first(v: Any, m: float) -> Any:
    """Return the first position at which ``v``, of whole vectors, reaches ``m``."""
    start = np.int64(0)
    while _top(v[start : start + VECTOR]) < m:
        start += VECTOR
    while v[start] < m:
        start += 1
    return start


@inner
def _top(v: Any) -> Any:
    """Return the largest of as many entries as fill vectors."""
    top = v[0]
    for k in range(VECTOR):
        top = greater(top, v[k])
    return top


@kernel
def tall_rows(
    x: Any, lo: int, hi: int, scale: float, f: Any, mult: Any, by_columns: bool, weight: Any, out: Any, mass: Any
) -> tuple[float, float]:
    """Do the work of `wide_rows` in blocks of rows laid out by columns."""
    labels, confidence, logsumexp = out
    K = f.size
    t = np.empty((K, TALL), f.dtype)
    row_sums = np.empty((2, TALL), f.dtype)
    top, total = row_sums[0], row_sums[1]
    label = np.empty(TALL, np.int64)
    value = score = 0.0
    for start in range(lo, hi, TALL):
        n = min(TALL, hi - start)
        _load_block(x, start, n, np.int64(1), by_columns, t)
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
        _clear(total[n:])
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
def coupling_pass(
    x: Any,
    lo: int,
    hi: int,
    step: int,
    by_columns: bool,
    scale: Any,
    f: Any,
    factor: Any,
    powers: Any,
    weight: Any,
    total: Any,
) -> None:
    """Add ``w q q^T`` of rows ``lo * step``, ..., ``(hi - 1) * step`` to the lower triangle of ``total`` (K, K).

    Of a row with few significant entries only those count; other rows are collected and added eight at a time.
    ``powers`` are those of `wide_pass`, or empty.
    """
    K, P = x.shape[1], f.size
    block, e = _zeros(TALL, P, x), _zeros(1, P, f)[0]
    many, value = _zeros(8, K, total), _zeros(1, MOST_SIGNIFICANT, total)[0]
    columns = np.empty(MOST_SIGNIFICANT, np.uint64)  # without a sign, they are not looked at before they index
    waiting = 0
    for start in range(lo, hi, TALL):
        n = min(TALL, hi - start)
        if powers.shape[0] == 0:
            _load_rows(x, start, n, step, by_columns, block)
        for i in range(n):
            row = e
            if powers.shape[0] > 0:
                row = powers[(start + i) * step]
            else:
                one_row(block[i], scale, f, factor, e)
            s = f.dtype.type(0)
            for k in range(P):
                e[k] = row[k] * factor[k]
                s += e[k]
            w = weight[0] if weight.size == 1 else weight[(start + i) * step]
            c = np.float32(np.sqrt(np.float64(w)) / np.float64(s))
            n_columns = _significant(e, s * f.dtype.type(SIGNIFICANT), columns)
            if n_columns <= MOST_SIGNIFICANT:
                _add_pairs(e, c, columns[:n_columns], value, total)
            else:
                _scaled(e, c, many[waiting])
                waiting += 1
                if waiting == 8:
                    _add_products(many, total)
                    waiting = 0
    if waiting > 0:
        for j in range(waiting, 8):
            _clear(many[j])
        _add_products(many, total)


@inner
def _scaled(e: Any, c: Any, out: Any) -> None:
    """Fill ``out`` with ``e * c``, without products so small that arithmetic on them is slow."""
    for k in range(out.size):
        q = np.float32(e[k]) * c
        out[k] = q if q > np.float32(1e-15) else np.float32(0)


@inner
def _add_pairs(e: Any, c: Any, columns: Any, value: Any, total: Any) -> None:
    """Add the products of the entries in ``columns``, which ascend, to the lower triangle of ``total``."""
    for a in range(columns.size):
        q = np.float32(e[columns[a]]) * c
        value[a] = q
        row = total[columns[a]]
        for b in range(a + 1):
            row[columns[b]] += q * value[b]


@inner
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
    x: Any,
    lo: int,
    hi: int,
    step: int,
    by_columns: bool,
    scale: Any,
    f: Any,
    factor: Any,
    powers: Any,
    weight: Any,
    total: Any,
) -> None:
    """Do the work of `coupling_pass` for few columns, with all entries of each row; ``powers`` as in `tall_pass`."""
    K = f.size
    t = np.empty((K, TALL), f.dtype)
    row_sums = np.empty((2, TALL), f.dtype)
    top, c = row_sums[0], row_sums[1]
    q = np.empty((K, TALL), np.float32)
    for start in range(lo, hi, TALL):
        n = min(TALL, hi - start)
        if powers.shape[0] > 0:
            _gather_block(powers, start, n, step, t)
        else:
            _fill_block(x, start, n, step, scale, f, by_columns, t, top)
        _clear(c)
        for k in range(K):
            a = factor[k]
            for j in range(TALL):
                t[k, j] *= a
                c[j] += t[k, j]
        for j in range(n):
            w = weight[0] if weight.size == 1 else weight[(start + j) * step]
            c[j] = np.sqrt(np.float64(w)) / np.float64(c[j])
        _clear(c[n:])
        for k in range(K):
            qk = q[k]
            for j in range(TALL):
                a32 = np.float32(t[k, j] * c[j])
                qk[j] = a32 if a32 > np.float32(1e-15) else np.float32(0)
            _add_row(q, k, total)


@inner
def _gather_block(powers: Any, start: int, n: int, step: int, t: Any) -> None:
    """Do the work of `_load_block` on powers in blocks."""
    for j in range(TALL):
        i = (start + min(j, n - 1)) * step
        for k in range(t.shape[0]):
            t[k, j] = powers[i // TALL, k, i % TALL]


@inner
def _add_row(q: Any, k: int, total: Any) -> None:
    """Add the products of row ``k`` of ``q`` with those up to it to ``total``."""
    qk = q[k]
    for b in range(k + 1):
        qb = q[b]
        s = np.float32(0)
        for j in range(qk.size):
            s += qk[j] * qb[j]
        total[k, b] += s


@inner
def _significant(e: Any, least: Any, columns: Any) -> int:
    """Put the positions of ``e > least`` into ``columns``; return their number, or more than fit."""
    at = 0
    for start in range(0, e.size, VECTOR):
        bits = above(e, start, least)
        while bits != 0:
            if at == columns.size:
                return at + 1
            columns[at] = start + lowest_bit(bits)
            at += 1
            bits &= bits - 1
    return at


@inner
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
        _finish_row(a, row, np.int64(0))


@inner
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
