"""Hostile problems: huge scores, offsets, ties, empty clusters. No error is larger than the one that is certified."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import ot
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from selavi_ref.errors import ConvergenceWarning
from selavi_ref.transport import assign, sinkhorn
from tests.support.engines import ENGINES, solved
from tests.support.refusal import refused
from tests.support.transport_reference import plan

SEEDS = st.integers(0, 10**6)
KINDS = ["huge", "offset", "row offsets", "integers", "column scales", "column offsets", "forbidden"]


def hostile(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Scores (N, K) up to 1e24, cluster sizes of which some are zero, and a strength."""
    rng = np.random.default_rng(seed)
    N, K = int(rng.integers(1, 70)), int(rng.integers(1, 20))
    x = rng.normal(size=(N, K))
    if kind == "huge":
        x *= 10.0 ** rng.integers(0, 25)
    elif kind == "offset":
        x += 10.0 ** rng.integers(3, 17)
    elif kind == "row offsets":
        x = x * 10.0 ** rng.integers(-3, 12, (N, 1)) + 10.0 ** rng.integers(0, 15, (N, 1))
    elif kind == "integers":
        x = np.round(x) * 10.0 ** rng.integers(0, 6)
    elif kind == "column scales":
        x *= 10.0 ** rng.integers(0, 8, (1, K))
    elif kind == "column offsets":
        x += rng.normal(size=(1, K)) * 10.0 ** rng.integers(0, 14)
    else:
        x[rng.random(x.shape) < 0.3] = -(10.0 ** rng.integers(1, 20))
    sizes = rng.dirichlet(np.full(K, 0.5))
    sizes[rng.random(K) < 0.2] = 0
    sizes = sizes / sizes.sum() if sizes.any() else np.full(K, 1 / K)
    return x.astype(np.float32) if rng.random() < 0.5 else x, sizes, 10.0 ** rng.integers(-2, 5)


@pytest.mark.nightly
@pytest.mark.parametrize("engine", ENGINES)
@given(kind=st.sampled_from(KINDS), seed=SEEDS)
def test_the_certified_error_is_never_less_than_the_error(engine: str, kind: str, seed: int) -> None:
    x, r, strength = hostile(kind, seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        a = solved(engine, x, r, strength=strength, max_passes=60)
    assert a.converged == (a.marginal_error <= 1e-6) == (not caught)
    q = plan(x, a.potentials, strength)
    for columns in (q.sum(0), a.plan.sum(0), a.mass):
        # Exponents of up to 1e5 are rounded by 2e-11 each, here and there.
        assert np.abs(columns - r).sum() <= a.marginal_error * (1 + 1e-6) + 1e-9
    assert np.allclose(a.plan.sum(1) * len(x), 1, rtol=1e-9)
    at_label = q[np.arange(len(x)), a.labels]
    assert (at_label >= q.max(1) * (1 - 1e-9 - 10 * a.marginal_error)).all()
    assert np.allclose(a.confidence, at_label * len(x), atol=1e-6 + 10 * a.marginal_error)


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_that_only_an_empty_cluster_would_suit_do_not_round_the_error(engine: str) -> None:
    """Their scores for all other clusters are 1e13 lower, and those differ by the potentials alone."""
    x, r, strength = hostile("forbidden", 160837)
    assert (r == 0).any()
    a = solved(engine, x, r, strength=strength, max_passes=60)
    assert np.abs(plan(x, a.potentials, strength).sum(0) - r).sum() == pytest.approx(a.marginal_error, abs=1e-13)


@pytest.mark.nightly
@given(kind=st.sampled_from(KINDS), seed=SEEDS)
def test_labels_of_exact_sizes_are_the_best_even_of_hostile_problems(kind: str, seed: int) -> None:
    x, r, strength = hostile(kind, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = assign(x, r, strength=strength, rounding="exact", max_passes=50).labels
    sizes = np.bincount(labels, minlength=len(r))
    assert (np.abs(sizes - len(x) * r) < 1 + 1e-9).all()
    columns = np.repeat(np.arange(len(r)), sizes)
    rows, chosen = linear_sum_assignment(x[:, columns], maximize=True)
    wide = x.astype(np.float64)
    best, total = wide[rows, columns[chosen]].sum(), wide[rows, labels].sum()
    assert total == pytest.approx(best, rel=1e-9, abs=1e-9 * np.abs(wide).max())


@pytest.mark.nightly
@given(seed=SEEDS, forbid=st.booleans())
def test_sinkhorn_is_within_its_tolerance_or_warns(seed: int, forbid: bool) -> None:
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 12)), int(rng.integers(1, 12))
    M = rng.random((n, m)) * 10.0 ** rng.integers(-3, 12) + 10.0 ** rng.integers(-3, 14)
    M += rng.normal(size=(1, m)) * 10.0 ** rng.integers(-3, 12)
    a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
    if forbid:
        M[1:, 1:][rng.random((n - 1, m - 1)) < 0.5] = np.inf
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        P, log = sinkhorn(a, b, M, 10.0 ** rng.integers(-6, 2), numItermax=200, log=True)
    violation = max(np.linalg.norm(P.sum(0) - b), np.linalg.norm(P.sum(1) - a))
    assert violation <= log["err"][0] * (1 + 1e-6) + 1e-11
    assert (log["err"][0] <= 1e-9) == (not caught)
    assert not P[np.isinf(M)].any()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.filterwarnings("ignore")
