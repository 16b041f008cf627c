"""
Our scores and our retrieval beside scikit-learn's, in turn in one run: ``python benchmarks/metrics.py``.

Prints tables and writes them to ``benchmarks/results/metrics.md``.
"""

import argparse
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import sklearn
import sklearn.metrics
from machine import processor
from numpy.typing import NDArray
from sklearn.metrics.cluster import contingency_matrix
from sklearn.neighbors import NearestNeighbors
from tables import parsed

from selavi_ref import metrics
from selavi_ref.metrics.expected_mi import expected_mutual_information

SIZES = [(230_976, 400), (170_752, 309), (230_976, 10), (1_500, 10)]
SHARED = [
    "normalized_mutual_info_score",
    "adjusted_rand_score",
    "adjusted_mutual_info_score",
    "mutual_info_score",
    "homogeneity_completeness_v_measure",
    "fowlkes_mallows_score",
    "rand_score",
]
OURS_ONLY = [
    "hungarian_accuracy",
    "matched_confusion",
    "purity_score",
    "mean_purity",
    "mean_entropy",
    "cluster_report",
    "summary",
]
RESAMPLES = 1_000
QUERIES, ITEMS, WIDTH, CLASSES = 3_783, 9_537, 512, 101
LOOPED = 200
AT = range(1, 51)
BATCH = 1_000
Features = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]  # of queries, their classes; of items
REPEATS = 5


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = parsed(options, "metrics.md")
    small = given.quick
    first = time_of(lambda: metrics.adjusted_mutual_info_score([0, 0, 1], [0, 1, 1]))[0]
    lines = heading(first)
    for n, k in [(300, 5)] if small else SIZES:
        lines += scores(n, k)
    lines += bootstrap(*((300, 5, 20) if small else (*SIZES[0], RESAMPLES)))
    lines += retrieval(*((60, 100, 32) if small else (QUERIES, ITEMS, WIDTH)))
    text = "\n".join(lines) + "\n"
    print(text)
    given.out.write_text(text, encoding="utf-8")


def scores(n: int, k: int) -> list[str]:
    labels_true, labels_pred = labellings(n, k)
    lines = [compare(name, labels_true, labels_pred, k) for name in SHARED]
    lines.append(expected_information(labels_true, labels_pred, k))
    for name in OURS_ONLY:
        ours = [time_of(lambda: getattr(metrics, name)(labels_true, labels_pred))[0] for _ in range(REPEATS)]  # noqa: B023
        lines.append(f"| {n:,} | {k} | `{name}` | {1000 * statistics.median(ours):.2f} | | | |")
    return lines


