"""Balanced K-means beside k-means-constrained: seconds and inertia of single starts, in one run on one thread.

python -m pip install -e ".[all]" k-means-constrained
OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/balanced_kmeans.py

Seconds are those of the processor, so that other programs on the machine matter little.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from machine import machine
from tables import parsed

from selavi_ref.estimators import BalancedKMeans

PEER_ROWS = 10_000  # the peer takes minutes for more
MANY_ROWS = 100_000  # for more, one start is enough


def mixture(n: int, D: int, K: int) -> np.ndarray:
    """Draw samples of K overlapping Gaussian clusters."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(K, D))[rng.integers(K, size=n)] + rng.normal(size=(n, D))


def timed(model: Any, X: np.ndarray) -> tuple[float, Any]:
    """Fit, and return the seconds and the fitted model."""
    start = time.process_time()
    model.fit(X)
    return time.process_time() - start, model


def medians(fits: list[tuple[float, Any]]) -> tuple[float, float, float]:
    """Return the medians of seconds, iterations and inertia."""
    numbers = np.median([(seconds, model.n_iter_, model.inertia_) for seconds, model in fits], axis=0)
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--starts", type=int, default=5, help="starts of which medians are taken, up to 100,000 rows")
    options = parsed(parser, "balanced_kmeans.md")
    if options.quick:
        options.rows, options.starts = [500], 1
    from k_means_constrained import KMeansConstrained

    D, K = 64, 100
    BalancedKMeans(5, random_state=0).fit(mixture(500, D, 5))  # compile
    lines = []
    for n in options.rows:
        X = mixture(n, D, K)
        most, least = -(-n // K), n // K
        ours, theirs = [], []
        for seed in range(options.starts if n <= MANY_ROWS else 1):
            ours.append(timed(BalancedKMeans(K, random_state=seed), X))
            if n <= PEER_ROWS:
                peer = KMeansConstrained(K, size_min=least, size_max=most, n_init=1, random_state=seed)
                theirs.append(timed(peer, X))
        seconds, iterations, inertia = medians(ours)
        row = f"| {n:,} x {D} | {len(ours)} | {seconds:.3g} | {iterations:.0f} | {inertia:.6g} |"
        if theirs:
            peer_seconds, peer_iterations, peer_inertia = medians(theirs)
            row += f" {peer_seconds:.3g} | {peer_iterations:.0f} | {peer_inertia:.6g} |"
            row += f" {peer_seconds / seconds:.1f} | {inertia / peer_inertia:.4f} |"
        else:
            row += " - | - | - | - | - |"
        lines.append(row)
        print(row, flush=True)
    head = (
        "# Balanced K-means\n\n`OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/balanced_kmeans.py`: "
        f"{machine('numba', 'scikit-learn', 'k-means-constrained')}. "
        f"{K} clusters of equal sizes, Gaussian mixture, float64, one thread; "
        "processor seconds, iterations and inertia of a start, medians over starts (the seeds 0, 1, ...). "
        "The peer is k-means-constrained.\n\n"
        "| samples | starts | ours, s | iterations | inertia | peer, s | iterations | inertia "
        "| ratio of times | of inertias |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
    )
    options.out.write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
