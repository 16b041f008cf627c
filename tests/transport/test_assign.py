"""`assign`: marginals are met, symmetries hold, and nothing finite breaks it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from selavi_ref import assign
from selavi_ref.errors import ConvergenceWarning
from tests.support.engines import ENGINES, solved
from tests.support.refusal import refused
from tests.support.transport_reference import dual, error, plan, sinkhorn_potentials

METHODS = ["auto", "fixed-point", "over-relaxed"]
MANY = settings(deadline=None)
columns = st.integers(1, 12) | st.sampled_from([47, 48, 49, 64, 65])  # above 48 other kernels are at work
problems = st.tuples(st.integers(1, 40), columns, st.integers(0, 10**6))


def problem(N: int, K: int, seed: int, scale: float = 1.0, dtype=np.float64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(N, K)) * scale).astype(dtype), rng.dirichlet(np.full(K, 2.0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@MANY
@pytest.mark.nightly
@given(engine=st.sampled_from(ENGINES), shape=problems, strength=st.floats(0.1, 10))
def test_rows_and_columns_meet_their_marginals(engine: str, dtype, shape, strength: float) -> None:
    x, r = problem(*shape, dtype=dtype)
    a = solved(engine, x, r, strength=strength)
    q = plan(x, a.potentials, strength)
    assert np.allclose(a.plan, q, rtol=1e-9, atol=1e-15)
    assert np.allclose(q.sum(1), 1 / len(x))
    assert error(q, r) <= 1.001e-6
    assert a.marginal_error == pytest.approx(error(q, r), abs=1e-12)
    assert a.converged
    assert a.labels.dtype == np.int32
    assert np.array_equal(a.labels, q.argmax(1))
    assert np.allclose(a.confidence, q.max(1) * len(x), rtol=1e-5)
    assert a.value == pytest.approx(dual(x, a.potentials, r, strength), rel=1e-9, abs=1e-9)
    assert a.cost == pytest.approx(-x[np.arange(len(x)), a.labels].mean() / 2, rel=1e-5, abs=1e-6)


@pytest.fixture(scope="module")
def sinkhorn_plan() -> np.ndarray:
    x, r = problem(300, 20, 0, dtype=np.float32)
    return plan(x, sinkhorn_potentials(x, r, 3.0), 3.0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("method", METHODS)
def test_all_methods_find_the_same_plan(sinkhorn_plan: np.ndarray, engine: str, method: str) -> None:
    x, r = problem(300, 20, 0, dtype=np.float32)
    a = solved(engine, x, r, strength=3.0, method=method, tol=1e-8)
    assert np.abs(a.plan - sinkhorn_plan).sum() < 1e-7


def test_the_value_is_the_maximum_that_scipy_finds() -> None:
    x, r = problem(60, 6, 1)
    found = minimize(
        lambda f: -dual(x, f, r, 4.0),
        np.zeros(6),
        jac=lambda f: plan(x, f, 4.0).sum(0) - r,
        method="BFGS",
        options={"gtol": 1e-10},
    )
    a = assign(x, r, strength=4.0, tol=1e-10)
    assert a.value == pytest.approx(-found.fun, abs=1e-12)
    assert np.allclose(a.potentials - a.potentials[0], found.x - found.x[0], atol=1e-6)


@MANY
@pytest.mark.nightly
@given(shape=problems, shift=st.floats(-1e3, 1e3))
def test_constants_added_to_rows_change_nothing(shape, shift: float) -> None:
    x, r = problem(*shape)
    shifts = shift * np.random.default_rng(shape[2]).normal(size=(len(x), 1))
    a, b = assign(x, r, tol=1e-9), assign(x + shifts, r, tol=1e-9)
    assert np.abs(a.plan - b.plan).sum() < 1e-6


@MANY
@pytest.mark.nightly
@given(shape=problems)
def test_permuting_rows_and_columns_permutes_the_plan(shape) -> None:
    x, r = problem(*shape)
    rng = np.random.default_rng(shape[2])
    rows, columns = rng.permutation(x.shape[0]), rng.permutation(x.shape[1])
    a, b = assign(x, r, tol=1e-9), assign(x[rows][:, columns], r[columns], tol=1e-9)
    assert np.abs(a.plan[rows][:, columns] - b.plan).sum() < 1e-6


@MANY
@pytest.mark.nightly
@given(N=st.integers(1, 30), K=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_equal_rows_share_the_clusters_alike(N: int, K: int, seed: int) -> None:
    x, r = problem(1, K, seed)
    a = assign(np.repeat(x, N, 0), r)
    assert np.allclose(a.plan, r / N, atol=1e-6)


def test_one_cluster_takes_all() -> None:
    a = assign(np.random.default_rng(0).normal(size=(9, 1)))
    assert not a.labels.any()
    assert np.array_equal(a.confidence, np.ones(9, np.float32))
    assert a.marginal_error < 1e-15
    assert a.n_passes == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_one_row_is_split_like_the_marginal(engine: str) -> None:
    x, r = problem(1, 70, 0)
    assert np.allclose(solved(engine, x, r).plan[0], r, atol=1e-6)


@MANY
@pytest.mark.nightly
@given(engine=st.sampled_from(ENGINES), shape=problems)
def test_clusters_of_size_zero_stay_empty(engine: str, shape) -> None:
    x, r = problem(*shape)
    r[np.random.default_rng(shape[2]).random(len(r)) < 0.5] = 0
    r[0] = 0.3
    a = solved(engine, x, r)
    q = a.plan
    assert not q[:, r == 0].any()
    assert np.isneginf(a.potentials[r == 0]).all()
    assert error(q, r / r.sum()) <= 1.001e-6
    assert (r[a.labels] > 0).all()


@MANY
@pytest.mark.nightly
@given(engine=st.sampled_from(ENGINES), shape=problems, spread=st.floats(0, 12))
def test_rows_may_have_weights_of_any_size(engine: str, shape, spread: float) -> None:
    x, r = problem(*shape)
    w = 10 ** (np.random.default_rng(shape[2]).random(len(x)) * -spread)
    a = solved(engine, x, r, sample_weight=w)
    q = a.plan
    assert np.allclose(q.sum(1), w / w.sum())
    assert error(q, r) <= 1.001e-6


@MANY
@pytest.mark.nightly
@given(engine=st.sampled_from(ENGINES), shape=problems, magnitude=st.floats(-8, 2.5))
def test_huge_and_tiny_logits_are_solved(engine: str, shape, magnitude: float) -> None:
    x, r = problem(*shape, scale=10**magnitude)
    a = solved(engine, x, r)
    assert error(plan(x, a.potentials, 10.0), r) <= 2e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@MANY
@pytest.mark.nightly
@given(engine=st.sampled_from(ENGINES), shape=problems, orders=st.floats(0, 12), kind=st.integers(0, 5))
def test_nothing_finite_gives_nan(engine: str, dtype, shape, orders: float, kind: int) -> None:
    x, _ = adversarial(shape, kind)
    r = 10 ** (-orders * np.random.default_rng(shape[2]).random(x.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        a = solved(engine, x.astype(dtype), r, max_passes=300)
    assert np.isfinite(a.potentials).all()
    assert np.isfinite(a.plan).all()
    assert np.isfinite([a.value, a.cost, a.marginal_error]).all()
    assert np.isfinite(a.confidence).all()
    assert error(plan(x.astype(dtype), a.potentials, 10.0), r / r.sum()) == pytest.approx(a.marginal_error, abs=1e-7)


def adversarial(shape: tuple[int, int, int], kind: int) -> tuple[np.ndarray, str]:
    x, _ = problem(*shape)
    rng = np.random.default_rng(shape[2])
    if kind == 0:
        return rng.choice([-1e4, 0.0, 1e4], size=x.shape), "logits of three values, 1e4 apart"
    if kind == 1:
        x[:, 0] -= 1e4
        return x, "a column nobody wants"
    if kind == 2:
        return np.repeat(x[:, :1], x.shape[1], 1), "equal columns"
    if kind == 3:
        x[0] *= 1e4
        return x, "a dominant row"
    if kind == 4:
        return np.repeat(x[:1] * 1e3, len(x), 0), "equal rows"
    return x * 1e4, "huge logits"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_adversarial_problems_are_solved(engine: str, kind: int) -> None:
    x, name = adversarial((300, 9, kind), kind)
    r = 10 ** np.linspace(-12, 0, 9)
    assert error(solved(engine, x, r).plan, r / r.sum()) <= 1.001e-6, name


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sharp", [0.2, 3.0])
def test_a_mixture_is_solved_in_few_passes(engine: str, sharp: float) -> None:
    x, r = mixture(4000, 50, sharp)
    a = solved(engine, x, r)
    assert a.n_passes < 150
    assert error(plan(x, a.potentials, 10.0), r) <= 1.001e-6


def mixture(N: int, K: int, sharp: float) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the log-probabilities of two views of a Gaussian mixture, float32."""
    rng = np.random.default_rng(0)
    centres, z = rng.normal(size=(K, 32)), rng.integers(K, size=N)
    total = np.zeros((N, K))
    for _ in range(2):
        logits = sharp * (centres[z] + rng.normal(size=(N, 32))) @ centres.T / 6
        total += (
            logits
            - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
            - logits.max(1, keepdims=True)
        )
    return total.astype(np.float32), rng.dirichlet(np.full(K, 5.0))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_warm_start_saves_passes(engine: str) -> None:
    x, r = mixture(4000, 50, 1.0)
    cold = solved(engine, x, r)
    noise = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    warm = solved(engine, x + 0.01 * noise, r, potentials=cold.potentials)
    assert warm.n_passes < cold.n_passes / 2
    assert solved(engine, x, r, potentials=cold.potentials).n_passes <= 3


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("start", [[1e300, -1e300, 0, 0, 0], [np.nan, -np.inf, np.inf, 5, -7], [3e9, 0, 0, 0, -3e9]])
def test_a_bad_start_does_no_harm(engine: str, start: list[float]) -> None:
    x, r = problem(200, 5, 0)
    assert solved(engine, x, r, potentials=start).converged


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_all_engines_give_the_same_labels(engine: str) -> None:
    x, r = mixture(4000, 50, 0.3)
    a, b = (solved(name, x, r, tol=1e-9) for name in ("numpy", engine))
    clear = np.sort(a.plan, 1)
    clear = clear[:, -1] > clear[:, -2] * (1 + 1e-6)
    assert clear.mean() > 0.99
    assert np.array_equal(a.labels[clear], b.labels[clear])


