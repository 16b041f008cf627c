"""Time our transport solver beside the published algorithm and POT, in turn, in one process, to the same error.

Run ``python benchmarks/sinkhorn.py`` on a machine that does nothing else; ``--rows 10000`` for a quick look. Writes the
tables that it prints to ``benchmarks/results/sinkhorn.md``. PyTorch and POT are left out where they are not installed.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from selavi_ref.transport import assign, engines

STRENGTH = 10.0
PROBLEMS = {"moderate": 0.1, "peaked, 3 x as sharp": 0.3, "peaked, 10 x as sharp": 1.0}
OURS = "ours"


@dataclass(frozen=True)
class Run:
    """What a solver did: seconds from log-probabilities to labels, its count of iterations, and its labels."""

    seconds: float
    iterations: int
    error: float
    labels: NDArray[Any]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=60_000)
    options.add_argument("--columns", type=int, default=400)
    options.add_argument("--error", type=float, default=1.5e-6, help="L1 error of the cluster marginal to reach")
    options.add_argument("--most", type=int, default=2000, help="iterations of a peer after which it is stopped")
    options.add_argument("--repeats", type=int, default=5, help="runs of ours, of which the median counts")
    options.add_argument("--note", default="", help="a remark to keep with the figures, such as what else was running")
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sinkhorn.md")
    given = options.parse_args()
    lines = [*header(given), *compare(given), "", *bandwidth()]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def compare(given: argparse.Namespace) -> list[str]:
    """Solve all problems with all solvers; return the lines of a table."""
    lines = said(
        f"N = {given.rows:,}, K = {given.columns}, from float32 log-probabilities in memory to labels, to an L1 error",
        f"of the cluster marginal of {given.error:g}, recomputed in float64. Compiled code is warm. A peer that has",
        f"not got there after {given.most:,} iterations is stopped: then a worse result is compared with a good one.",
        "",
        "| problem | solver | seconds | iterations or passes | error reached | same labels | ours is faster by |",
        "|---|---|---|---|---|---|---|",
    )
    for name, sharpness in PROBLEMS.items():
        log_prob, marginal = mixture(given.rows, given.columns, sharpness)
        assign(log_prob[:2000], marginal, tol=1e-3, engine="numba")
        assign(log_prob, marginal, tol=given.error)
        runs = {}
        solvers = available()
        for solver, solve in solvers.items():
            repeats = given.repeats if solver == OURS else 1
            tried = [measured(solve, log_prob, marginal, given.error, given.most) for _ in range(repeats)]
            runs[solver] = sorted(tried, key=lambda run: run.seconds)[len(tried) // 2]
        ours = runs[OURS]
        for solver, run in runs.items():
            same = (run.labels == ours.labels).mean()
            ratio = "" if solver == OURS else f"{run.seconds / ours.seconds:.1f} x"
            figures = f"{run.seconds:.3f} | {run.iterations} | {run.error:.1e} | {same:.2%} | {ratio}"
            lines += said(f"| {name} | {solver} | {figures} |")
    return lines


def mixture(N: int, K: int, sharpness: float) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the added log-probabilities of two views of a 64-dimensional Gaussian mixture, and a Gaussian marginal."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(K, 64)).astype(np.float32)
    member = rng.integers(K, size=N)
    total = np.zeros((N, K), np.float32)
    for _ in range(2):
        view = centres[member] + rng.normal(size=(N, 64)).astype(np.float32)
        logits = (sharpness / 8) * (view @ centres.T)
        logits -= logits.max(1, keepdims=True)
        total += logits - np.log(np.exp(logits).sum(1, keepdims=True))
    sizes = np.maximum(1 + 0.1 * rng.normal(size=K), 1e-3)
    return total, sizes / sizes.sum()


Found = tuple[NDArray[Any], int, Callable[[], NDArray[Any]]]
Solver = Callable[[NDArray[np.float32], NDArray[np.float64], float, int], Found]


def available() -> dict[str, Solver]:
    """Return ours and the installed peers: they return labels, iterations and a function for the column sums."""
    solvers: dict[str, Solver] = {OURS: ours}
    if installed("torch"):
        solvers["published algorithm (PyTorch, float64)"] = published
    if installed("pot"):
        solvers["POT `sinkhorn` (NumPy, float64)"] = pot
    return solvers


def measured(solve: Solver, log_prob: NDArray[np.float32], marginal: NDArray[np.float64], tol: float, most: int) -> Run:
    start = time.perf_counter()
    labels, iterations, mass = solve(log_prob, marginal, tol, most)
    seconds = time.perf_counter() - start
    return Run(seconds, iterations, float(np.abs(mass() - marginal).sum()), labels)


def ours(log_prob: NDArray[np.float32], marginal: NDArray[np.float64], tol: float, most: int) -> Found:
    found = assign(log_prob, marginal, strength=STRENGTH, tol=tol)
    return found.labels, found.n_passes, lambda: found.plan.sum(0)


def published(log_prob: NDArray[np.float32], marginal: NDArray[np.float64], tol: float, most: int) -> Found:
    """Sinkhorn-Knopp on ``exp(L)`` as published, in float64, but stopped by the error of the marginal.

    The error of an iteration is known from the first product of the next one, so that it costs nothing.
    """
    import torch

    plan = torch.exp(STRENGTH * torch.from_numpy(log_prob).double())
    r = torch.from_numpy(marginal)
    N = len(plan)
    beta = torch.full((N,), 1.0 / N, dtype=torch.float64)
    alpha = torch.ones_like(r)
    for iteration in range(most + 1):
        column = beta @ plan
        mass = alpha * column
        if iteration > 0 and (float((mass - r).abs().sum()) <= tol or iteration == most):
            break
        alpha = r / column
        beta = (1.0 / N) / (plan @ alpha)
    return (plan * alpha).argmax(1).numpy(), iteration, lambda: np.asarray(mass)


def pot(log_prob: NDArray[np.float32], marginal: NDArray[np.float64], tol: float, most: int) -> Found:
    """POT's default solver; its threshold is a Euclidean norm, set so that the L1 error comes out about right."""
    import ot

    N, K = log_prob.shape
    cost = -STRENGTH * log_prob.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stop = tol * 1.25 / np.sqrt(K)
        plan, log = ot.sinkhorn(np.full(N, 1 / N), marginal, cost, 1.0, stopThr=stop, numItermax=most, log=True)
    return plan.argmax(1), log["niter"], lambda: plan.sum(0)


