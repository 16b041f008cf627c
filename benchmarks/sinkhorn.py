"""Time our transport solver beside its peers, in turn, in one process, to the same errors.

Run ``python -m pip install -e ".[all,bench]" && python benchmarks/sinkhorn.py`` on a machine that does nothing else;
``--only peers --rows 10000`` for a quick look. Peers that are not installed are left out. Writes the tables that it
prints to ``benchmarks/results/sinkhorn.md``, and a plot beside it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numba
import numpy as np
import peers
from machine import clock, fastest, most_memory, reading_rate
from numpy.typing import NDArray
from peers import STRENGTH
from problems import RANDOM, SHARPNESS, mixture, problem
from tables import header, parsed, show, timed

from selavi_ref.transport import Assignment, assign
from selavi_ref.transport.exact import exact_labels, greedy_labels
from selavi_ref.transport.numba_engine import NumbaPass
from selavi_ref.transport.rounding import integer_sizes

TOLERANCES = (1e-3, 1e-6)
COLUMNS = (10, 128, 400, 3000)
PASSES = (
    *((60_000, 400), (20_000, 3000), (190_000, 128), (400_000, 64), (2_400_000, 10)),  # out of the caches
    *((2_000, 400), (4_000, 128), (50_000, 10)),  # in them
)
OURS = "ours (numba)"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=60_000, help="of the comparison with peers")
    options.add_argument("--columns", type=int, default=400)
    options.add_argument("--most", type=int, default=2000, help="iterations of a peer after which it is stopped")
    options.add_argument("--repeats", type=int, default=5, help="runs of ours, of which the median counts")
    options.add_argument("--gigabytes", type=float, default=4.0, help="size of the largest problem in memory")
    options.add_argument("--only", choices=list(SECTIONS), action="append", help="do this section alone; repeatable")
    options.add_argument("--before", type=Path, help="folder of the source of an earlier version, to compare with")
    options.add_argument("--note", default="", help="a remark to keep with the figures, such as what else was running")
    given = parsed(options, "sinkhorn.md")
    if given.quick:
        given.rows, given.columns, given.most, given.repeats, given.gigabytes = 500, 10, 100, 1, 1e-3
    lines = header(given)
    for name in given.only or SECTIONS:
        lines += ["", *SECTIONS[name](given)]
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def beside_peers(given: argparse.Namespace) -> list[str]:
    """Solve all problems with all solvers."""
    lines = show(
        "## Beside its peers",
        "",
        f"N = {given.rows:,}, K = {given.columns}, from log-probabilities in memory to labels, to an L1 error of the",
        "cluster marginal of 1e-3 and of 1e-6, recomputed in float64. Compiled code is warm. A peer that has not got",
        f"there after {given.most:,} iterations is stopped (GeomLoss after {peers.MOST_OF_GEOMLOSS}): then a worse",
        "result is compared with a good one. Peaked problems are given to peers once only, for the smaller error.",
        "",
        "| problem | to | solver | seconds | iterations or passes | error reached | same labels | ours is faster by |",
        "|---|---|---|---|---|---|---|---|",
    )
    for name in (*SHARPNESS, RANDOM):
        scores, sizes = problem(name, given.rows, given.columns)
        for tol in TOLERANCES:
            runs = {}
            once = name.startswith("peaked") and tol != min(TOLERANCES)
            for solver, solve in peers.available().items():
                if once and not solver.startswith("ours"):
                    continue
                repeats = given.repeats if solver.startswith("ours") else 1
                if solver.startswith("ours"):
                    solve(scores, sizes, tol, given.most)
                tried = sorted((solve(scores, sizes, tol, given.most) for _ in range(repeats)), key=lambda r: r.seconds)
                runs[solver] = tried[len(tried) // 2]
            best = runs[OURS]
            for solver, run in runs.items():
                same = (run.labels == best.labels).mean()
                ratio = "" if solver == OURS else f"{run.seconds / best.seconds:.1f} x"
                figures = f"{run.seconds:.3f} | {run.iterations} | {run.error:.1e} | {same:.2%} | {ratio}"
                lines += show(f"| {name} | {tol:.0e} | {solver} | {figures} |")
    return lines


BEFORE = (
    *((name, 60_000, 400) for name in (*SHARPNESS, RANDOM)),
    *(("moderate", N, K) for N, K in ((20_000, 3000), (100_000, 128), (100_000, 10), (5_000, 50), (5_000, 10))),
)
RUNS = """
import sys, time
import numpy as np
from selavi_ref.transport import assign
given = np.load(sys.argv[1])
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    found = assign(given["scores"], given["sizes"], strength=float(sys.argv[3]))
    print(time.perf_counter() - start, found.n_passes)