def test_stopping_early_warns() -> None:
    x, r = problem(50, 5, 0)
    with pytest.warns(ConvergenceWarning):
        a = assign(x, r, max_passes=2, method="fixed-point")
    assert not a.converged
    assert a.marginal_error == pytest.approx(error(a.plan, r), abs=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("K", [9, 49, 65])
def test_entries_as_large_as_they_may_be(engine: str, K: int) -> None:
    x = np.zeros((9, K))
    x[1::2] = 0.9e29
    x[1::2, 3] = 0.95e29
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for r in (np.ones(K), np.arange(K) > 3):
            a = solved(engine, x, r, max_passes=100)
            assert (r[a.labels] > 0).all()
            assert np.isfinite(a.confidence).all()
            assert np.isfinite(a.mass).all()
            assert (a.labels[1::2] == (3 if r[3] else 4)).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 9])
def test_no_more_passes_are_made_than_granted(method: str, limit: int) -> None:
    x, r = problem(3000, 30, 0)
    with pytest.warns(ConvergenceWarning):
        a = assign(x * 30, r, max_passes=limit, method=method)
    assert a.n_passes <= max(2, limit)


def test_few_rows_with_weight_are_solved_in_few_passes() -> None:
    x, r = problem(6000, 5, 0)
    weight = np.zeros(6000)
    weight[[1, 77, 501, 3003, 4444, 5999]] = 1
    assert assign(x, r, sample_weight=weight).n_passes < 60


