"""Balanced K-means beside k-means-constrained: seconds, inertia and sizes, in one run.

python -m pip install -e ".[all]" k-means-constrained && python benchmarks/balanced_kmeans.py
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

from selavi_ref.estimators import BalancedKMeans

PEER_ROWS = 10_000  # the peer takes minutes for more


def mixture(n: int, D: int, K: int) -> np.ndarray:
    """Draw samples of K overlapping Gaussian clusters."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(K, D))[rng.integers(K, size=n)] + rng.normal(size=(n, D))


def timed(model: Any, X: np.ndarray) -> tuple[float, Any]:
    """Fit, and return the seconds and the fitted model."""
    start = time.perf_counter()
    model.fit(X)
    return time.perf_counter() - start, model


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "balanced_kmeans.md")
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000, 10_000, 100_000, 1_000_000])
    out = parser.parse_args()
    from k_means_constrained import KMeansConstrained

    D, K = 64, 100
    BalancedKMeans(5, random_state=0).fit(mixture(500, D, 5))  # compile
    lines = []
    for n in out.rows:
        X = mixture(n, D, K)
        seconds, ours = timed(BalancedKMeans(K, random_state=0), X)
        row = f"| {n:,} x {D} | {seconds:.2f} | {ours.n_iter_} | {ours.inertia_:.6g} |"
        if n <= PEER_ROWS:
            most, least = -(-n // K), n // K
            theirs_s, theirs = timed(KMeansConstrained(K, size_min=least, size_max=most, n_init=1, random_state=0), X)
            row += f" {theirs_s:.2f} | {theirs.inertia_:.6g} | {theirs_s / seconds:.1f} | "
            row += f"{ours.inertia_ / theirs.inertia_:.4f} |"
        else:
            row += " - | - | - | - |"
        lines.append(row)
        print(row, flush=True)
    head = (
        "# Balanced K-means\n\n`python benchmarks/balanced_kmeans.py`. "
        f"{machine('scikit-learn', 'k-means-constrained')}. "
        f"{K} clusters of equal sizes, one start each, "
        "Gaussian mixture, float64.\n\n"
        "| samples | ours, s | iterations | inertia | peer, s | inertia | ratio of times | of inertias |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    out.out.write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
