"""Every engine against the plain reference, in one suite."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.transport import engines
from selavi_ref.transport.numba_engine import NumbaPass
from tests.support.engines import ENGINES, plan_pass
from tests.support.refusal import refused
from tests.support.transport_reference import logsumexp, plan

SHAPES = [(1, 1), (1, 70), (70, 1), (3, 5), (257, 10), (130, 49), (131, 200), (5, 400)]


def data(N: int, K: int, seed: int = 0, scale: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(N, K)) * scale


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_pass_is_the_dual_value_and_the_column_sums(engine: str, order, dtype, weighted: bool) -> None:
    for N, K in SHAPES:
        x = np.asarray(data(N, K), dtype=dtype, order=order)
        rng = np.random.default_rng(N)
        weight = rng.dirichlet(np.ones(N)) if weighted else None
        passing = plan_pass(engine, x, 2.0, weight)
        for round_, sharpness in enumerate([1.0, 1.0, 0.5, 4.0]):
            f = rng.normal(size=K) * 10 * round_ + 300
            q = plan(x, f, 2.0 * sharpness, weight)
            rows = np.full(N, 1 / N) if weight is None else weight
            value = rows @ logsumexp(x, f, 2.0 * sharpness)
            for precise in (False, True):
                tol = 1e-12 if precise or dtype == np.float64 else 2e-6
                got, mass = passing(f, sharpness, precise=precise)
                assert got == pytest.approx(value, rel=tol)
                assert np.abs(mass - q.sum(0)).sum() < tol


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_walk_over_the_rows(engine: str, order, dtype) -> None:
    for N, K in SHAPES:
        x = np.asarray(data(N, K), dtype=dtype, order=order)
        f = np.random.default_rng(1).normal(size=K)
        weight = np.random.default_rng(2).dirichlet(np.ones(N))
        q = plan(x, f, 2.0, weight) / weight[:, None]
        rows = plan_pass(engine, x, 2.0, weight).rows(f)
        assert rows.labels.dtype == np.int32
        assert np.array_equal(rows.labels, q.argmax(1))
        assert rows.confidence.dtype == np.float32
        assert np.allclose(rows.confidence, q.max(1), rtol=1e-6)
        if engine != "store":
            assert np.allclose(rows.logsumexp, logsumexp(x, f, 2.0), rtol=1e-12, atol=1e-12)
        assert np.allclose(rows.mass, weight @ q, rtol=1e-12)
        assert rows.value == pytest.approx(weight @ logsumexp(x, f, 2.0))
        assert rows.score == pytest.approx(weight @ x[np.arange(N), q.argmax(1)], rel=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_surveys_couplings_and_peaks_are_those_of_the_plan(engine: str) -> None:
    x = data(300, 60).astype(np.float32)
    f = np.random.default_rng(1).normal(size=60)
    f[7] = -np.inf
    passing = plan_pass(engine, x, 2.0)
    q = plan(x, f, 2.0) * 300
    stats = passing.stats(f)
    assert stats.weight == pytest.approx(1.0)
    assert stats.softness == pytest.approx((1 - (q**2).sum(1)).mean(), abs=1e-5)
    assert stats.many == pytest.approx((q > 1e-3).sum(1).mean(), abs=0.05)
    assert stats.small == pytest.approx((np.delete(q, 7, 1) < 1e-6).sum(1).mean(), abs=0.05)
    for step in (1,) if engine == "store" else (1, 7):  # the store leaves out blocks instead
        expected = q[::step].T @ q[::step] / len(q[::step])
        assert np.abs(passing.coupling(f, step) - expected).max() < 1e-4
    with np.errstate(divide="ignore"):
        assert np.allclose(passing.peak(f), np.log(q.max(0)), atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("K", [3, 80])
def test_a_column_of_potential_minus_infinity_receives_nothing(engine: str, K: int) -> None:
    x = data(100, K).astype(np.float32)
    f = np.zeros(K)
    f[1] = -np.inf
    passing = plan_pass(engine, x, 1.0)
    value, mass = passing(f)
    rows = passing.rows(f)
    assert mass[1] == rows.mass[1] == 0
    assert mass.sum() == pytest.approx(1)
    assert np.isfinite(value)
    assert not (rows.labels == 1).any()
    assert passing.peak(f)[1] == -np.inf


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("K", [10, 70])
def test_powers_kept_by_one_pass_serve_the_next_ones_while_potentials_wander(K: int, order) -> None:
    x = np.asarray(data(200, K), np.float32, order=order)
    rng = np.random.default_rng(0)
    kept, computed = NumbaPass(x, 2.0), NumbaPass(x, 2.0, keeps=False)
    f = np.zeros(K)
    for step in range(30):
        f = f + rng.normal(size=K) * 3
        given = np.where(np.arange(K) == step % 7, -np.inf, f) if step % 3 == 0 else f
        q = plan(x, given, 2.0)
        for passing in (kept, computed):
            value, mass = passing(given)
            assert value == pytest.approx(logsumexp(x, given, 2.0).mean(), rel=2e-6)
            assert np.abs(mass - q.sum(0)).sum() < 2e-6
            assert np.abs(passing.coupling(given, 1) - 200 * q.T @ q).max() < 2e-4


def test_powers_that_memory_has_no_room_for_are_computed_in_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    x = data(200, 60).astype(np.float32)
    kept, computed = NumbaPass(x, 2.0), NumbaPass(x, 2.0)
    zeros = np.zeros

    def refuse(shape, dtype=float) -> np.ndarray:
        if np.prod(shape) >= x.size:
            raise MemoryError
        return zeros(shape, dtype)

    f = np.random.default_rng(0).normal(size=60)
    expected = [kept(f * n) for n in (0, 1, 1.1)]
    monkeypatch.setattr(np, "zeros", refuse)
    for n, (value, mass) in zip((0, 1, 1.1), expected, strict=True):
        got = computed(f * n)
        assert got[0] == pytest.approx(value, rel=2e-6)
        assert np.abs(got[1] - mass).sum() < 2e-6


@pytest.mark.parametrize("K", [4, 80])
@settings(deadline=None)
@pytest.mark.nightly
@given(engine=st.sampled_from(ENGINES), magnitude=st.floats(-6, 4), jump=st.floats(-5, 5), seed=st.integers(0, 10**6))
def test_potentials_may_jump_by_any_distance(engine: str, K: int, magnitude: float, jump: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(30, K)) * 10**magnitude).astype(np.float32)
    passing = plan_pass(engine, x, 10.0)
    for f in (np.zeros(K), rng.normal(size=K) * 10**jump, np.zeros(K)):
        _, mass = passing(f)
        assert np.abs(mass - plan(x, f, 10.0).sum(0)).sum() < 2e-3
        _, mass = passing(f, precise=True)
        assert np.abs(mass - plan(x, f, 10.0).sum(0)).sum() < 1e-9


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_entry_that_is_not_finite_is_named(engine: str, value: float) -> None:
    x = data(400, 30).astype(np.float32)
    x[317, 4] = value
    x[390, 1] = np.nan
    with refused(row=317, column=4):
        plan_pass(engine, x, 1.0)


@pytest.mark.parametrize("engine", ENGINES)
def test_entries_too_large_to_mean_anything_are_refused(engine: str) -> None:
    with refused(option="log_prob", value=1e35):
        plan_pass(engine, np.array([[1e35, 0.0]]), 1.0)


def test_slices_and_read_only_arrays_are_accepted() -> None:
    x = data(200, 40)
    x.flags.writeable = False
    view = x[::2, ::3]
    _, mass = engines.create("numba", view, 1.0)(np.zeros(view.shape[1]))
    assert np.allclose(mass, plan(view, np.zeros(view.shape[1])).sum(0))


def test_results_repeat_to_the_last_bit() -> None:
    x = data(20_000, 100).astype(np.float32)
    f = np.random.default_rng(0).normal(size=100)
    runs = [engines.create("numba", x, 5.0)(f) for _ in range(3)]
    assert all(run[0] == runs[0][0] and np.array_equal(run[1], runs[0][1]) for run in runs)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_can_use_the_engine() -> None:
    x = data(20_000, 60).astype(np.float32)
    passing = engines.create("numba", x, 1.0)
    value, _ = passing(np.zeros(60))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        again = pool.apply_async(pass_value, (x,)).get(timeout=60)
    assert again == value


def pass_value(x: np.ndarray) -> float:
    return engines.create("numba", x, 1.0)(np.zeros(x.shape[1]))[0]


def test_an_unknown_engine_is_answered_with_the_known_ones() -> None:
    with refused(option="engine", value="cuda") as caught:
        engines.create("cuda", data(2, 2), 1.0)
    assert all(name in str(caught.value) for name in ("auto", "numba", "numpy", "store"))


def test_an_error_names_what_an_engine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(option="engine", value="sharded"):
        engines.create("sharded", data(2, 2), 1.0)
    monkeypatch.setattr(engines, "_loaded", {})
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "backbones.engines.torch_engine", raising=False)
    with refused(option="engine", value="torch") as caught:
        engines.create("torch", data(2, 2), 1.0)
    assert isinstance(caught.value.__cause__, ImportError)


def test_engines_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_registered", {})
    engines.register("mine", engines._load("numpy"))
    assert "mine" in engines.names()
    assert engines.create("mine", data(2, 2), 1.0).shape == (2, 2)


def test_importing_the_solver_loads_neither_numba_nor_torch() -> None:
    code = (
        "import sys, selavi_ref.transport, numpy as np; from selavi_ref import assign; assign(np.eye(4));"
        "print([m for m in ('numba', 'torch', 'scipy.optimize') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
