"""The solvers that `sinkhorn.py` times, each as a function from log-probabilities in memory to labels.

No peer is handicapped: data are handed over in the type and on the device that it wants before the clock starts, what
it compiles is compiled before, and where it has no rule to stop at an error, it is given the number of iterations that
it needs. Its error is recomputed in float64 afterwards.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.transport import assign

STRENGTH = 10.0
MOST_OF_GEOMLOSS = 100  # iterations, of which it does several at once for itself, and which take long
Scores = NDArray[np.float32]
Sizes = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """What a solver did: seconds from scores to labels, count of iterations, L1 error in float64, labels."""

    seconds: float
    iterations: int
    error: float
    labels: NDArray[Any]


Solver = Callable[[Scores, Sizes, float, int], Run]


def on_a_gpu() -> dict[str, Solver]:
    """Return ours on the CPU and on a GPU, and the peers that run there."""
    from backbones.engines.torch_engine import TorchPass

    solvers: dict[str, Solver] = {
        "ours, on the CPU (numba)": partial(ours, engine="numba"),
        "ours (torch, fused pass)": partial(ours, engine="torch", device="cuda"),
        "ours (torch, plain pass)": partial(ours, engine=partial(TorchPass, fused=False), device="cuda"),
        "published algorithm (PyTorch, float64)": partial(published, device="cuda"),
    }
    if installed("pot"):
        solvers["POT `sinkhorn` (PyTorch, float64)"] = partial(pot, device="cuda")
    if installed("ott-jax") and any(installed(f"jax-cuda{number}-plugin") for number in (12, 13)):
        solvers["OTT-JAX (float32)"] = ott
    if installed("geomloss"):
        solvers["GeomLoss (PyTorch, float32)"] = partial(geomloss, device="cuda")
    return solvers


def available() -> dict[str, Solver]:
    """Return ours, on all engines that this machine has, and the installed peers."""
    solvers: dict[str, Solver] = {"ours (numba)": partial(ours, engine="numba")}
    if installed("torch"):
        import torch

        where = "cuda" if torch.cuda.is_available() else "cpu"
        solvers[f"ours (torch, {where})"] = partial(ours, engine="torch", device=where)
        solvers["published algorithm (PyTorch, float64, cpu)"] = partial(published, device="cpu")
        if where == "cuda":
            solvers["published algorithm (PyTorch, float64, cuda)"] = partial(published, device="cuda")
    if installed("pot"):
        solvers["POT `sinkhorn` (NumPy, float64)"] = pot
    if installed("ott-jax"):
        solvers["OTT-JAX (float32)"] = ott
    if installed("geomloss"):
        solvers["GeomLoss (PyTorch, float32)"] = geomloss
    return solvers


def ours(scores: Scores, sizes: Sizes, tol: float, most: int, engine: Any, device: str = "cpu") -> Run:
    given: Any = scores
    if engine != "numba":
        import torch

        given = torch.from_numpy(scores).to(device)
    start = time.perf_counter()
    found = assign(given, sizes, strength=STRENGTH, tol=tol, engine=engine)
    return Run(time.perf_counter() - start, found.n_passes, error_of(scores, sizes, found.potentials), found.labels)


def published(scores: Scores, sizes: Sizes, tol: float, most: int, device: str = "cpu") -> Run:
    """Sinkhorn-Knopp on ``exp(L)`` as published, in float64, but stopped by the error of the marginal.

    The error of an iteration is known from the first product of the next one, so that it costs nothing.
    """
    import torch

    given = torch.from_numpy(scores).to(device)
    start = time.perf_counter()
    plan = torch.exp(STRENGTH * given.double())
    r = torch.from_numpy(sizes).to(device)
    N = len(plan)
    beta = torch.full((N,), 1.0 / N, dtype=torch.float64, device=device)
    alpha = torch.ones_like(r)
    for iteration in range(most + 1):
        column = beta @ plan
        mass = alpha * column
        if iteration > 0 and (iteration == most or float((mass - r).abs().sum()) <= tol):
            break
        alpha = r / column
        beta = (1.0 / N) / (plan @ alpha)
    labels = (plan * alpha).argmax(1).cpu().numpy()
    seconds = time.perf_counter() - start
    return Run(seconds, iteration, float((mass - r).abs().sum()), labels)


def pot(scores: Scores, sizes: Sizes, tol: float, most: int, device: str = "") -> Run:
    """POT's default solver; its threshold is a Euclidean norm, set so that the L1 error comes out about right."""
    import ot

    N, K = scores.shape
    given: list[Any] = [np.full(N, 1 / N), sizes, scores]
    if device:
        import torch

        given = [torch.from_numpy(array).to(device) for array in given]
    start = time.perf_counter()
    cost = -STRENGTH * (given[2].double() if device else given[2].astype(np.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stop = tol * 1.25 / np.sqrt(K)
        plan, log = ot.sinkhorn(*given[:2], cost, 1.0, stopThr=stop, numItermax=most, log=True)
    labels = plan.argmax(1)
    labels = labels.cpu().numpy() if device else labels
    seconds = time.perf_counter() - start
    return Run(seconds, log["niter"], float(abs(plan.sum(0) - given[1]).sum()), labels)


def ott(scores: Scores, sizes: Sizes, tol: float, most: int) -> Run:
    """OTT in the log domain, jitted; compiled on the first call, which does not count."""
    import jax
    import jax.numpy as jnp
    from ott.geometry import geometry
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn

    solver = sinkhorn.Sinkhorn(threshold=tol, max_iterations=most, inner_iterations=10)

    @jax.jit
    def solve(cost: Any, a: Any, b: Any) -> Any:
        out = solver(linear_problem.LinearProblem(geometry.Geometry(cost_matrix=cost, epsilon=1.0), a=a, b=b))
        return (out.g - cost).argmax(1), out.g, out.n_iters

    N = len(scores)
    given = jnp.asarray(-STRENGTH * scores), jnp.full(N, 1 / N, jnp.float32), jnp.asarray(sizes, jnp.float32)
    compiled = solve.lower(*given).compile()
    start = time.perf_counter()
    found, potentials, iterations = compiled(*given)
    labels = np.asarray(found)
    seconds = time.perf_counter() - start
    return Run(seconds, int(iterations), error_of(scores, sizes, np.asarray(potentials)), labels)


def geomloss(scores: Scores, sizes: Sizes, tol: float, most: int, device: str = "cpu") -> Run:
    """GeomLoss cannot stop at an error: it gets twice as many iterations until it is there; the last run counts."""
    import torch
    from geomloss import ot

    cost = torch.from_numpy(-STRENGTH * scores).to(device)
    a = torch.full((len(scores),), 1 / len(scores), device=device)
    b = torch.from_numpy(sizes).float().to(device)
    iterations = 25
    while True:
        start = time.perf_counter()
        found = ot.solve(cost, a=a, b=b, reg=1.0, max_iter=iterations)
        potentials = found.potential_b
        labels = (potentials - cost).argmax(1).cpu().numpy()
        seconds = time.perf_counter() - start
        error = error_of(scores, sizes, potentials.cpu().double().numpy() + np.log(sizes))
        if error <= tol or 2 * iterations > min(most, MOST_OF_GEOMLOSS):
            return Run(seconds, iterations, error, labels)
        iterations *= 2


def error_of(scores: Scores, sizes: Sizes, potentials: NDArray[Any]) -> float:
    """Return the L1 error of the column sums of the plan that potentials make when rows are exact, in float64."""
    mass = np.zeros(len(sizes))
    n = max(1, 4_000_000 // len(sizes))
    starts = range(0, len(scores), n)

    def mass_of(start: int) -> NDArray[np.float64]:
        logits = STRENGTH * scores[start : start + n].astype(np.float64) + potentials
        logits -= logits.max(1, keepdims=True)
        shares = np.exp(logits)
        return np.asarray((shares / shares.sum(1, keepdims=True)).sum(0))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part in pool.map(mass_of, starts):
            mass += part
    return float(np.abs(mass / len(scores) - sizes).sum())


def installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