"""


def beside_before(given: argparse.Namespace) -> list[str]:
    """Compare with an earlier version in turns, each in processes of its own."""
    if given.before is None:
        return show("(no --before: no comparison with an earlier version)")
    lines = show(
        "## Beside the version before",
        "",
        "Seconds from scores to labels, to 1e-6, and passes: the fastest of nine runs in three processes of each",
        "version, in turns. First: the first call of a process that finds no cache of compiled code.",
        "",
        "| problem | N | K | before | now | faster by | first, before | first, now |",
        "|---|---|---|---|---|---|---|---|",
    )
    here = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory() as folder:
        for name, N, K in BEFORE:
            scores, sizes = problem(name, N, K)
            path = Path(folder) / "problem.npz"
            np.savez(path, scores=scores, sizes=sizes)
            versions = {"before": given.before, "now": here}
            first = {
                way: runs_of(code, path, 1, Path(folder) / f"{way}{N}{K}{name}")[0] for way, code in versions.items()
            }
            runs: dict[str, list[tuple[float, int]]] = {way: [] for way in versions}
            for _ in range(3):
                for way, code in versions.items():
                    runs[way] += runs_of(code, path, 4)[1:]
            (before, b), (now, n) = (min(runs[way]) for way in versions)
            ratio = f"{before:.4f} ({b}) | {now:.4f} ({n}) | {before / now:.1f} x"
            firsts = " | ".join(f"{first[way][0]:.1f}" for way in versions)
            lines += show(f"| {name} | {N:,} | {K} | {ratio} | {firsts} |")
    return lines


def runs_of(code: Path, path: Path, n: int, cache: Path | None = None) -> list[tuple[float, int]]:
    """Return seconds and passes of ``n`` runs of the version in ``code`` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(code)} | ({} if cache is None else {"NUMBA_CACHE_DIR": str(cache)})
    command = [sys.executable, "-c", RUNS, str(path), str(n), str(STRENGTH)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=path.parent, env=environment)
    return [(float(line.split()[0]), int(line.split()[1])) for line in run.stdout.splitlines()]


