"""The solver's engine in PyTorch: a pass without the fused kernel, and the tensors that it takes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones.engines import torch_engine as plan_pass
from backbones.engines.torch_engine import TorchPass
from selavi_ref.transport import assign, engines
from selavi_ref.transport import preconditioner as metric
from selavi_ref.transport.engines import create
from tests.support.refusal import refused
from tests.support.torch_passes import NO_GPU, check_passes, check_rows, data
from tests.support.transport_reference import plan

DTYPES = [np.float32, np.float64]
CUDA = pytest.param("cuda", marks=NO_GPU)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_a_pass_is_the_dual_value_and_the_column_sums(order: str, dtype: type, weighted: bool, device: str) -> None:
    check_passes(order, dtype, weighted, device)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_the_walk_over_the_rows(order: str, dtype: type, device: str) -> None:
    check_rows(order, dtype, device)


def test_equal_shares_leave_the_first_label() -> None:
    for fused in (False, True) if torch.cuda.is_available() else (False,):
        assert TorchPass(np.zeros((70, 30), np.float32), 1.0, fused=fused).rows(np.zeros(30)).labels.max() == 0


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("empty", [False, True])
def test_a_metric_beside_the_data_is_the_solver_s(device: str, step: int, empty: bool) -> None:
    x = data(400, 40).astype(np.float32)
    rng = np.random.default_rng(3)
    target, active = rng.dirichlet(np.full(40, 5.0)), np.ones(40, bool)
    active[[0, 7]] = not empty
    f = np.where(active, rng.normal(size=40), -np.inf)
    passing = TorchPass(torch.from_numpy(x).to(device), 2.0)
    mass, target = passing(f)[1][active], target[active]
    coupling = passing.coupling(f, step)[np.ix_(active, active)]
    plain = metric.Laplacian(metric._to_mass(coupling, mass) if step > 1 else coupling, mass, target, 0.01)
    gradient = rng.normal(size=active.sum())
    found = passing.metric(f, step, 1.0, active, mass, target, 0.01).solve(gradient)
    assert np.allclose(found, plain.solve(gradient), rtol=1e-4)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_surveys_couplings_and_peaks_are_those_of_the_plan(device: str) -> None:
    x = data(300, 60).astype(np.float32)
    rng = np.random.default_rng(1)
    f, weight = rng.normal(size=60), rng.dirichlet(np.ones(300))
    f[7] = -np.inf
    passing = TorchPass(torch.from_numpy(x).to(device), 2.0, weight)
    q = plan(x, f, 2.0) * 300
    stats = passing.stats(f)
    assert stats.weight == pytest.approx(1.0)
    assert stats.softness == pytest.approx(weight @ (1 - (q**2).sum(1)), abs=1e-5)
    assert stats.many == pytest.approx(weight @ (q > 1e-3).sum(1), abs=0.05)
    assert stats.small == pytest.approx(weight @ (np.delete(q, 7, 1) < 1e-6).sum(1), abs=0.05)
    for step in (1, 7):
        seen, w = q[::step], weight[::step]
        assert np.abs(passing.coupling(f, step) - (seen.T * w) @ seen / w.sum()).max() < 1e-5
    with np.errstate(divide="ignore"):
        assert np.allclose(passing.peak(f), np.log(q.max(0)), atol=1e-9)


def test_a_survey_of_many_rows_reads_some_of_them() -> None:
    x = data(5000, 6)
    stats = TorchPass(x, 1.0).stats(np.zeros(6)).mean()
    assert stats.softness == pytest.approx((1 - (plan(x, np.zeros(6)) ** 2).sum(1) * 5000**2 / 5000).mean(), abs=1)
    assert 0.15 < TorchPass(x, 1.0).stats(np.zeros(6)).weight < 0.3


@pytest.mark.parametrize("K", [3, 80])
def test_a_column_of_potential_minus_infinity_receives_nothing(K: int) -> None:
    f = np.zeros(K)
    f[1] = -np.inf
    passing = TorchPass(data(100, K).astype(np.float32), 1.0)
    value, mass = passing(f)
    rows = passing.rows(f)
    assert mass[1] == rows.mass[1] == 0
    assert mass.sum() == pytest.approx(1)
    assert np.isfinite(value)
    assert not (rows.labels == 1).any()
    assert passing.peak(f)[1] == -np.inf


@pytest.mark.parametrize("K", [4, 80])
@settings(deadline=None)
@given(magnitude=st.floats(-6, 4), jump=st.floats(-5, 5), seed=st.integers(0, 10**6))
def test_potentials_may_jump_by_any_distance(K: int, magnitude: float, jump: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(30, K)) * 10**magnitude).astype(np.float32)
    passing = TorchPass(x, 10.0)
    for f in (np.zeros(K), rng.normal(size=K) * 10**jump, np.zeros(K)):
        _, mass = passing(f)
        assert np.abs(mass - plan(x, f, 10.0).sum(0)).sum() < 2e-3
        _, mass = passing(f, precise=True)
        assert np.abs(mass - plan(x, f, 10.0).sum(0)).sum() < 1e-9


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("strength", [1e-39, 0.05, 25.0, 1e4, 1e39])
@pytest.mark.parametrize("spread", ["equal", "far apart", "many orders"])
def test_no_finite_data_lead_to_nan(dtype: type, strength: float, spread: str) -> None:
    rng = np.random.default_rng(0)
    x = {
        "equal": np.full((40, 30), 1e4),
        "far apart": rng.choice([-1e4, 1e4, 0.0], size=(40, 30)),
        "many orders": rng.choice([-1.0, 1.0], size=(40, 30)) * 10 ** rng.uniform(-30, 4, size=(40, 30)),
    }[spread]
    x = (x / max(1.0, strength / 1e20)).astype(dtype)
    passing = create(TorchPass, x, strength)
    for f in (np.zeros(30), rng.normal(size=30) * 1e3, np.r_[-np.inf, rng.normal(size=29) * 1e6]):
        for sharpness in (1.0, 2.0**-40, 4.0):
            value, mass = passing(f, sharpness)
            stats, coupling = passing.stats(f, sharpness), passing.coupling(f, 3, sharpness)
            assert np.isfinite(value)
            assert mass.sum() == pytest.approx(1, abs=2e-6)
            assert np.isfinite([stats.softness, stats.many, stats.small]).all()
            assert coupling.sum() == pytest.approx(1, abs=1e-5)
        rows = passing.rows(f)
        assert np.allclose(rows.mass, plan(x, f, strength).sum(0), atol=1e-9) or spread == "many orders"
        assert np.isfinite(rows.logsumexp).all()
        assert not np.isnan(passing.peak(f)).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_entry_that_is_not_finite_is_named(value: float, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_pass, "_CPU_BLOCK", 1000)
    x = np.asarray(data(400, 30), np.float32, order=order)
    x[317, 4] = value
    x[390, 1] = np.nan
    for given_as in (x, torch.from_numpy(x), torch.from_numpy(x).bfloat16()):
        with refused(option="log_prob", row=317, column=4):
            TorchPass(given_as, 1.0)


def test_entries_too_large_to_mean_anything_are_refused() -> None:
    with refused(option="log_prob", value=1e35):
        TorchPass(np.array([[1e35, 0.0]]), 1.0)


def test_blocks_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = data(501, 20)
    f = np.random.default_rng(0).normal(size=20)
    whole = TorchPass(x, 2.0)
    value, mass = whole(f)
    monkeypatch.setattr(plan_pass, "_CPU_BLOCK", 100)
    parts = TorchPass(x, 2.0)
    assert parts(f)[0] == pytest.approx(value)
    assert np.allclose(parts(f)[1], mass, rtol=1e-12)
    assert np.array_equal(parts.rows(f).labels, whole.rows(f).labels)
    assert np.allclose(parts.coupling(f, 3), whole.coupling(f, 3), atol=1e-6)
    assert np.allclose(parts.peak(f), whole.peak(f))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    x = torch.from_numpy(data(100, 30)).to(dtype)
    f = np.random.default_rng(0).normal(size=30)
    _, mass = TorchPass(x, 3.0)(f)
    assert np.abs(mass - plan(x.double().numpy(), f, 3.0).sum(0)).sum() < 2e-6


def test_tensors_are_neither_copied_nor_differentiated() -> None:
    x = torch.from_numpy(data(90, 40)).requires_grad_()
    view = x[::2, ::3]
    passing = TorchPass(view, 1.0)
    assert passing._x.data_ptr() == x.data_ptr()
    _, mass = passing(np.zeros(14))
    assert np.allclose(mass, plan(view.detach().numpy(), np.zeros(14)).sum(0))


def test_slices_and_read_only_arrays_are_accepted() -> None:
    x = data(200, 40)
    x.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for view in (x, x[::2, ::3], x[::-1], x[:, ::-1], x.astype(">f8"), x.astype(np.float16)):
            f = np.arange(view.shape[1]) / 10
            assert np.allclose(TorchPass(view, 1.0)(f)[1], plan(view, f).sum(0), atol=1e-6)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_what_surrounds_a_pass_does_not_change_it(device: str) -> None:
    x = torch.from_numpy(data(300, 40).astype(np.float32)).to(device)
    f = np.random.default_rng(0).normal(size=40)
    expected = TorchPass(x, 2.0)(f)
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
        inside = TorchPass(x, 2.0)
        first = inside(f)
    assert first[0] == expected[0]
    assert np.array_equal(first[1], expected[1])
    assert np.allclose(inside(f)[1], expected[1], atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("problem", ["soft", "peaked", "skewed", "weighted", "empty columns"])
def test_the_solver_finds_what_it_finds_with_numba(dtype: type, problem: str) -> None:
    N, K = 2000, 30
    x = data(N, K, 5, 1.0).astype(dtype)
    rng = np.random.default_rng(1)
    r = {"skewed": 1.0 / np.arange(1, K + 1), "empty columns": np.r_[0.0, np.ones(K - 2), 0.0]}.get(problem)
    weight = rng.uniform(size=N) if problem == "weighted" else None
    strength = 40.0 if problem == "peaked" else 5.0
    options = {"strength": strength, "sample_weight": weight, "tol": 1e-7}
    ours, theirs = (assign(x, r, engine=engine, **options) for engine in ("torch", "numba"))
    assert ours.converged
    assert ours.marginal_error <= 1e-7
    assert (ours.labels == theirs.labels).mean() > 0.999
    assert ours.value == pytest.approx(theirs.value, abs=1e-6)


def test_the_engine_is_known_by_name_and_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "torch" in engines.names()
    assert isinstance(engines.create("torch", data(5, 3), 1.0), TorchPass)
    monkeypatch.setattr(engines, "entry_points", None)
    assert isinstance(engines.create("torch", data(5, 3), 1.0), TorchPass)
