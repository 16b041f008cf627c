"""
Our scores beside scikit-learn's, in turn in one run: ``python benchmarks/metrics.py``.

Prints a table and writes it to ``benchmarks/results/metrics.md``.
"""

import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import sklearn
import sklearn.metrics
from numpy.typing import NDArray

from selavi_ref import metrics

SIZES = [(230_976, 400), (170_752, 309), (230_976, 10), (1_500, 10)]
SHARED = ["normalized_mutual_info_score", "adjusted_rand_score", "adjusted_mutual_info_score"]
OURS_ONLY = ["hungarian_accuracy", "mean_purity", "mean_entropy", "summary"]
REPEATS = 5
RESULTS = Path(__file__).parent / "results" / "metrics.md"


def main() -> None:
    first = time_of(lambda: metrics.adjusted_mutual_info_score([0, 0, 1], [0, 1, 1]))[0]
    lines = [*heading(first), "| N | K | score | ours, ms | scikit-learn, ms | ratio | difference |"]
    lines.append("|---|---|---|---|---|---|---|")
    for n, k in SIZES:
        labels_true, labels_pred = labellings(n, k)
        for name in SHARED:
            lines.append(compare(name, labels_true, labels_pred, k))
        for name in OURS_ONLY:
            ours = [time_of(lambda: getattr(metrics, name)(labels_true, labels_pred))[0] for _ in range(REPEATS)]  # noqa: B023
            lines.append(f"| {n:,} | {k} | `{name}` | {1000 * statistics.median(ours):.2f} | | | |")
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text)


def labellings(n: int, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Classes of unequal sizes, and clusters that agree with them for about a third of the videos."""
    rng = np.random.default_rng(0)
    shares = np.exp(-1.2 * np.arange(k) / k)
    labels_true = rng.choice(k, n, p=shares / shares.sum())
    return labels_true, np.where(rng.random(n) < 0.3, labels_true, rng.integers(0, k, n))


def compare(name: str, labels_true: NDArray[np.int64], labels_pred: NDArray[np.int64], k: int) -> str:
    ours, theirs = [], []
    for _ in range(REPEATS):
        seconds, our_value = time_of(lambda: getattr(metrics, name)(labels_true, labels_pred))
        ours.append(seconds)
        seconds, their_value = time_of(lambda: getattr(sklearn.metrics, name)(labels_true, labels_pred))
        theirs.append(seconds)
    a, b = statistics.median(ours), statistics.median(theirs)
    return (
        f"| {len(labels_true):,} | {k} | `{name}` | {1000 * a:.2f} | {1000 * b:.2f} | {b / a:.1f} "
        f"| {abs(our_value - their_value):.1e} |"
    )


def time_of(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def heading(first: float) -> list[str]:
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}, Numba {numba.__version__}"
    return [
        "# Scores beside scikit-learn",
        "",
        f"{datetime.date.today().isoformat()}; {processor()}, {os.cpu_count()} cores;",
        f"{versions}, scikit-learn {sklearn.__version__}.",
        "",
        f"Median of {REPEATS} runs, the two in turn, one thread each; labels are int64. Ratio: scikit-learn's time",
        f"over ours. The first adjusted mutual information, which loads the compiled loop, took {first:.2f} s.",
        "Made by `python benchmarks/metrics.py`.",
        "",
    ]


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
