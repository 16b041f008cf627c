"""`sinkhorn` beside the installed POT: same arguments, same results."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from selavi_ref import sinkhorn
from selavi_ref.errors import ConvergenceWarning
from tests.support.refusal import refused

ot = pytest.importorskip("ot")

NAMES = ["sinkhorn", "sinkhorn_log", "greenkhorn", "sinkhorn_stabilized", "sinkhorn_epsilon_scaling"]


def problem(n: int, m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m)), rng.random((n, m))


def by_pot(a, b, M, reg: float, **options):
    return ot.sinkhorn(a, b, M, reg, numItermax=50_000, stopThr=1e-13, **options)


def test_the_arguments_are_those_of_pot() -> None:
    ours, theirs = (list(inspect.signature(f).parameters.values()) for f in (sinkhorn, ot.sinkhorn))
    assert [(p.name, p.default, p.kind) for p in ours] == [(p.name, p.default, p.kind) for p in theirs]


def test_options_that_tune_other_solvers_change_nothing() -> None:
    a, b, M = problem(12, 5)
    plan = sinkhorn(a, b, M, 0.1, "sinkhorn_epsilon_scaling", tau=1e3, epsilon0=1e4, numInnerItermax=100)
    assert np.array_equal(plan, sinkhorn(a, b, M, 0.1))
    with pytest.raises(TypeError, match="'numItermx'"):
        sinkhorn(a, b, M, 0.1, numItermx=5)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensors_in_tensors_out(shape: tuple[int, int], dtype: str) -> None:
    torch = pytest.importorskip("torch")
    arrays = [x.astype(dtype) for x in problem(*shape)]
    tensors = [torch.from_numpy(x).requires_grad_() for x in arrays]
    plan, log = sinkhorn(*tensors, 0.1, log=True)
    assert isinstance(plan, torch.Tensor)
    assert str(plan.dtype) == f"torch.{dtype}"
    assert np.array_equal(plan.numpy(), sinkhorn(*arrays, 0.1))
    assert isinstance(log["u"], torch.Tensor)
    again = sinkhorn(*tensors, 0.1, warmstart=log["warmstart"])
    assert torch.allclose(again, plan, atol=1e-7)
    losses = sinkhorn(tensors[0], torch.stack([tensors[1]] * 3, 1), tensors[2], 0.1)
    assert losses.shape == (3,)
    mixed = sinkhorn(arrays[0], arrays[1], tensors[2], 0.1)
    assert torch.equal(mixed, plan)


@pytest.mark.parametrize("shape", [(30, 8), (8, 30), (20, 20), (1, 5), (5, 1), (300, 90)])
@pytest.mark.parametrize("reg", [1.0, 0.1, 0.02])
def test_the_plan_is_that_of_pot(shape: tuple[int, int], reg: float) -> None:
    a, b, M = problem(*shape)
    assert np.allclose(sinkhorn(a, b, M, reg), by_pot(a, b, M, reg), atol=1e-8)


@pytest.mark.parametrize("method", NAMES)
def test_all_method_names_are_accepted(method: str) -> None:
    a, b, M = problem(12, 5)
    assert np.allclose(sinkhorn(a, b, M, 0.1, method), by_pot(a, b, M, 0.1), atol=1e-8)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
def test_several_right_hand_sides_give_losses(shape: tuple[int, int]) -> None:
    a, _, M = problem(*shape)
    b = np.random.default_rng(1).dirichlet(np.ones(shape[1]), 4).T
    ours, theirs = sinkhorn(a, b, M, 0.1), by_pot(a, b, M, 0.1)
    assert ours.shape == theirs.shape == (4,)
    assert np.allclose(ours, theirs, atol=1e-7)
    assert sinkhorn(a, b[:, :1], M, 0.1).shape == by_pot(a, b[:, :1], M, 0.1).shape
    _, log = sinkhorn(a, b, M, 0.1, log=True)
    _, theirs_log = by_pot(a, b, M, 0.1, log=True)
    assert log["u"].shape == theirs_log["u"].shape
    assert log["v"].shape == theirs_log["v"].shape


def test_empty_weights_are_uniform() -> None:
    _, _, M = problem(12, 5)
    assert np.allclose(sinkhorn([], [], M, 0.1), by_pot([], [], M, 0.1), atol=1e-8)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
def test_weights_of_zero_give_rows_and_columns_of_zero(shape: tuple[int, int]) -> None:
    a, b, M = problem(*shape)
    a[2] = b[3] = 0
    a, b = a / a.sum(), b / b.sum()
    ours = sinkhorn(a, b, M, 0.1)
    assert not ours[2].any()
    assert not ours[:, 3].any()
    assert np.allclose(ours[np.ix_(a > 0, b > 0)], by_pot(a[a > 0], b[b > 0], M[np.ix_(a > 0, b > 0)], 0.1), atol=1e-8)


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_tiny_weights_are_met(shape: tuple[int, int]) -> None:
    _, _, M = problem(*shape)
    a, b = (10.0 ** np.linspace(-12, 0, n) for n in shape)
    P = sinkhorn(a / a.sum(), b / b.sum(), M, 0.05, stopThr=1e-14)
    assert np.allclose(P.sum(1), a / a.sum(), rtol=1e-3, atol=1e-14)
    assert np.allclose(P.sum(0), b / b.sum(), rtol=1e-3, atol=1e-14)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
def test_the_dictionary_holds_potentials_that_make_the_plan(shape: tuple[int, int]) -> None:
    a, b, M = problem(*shape)
    P, log = sinkhorn(a, b, M, 0.1, log=True)
    assert np.allclose(log["u"][:, None] * np.exp(-M / 0.1) * log["v"], P)
    _, theirs = by_pot(a, b, M, 0.1, log=True, method="sinkhorn_log")
    assert np.allclose(np.diff(log["log_u"]), np.diff(theirs["log_u"]), atol=1e-7)
    assert {"err", "niter", "u", "v"} <= log.keys()
    assert log["err"][-1] <= 1e-9
    again, warm = sinkhorn(a, b, M, 0.1, log=True, warmstart=log["warmstart"])
    assert warm["niter"] <= 2
    assert np.allclose(again, P, atol=1e-9)


def test_a_warm_start_for_several_right_hand_sides() -> None:
    a, _, M = problem(12, 5)
    b = np.random.default_rng(1).dirichlet(np.ones(5), 4).T
    losses, log = sinkhorn(a, b, M, 0.1, log=True)
    again, warm = sinkhorn(a, b, M, 0.1, log=True, warmstart=log["warmstart"])
    assert np.allclose(losses, again)
    assert warm["niter"] <= 2


def test_single_precision_in_single_precision_out() -> None:
    a, b, M = (x.astype(np.float32) for x in problem(12, 5))
    assert sinkhorn(a, b, M, 0.1).dtype == ot.sinkhorn(a, b, M, 0.1).dtype == np.float32
    assert sinkhorn(a.astype(np.float64), b, M, 0.1).dtype == np.float64
    assert np.allclose(sinkhorn(a, b, M, 0.1), by_pot(*(x.astype(np.float64) for x in (a, b, M)), 0.1), atol=1e-6)


def test_sums_other_than_one_are_kept() -> None:
    a, b, M = problem(12, 5)
    assert np.allclose(sinkhorn(7 * a, 7 * b, M, 0.1), by_pot(7 * a, 7 * b, M, 0.1), atol=1e-7)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
def test_unequal_sums_keep_the_rows_and_warn(shape: tuple[int, int]) -> None:
    a, b, M = problem(*shape)
    with pytest.warns(ConvergenceWarning):
        P = sinkhorn(a, 2 * b, M, 0.1)
    assert np.allclose(P, sinkhorn(a, b, M, 0.1), atol=1e-8)


def test_small_regularisation_does_not_break_down() -> None:
    a, b, M = problem(60, 20)
    P = sinkhorn(a, b, M, 5e-4, numItermax=5000, stopThr=1e-7)
    assert np.allclose(P.sum(0), b, atol=1e-6)
    assert (P * M).sum() == pytest.approx(ot.emd2(a, b, M), rel=1e-3)


def test_not_converging_warns_unless_warnings_are_off() -> None:
    a, b, M = problem(12, 5)
    with pytest.warns(ConvergenceWarning):
        sinkhorn(a, b, M, 0.01, numItermax=1)
    sinkhorn(a, b, M, 0.01, numItermax=1, warn=False)


def test_verbose_prints_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    a, b, M = problem(12, 5)
    sinkhorn(a, b, M, 0.1, verbose=True)
    assert "Err" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"method": "simplex"}, "method"),
        ({"reg": 0.0}, "reg"),
        ({"a": np.ones(3) / 3}, "a, b"),
        ({"b": np.ones(3) / 3}, "a, b"),
        ({"a": -np.ones(12)}, "a"),
        ({"b": np.full(5, np.nan)}, "b"),
        ({"M": np.full((12, 5), -np.inf)}, "M"),
        ({"M": np.full((12, 5), np.nan)}, "M"),
        ({"numItermax": 0}, "numItermax"),
        ({"stopThr": np.nan}, "stopThr"),
        ({"reg": "a"}, "reg"),
        ({"method": None}, "method"),
        ({"M": np.full((12, 5), "a")}, "M"),
        ({"warmstart": (np.zeros(2), np.zeros(5))}, "warmstart"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], option: str) -> None:
    a, b, M = problem(12, 5)
    with refused(option=option):
        sinkhorn(**{"a": a, "b": b, "M": M, "reg": 0.1, **change})  # type: ignore[arg-type]
