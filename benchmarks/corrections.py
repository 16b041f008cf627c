"""What a few corrections of a person are worth: labels of unseen videos after further learning with them.

python -m pip install -e ".[all]" && python benchmarks/corrections.py TRAIN UNSEEN --clusters 10 --corrected 20 50 100

TRAIN and UNSEEN are folders with a folder for each class. A run is trained on TRAIN (or taken, if --out has one). Then,
for each number, the least certain videos, as `selavi browse` lists them, are corrected as a person would: a cluster
means the class of most of its videos; a video is moved to the cluster that means its class, or marked as wrong if there
is none. `selavi update --learn` learns on with these corrections, each number from the same run. Number 0 is the same
further learning with one video of a certain label confirmed, which says nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

from selavi_ref import Run, label_videos
from selavi_ref.browser.annotations import annotations_of
from selavi_ref.browser.look_next import least_certain
from selavi_ref.metrics import hungarian_accuracy, normalized_mutual_info_score
from selavi_ref.report.table import Table
from selavi_ref.runs.run import Run as RunFolder


def correct(folder: Path, n: int) -> dict[str, int]:
    """Correct the n least certain videos of a run by the names of their folders, and count the edits."""
    run = Run.open(folder)
    labels = dict(zip(run.paths, run.labels.tolist(), strict=True))
    members: dict[int, Counter[str]] = {}
    for path, label in labels.items():
        members.setdefault(label, Counter())[Path(path).parent.name] += 1
    sizes = {cluster: counts.most_common(1)[0] for cluster, counts in members.items() if cluster >= 0}
    meaning: dict[str, int] = {}
    for cluster, (name, _) in sorted(sizes.items(), key=lambda item: item[1][1]):
        meaning[name] = cluster  # of several clusters of a class, the one with most of its videos
    edits = Counter[str]()
    annotations = annotations_of(RunFolder(folder))
    if n == 0:
        surest = least_certain(RunFolder(folder), len(labels))[-1]
        annotations.apply({"op": "move", "videos": [surest], "to": labels[surest]})
    for path in least_certain(RunFolder(folder), n):
        to = meaning.get(Path(path).parent.name)
        if to is not None:
            annotations.apply({"op": "move", "videos": [path], "to": to})
            edits["confirmed" if labels[path] == to else "moved"] += 1
        elif sizes[labels[path]][0] != Path(path).parent.name:
            annotations.apply({"op": "wrong", "videos": [path], "wrong": True})
            edits["wrong"] += 1
    return dict(edits)


def scores(folder: Path, unseen: str, workers: int) -> dict[str, float]:
    """Label unseen videos by a run, and compare with the names of their folders."""
    found = Run.open(folder).predict(unseen, workers=workers)
    names = [Path(path).parent.name for path in found.paths]
    codes = np.unique(names, return_inverse=True)[1]
    return {
        "nmi": normalized_mutual_info_score(codes, found.labels),
        "accuracy": hungarian_accuracy(codes, found.labels),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("unseen")
    parser.add_argument("--clusters", type=int, required=True)
    parser.add_argument("--corrected", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--out", type=Path, default=Path("corrections"))
    parser.add_argument("--run-epochs", type=int, help="epochs of the run, if it is trained here")
    parser.add_argument("--epochs", type=int, help="epochs of further learning")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    start = options.out / "run"
    settings: dict[str, Any] = {} if options.run_epochs is None else {"epochs": options.run_epochs}
    if not (start / "labels.csv").exists():
        label_videos(
            options.train,
            options.clusters,
            start,
            resume=True,
            progress=True,
            workers=options.workers,
            seed=options.seed,
            **settings,
        )
    rows: list[dict[str, Any]] = [{"corrected": None, **scores(start, options.unseen, options.workers)}]
    print(rows[-1], flush=True)
    for n in [0, *options.corrected]:
        folder = options.out / f"corrected-{n}"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder)
        edits = correct(folder, n)
        began = time.perf_counter()
        done = Run.open(folder).update(options.train, learn=True, epochs=options.epochs, workers=options.workers)
        seconds = time.perf_counter() - began
        kept = sum(fate.kind == "kept" for fate in done.learning.fates) if done.learning else 0
        rows.append({"corrected": n, **scores(folder, options.unseen, options.workers), **edits})
        rows[-1] |= {"kept": kept, "seconds": round(seconds, 1)}
        print(rows[-1], flush=True)
    columns = {
        name: name for name in ("corrected", "nmi", "accuracy", "moved", "confirmed", "wrong", "kept", "seconds")
    }
    table = Table(f"Unseen videos of {options.unseen}", columns, rows, facts={"machine": machine()})
    table.write(options.out / "corrections")
    print(table.text())
    print(json.dumps(machine()))


if __name__ == "__main__":
    main()
