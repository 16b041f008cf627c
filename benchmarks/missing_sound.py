"""Labels of a collection of which a part of the training videos has no sound.

python -m pip install -e ".[all]" && python benchmarks/missing_sound.py TRAIN UNSEEN --clusters 10 --shares 0 30 60 100

TRAIN and UNSEEN are folders with a folder for each class. The sound is taken from so many per cent of the training
videos, drawn at random, without encoding their pictures again; the unseen videos keep theirs. A run is trained with
the defaults, and its labels of all training videos and of the unseen ones are compared with the names of the folders.
Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
from pathlib import Path

import av
import numpy as np
from machine import machine

from selavi_ref import Run, label_videos
from selavi_ref.metrics import hungarian_accuracy, normalized_mutual_info_score
from selavi_ref.report.table import Table

_ENDINGS = {".mp4", ".mkv", ".webm", ".mov", ".avi"}


def copy_with_less_sound(source: Path, to: Path, share: float, seed: int = 0) -> None:
    """Link the videos of a folder into another one; a share of them is written there without sound."""
    videos = sorted(path for path in source.rglob("*") if path.suffix.lower() in _ENDINGS)
    chosen = set(np.random.default_rng(seed).permutation(len(videos))[: round(share * len(videos))].tolist())
    for number, path in enumerate(videos):
        out = to / path.relative_to(source)
        out.parent.mkdir(parents=True, exist_ok=True)
        if number in chosen:
            write_without_sound(path, out)
        else:
            out.symlink_to(path.resolve())


def write_without_sound(path: Path, out: Path) -> None:
    """Copy the video stream of a file."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)


def scores(paths: list[str], labels: np.ndarray) -> tuple[float, float]:
    """Compare labels with the names of the folders."""
    codes = np.unique([Path(path).parent.name for path in paths], return_inverse=True)[1]
    return float(normalized_mutual_info_score(codes, labels)), float(hungarian_accuracy(codes, labels))


def processor_seconds() -> float:
    """Return the time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("unseen", type=Path)
    parser.add_argument("--clusters", type=int, required=True)
    parser.add_argument("--shares", type=int, nargs="+", default=[0, 30, 60, 100], metavar="PERCENT")
    parser.add_argument("--epochs", type=int, help="[default: that of selavi train]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("missing-sound"), help="folder of the table")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    collection = options.train.absolute().parent.name
    rows: list[dict[str, float | str]] = []
    for share in options.shares:
        with tempfile.TemporaryDirectory() as place:
            videos, folder = Path(place) / "videos", Path(place) / "run"
            copy_with_less_sound(options.train, videos, share / 100)
            before = processor_seconds()
            chosen = {} if options.epochs is None else {"epochs": options.epochs}
            label_videos(videos, options.clusters, out=folder, seed=options.seed, workers=options.workers, **chosen)
            seconds = processor_seconds() - before
            run = Run.open(folder)
            nmi, accuracy = scores(run.paths, run.labels)
            unseen = run.predict(options.unseen, workers=options.workers)
            unseen_nmi, unseen_accuracy = scores(unseen.paths, unseen.labels)
            shutil.rmtree(videos)
        rows.append(
            {
                "without_sound": f"{share} %",
                "nmi": nmi,
                "accuracy": accuracy,
                "unseen_nmi": unseen_nmi,
                "unseen_accuracy": unseen_accuracy,
                "seconds": seconds,
            }
        )
        print(rows[-1], flush=True)
    columns = {key: key.replace("_", " ") for key in rows[0]}
    table = Table(f"Sound taken from training videos: {collection}", columns, rows, [machine("torch")])
    table.write(options.out / collection)
    print(table.text())


if __name__ == "__main__":
    main()
