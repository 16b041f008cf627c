"""Section of `gpu.py` on whole runs: `selavi train`, alone and several seeds at the same time on one GPU.

Started by itself, it is the program of one run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from tables import Report

from backbones.learner.torch_backbone import TorchBackbone
from backbones.runs import train as training
from backbones.runs import video_runs
from selavi_ref import label_videos
from selavi_ref.api.applying import apply_run
from selavi_ref.datasets import find_videos, make_collection
from selavi_ref.ensemble.labels import label_store
from selavi_ref.metrics import hungarian_accuracy, normalized_mutual_info_score
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore

SCORES = ("final", "heads", "unseen_final", "unseen_heads")


@dataclass(frozen=True)
class Kind:
    """Where a run computes, and whether its steps are recorded."""

    device: str
    record: bool

    def __str__(self) -> str:
        return f"{self.device}{', recorded' if self.record else ''}"


def runs(given: argparse.Namespace, report: Report) -> None:
    """Train one run alone, then several seeds at the same time."""
    if given.videos is None:
        n_videos, n_unseen = (32, 16) if given.quick else (400, 100)
        given.videos, given.unseen = given.folder / "made", given.folder / "made-unseen"
        make_collection(given.videos, n_videos)
        make_collection(given.unseen, n_unseen, seed=1)
    found = find_videos(given.videos)
    classes = len(set(found.classes))
    clusters = given.clusters or classes
    kinds = [Kind(given.device, False)]
    if given.record and given.device == "cuda":
        kinds.append(Kind("cuda", True))
    if given.cpu and given.device == "cuda":
        kinds.append(Kind("cpu", False))
    epochs = "" if given.epochs is None else f" --epochs {given.epochs}"
    report.paragraph(
        f"`selavi train {given.videos.parent.name}/{given.videos.name} --clusters {clusters}{epochs} --seed S` on "
        f"{len(found):,} videos of {classes} classes: seconds from the folder to the labels, those of the training in "
        "them, and NMI, accuracy of the final labels and of those of the heads, with the folders as classes. First one "
        f"run alone; then {given.seeds} at the same time, with as many cores for each. Means +- standard deviations."
    )
    columns = ("final labels", "heads", "unseen: final", "unseen: heads")
    report.show(
        f"| device | at the same time | seed | seconds | training, s | {' | '.join(columns)} |", "|---" * 9 + "|"
    )
    alone = {
        kind: at_the_same_time(given, report, kind, [0], clusters) for kind in kinds if kind.device == given.device
    }
    for kind in kinds:
        if report.left < max(1.0, 1.2 * alone.get(kind, 0.0)):
            report.show(f"| {kind} | {given.seeds} | left out: {report.left:.0f} s are left |{' |' * 6}")
        else:
            at_the_same_time(given, report, kind, range(given.seeds), clusters)


def at_the_same_time(
    given: argparse.Namespace, report: Report, kind: Kind, seeds: Sequence[int], clusters: int
) -> float:
    """Train runs at the same time, report them, and return the seconds until the last one had ended."""
    began = time.monotonic()
    cores = max(1, (os.cpu_count() or 1) // len(seeds))
    place = given.folder / f"{kind.device}-{kind.record}-{len(seeds)}"
    place.mkdir()
    started: dict[int, subprocess.Popen[bytes]] = {}
    try:
        for seed in seeds:
            started[seed] = start(given, kind, seed, clusters, cores, place)
        for process in started.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, report.left))
    finally:
        for process in started.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    seconds, results, failures = time.monotonic() - began, [], []
    for seed, process in started.items():
        before = f"| {kind} | {len(seeds)} | {seed} |"
        if process.returncode == 0:
            results.append(json.loads((place / f"{seed}.json").read_text(encoding="utf-8")))
            report.show(f"{before} {cells(results[-1:])} |")
        elif process.returncode == -signal.SIGKILL:
            report.show(f"{before} stopped after {seconds:.0f} s |{' |' * 5}")
        else:
            log = (place / f"{seed}.log").read_text(encoding="utf-8", errors="replace")
            print(log[-5000:], file=sys.stderr)
            failures.append(log.strip().rpartition("\n")[2])
            report.show(f"{before} fails |{' |' * 5}")
    if len(results) > 1:
        report.show(f"| {kind} | {len(seeds)} | all | {cells(results)} |")
    if failures:
        raise RuntimeError(failures[0])
    return seconds


def start(
    given: argparse.Namespace, kind: Kind, seed: int, clusters: int, cores: int, place: Path
) -> subprocess.Popen[bytes]:
    """Start the program of one run."""
    options = {
        "videos": str(given.videos),
        "unseen": None if given.unseen is None else str(given.unseen),
        "clusters": clusters,
        "seed": seed,
        "device": kind.device,
        "record": kind.record,
        "epochs": 2 if given.quick and given.epochs is None else given.epochs,
        "workers": cores,
        "out": str(place / str(seed)),
        "result": str(place / f"{seed}.json"),
    }
    threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(cores))
    with open(place / f"{seed}.log", "wb") as log:
        return subprocess.Popen(
            [sys.executable, __file__, json.dumps(options)],
            env={**os.environ, **threads},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def cells(results: Sequence[dict[str, Any]]) -> str:
    """Return the cells of a table for one run, or means and standard deviations of several."""
    shown = [each([result["seconds"] for result in results], 1), each([result["training"] for result in results], 1)]
    for name in SCORES:
        pairs = np.array([result[name] for result in results if name in result])
        shown.append(", ".join(each(column, 3) for column in pairs.T) if len(pairs) else "-")
    return " | ".join(shown)


def each(values: Any, places: int) -> str:
    """Return a number, or mean and standard deviation of several."""
    mean = f"{np.mean(values):.{places}f}"
    return mean if len(values) == 1 else f"{mean} +- {np.std(values, ddof=1):.{places}f}"


def train_one(options: dict[str, Any]) -> None:
    """Train a run, label unseen videos by it, and write times and scores."""
    seconds = {"training": 0.0}

    def timed_training(*given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        result = training.train(*given, **named)
        seconds["training"] += time.perf_counter() - began
        return result

    chosen = {} if options["epochs"] is None else {"epochs": options["epochs"]}
    began = time.perf_counter()
    with (
        mock.patch.object(training, "TorchBackbone", partial(TorchBackbone, record_steps=options["record"])),
        mock.patch.object(video_runs, "train", timed_training),
    ):
        label_videos(
            options["videos"],
            options["clusters"],
            options["out"],
            seed=options["seed"],
            device=options["device"],
            workers=options["workers"],
            **chosen,
        )
    result: dict[str, Any] = {"seconds": time.perf_counter() - began, **seconds}
    run = Run.open(options["out"])
    result |= scores(run.features_file)
    if options["unseen"] is not None:
        store = Path(options["out"]) / "unseen.h5"
        apply_run(run, options["unseen"], store, device=options["device"], workers=options["workers"])
        result |= {f"unseen_{name}": values for name, values in scores(store).items()}
    Path(options["result"]).write_text(json.dumps(result), encoding="utf-8")


def scores(path: Path) -> dict[str, list[float]]:
    """Return NMI and accuracy of the labels of a store, and of those of the heads."""
    found = {}
    with FeatureStore(path) as store:
        codes = np.unique([Path(name).parent.name for name in store.paths], return_inverse=True)[1]
        for name, head in (("final", "consensus"), ("heads", "heads")):
            labels = label_store(store, head=head).label
            found[name] = [normalized_mutual_info_score(codes, labels), hungarian_accuracy(codes, labels)]
    return found


if __name__ == "__main__":
    train_one(json.loads(sys.argv[1]))
