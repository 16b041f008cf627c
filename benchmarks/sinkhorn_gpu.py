"""Time our transport solver on a GPU beside ours on the CPU of the same machine and beside peers on the same GPU.

Run ``python -m pip install -e ".[all,bench]" && python benchmarks/sinkhorn_gpu.py`` on a machine with a CUDA device
that does nothing else; ``--only pass`` or ``--rows 60000`` for a quick look. Peers that are not installed are left out.
Writes the tables that it prints to ``benchmarks/results/sinkhorn-gpu.md``. `sinkhorn.py` has the CPU alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
from numpy.typing import NDArray
from peers import STRENGTH, Run, Solver
from problems import mixture, problem
from sinkhorn import solving
from tables import header, show, timed

from backbones.engines.torch_engine import TorchPass
from selavi_ref.transport import Assignment, assign, engines

FUSED = "ours (torch, fused pass)"
KINDS = ("moderate", "peaked, 10 x as sharp")
PROBLEMS = (
    *((60_000, 400, kind) for kind in KINDS),
    *((230_976, 400, kind) for kind in KINDS),  # Kinetics-400
    (1_000_000, 400, KINDS[0]),
    (100_000, 3000, KINDS[0]),
)
TOLERANCES = (1e-3, 1e-6)
PEERS_UP_TO = 10**8  # entries above which only ours and the published algorithm are timed
PASSES = ((60_000, 400), (230_976, 400), (1_000_000, 400), (100_000, 3000), (1_000_000, 128), (10_000_000, 10))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=10**9, help="leave out problems of more rows")
    options.add_argument("--most", type=int, default=2000, help="iterations of a peer after which it is stopped")
    options.add_argument("--repeats", type=int, default=5, help="runs of ours, of which the median counts")
    options.add_argument("--only", choices=list(SECTIONS), action="append", help="do this section alone; repeatable")
    options.add_argument("--note", default="", help="a remark to keep with the figures, such as what else was running")
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sinkhorn-gpu.md")
    given = options.parse_args()
    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA device here; sinkhorn.py times the CPU alone.")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the GPU's memory
    given.out.parent.mkdir(parents=True, exist_ok=True)
    lines = header(given, "# The transport solver on a GPU")
    for name in given.only or SECTIONS:
        lines += ["", *SECTIONS[name](given)]
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def beside_others(given: argparse.Namespace) -> list[str]:
    """Solve problems of several sizes by ours on CPU and GPU and by the peers on the GPU."""
    lines = show(
        "## From scores to labels",
        "",
        "Seconds from log-probabilities, in main memory for the CPU and in the GPU's for the others, to labels in main",
        "memory, to an L1 error of the cluster marginal of 1e-3 and of 1e-6, recomputed in float64. Compiled code is",
        f"warm. Ours: medians of {given.repeats}. A peer that has not got there after {given.most:,} iterations is",
        f"stopped (GeomLoss after {peers.MOST_OF_GEOMLOSS}): then a worse result is compared with a good one. Peers",
        f"other than the published algorithm are given problems of up to {PEERS_UP_TO:,} scores, and only the smaller",
        "error.",
        "",
        "| problem | N | K | to | solver | seconds | iterations or passes | error reached | same labels | times ours |",
        "|---" * 10 + "|",
    )
    for N, K, name in PROBLEMS:
        if given.rows < N:
            continue
        scores, sizes = problem(name, N, K)
        for tol in TOLERANCES:
            found = solved_by_all(given, scores, sizes, tol)
            best = found[FUSED]
            for solver, run in found.items():
                same = (run.labels == best.labels).mean()
                ratio = "" if solver == FUSED else f"{run.seconds / best.seconds:.1f} x"
                figures = f"{run.seconds:.4f} | {run.iterations} | {run.error:.1e} | {same:.2%} | {ratio}"
                lines += show(f"| {name} | {N:,} | {K} | {tol:.0e} | {solver} | {figures} |")
    return lines


def solved_by_all(given: argparse.Namespace, scores: Any, sizes: Any, tol: float) -> dict[str, Run]:
    """Solve one problem with all solvers that are to be timed on it."""
    runs = {}
    for name, solve in peers.on_a_gpu().items():
        ours = name.startswith("ours")
        if not (ours or name.startswith("published")) and (scores.size > PEERS_UP_TO or tol > min(TOLERANCES)):
            continue
        torch.cuda.empty_cache()
        try:
            runs[name] = timed_run(solve, scores, sizes, tol, given.most, given.repeats if ours else 1)
        except Exception as error:  # a peer may not work with the versions that are installed
            show(f"{name} fails: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}")
    return runs


def timed_run(solve: Solver, scores: Any, sizes: Any, tol: float, most: int, repeats: int) -> Run:
    if repeats > 1:
        solve(scores, sizes, tol, most)
    else:
        solve(scores[:4096], sizes, tol, 10)
    tried = sorted((solve(scores, sizes, tol, most) for _ in range(repeats)), key=lambda run: run.seconds)
    return tried[len(tried) // 2]


def kinetics(given: argparse.Namespace) -> list[str]:
    """Solve ten heads of the size of Kinetics-400, from where the scores may be."""
    ways: dict[str, Callable[[Any, Any], Callable[[], Assignment]]] = {
        "CPU (numba)": lambda x, r: solving(x, r, engine="numba"),
        "GPU, scores in main memory": lambda x, r: solving(x, r, engine="torch"),
        "GPU, scores there": lambda x, r: solving(x.cuda(), r, engine="torch"),
    }
    seconds, error = dict.fromkeys(ways, 0.0), 0.0
    for head in range(10):
        scores, sizes = mixture(230_976, 400, 0.1, seed=head)
        for name, way in ways.items():
            run = way(torch.from_numpy(scores) if name.endswith("there") else scores, sizes)
            if head == 0:
                run()
            taken, found = timed(run)
            seconds[name], error = seconds[name] + taken, max(error, found.marginal_error)
    lines = show(
        "## A self-labelling of Kinetics-400",
        "",
        f"230,976 x 400 x 10 heads, cold starts, to 1e-6 (worst error {error:.1e}).",
        "",
        "| solved on the | seconds |",
        "|---|---|",
    )
    return lines + show(*(f"| {name} | {taken:.2f} |" for name, taken in seconds.items()))


def bandwidth(given: argparse.Namespace) -> list[str]:
    """Return what share of the bandwidth of a copy a pass reaches."""
    copying = copied_bytes() / 1e6
    lines = show(
        "## A pass",
        "",
        f"In float32. A copy within the GPU's memory moves {copying:,.0f} GB/s, read and written. Pass: from K",
        "potentials in main memory to K column sums there, by the fused kernel and by plain PyTorch; kernel: its time",
        "on the GPU. CPU: the same by numba on all cores. Last walk: for labels and the error, in float64.",
        "",
        "| N | K | kernel, ms | GB/s | of a copy | fused pass, ms | plain pass, ms | CPU, ms | last walk, ms |",
        "|---" * 9 + "|",
    )
    for N, K in PASSES:
        lines += show(f"| {N:,} | {K} | {' | '.join(pass_figures(N, K, copying))} |")
    return lines


def pass_figures(N: int, K: int, copying: float) -> list[str]:
    x = torch.rand((N, K), device="cuda").add_(1e-3).log_()
    potentials = np.random.default_rng(0).normal(size=K)
    fused, plain = TorchPass(x, STRENGTH), TorchPass(x, STRENGTH, fused=False)
    cpu = engines.create("numba", x.cpu().numpy(), STRENGTH)
    kernel = milliseconds(kernel_alone(fused, potentials))
    ways = (
        lambda: fused(potentials),
        lambda: plain(potentials),
        lambda: cpu(potentials),
        lambda: fused.rows(potentials),
    )
    rate = x.nbytes / kernel / 1e6
    whole = [f"{1e3 * median_of(way):.3f}" for way in ways]
    return [f"{kernel:.3f}", f"{rate:,.0f}", f"{rate / copying:.0%}", *whole]


def copied_bytes() -> float:
    """Return how many bytes a copy on the GPU reads and writes in a millisecond."""
    source = torch.randn(1 << 29, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / milliseconds(lambda: target.copy_(source))


def kernel_alone(plan_pass: TorchPass, potentials: NDArray[np.float64]) -> Callable[[], Any]:
    """Return the fused pass without what surrounds it, on one set of potentials."""
    given = torch.from_numpy(np.r_[potentials, np.ones_like(potentials), STRENGTH]).float().cuda()
    return lambda: plan_pass._fused.sums(plan_pass._x, given, None)


def milliseconds(work: Callable[[], Any], n: int = 30) -> float:
    """Return the median time of some work on the GPU, by its own clock; the queue is never empty."""
    work()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(n)]
    torch.cuda.synchronize()
    torch.cuda._sleep(50_000_000)  # while it waits, all that follows is queued
    for start, end in events:
        start.record()
        work()
        end.record()
    torch.cuda.synchronize()
    return float(np.median([start.elapsed_time(end) for start, end in events]))


def median_of(work: Callable[[], Any], n: int = 15) -> float:
    work()
    return timed(work, n)[0]


SECTIONS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "pass": bandwidth,
    "solve": beside_others,
    "kinetics": kinetics,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    assign(np.zeros((2, 2), np.float32))
    main()