def bandwidth() -> list[str]:
    """Return what share of the machine's read bandwidth a pass reaches."""
    reading = 8 * 2**25 / fastest(reader(np.ones(2**25))) / 1e9
    lines = said(
        f"A pass in float32, beside a plain sum of float64 numbers on as many threads, which reads {reading:.1f} GB/s:",
        "",
        "| N | K | milliseconds | GB/s | share of the read bandwidth |",
        "|---|---|---|---|---|",
    )
    rng = np.random.default_rng(0)
    for N, K in ((60_000, 400), (20_000, 3000), (400_000, 64), (1_000_000, 10)):
        plan_pass = engines.create("numba", np.log(rng.random((N, K), dtype=np.float32) + 1e-3), STRENGTH)
        potentials = rng.normal(size=K)
        seconds = fastest(lambda: plan_pass(potentials))  # noqa: B023
        rate = 4 * N * K / seconds / 1e9
        lines += said(f"| {N:,} | {K} | {1e3 * seconds:.2f} | {rate:.1f} | {rate / reading:.0%} |")
    return lines


def reader(data: NDArray[np.float64]) -> Callable[[], Any]:
    """Return a function that reads ``data`` on all threads that a pass would use."""
    n = numba.config.NUMBA_NUM_THREADS
    pool = ThreadPoolExecutor(n)
    parts = np.array_split(data, n)
    return lambda: list(pool.map(total, parts))


@numba.njit(nogil=True, fastmath=True)
def total(part: NDArray[np.float64]) -> float:
    s = 0.0
    for x in part:
        s += x
    return s


def fastest(run: Callable[[], Any], n: int = 15) -> float:
    run()
    times = []
    for _ in range(n):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def header(given: argparse.Namespace) -> list[str]:
    names = ("selavi-ref", "numpy", "numba", "torch", "pot")
    versions = ", ".join(f"{name} {version(name)}" for name in names if installed(name))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return said(
        "# The transport solver beside its peers",
        "",
        f"{date.today()}, {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}.",
        f"Load of the machine at the start: {load:.1f}. {given.note}".rstrip(),
        "",
    )


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def said(*lines: str) -> list[str]:
    for line in lines:
        print(line, flush=True)
    return list(lines)


if __name__ == "__main__":
    main()