def test_uniform_clusters_are_the_default() -> None:
    x, _ = problem(30, 5, 0)
    assert np.allclose(assign(x).plan.sum(0), 0.2, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"strength": 0}, {"option": "strength", "value": 0}),
        ({"strength": np.nan}, {"option": "strength"}),
        ({"tol": 0}, {"option": "tol", "value": 0}),
        ({"max_passes": 0}, {"option": "max_passes"}),
        ({"method": "newton"}, {"option": "method", "value": "newton"}),
        ({"engine": "gpu"}, {"option": "engine", "value": "gpu"}),
        ({"cluster_marginal": [1, 2]}, {"option": "sizes"}),
        ({"cluster_marginal": [1, -2, 1]}, {"option": "sizes", "column": 1, "value": -2}),
        ({"sample_weight": [1, 2]}, {"option": "sample_weight", "row": None}),
        ({"sample_weight": [1, 2, -1, 1, 1]}, {"option": "sample_weight", "row": 2}),
        ({"sample_weight": np.zeros(5)}, {"option": "sample_weight"}),
        ({"potentials": [1, 2]}, {"option": "potentials"}),
        ({"potentials": ["a"] * 3}, {"option": "potentials"}),
        ({"sample_weight": ["a"] * 5}, {"option": "sample_weight"}),
        ({"strength": "a"}, {"option": "strength", "value": "a"}),
        ({"max_passes": 2.5}, {"option": "max_passes", "value": 2.5}),
        ({"engine": None}, {"option": "engine"}),
        ({"method": ["auto"]}, {"option": "method"}),
        ({"log_prob": np.zeros(5)}, {"option": "log_prob"}),
        ({"log_prob": np.zeros((0, 3))}, {"option": "log_prob"}),
        ({"log_prob": np.array([["a"]])}, {"option": "log_prob"}),
        ({"log_prob": np.array([[0, np.nan]])}, {"option": "log_prob", "row": 0, "column": 1}),
    ],
)
def test_what_does_not_fit_is_named(options: dict[str, object], fields: dict[str, object]) -> None:
    arguments = {"log_prob": np.zeros((5, 3)), **options}
    with refused(**fields):
        assign(**arguments)  # type: ignore[arg-type]