def labellings(n: int, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Classes of unequal sizes, and clusters that agree with them for about a third of the videos."""
    rng = np.random.default_rng(0)
    shares = np.exp(-1.2 * np.arange(k) / k)
    labels_true = rng.choice(k, n, p=shares / shares.sum())
    return labels_true, np.where(rng.random(n) < 0.3, labels_true, rng.integers(0, k, n))


def compare(name: str, labels_true: NDArray[np.int64], labels_pred: NDArray[np.int64], k: int) -> str:
    return in_turn(
        f"{len(labels_true):,} | {k} | `{name}`",
        lambda: getattr(metrics, name)(labels_true, labels_pred),
        lambda: getattr(sklearn.metrics, name)(labels_true, labels_pred),
    )


def expected_information(labels_true: NDArray[np.int64], labels_pred: NDArray[np.int64], k: int) -> str:
    """Compare the expectation alone, from tables that are there."""
    table = contingency_matrix(labels_true, labels_pred, sparse=True).astype(np.int64)
    rows, columns = (np.asarray(table.sum(axis)).ravel() for axis in (1, 0))
    return in_turn(
        f"{len(labels_true):,} | {k} | `expected_mutual_information`",
        lambda: expected_mutual_information(rows, columns),
        lambda: sklearn.metrics.cluster.expected_mutual_information(table, len(labels_true)),
    )


def in_turn(title: str, our_call: Callable[[], Any], their_call: Callable[[], Any]) -> str:
    ours, theirs = [], []
    for _ in range(REPEATS):
        seconds, our_value = time_of(our_call)
        ours.append(seconds)
        seconds, their_value = time_of(their_call)
        theirs.append(seconds)
    a, b = statistics.median(ours), statistics.median(theirs)
    difference = np.max(np.abs(np.subtract(our_value, their_value)))
    return f"| {title} | {1000 * a:.2f} | {1000 * b:.2f} | {b / a:.1f} | {difference:.1e} |"


def bootstrap(n: int, k: int, n_resamples: int) -> list[str]:
    labels_true, labels_pred = labellings(n, k)
    rng = np.random.default_rng(0)
    seconds, intervals = time_of(
        lambda: metrics.bootstrap_intervals(labels_true, labels_pred, n_resamples=n_resamples, rng=rng)
    )
    return [
        "",
        f"`bootstrap_intervals` of the {len(intervals)} scores of `summary`, {n_resamples:,} resamples, N = {n:,},",
        f"K = {k}: {seconds:.1f} s, one run.",
    ]


def retrieval(n_queries: int, n_items: int, width: int) -> list[str]:
    """Compare recall at 1 to 50 with a search in batches, and with a loop over the queries."""
    features = features_of(n_queries, n_items, width)
    metrics.retrieval_recall(*(part[:60] for part in features), at=AT)
    ways: dict[str, Callable[[], NDArray[np.float64]]] = {
        "ours": lambda: np.array(list(metrics.retrieval_recall(*features, at=AT).values())),
        "scikit-learn, all at once": lambda: recall_by_scikit_learn(*features, n_queries),
        f"scikit-learn, batches of {BATCH:,}": lambda: recall_by_scikit_learn(*features, BATCH),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    recalls = {}
    for _ in range(REPEATS):
        for name, way in ways.items():
            taken, recalls[name] = time_of(way)
            seconds[name].append(taken)
    times = {name: statistics.median(each) for name, each in seconds.items()}
    looped = min(LOOPED, n_queries)
    taken, _ = time_of(lambda: recall_by_loop(features[0][:looped], features[1][:looped], *features[2:]))
    times[f"NumPy, one query at a time: {looped} queries, scaled to all"] = taken * n_queries / looped
    ours, theirs = list(recalls.values())[:2]
    difference = np.abs(ours - theirs).max()
    return [
        "",
        f"Recall at 1 to {AT[-1]}: {n_queries:,} queries, {n_items:,} items, {width} dimensions, float32, Euclidean,",
        f"all cores. The largest difference between our recall and scikit-learn's is {difference:.1e};",
        f"one query more or less is {1 / n_queries:.1e}.",
        "",
        "| recall by | s | ratio to ours |",
        "|---|---|---|",
        *(f"| {name} | {each:.3f} | {each / times['ours']:.1f} |" for name, each in times.items()),
    ]


def features_of(n_queries: int, n_items: int, width: int) -> Features:
    """Features of length 1 that lie around those of their classes, without negative numbers."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, width))

    def drawn(n: int) -> tuple[NDArray[Any], NDArray[Any]]:
        classes = rng.integers(0, CLASSES, n)
        vectors = np.maximum(centres[classes] + 3 * rng.standard_normal((n, width)), 0)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), classes

    return *drawn(n_queries), *drawn(n_items)


def recall_by_scikit_learn(
    queries: NDArray[Any], query_classes: NDArray[Any], items: NDArray[Any], item_classes: NDArray[Any], batch: int
) -> NDArray[np.float64]:
    model = NearestNeighbors(algorithm="brute").fit(items)
    hits = np.zeros(AT[-1])
    for lo in range(0, len(queries), batch):
        indices = model.kneighbors(queries[lo : lo + batch], AT[-1], return_distance=False)
        found = item_classes[indices] == query_classes[lo : lo + batch, None]
        hits += np.logical_or.accumulate(found, axis=1).sum(0)
    return hits / len(queries)


def recall_by_loop(
    queries: NDArray[Any], query_classes: NDArray[Any], items: NDArray[Any], item_classes: NDArray[Any]
) -> NDArray[np.float64]:
    """Take the distances of one query to all items, sort them, and look at the classes of the first."""
    hits = np.zeros(AT[-1])
    for query, wanted in zip(queries, query_classes, strict=True):
        order = np.argsort(np.linalg.norm(items - query, axis=1), kind="stable")[: AT[-1]]
        hits += np.logical_or.accumulate(item_classes[order] == wanted)
    return hits / len(queries)


def time_of(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def heading(first: float) -> list[str]:
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}, Numba {numba.__version__}"
    return [
        "# Scores and retrieval beside scikit-learn",
        "",
        f"{datetime.date.today().isoformat()}; {processor()}, {os.cpu_count()} cores;",
        f"{versions}, scikit-learn {sklearn.__version__}.",
        "",
        f"Median of {REPEATS} runs, the two in turn; labels are int64, and one thread computes a score. Ratio:",
        "scikit-learn's time over ours. The first adjusted mutual information, which loads the compiled loop, took",
        f"{first:.2f} s.",
        "Made by `python benchmarks/metrics.py`.",
        "",
        "| N | K | score | ours, ms | scikit-learn, ms | ratio | difference |",
        "|---|---|---|---|---|---|---|",
    ]


if __name__ == "__main__":
    main()
