"""Sizes that are only a guess, labels of exact sizes, and the published algorithm."""

from __future__ import annotations

import numpy as np
import ot
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, minimize
from scipy.special import log_softmax

from selavi_ref import assign
from selavi_ref.errors import ConvergenceWarning
from tests.support.engines import ENGINES, solved
from tests.support.refusal import refused
from tests.support.transport_reference import plan

problems = st.tuples(st.integers(1, 40), st.integers(1, 9), st.integers(0, 10**6))


def problem(N: int, K: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, K)), rng.dirichlet(np.full(K, 2.0))


@pytest.mark.nightly
@given(shape=problems, rho=st.floats(-3, 4), strength=st.floats(0.1, 10))
def test_soft_sizes_are_where_the_penalty_balances_the_potentials(shape, rho: float, strength: float) -> None:
    x, r = problem(*shape)
    rho = 10**rho
    a = assign(x, r, marginal_penalty=rho, strength=strength, tol=1e-8)
    q = plan(x, a.potentials, strength)
    assert np.allclose(a.plan, q, atol=1e-12)
    assert np.allclose(a.mass, q.sum(0))
    wanted = np.log(r) - a.potentials / rho
    wanted = np.exp(wanted - wanted.max())
    assert np.abs(q.sum(0) - wanted / wanted.sum()).sum() <= 1.001e-8


def test_soft_sizes_maximise_what_they_say() -> None:
    x, r = problem(30, 4)
    rho, strength = 0.7, 3.0

    def loss(logits: np.ndarray) -> float:
        q = plan(logits.reshape(30, 4), np.zeros(4))
        m = q.sum(0)
        return float((q * np.log(q)).sum() - strength * (q * x).sum() + rho * (m * np.log(m / r)).sum())

    best = minimize(loss, strength * x.ravel(), method="L-BFGS-B", options={"maxfun": 10**6, "ftol": 1e-15})
    a = assign(x, r, marginal_penalty=rho, strength=strength, tol=1e-10)
    assert loss(np.log(a.plan).ravel()) <= best.fun + 1e-9
    assert np.abs(a.plan - plan(best.x.reshape(30, 4), np.zeros(4))).sum() < 1e-3


def test_soft_sizes_are_those_of_pot() -> None:
    x, r = problem(50, 6)
    reg = 0.5
    a = assign(x, r, marginal_penalty=2.0, strength=1 / reg, tol=1e-10)
    theirs = ot.unbalanced.sinkhorn_unbalanced(
        np.full(50, 1 / 50), r, -x, reg, reg_m=(np.inf, 2.0 * reg), reg_type="entropy", numItermax=20_000, stopThr=1e-12
    )
    assert np.abs(a.plan - theirs).sum() < 1e-6


def test_the_price_goes_from_no_sizes_to_given_sizes() -> None:
    x, r = problem(200, 5)
    free = plan(x, np.zeros(5), 10.0).sum(0)
    sizes = [assign(x, r, marginal_penalty=rho).mass for rho in (1e-4, 0.1, 1.0, 10.0, 1e6)]
    away = [np.abs(m - r).sum() for m in sizes]
    assert np.abs(sizes[0] - free).sum() < 1e-2
    assert all(np.diff(away) < 0)
    assert away[-1] < 1e-4


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("method", ["auto", "fixed-point", "over-relaxed"])
def test_soft_sizes_by_every_engine_and_method(engine: str, method: str) -> None:
    x, r = problem(300, 8)
    expected = assign(x, r, marginal_penalty=1.5, tol=1e-9, strength=3.0).plan
    found = solved(engine, x, r, marginal_penalty=1.5, tol=1e-9, strength=3.0, method=method)
    assert np.abs(found.plan - expected).sum() < 1e-7


def test_soft_sizes_of_peaked_problems_converge() -> None:
    x, r = problem(2000, 30)
    for rho in (1e-3, 1.0, 1e3):
        assert assign(x * 30, r, marginal_penalty=rho, engine="numba").converged


