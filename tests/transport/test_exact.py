"""`exact_labels`: sizes are met to the row, the total score is the largest there is, and no start or tie breaks it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from selavi_ref.errors import InputError
from selavi_ref.transport.exact import Problem, exact_labels, fit_potentials, greedy_labels, repair
from selavi_ref.transport.rounding import integer_sizes
from tests.support.refusal import refused

MANY = settings(deadline=None)

KINDS = ["normal", "large", "far from zero", "integers", "equal", "equal rows", "equal columns", "one is loved"]
FILLS = ["even", "random", "some empty", "all in one", "one row each"]
STARTS = ["zero", "random", "huge", "some -inf", "all -inf", "fitted"]

problems = st.tuples(
    st.integers(1, 60),
    st.integers(1, 12),
    st.sampled_from(KINDS),
    st.sampled_from(FILLS),
    st.sampled_from(STARTS),
    st.integers(0, 10**6),
)


def scores_like(kind: str, N: int, K: int, rng: np.random.Generator) -> NDArray[np.float64]:
    x = rng.normal(size=(N, K))
    if kind == "large":
        return x * 1e6
    if kind == "far from zero":
        return x - 1e4
    if kind == "integers":
        return rng.integers(0, 4, size=(N, K)).astype(np.float64)
    if kind == "equal":
        return np.zeros((N, K))
    if kind == "equal rows":
        return x[rng.integers(min(3, N), size=N)]
    if kind == "equal columns":
        return x[:, rng.integers(min(3, K), size=K)]
    if kind == "one is loved":
        x[:, 0] += 10
    return x


def sizes_like(fill: str, N: int, K: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if fill == "even":
        return integer_sizes(np.full(K, 1 / K), N)
    if fill == "all in one":
        return np.eye(K, dtype=np.int64)[rng.integers(K)] * N
    if fill == "one row each" and N >= K:
        return rng.multinomial(N - K, np.eye(K)[0]) + 1
    part = rng.dirichlet(np.full(K, 0.5))
    if fill == "some empty":
        part[: K // 2] = 0
        part = rng.permutation(part / part.sum())
    return rng.multinomial(N, part)


def start_like(start: str, x: NDArray[np.float64], sizes: NDArray[np.int64], rng: np.random.Generator) -> NDArray:
    K = len(sizes)
    if start == "fitted":
        return fit_potentials(Problem.of(x, sizes, np.zeros(K))).potentials
    f = {"zero": 0.0, "all -inf": -np.inf}.get(start, rng.normal(size=K) * (1e6 if start == "huge" else 3.0))
    f = np.broadcast_to(f, K).copy()
    if start == "some -inf":
        f[rng.random(K) < 0.5] = -np.inf
    return f


def total(x: NDArray, labels: NDArray) -> float:
    return float(x[np.arange(len(x)), labels].sum(dtype=np.float64))


def best_total(x: NDArray, sizes: NDArray) -> float:
    """The largest total, by SciPy, from an N x N problem: each column repeated as often as it has rows."""
    return total(x, np.repeat(np.arange(len(sizes)), sizes)[linear_sum_assignment(-np.repeat(x, sizes, axis=1))[1]])


@pytest.mark.parametrize(("dtype", "order"), [(np.float32, "C"), (np.float64, "F")])
@MANY
@pytest.mark.nightly
@given(problem=problems)
def test_sizes_are_met_and_the_total_is_the_largest(dtype, order: str, problem) -> None:
    N, K, kind, fill, start, seed = problem
    rng = np.random.default_rng(seed)
    x = np.asarray(scores_like(kind, N, K, rng), dtype, order)
    sizes = sizes_like(fill, N, K, rng)
    f = start_like(start, x, sizes, rng)
    labels = exact_labels(x, sizes, f)
    assert labels.dtype == np.int32
    assert np.array_equal(np.bincount(labels, minlength=K), sizes)
    greedy = greedy_labels(x, sizes, f)
    assert np.array_equal(np.bincount(greedy, minlength=K), sizes)
    close = 1e-9 * N * float(np.abs(x).max())
    assert total(x, labels) == pytest.approx(best_total(x.astype(np.float64), sizes), rel=1e-9, abs=1e-12 * close)
    assert total(x, labels) >= total(x, greedy) - 1e-3 * close


@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, "normal"), (np.float64, "equal columns")])
def test_the_total_is_the_largest_for_thousands_of_rows(dtype, kind: str) -> None:
    rng = np.random.default_rng(5)
    N, K = 2000, 20
    x = scores_like(kind, N, K, rng).astype(dtype)
    sizes = sizes_like("random", N, K, rng)
    best = best_total(x.astype(np.float64), sizes)
    assert total(x, exact_labels(x, sizes, np.zeros(K))) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("kind", ["normal", "integers"])
def test_the_total_is_the_value_of_the_dual(kind: str) -> None:
    """No total exceeds the dual, at any potentials: equality proves the largest one, on rows too many for SciPy."""
    rng = np.random.default_rng(6)
    N, K = 30_000, 40
    x = scores_like(kind, N, K, rng) + 0.3 * rng.normal(size=K).round()
    sizes = integer_sizes(rng.dirichlet(np.full(K, 3.0)), N)
    labels = exact_labels(x, sizes, np.zeros(K))
    f = dual_potentials(x, labels)
    assert total(x, labels) == pytest.approx((x + f).max(1).sum() - sizes @ f, rel=1e-9)


@MANY
@given(problem=problems)
def test_a_later_problem_costs_the_same_from_the_potentials_of_an_earlier_one(problem) -> None:
    N, K, kind, fill, start, seed = problem
    rng = np.random.default_rng(seed)
    x = scores_like(kind, N, K, rng)
    sizes = sizes_like(fill, N, K, rng)
    earlier = Problem.of(x, sizes, start_like(start, x, sizes, rng))
    labels, f = repair(earlier, fit_potentials(earlier))
    close = 1e-9 * float(np.abs(x).max())
    assert np.array_equal(np.bincount(labels, minlength=K), sizes)
    assert ((x + f).max(1) - (x + f)[np.arange(N), labels]).max() <= close  # each row is in its best cluster
    changed = x + 0.1 * rng.normal(size=(N, K))
    warm, cold = (total(changed, exact_labels(changed, sizes, g)) for g in (f, np.zeros(K)))
    assert warm == pytest.approx(cold, rel=1e-9, abs=N * close)


def dual_potentials(x: NDArray, labels: NDArray) -> NDArray:
    """Potentials at which all of ``labels`` are the best, if there are any (Bellman and Ford)."""
    K = x.shape[1]
    loss = x[np.arange(len(x)), labels][:, None] - x
    cost = np.array([loss[labels == j].min(0) for j in range(K)])
    f = np.zeros(K)
    for _ in range(K):
        f = (f[:, None] + cost).min(0)
    return f


def test_layout_and_precision_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 30)).astype(np.float32)
    sizes, f = sizes_like("random", 500, 30, rng), np.zeros(30)
    wide = np.empty((500, 60), np.float32)
    wide[:, ::2] = x
    labels = exact_labels(x, sizes, f)
    for other in (np.asfortranarray(x), x.astype(np.float64), wide[:, ::2]):
        assert np.array_equal(labels, exact_labels(other, sizes, f))
        assert np.array_equal(greedy_labels(x, sizes, f), greedy_labels(other, sizes, f))


def test_neither_data_nor_potentials_are_changed() -> None:
    rng = np.random.default_rng(2)
    x, sizes, f = rng.normal(size=(400, 10)), np.full(10, 40), rng.normal(size=10)
    before = x.copy(), sizes.copy(), f.copy()
    for solve in (exact_labels, greedy_labels):
        solve(x, sizes, f)
    for now, then in zip((x, sizes, f), before, strict=True):
        assert np.array_equal(now, then)


@pytest.mark.parametrize("kind", ["equal", "equal rows", "integers", "equal columns"])
def test_many_equal_rows_move_together(kind: str) -> None:
    """Moved one by one, over as many searches of their cluster, equal rows would take hours."""
    rng = np.random.default_rng(3)
    x = scores_like(kind, 50_000, 30, rng).astype(np.float32)
    sizes = integer_sizes(np.full(30, 1 / 30), len(x))
    assert np.array_equal(np.bincount(exact_labels(x, sizes, np.zeros(30)), minlength=30), sizes)


def test_fitted_potentials_leave_few_rows_in_excess_and_empty_clusters_empty() -> None:
    rng = np.random.default_rng(4)
    N, K = 50_000, 30
    x = rng.normal(size=(N, K)) + rng.normal(size=K)
    part = rng.dirichlet(np.full(K, 2.0))
    part[3] = 0
    sizes = integer_sizes(part / part.sum(), N)
    f = fit_potentials(Problem.of(x, sizes, np.zeros(K))).potentials
    assert f[3] == -np.inf
    assert np.isfinite(np.delete(f, 3)).all()
    excess = np.maximum(np.bincount((x + f).argmax(1), minlength=K) - sizes, 0).sum()
    assert excess < 0.03 * N


@pytest.mark.parametrize("solve", [exact_labels, greedy_labels])
def test_what_does_not_fit_is_refused(solve) -> None:
    x, sizes, f = np.zeros((4, 2)), np.array([2, 2]), np.zeros(2)
    bad = x.copy()
    bad[2, 1] = np.nan
    cases = [
        ((bad, sizes, f), {"option": "log_prob", "row": 2, "column": 1}),
        ((x - np.inf, sizes, f), {"option": "log_prob", "value": -np.inf, "row": 0, "column": 0}),
        ((x + 1e31, sizes, f), {"option": "log_prob", "value": 1e31}),
        ((x, [2, 1], f), {"option": "sizes"}),
        ((x, [5, -1], f), {"option": "sizes"}),
        ((x, [2.0, 2.0], f), {"option": "sizes"}),
        ((x, [2, 1, 1], f), {"option": "sizes"}),
        ((x, sizes, np.zeros(3)), {"option": "potentials"}),
        ((x, sizes, [0.0, np.nan]), {"option": "potentials"}),
        ((x, sizes, [0.0, np.inf]), {"option": "potentials"}),
    ]
    for arguments, fields in cases:
        with refused(**fields):
            solve(*arguments)


@MANY
@pytest.mark.nightly
@given(
    parts=st.lists(st.one_of(st.just(0.0), st.just(1.0), st.floats(1e-9, 1.0)), min_size=1, max_size=40),
    N=st.integers(1, 10**7),
)
@example(parts=[1.0, 1.0, 1.0], N=2)
@example(parts=[0.29, 0.71], N=100)
def test_integer_sizes_sum_to_n_and_are_off_by_less_than_one(parts: list[float], N: int) -> None:
    if not any(parts):
        parts = [1.0]
    r = np.array(parts) / np.sum(parts)
    sizes = integer_sizes(r, N)
    assert sizes.dtype == np.int64
    assert sizes.sum() == N
    assert ((sizes == np.floor(N * r)) | (sizes == np.ceil(N * r))).all()
    assert not sizes[r == 0].any()


def test_of_equal_remainders_the_first_goes_up() -> None:
    assert integer_sizes([0.25] * 4, 6).tolist() == [2, 2, 1, 1]
    assert integer_sizes([0.2, 0.0, 0.5, 0.3], 3).tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("parts", "N"), [([0.5, 0.4], 3), ([1.5, -0.5], 3), ([np.nan, 1.0], 3), ([[1.0]], 3), ([1.0], 0)]
)
def test_parts_that_are_none_are_refused(parts, N: int) -> None:
    with pytest.raises(InputError):
        integer_sizes(parts, N)
