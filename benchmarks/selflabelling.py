"""Measure time, memory and traffic of a self-labelling whose videos are spread over processes.

Run ``python -m pip install -e ".[all,bench]" && python benchmarks/selflabelling.py`` on a machine that does nothing
else; ``--rows 20000`` for a quick look. It starts itself under torchrun, with 1, 2 and 4 processes, and keeps the
log-probabilities of two modalities in temporary files: 8 bytes for each row and cluster. Writes the tables that it
prints to ``benchmarks/results/selflabelling.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from machine import most_memory
from numpy.typing import NDArray
from problems import SHARPNESS, add_log_softmax, gaussian_sizes, mixture
from tables import parsed, processor, show

from backbones.data.clips import StreamedClips
from backbones.data.settings import ClipSettings
from backbones.distributed.processes import process_group
from selavi_ref.datasets import Manifest, read_manifest, write_manifest
from selavi_ref.datasets.manifest import ManifestEntry
from selavi_ref.ensemble.strength import STRENGTH
from selavi_ref.media.container import VideoInfo
from selavi_ref.runs.processes import Exchange, local_rows
from selavi_ref.selflabel import self_labelling
from selavi_ref.selflabel.self_labelling import self_label
from selavi_ref.store import WorkingStore
from selavi_ref.transport import assign, engines
from selavi_ref.transport.store_scores import joint_scores

PROCESSES = (1, 2, 4)
BLOCK = 10_000  # rows that have one seed, so that they are the same in whichever process they are made
VIEWS = ("video", "audio")
HEADS, FEATURES = 10, 512  # of the paper's recipe
REPEATS = 300
IN_MEMORY = 1 << 30  # bytes of a process's joint log-probabilities above which `joint_scores` leaves them in the file

Measured = dict[str, Any]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="videos in all")
    options.add_argument("--columns", type=int, default=400, help="clusters")
    options.add_argument("--note", default="", help="a remark to write with the figures, such as what else was running")
    given = parsed(options, "selflabelling.md")
    if given.quick:
        given.rows, given.columns = [2000], 10
    names = ("selavi-ref", "h5py", "numba", "numpy", "torch")
    lines = show(
        "# A self-labelling over several processes\n",
        f"{date.today()}, {processor()}, {os.cpu_count()} cores, Python {sys.version.split()[0]},",
        f"{', '.join(f'{name} {version(name)}' for name in names)}.",
        f"Load of the machine at the start: {os.getloadavg()[0]:.1f}. {given.note}".rstrip() + "\n",
    )
    runs, table = one_head(given)
    speeds, files = memory_or_files(given.columns, 2000 if given.quick else 200_000)
    held, text = memory_of_all_videos(500 if given.quick else 50_000)
    lines += [*table, "", *files, "", *text, *larger_collections(given.columns, runs, speeds, held)]
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def one_head(given: argparse.Namespace) -> tuple[list[Measured], list[str]]:
    """Label with one head, the rows in 1, 2 and 4 processes."""
    lines = show("## One head\n") + paragraph(
        f"`self_label` on `WorkingStore`s, two modalities, K = {given.columns}, cold start, to 1e-6; the 'moderate' "
        "problem of `sinkhorn.py`. Files are in the page cache. Each process has as many threads as there are "
        f"processors for each, and at least one: with more processes than the {os.cpu_count()} processors, there is no "
        "speed-up."
    )
    lines += paragraph(
        "Reading: from the stores to the sum of the modalities in memory, if it is at most 1 GiB for a process; "
        "otherwise the first pass reads both from the files, and writes their sum to another, which later passes read. "
        "Milliseconds per pass: the seconds without reading, divided "
        "by the passes. GB/s: of summed log-probabilities, by all processes together. Sums: calls of `all_sum` by a "
        "process, those with K numbers and a few, and those with K * K; and float64 numbers for each pass. A sum: of "
        "K + 2 numbers, over the local network of one machine. Memory: peak of a process, and in brackets before the "
        "self-labelling. Last, the number of labels that differ from those of one process."
    )
    lines += show(
        "| N | processes | seconds | reading, s | passes | ms per pass | GB/s | sums: all; K; K * K | numbers per pass "
        "| a sum, ms | memory, MB | different labels |",
        "|---" * 12 + "|",
    )
    runs: list[Measured] = []
    for n in given.rows:
        first: NDArray[np.int32] | None = None
        for size in PROCESSES[:2] if given.quick else PROCESSES:
            measured, labels = run(n, given.columns, size)
            first = labels if first is None else first
            runs.append(measured)
            lines += show(table_row(measured, int(np.count_nonzero(labels != first))))
    return runs, lines


def table_row(measured: Measured, n_different: int) -> str:
    """Return the row of a table for one run."""
    figures = (
        f"{measured['seconds']:.2f} | {measured['reading']:.2f} | {measured['passes']}",
        f"{1e3 * per_pass(measured):.1f}",
        f"{rate(measured) / 1e9:.1f} | {measured['sums']}; {measured['vectors']}; {measured['squares']}",
        f"{measured['numbers'] / measured['passes']:,.0f} | {measured['sum_ms']:.2f}",
        f"{measured['most']:.0f} ({measured['before']:.0f}) | {n_different:,}",
    )
    return f"| {measured['rows']:,} | {measured['size']} | {' | '.join(figures)} |"


def per_pass(measured: Measured) -> float:
    """Return the seconds of one pass."""
    reading = measured["reading"] if in_memory(measured["rows"], measured["columns"], measured["size"]) else 0.0
    return float(measured["seconds"] - reading) / measured["passes"]


def rate(measured: Measured) -> float:
    """Return the bytes of summed log-probabilities that all processes together pass over in a second."""
    return 4 * measured["rows"] * measured["columns"] / per_pass(measured)


def in_memory(n: int, K: int, size: int) -> bool:
    return 4 * n * K / size <= IN_MEMORY


def memory_or_files(K: int, n: int) -> tuple[dict[bool, float], list[str]]:
    """Return the bytes of joint log-probabilities that a core passes over in a second: in memory (True) or in files."""
    times: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        datasets = dict.fromkeys((f"log_prob/{view}/0" for view in VIEWS), K)
        with WorkingStore.create(Path(folder) / "working.h5", made_paths(range(n)), datasets) as store:
            fill(store, range(n), K)
            ways = {inside: joint_scores(store, 0, IN_MEMORY if inside else 0) for inside in times}
            passes = {inside: engines.create("auto", scores, STRENGTH) for inside, scores in ways.items()}
            potentials = np.zeros(K)
            for turn in range(20):
                for inside, plan_pass in passes.items():
                    seconds, _ = timed(lambda: plan_pass(potentials))  # noqa: B023
                    times[inside] += [seconds] if turn else []
    fastest = {inside: min(taken) for inside, taken in times.items()}
    speeds = {inside: 4 * n * K / seconds / (os.cpu_count() or 1) for inside, seconds in fastest.items()}
    lines = show("## A pass in memory and from files\n") + paragraph(
        f"N = {n:,}, one process, {os.cpu_count()} threads, in turn, the fastest of {len(times[True])}; the file "
        "of both modalities is in the page cache. GB/s: of summed log-probabilities, for each thread."
    )
    lines += show("| from | ms | GB/s for each thread |", "|---|---|---|")
    for inside, seconds in fastest.items():
        where = "memory" if inside else "the file, as with over 1 GiB for a process"
        lines += show(f"| {where} | {1e3 * seconds:.1f} | {speeds[inside] / 1e9:.2f} |")
    return speeds, lines


def memory_of_all_videos(n: int) -> tuple[float, list[str]]:
    """Return how many bytes every process holds for each of all videos, without labels."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "videos.csv"
        info = (10.0, 10.0, 25.0, 340, 256, 44_100, True, True)
        paths = made_paths(range(n))
        entries = [ManifestEntry(path, f"class {i % 400}", VideoInfo(path, *info)) for i, path in enumerate(paths)]
        write_manifest(Manifest(entries), file)
        del entries
        tracemalloc.start()
        manifest = read_manifest(file)
        listed = tracemalloc.get_traced_memory()[0]
        source = StreamedClips(manifest.paths, ClipSettings(), [entry.info.seconds for entry in manifest if entry.info])
        both = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    lines = show("## What each process holds of all videos\n") + paragraph(
        f"Measured on a list of {n:,} whose paths have {len(source.paths[0])} characters: {listed / n:.0f} bytes for "
        f"each video for its entry in the list, {(both - listed) / n:.0f} for the source of its clips. By the types of "
        "arrays: 4 bytes for each label, 5 more during a self-labelling (the last label, and whether it has changed), "
        "and 8 for the order of the videos in an epoch."
    )
    return both / n, lines