@pytest.mark.nightly
@given(shape=problems)
def test_exact_labels_are_the_optimum_of_the_assignment_problem(shape) -> None:
    x, r = problem(*shape)
    a = assign(x, r, rounding="exact")
    sizes = np.bincount(a.labels, minlength=len(r))
    assert (np.abs(sizes - len(x) * r) < 1).all()
    columns = np.repeat(np.arange(len(r)), sizes)
    rows, chosen = linear_sum_assignment(x[:, columns], maximize=True)
    best = x[rows, columns[chosen]].sum()
    assert x[np.arange(len(x)), a.labels].sum() == pytest.approx(best, rel=1e-9, abs=1e-9)
    assert a.cost == pytest.approx(-best / len(x) / 2, rel=1e-6, abs=1e-9)
    assert np.allclose(a.confidence, a.plan[np.arange(len(x)), a.labels] * len(x), rtol=1e-5, atol=1e-7)


def test_exact_labels_of_a_larger_problem() -> None:
    x, _ = problem(5000, 40)
    a = assign(x.astype(np.float32), rounding="exact", engine="numba")
    assert (np.bincount(a.labels, minlength=40) == 125).all()
    assert a.labels.dtype == np.int32


def published(log_prob: np.ndarray, sizes: np.ndarray, strength: float) -> tuple[np.ndarray, int]:
    """The published algorithm in the fewest lines: labels and iterations."""
    P = np.exp(log_prob) ** strength
    N = len(P)
    r, c, beta, error, i = 1 / sizes / (1 / sizes).sum(), 1 / N, np.full(N, 1 / N), 1e6, 0
    while error > 0.1 and i < 2000:
        alpha = r / (P.T @ beta)
        new = c / (P @ alpha)
        if i % 10 == 0:
            error = np.abs(beta / new - 1).sum()
        beta, i = new, i + 1
    return (P * beta[:, None] * alpha).argmax(1), i


@given(N=st.integers(5, 60), K=st.integers(2, 8), seed=st.integers(0, 10**6), strength=st.floats(0.5, 5))
def test_the_published_algorithm_is_repeated(N: int, K: int, seed: int, strength: float) -> None:
    x, _ = problem(N, K, seed)
    sizes = 1 + np.random.default_rng(seed).random(K)
    labels, iterations = published(x, sizes, strength)
    a = assign(x, sizes, strength=strength, published=True)
    assert np.array_equal(a.labels, labels)
    assert a.n_passes == 2 * iterations
    inverse = 1 / sizes / (1 / sizes).sum()
    assert a.marginal_error == pytest.approx(np.abs(a.mass - inverse).sum())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sd", [20, 60])
def test_the_published_algorithm_breaks_into_nan_where_the_original_does(sd: int) -> None:
    n_broken = 0
    for seed in range(24):
        rng = np.random.default_rng(seed)
        N, K = rng.integers(20, 400), rng.integers(3, 40)
        x, sizes = log_softmax(sd * rng.normal(size=(2, N, K)), 2).sum(0), 1 + 0.1 * rng.standard_normal(K)
        labels, _ = published(x, sizes, 10.0)
        a = assign(x, sizes, published=True)
        assert np.array_equal(a.labels, labels)
        assert not (a.converged and np.isnan(a.confidence).any())
        n_broken += bool(np.isnan(a.confidence).any())
    assert n_broken > 0


def test_what_the_published_algorithm_lacks_is_refused() -> None:
    x, _ = problem(30, 4)
    for options in (
        {"sample_weight": np.ones(30)},
        {"marginal_penalty": 1.0},
        {"potentials": np.zeros(4)},
        {"method": "fixed-point"},
        {"engine": "numba"},
        {"tol": 1e-6},
        {"rounding": "exact"},
    ):
        with refused(option=next(iter(options))):
            assign(x, published=True, **options)
    x[3, 1] = np.nan
    with refused(option="log_prob", row=3, column=1):
        assign(x, published=True)


def test_the_published_algorithm_warns_where_its_rule_is_not_met() -> None:
    x, r = problem(30, 4)
    with pytest.warns(ConvergenceWarning):
        assert assign(x, r, published=True, max_passes=2).n_passes == 2


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"rounding": "ceil"}, "rounding"),
        ({"marginal_penalty": 0}, "marginal_penalty"),
        ({"marginal_penalty": np.inf}, "marginal_penalty"),
        ({"rounding": "exact", "sample_weight": np.ones(30)}, "sample_weight"),
    ],
)
def test_what_does_not_fit_is_named(options: dict, name: str) -> None:
    with refused(option=name):
        assign(problem(30, 4)[0], **options)
