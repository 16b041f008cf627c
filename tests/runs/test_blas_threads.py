"""Few numbers are computed by one thread of BLAS; its number of threads is as before afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import threadpoolctl

from selavi_ref.runs.blas_threads import blas_threads


def n_threads() -> list[int]:
    np.ones((4, 4)) @ np.ones((4, 4))
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


@pytest.mark.parametrize("fails", [False, True])
def test_few_numbers_are_computed_by_one_thread(fails: bool) -> None:
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = n_threads()
        try:
            with blas_threads(1000):
                assert set(n_threads()) == {1}
                if fails:
                    raise ValueError
        except ValueError:
            assert fails
        assert n_threads() == before
        with blas_threads(10**9):
            assert n_threads() == before
