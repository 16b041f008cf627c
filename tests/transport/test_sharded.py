"""Rows that are spread over processes: the same labels as in one, whatever the division."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selavi_ref.errors import InputError
from selavi_ref.transport import Sharded, assign
from selavi_ref.transport.numpy_engine import NumpyPass
from tests.support.engines import Processes
from tests.support.refusal import refused


def problem(N: int, K: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, K)).astype(np.float32), rng.dirichlet(np.full(K, 3.0))


def in_parts(x: np.ndarray, cuts: list[int], r: np.ndarray | None = None, weight: np.ndarray | None = None, **options):
    processes = Processes(len(cuts) + 1)
    parts = np.split(np.arange(len(x)), cuts)

    def task(rank: int, all_sum):
        rows = parts[rank]
        engine = Sharded(all_sum, rank, processes.n, "numba")
        own = None if weight is None else weight[rows]
        return assign(x[rows], r, engine=engine, sample_weight=own, **options)

    return processes.run(task), processes, parts


@pytest.mark.nightly
@given(
    N=st.integers(1, 60), K=st.integers(1, 9), n=st.integers(1, 4), weighted=st.booleans(), seed=st.integers(0, 10**6)
)
def test_every_division_gives_the_plan_of_one_process(N: int, K: int, n: int, weighted: bool, seed: int) -> None:
    x, r = problem(N, K, seed)
    rng = np.random.default_rng(seed)
    weight = rng.random(N) * (rng.random(N) < 0.7) if weighted else None
    if weight is not None and not weight.any():
        weight[0] = 1.0
    cuts = sorted(rng.integers(0, N + 1, n - 1).tolist())
    whole = assign(x, r, sample_weight=weight, engine="numba", tol=1e-9)
    found, _, parts = in_parts(x, cuts, r, weight, tol=1e-9)
    for one, rows in zip(found, parts, strict=True):
        assert one.converged
        assert one.marginal_error <= 1e-9
        assert np.array_equal(one.potentials, found[0].potentials)
        assert np.allclose(one.mass, whole.mass, atol=1e-9)
        assert one.cost == pytest.approx(whole.cost, abs=1e-6)
        assert len(one.labels) == len(rows)
        assert np.abs(one.plan - whole.plan[rows]).sum() < 1e-6
    labels = np.concatenate([one.labels for one in found])
    sure = np.sort(whole.plan, 1)
    clear = np.ones(N, bool) if K == 1 else sure[:, -1] > sure[:, -2] * (1 + 1e-5)
    assert np.array_equal(labels[clear], whole.labels[clear])


def test_few_numbers_travel() -> None:
    x, r = problem(3000, 12)
    found, processes, _ = in_parts(x * 3, [1000, 1001], r)
    assert found[0].n_passes <= processes.sums < 3 * found[0].n_passes + 20


def test_an_error_of_one_is_an_error_of_all() -> None:
    x, r = problem(30, 4)
    x[17, 2] = np.nan
    first, second, third = in_parts(x, [10, 20], r)[0]
    assert "row 7, column 2" in str(second)
    assert all(isinstance(error, InputError) and "process 1" in str(error) for error in (first, third))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda options: options.update(log_prob=np.zeros(3)), "shape"),
        (lambda options: options.update(log_prob=np.zeros((5, 3))), "3 clusters"),
        (lambda options: options.update(sample_weight=np.full(10, np.nan)), "row 0"),
    ],
)
def test_faults_before_the_first_pass_are_errors_of_all(fault, message: str) -> None:
    x, r = problem(30, 4)

    def task(rank: int, all_sum):
        options = {"log_prob": x[10 * rank : 10 * rank + 10], "sample_weight": np.ones(10)}
        if rank == 1:
            fault(options)
        return assign(cluster_marginal=r, engine=Sharded(all_sum, rank, 3), **options)

    first, second, third = Processes(3).run(task)
    assert message in str(second)
    assert all(isinstance(error, InputError) and "process 1" in str(error) for error in (first, third))


def test_a_pass_that_fails_in_one_process_fails_in_all() -> None:
    x, r = problem(30, 4)

    class Failing(NumpyPass):
        def __call__(self, *arguments, **options):
            raise OSError("the file is gone")

    def task(rank: int, all_sum):
        return assign(
            x[10 * rank : 10 * rank + 10], r, engine=Sharded(all_sum, rank, 3, Failing if rank else NumpyPass)
        )

    first, second, third = Processes(3).run(task)
    assert isinstance(first, InputError)
    assert "another process" in str(first)
    assert all(isinstance(error, OSError) for error in (second, third))


def test_huge_weights_do_not_overflow() -> None:
    x, r = problem(30, 4)
    found, _, _ = in_parts(x, [10, 20], r, np.full(30, 1e307))
    assert np.allclose(found[0].mass, assign(x, r).mass, atol=2e-6)


def test_processes_with_different_arguments_are_refused() -> None:
    x, _ = problem(30, 4)
    processes = Processes(2)
    found = processes.run(lambda rank, all_sum: assign(x[:, : 4 - rank], engine=Sharded(all_sum, rank, 2)))
    assert all(isinstance(error, InputError) and "differ in columns" in str(error) for error in found)


def test_no_rows_anywhere_is_an_error() -> None:
    with refused(option="log_prob"):
        assign(np.zeros((0, 3)), engine=Sharded(lambda v: v, 0, 1))


def test_what_cannot_be_had_in_parts_is_refused() -> None:
    x, _ = problem(30, 4)
    with refused(option="engine"):
        assign(x, engine=Sharded(lambda v: v, 0, 1), rounding="exact")
    with refused(option="rank", value=2):
        Sharded(lambda v: v, 2, 2)