def sizes_of_problems(given: argparse.Namespace) -> list[str]:
    """Solve "moderate" with ours for many N and K, and draw the times."""
    lines = show(
        "## Time against the number of rows",
        "",
        'Ours (numba), "moderate", to 1e-6; seconds from scores to labels, in brackets passes.',
        "",
        "| N | " + " | ".join(f"K = {K}" for K in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    )
    times: dict[int, list[tuple[int, float]]] = {K: [] for K in COLUMNS}
    for N in (1000,) if given.quick else (10_000, 100_000, 1_000_000):
        cells = []
        for K in COLUMNS:
            if given.gigabytes < 4e-9 * N * K:
                cells.append("")
                continue
            scores, sizes = problem("moderate", N, K)
            seconds, found = timed(solving(scores, sizes, tol=1e-6))
            times[K].append((N, seconds))
            cells.append(f"{seconds:.3f} ({found.n_passes})")
            del scores
        lines += show(f"| {N:,} | {' | '.join(cells)} |")
    return lines + plot(given, times)


def plot(given: argparse.Namespace, times: dict[int, list[tuple[int, float]]]) -> list[str]:
    if not peers.installed("matplotlib"):
        return show("", "(matplotlib is not installed: no plot)")
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for K, points in times.items():
        if points:
            axes.loglog(*zip(*points, strict=True), marker="o", label=f"K = {K}")
    axes.set(xlabel="rows N", ylabel="seconds from scores to labels, to 1e-6", title='"moderate", numba engine')
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(given.out.with_suffix(".png"), dpi=110)
    return show("", f"![Seconds against rows]({given.out.with_suffix('.png').name})")


def out_of_core(given: argparse.Namespace) -> list[str]:
    """Solve from an HDF5 file in the page cache beside memory; and ten million rows."""
    lines = show(
        "## Out of core",
        "",
        'HDF5 on the local disk, in the page cache; "moderate", to 1e-6. Memory is what a process of its own needed at',
        "most beyond what it had after its imports and a first small problem.",
        "",
        "| N | K | layout | in memory (s) | from the file (s) | ratio | memory from the file (MB) | file (MB) |",
        "|---|---|---|---|---|---|---|---|",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.h5"
        layouts = (("contiguous", None), ("chunks", 4096), ("contiguous", None), ("contiguous", None))
        shapes = ((60_000, 400), (60_000, 400), (1_000_000, 100), (10_000_000, 10))
        for (N, K), (layout, chunk) in zip(smaller(given, *shapes), layouts, strict=True):
            scores, sizes = problem("moderate", N, K)
            with h5py.File(path, "w") as file:
                file.create_dataset("scores", data=scores, chunks=None if chunk is None else (min(chunk, N), K))
            inside, _ = timed(solving(scores, sizes, tol=1e-6, engine="numba"), 3)
            del scores
            with h5py.File(path) as file:
                outside, _ = timed(solving(file["scores"], sizes, tol=1e-6), 3)
            run = subprocess.run(
                [sys.executable, __file__, "--memory-of", str(path)], capture_output=True, text=True, check=True
            )
            figures = f"{inside:.2f} | {outside:.2f} | {outside / inside:.2f} | {float(run.stdout):.0f}"
            lines += show(f"| {N:,} | {K} | {layout} | {figures} | {path.stat().st_size / 1e6:.0f} |")
    return lines


def memory_of(path: str) -> None:
    """Print how many MB solving the file at ``path`` takes at most; the compiled code is loaded before."""
    with h5py.File(path) as file:
        data = file["scores"]
        assign(np.array(data[:3000]), strength=STRENGTH, engine="numba")
        before = most_memory()
        assign(data, strength=STRENGTH, tol=1e-4, engine="store")
    print(most_memory() - before)


def memory_in_core(given: argparse.Namespace) -> list[str]:
    """Return how much memory a problem in memory takes."""
    ((N, K),) = smaller(given, (500_000, 400))
    command = [sys.executable, __file__, "--memory-in-core", str(N), str(K)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return show(
        "## Memory",
        "",
        f"N = {N:,}, K = {K} in memory ({4e-6 * N * K:.0f} MB): {float(run.stdout):.1%} of the scores more,",
        "labels included.",
    )


def kinetics(given: argparse.Namespace) -> list[str]:
    """Solve ten heads of the size of Kinetics-400."""
    total, most = 0.0, 0.0
    ((N, K),) = smaller(given, (230_976, 400))
    for head in range(10):
        scores, sizes = mixture(N, K, 0.1, seed=head)
        seconds, found = timed(solving(scores, sizes))
        total, most = total + seconds, max(most, found.marginal_error)
    return show(
        "## A self-labelling of Kinetics-400",
        "",
        f"{N:,} x {K} x 10 heads, cold starts, to 1e-6 (worst error {most:.1e}): {total:.1f} s.",
    )


def exact_sizes(given: argparse.Namespace) -> list[str]:
    """Compare labels by argmax, greedy repair and exact assignment."""
    lines = show(
        "## Labels of exact sizes",
        "",
        'From the potentials of the solution ("moderate"): total score, what it is below the exact one, and seconds.',
        "",
        "| N | K | labels | sizes missed by (rows) | total score | below the optimum | seconds |",
        "|---|---|---|---|---|---|---|",
    )
    for N, K in smaller(given, (60_000, 400), (1_000_000, 100)):
        scores, sizes = problem("moderate", N, K)
        seconds, found = timed(solving(scores, sizes))
        wanted, start = integer_sizes(sizes, N), found.potentials / STRENGTH
        exact_labels(scores[:500], integer_sizes(sizes, 500), start)
        greedy_labels(scores[:500], integer_sizes(sizes, 500), start)
        ways: dict[str, Callable[[], Any]] = {
            "argmax of the plan": lambda: found.labels,  # noqa: B023
            "greedy repair": lambda: greedy_labels(scores, wanted, start),  # noqa: B023
            "exact": lambda: exact_labels(scores, wanted, start),  # noqa: B023
        }
        done = {name: timed(way) for name, way in ways.items()}
        totals = {name: scores[np.arange(N), labels].sum(dtype=np.float64) for name, (_, labels) in done.items()}
        for name, (taken, labels) in done.items():
            missed = np.abs(np.bincount(labels, minlength=K) - wanted).sum() // 2
            below = "(other sizes)" if missed else f"{totals['exact'] - totals[name]:.4g}"
            taken = seconds if name.startswith("argmax") else taken
            lines += show(f"| {N:,} | {K} | {name} | {missed:,} | {totals[name]:.7g} | {below} | {taken:.2f} |")
    return lines


def bandwidth(given: argparse.Namespace) -> list[str]:
    """Return how fast a pass is, beside the fastest reader of as many bytes."""
    threads = numba.config.NUMBA_NUM_THREADS
    ghz = clock()
    lines = show(
        "## A pass",
        "",
        f"In float32, {threads} thread(s), at {ghz:.1f} GHz. Next: at other potentials, with the powers that the first",
        "pass kept (up to 512 MiB); first: computes and keeps them; unkept: computes them, as a pass over a file does.",
        "Cycles: of a thread, for each entry of the next. Read: GB/s of the fastest reader of as many bytes on as many",
        "threads, of sums by NumPy, PyTorch and Numba in float32 and float64; share: of it. Walk: the last one, which",
        "finds labels and the error in float64.",
        "",
        "| N | K | MB | next, ms | GB/s | cycles | read | share | first, ms | unkept, ms | walk, ms |",
        "|---" * 11 + "|",
    )
    rng = np.random.default_rng(0)
    for N, K in smaller(given, *PASSES):
        scores = np.log(rng.random((N, K), dtype=np.float32) + 1e-3)
        plan_pass = NumbaPass(scores, STRENGTH)
        computing = NumbaPass(scores, STRENGTH, keeps=False)
        potentials = rng.normal(size=K)
        reading, _ = reading_rate(4 * N * K, threads)
        seconds = fastest(lambda: plan_pass(potentials), 15)  # noqa: B023
        reading = max(reading, reading_rate(4 * N * K, threads)[0])
        sharper = iter(np.linspace(0.9, 1.1, 100))
        first = fastest(lambda: plan_pass(potentials, next(sharper)), 5)  # noqa: B023
        computed = fastest(lambda: computing(potentials), 9)  # noqa: B023
        walk = fastest(lambda: plan_pass.rows(potentials), 5)  # noqa: B023
        rate = 4 * N * K / seconds / 1e9
        cycles = seconds * threads * ghz * 1e9 / (N * K)
        figures = f"{1e3 * seconds:.3f} | {rate:.1f} | {cycles:.2f} | {reading:.1f} | {rate / reading:.0%}"
        others = " | ".join(f"{1e3 * other:.2f}" for other in (first, computed, walk))
        lines += show(f"| {N:,} | {K} | {4 * N * K / 1e6:.1f} | {figures} | {others} |")
    return lines


def smaller(given: argparse.Namespace, *shapes: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the problem sizes (N, K) to time: small ones with `--quick`."""
    return [(max(2000, N // 1000), min(K, 20)) for N, K in shapes] if given.quick else list(shapes)


def solving(scores: Any, sizes: NDArray[np.float64], **options: Any) -> Callable[[], Assignment]:
    return lambda: assign(scores, sizes, strength=STRENGTH, **options)


SECTIONS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "peers": beside_peers,
    "before": beside_before,
    "sizes": sizes_of_problems,
    "out-of-core": out_of_core,
    "memory": memory_in_core,
    "kinetics": kinetics,
    "exact": exact_sizes,
    "pass": bandwidth,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["--memory-of"]:
        memory_of(sys.argv[2])
    elif sys.argv[1:2] == ["--memory-in-core"]:
        x = np.random.default_rng(0).random((int(sys.argv[2]), int(sys.argv[3])), dtype=np.float32)
        assign(x[:5000], engine="numba")
        start = most_memory()
        assign(x, engine="numba")
        print((most_memory() - start) * 2**20 / x.nbytes)
    else:
        main()