def larger_collections(K: int, runs: Sequence[Measured], speeds: dict[bool, float], held: float) -> list[str]:
    """Compute the cost of larger collections from the measured figures."""
    passes = max(run["passes"] for run in runs)
    numbers = max(run["numbers"] for run in runs)
    cores = os.cpu_count() or 1
    speed_text = " and ".join(
        f"{speed / 1e9:.2f} GB/s {'in memory' if inside else 'in files'}" for inside, speed in speeds.items()
    )
    lines = show("## Larger collections, computed\n") + paragraph(
        f"Nothing in this table was run. K = {K}, H = {HEADS} heads, D = {FEATURES} features of each modality, P "
        f"processes, {passes} passes for each head with {numbers:,} numbers summed; a process passes over "
        f"{speed_text}, as measured for one of the {cores} cores here. Files: `8 N D / P` bytes of "
        "features and `8 N K / P` of the log-probabilities of the current head. Memory: `8 N K / P` while they are "
        "added, or blocks of 16 MiB if half of that is over 1 GiB. "
        f"Sent: `8 H` times the numbers. Labels: `4 N H`. Held: `N ({held:.0f} + 9 H + 8)`. Solving: "
        "`H passes 4 N K / (P rate)`, without the forward pass over the videos, writing the log-probabilities and "
        "waiting for sums. If files are larger than the page cache, every pass reads `4 N K / P` from the disk, which "
        "may be slower."
    )
    lines += show(
        "| N | P | files: features; log-probabilities, GB | memory, GB | sent by each process, MB "
        "| labels received by each, MB | held by each, GB | solving, s |",
        "|---" * 8 + "|",
    )
    for n in (10**5, 10**6, 10**7, 10**8, 10**9):
        for size in (8, 64):
            inside = in_memory(n, K, size)
            memory = f"{8e-9 * n * K / size:.3g}" if inside else "blocks"
            speed = speeds[inside]
            files = f"{8e-9 * n * FEATURES / size:.3g}; {8e-9 * n * K / size:.3g}"
            everywhere = f"{4e-6 * n * HEADS:,.0f} | {1e-9 * n * (held + 9 * HEADS + 8):,.2f}"
            solving = HEADS * passes * 4 * n * K / size / speed
            sent = f"{8e-6 * HEADS * numbers:.0f}"
            lines += show(f"| {n:,} | {size} | {files} | {memory} | {sent} | {everywhere} | {solving:,.1f} |")
    return lines


