"""Boundary error, and the share of time labelled right, of labels over time on videos of known content.

Composes videos of three to eight kinds of 5 to 60 s in a row from a collection with a folder for each kind, labels them
by a run, and matches clusters with kinds one to one. ``python benchmarks/timeline.py RUN VIDEOS --videos 10``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

sys.path.insert(0, str(Path(__file__).parent.parent))

from selavi_ref.api.predictions import label_features
from selavi_ref.api.video_runs import video_runs
from selavi_ref.datasets import scan
from selavi_ref.runs.run import Run
from selavi_ref.timeline.hmm import Smoother
from selavi_ref.timeline.stretches import Timeline, timelines
from tests.support.composed_videos import Stretch, compose_at_random, videos_by_kind

STEP = 0.1  # seconds
NEAR = 5.0  # seconds within which a boundary counts as found


def sampled(parts: list[tuple[float, float, int]], seconds: float) -> np.ndarray:
    """Return the labels at 0, 0.1 s, 0.2 s, ...; -1 where there is none."""
    values = np.full(round(seconds / STEP), -1)
    for start, end, value in parts:
        values[round(start / STEP) : round(end / STEP)] = value
    return values


def report(name: str, truth: dict[str, list[Stretch]], found: list[Timeline]) -> None:
    """Print a row of the table."""
    kinds = sorted({part.kind for parts in truth.values() for part in parts})
    pairs = []
    for timeline in found:
        parts = truth[timeline.path]
        seconds = parts[-1].end
        pairs.append(
            (
                sampled([(part.start, part.end, kinds.index(part.kind)) for part in parts], seconds),
                sampled([(one.start, one.end, one.label) for one in timeline.stretches], seconds),
            )
        )
    true, label = (np.concatenate(values) for values in zip(*pairs, strict=True))
    table = np.zeros((len(kinds), label.max() + 1))
    np.add.at(table, (true[label >= 0], label[label >= 0]), 1)
    right = table[linear_sum_assignment(-table)].sum() / len(true)
    errors, missed, extra = [], 0, 0
    for timeline in found:
        real = np.array([part.start for part in truth[timeline.path][1:]])
        ours = np.array([one.start for one in timeline.stretches[1:]])
        gaps = np.abs(real[:, None] - ours[None, :]) if len(ours) else np.full((len(real), 1), np.inf)
        nearest = gaps.min(1)
        errors += nearest[nearest <= NEAR].tolist()
        missed += int((nearest > NEAR).sum())
        extra += max(0, len(ours) - int((nearest <= NEAR).sum()))
    n = sum(len(parts) - 1 for parts in truth.values())
    error = f"{np.mean(errors):.2f} s, median {np.median(errors):.2f} s" if errors else "-"
    print(f"| {name} | {right:.1%} | {error} | {missed} of {n} | {extra} |")


def main() -> None:
    """Compose, label and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("collection", help="folder with a folder of videos for each kind")
    parser.add_argument("--videos", type=int, default=10)
    parser.add_argument("--windows", type=float, nargs="+", default=[1.0, 2.0, 5.0, 10.0], help="seconds")
    options = parser.parse_args()
    by_kind = videos_by_kind(Path(options.collection))
    run, runs = Run.of_videos(options.run), video_runs()
    with tempfile.TemporaryDirectory() as folder:
        truth = {}
        for seed in range(options.videos):
            path = Path(folder) / f"{seed}.mp4"
            truth[str(path)] = compose_at_random(by_kind, path, seed)
        minutes = sum(parts[-1].end for parts in truth.values()) / 60
        print(f"{len(truth)} videos, {minutes:.1f} minutes, {sum(map(len, truth.values()))} stretches\n")
        print("| windows | time labelled right | boundary error | boundaries missed | boundaries too many |")
        print("|---|---|---|---|---|")
        for window in options.windows:
            manifest = scan(folder, min_seconds=0.0, require="any", segments=window, workers=2)
            store = Path(folder) / f"{window}.h5"
            runs.extract_videos(run, manifest, store, workers=2)
            labels, _ = label_features(store, with_posterior=True)
            assert labels.posterior is not None
            each, _ = timelines(labels.paths, labels.posterior, smoother=Smoother(1 / labels.posterior.shape[1], 0.01))
            report(f"{window:g} s, each by itself", truth, each)
            smooth, model = timelines(labels.paths, labels.posterior)
            report(f"{window:g} s, smoothed (stays with probability {model.stay:.3f})", truth, smooth)
            store.unlink()


if __name__ == "__main__":
    main()
