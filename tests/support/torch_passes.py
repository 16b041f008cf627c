"""Passes of the PyTorch engine beside plain NumPy: value, column sums, labels and confidences of many shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backbones.engines.torch_engine import TorchPass
from tests.support.transport_reference import logsumexp, plan

SHAPES = [(1, 1), (1, 70), (70, 1), (3, 5), (257, 10), (130, 49), (131, 200), (5, 400)]
ROUNDS = [(0, 1.0), (1, 1.0), (2, 0.5), (3, 4.0)]  # how far potentials lie apart, and the sharpness
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def data(N: int, K: int, seed: int = 0, scale: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(N, K)) * scale


def check_passes(order: str, dtype: type, weighted: bool, device: str = "cpu", fused: bool = False) -> None:
    """Compare value and column sums with the reference, for all shapes and some sharpnesses."""
    for N, K in SHAPES:
        x = np.asarray(data(N, K), dtype=dtype, order=order)
        rng = np.random.default_rng(N)
        weight = rng.dirichlet(np.ones(N)) if weighted else None
        passing = TorchPass(torch.from_numpy(x).to(device), 2.0, weight, fused=fused)
        for round_, sharpness in ROUNDS:
            f = rng.normal(size=K) * 10 * round_ + 300
            f[1:2] = -np.inf if round_ == 2 else f[1:2]
            q = plan(x, f, 2.0 * sharpness, weight)
            rows = np.full(N, 1 / N) if weight is None else weight
            value = rows @ logsumexp(x, f, 2.0 * sharpness)
            for precise in (False, True):
                tol = 1e-12 if precise or dtype == np.float64 else 2e-6
                got, mass = passing(f, sharpness, precise=precise)
                assert got == pytest.approx(value, rel=tol)
                assert np.abs(mass - q.sum(0)).sum() < tol


def check_rows(order: str, dtype: type, device: str = "cpu", fused: bool = False) -> None:
    """Compare PyTorch's pass over the rows of the scores with the reference, for all shapes."""
    for N, K in SHAPES:
        x = np.asarray(data(N, K), dtype=dtype, order=order)
        f = np.random.default_rng(1).normal(size=K)
        weight = np.random.default_rng(2).dirichlet(np.ones(N))
        q = plan(x, f, 2.0, weight) / weight[:, None]
        rows = TorchPass(torch.from_numpy(x).to(device), 2.0, weight, fused=fused).rows(f)
        assert rows.labels.dtype == np.int32
        assert np.array_equal(rows.labels, q.argmax(1))
        assert rows.confidence.dtype == np.float32
        assert np.allclose(rows.confidence, q.max(1), rtol=1e-6)
        assert np.allclose(rows.logsumexp, logsumexp(x, f, 2.0), rtol=1e-12, atol=1e-12)
        assert np.allclose(rows.mass, weight @ q, rtol=1e-12)
        assert rows.value == pytest.approx(weight @ logsumexp(x, f, 2.0))
        assert rows.score == pytest.approx(weight @ x[np.arange(N), q.argmax(1)], rel=1e-6)