def run(n: int, K: int, size: int) -> tuple[Measured, NDArray[np.int32]]:
    """Start the processes, and return their measurements and all labels."""
    threads = str(max(1, (os.cpu_count() or 1) // size))
    limits = {"NUMBA_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    with tempfile.TemporaryDirectory() as folder:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
        command = [sys.executable, *torchrun, __file__, "--worker", folder, str(n), str(K)]
        done = subprocess.run(command, env={**os.environ, **limits}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        measured = json.loads(Path(folder, "measured.json").read_text(encoding="utf-8"))
        return measured, np.load(Path(folder, "labels.npy"))


class Counted:
    """An exchange that counts the sums of another one."""

    def __init__(self, exchange: Exchange):
        self.exchange = exchange
        self.rank, self.size = exchange.rank, exchange.size
        self.lengths: list[int] = []

    def all_sum(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum, and record the length of the vector."""
        self.lengths.append(numbers.size)
        return self.exchange.all_sum(numbers)

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of all processes."""
        return self.exchange.gather(rows)


def barrier(exchange: Exchange) -> None:
    """Wait until all processes have called this."""
    exchange.all_sum(np.zeros(1))


def work(folder: Path, n: int, K: int) -> None:
    """Measure a self-labelling as one of the processes."""
    assign(mixture(3000, K, 0.1)[0], engine="numba")  # loads the compiled code
    with process_group("cpu") as exchange:
        counted = Counted(exchange)
        own = local_rows(n, exchange)
        sizes = gaussian_sizes(np.random.default_rng(0), K)
        datasets = dict.fromkeys((f"log_prob/{view}/0" for view in VIEWS), K)
        with WorkingStore.create(folder / f"working-{exchange.rank}.h5", made_paths(own), datasets) as store:
            fill(store, own, K)
            barrier(exchange)
            before = most_memory()
            reads: list[float] = []

            def read(*arguments: Any, **options: Any) -> Any:
                taken, scores = timed(lambda: joint_scores(*arguments, **options))
                reads.append(taken)
                return scores

            with mock.patch.object(self_labelling, "joint_scores", read):
                seconds, (found, _) = timed(lambda: self_label(store, 0, sizes, exchange=counted))
            reading = sum(reads)
            most = most_memory()
        labels = exchange.gather(found.labels)
        summing, _ = timed(lambda: [exchange.all_sum(np.zeros(K + 2)) for _ in range(REPEATS)])
        figures = exchange.gather(np.array([[before, most, reading, seconds]])).max(0)
    if exchange.rank == 0:
        measured: Measured = {
            "rows": n,
            "columns": K,
            "size": exchange.size,
            "passes": found.n_passes,
            "sums": len(counted.lengths),
            "vectors": sum(K <= length <= K + 3 for length in counted.lengths),
            "squares": sum(length >= K * K for length in counted.lengths),
            "numbers": sum(counted.lengths),
            "sum_ms": 1e3 * summing / REPEATS,
        }
        measured |= dict(zip(("before", "most", "reading", "seconds"), figures.tolist(), strict=True))
        np.save(folder / "labels.npy", labels)
        (folder / "measured.json").write_text(json.dumps(measured), encoding="utf-8")


def made_paths(rows: range) -> list[str]:
    return [f"/collections/videos/{row % 1000:03d}/{row:011d}_{row % 86_400:06d}.mp4" for row in rows]


def fill(store: WorkingStore, own: range, K: int) -> None:
    """Write the log-probabilities of some rows of a problem, block by block."""
    names = [f"log_prob/{view}/0" for view in VIEWS]
    with store.rewrite(*names) as write:
        for first, values in made(own, K):
            rows = slice(first - own.start, first - own.start + len(values[0]))
            write(rows, dict(zip(names, values, strict=True)))


def made(own: range, K: int) -> Iterator[tuple[int, list[NDArray[np.float32]]]]:
    """Yield the first row and two views' log-probabilities of each block: a Gaussian mixture in 64 dimensions."""
    centres = np.random.default_rng(0).normal(size=(K, 64)).astype(np.float32)
    weights = (SHARPNESS["moderate"] / 8) * centres.T
    for block in range(own.start // BLOCK, -(-own.stop // BLOCK)):
        rng = np.random.default_rng([1, block])
        member = rng.integers(K, size=BLOCK)
        first = block * BLOCK
        part = slice(max(own.start - first, 0), min(own.stop - first, BLOCK))
        values = []
        for _ in VIEWS:
            view = centres[member] + rng.standard_normal((BLOCK, 64), np.float32)
            log_prob = np.zeros((part.stop - part.start, K), np.float32)
            add_log_softmax(log_prob, view[part], weights)
            values.append(log_prob)
        yield first + part.start, values


def paragraph(text: str) -> list[str]:
    return show(*textwrap.wrap(text, 118), "")


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