def test_forbidden_pairs_are_those_of_pot(seed: int) -> None:
    rng = np.random.default_rng(seed)
    M, some_plan = rng.random((9, 6)), rng.random((9, 6))
    forbidden = rng.random(M.shape) < 0.3
    forbidden[:, 0] = forbidden[0] = False
    M[forbidden], some_plan[forbidden] = np.inf, 0
    some_plan /= some_plan.sum()
    a, b = some_plan.sum(1), some_plan.sum(0)
    P = sinkhorn(a, b, M, 0.1)
    assert np.allclose(P, ot.sinkhorn(a, b, M, 0.1, numItermax=20_000, stopThr=1e-12), atol=1e-8)
    assert not P[forbidden].any()
    losses = sinkhorn(a, np.stack([b, b], 1), M, 0.1)
    assert np.allclose(losses, (P[~forbidden] * M[~forbidden]).sum())


def test_problems_that_forbidden_pairs_make_impossible_are_refused_or_warned_of() -> None:
    with refused(option="M", row=1):
        sinkhorn([0.5, 0.5], [0.5, 0.5], [[0.0, 1.0], [np.inf, np.inf]], 0.1)
    with refused(option="M", row=0):
        sinkhorn([0.5, 0.5], [0.5, 0.5], [[np.inf, 1.0], [np.inf, 1.0]], 0.1)
    with pytest.warns(ConvergenceWarning):
        P = sinkhorn([0.4, 0.4, 0.2], [0.5, 0.5], [[0.0, np.inf], [0.0, np.inf], [0.0, 0.0]], 0.1)
    assert not P[:2, 1].any()


def test_reg_may_be_an_array_or_a_tensor_of_one_element() -> None:
    torch = pytest.importorskip("torch")
    expected = sinkhorn([], [], np.eye(3), 0.5)
    for reg in (np.array(0.5), np.array([0.5]), np.float32(0.5), torch.tensor(0.5), torch.tensor([[0.5]])):
        assert np.array_equal(sinkhorn([], [], np.eye(3), reg), expected)
    for reg in (np.array([0.5, 0.5]), np.array([]), np.array(-1.0), torch.tensor(np.nan), True):
        with refused(option="reg"):
            sinkhorn([], [], np.eye(3), reg)


def test_few_rows_of_exact_sizes_need_no_compiled_code() -> None:
    """Compiling it takes half a minute where there is no cache."""

    code = "import sys, numpy as np; from selavi_ref import assign; a = assign(np.ones((17, 50)), rounding='exact')"
    code += "; print(np.bincount(a.labels).max(), 'numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
