"""Write this folder's store and run with version 0.1.0 of selavi-ref: python make.py, where that version is installed.

``config.toml`` beside it is that of a run of ``selavi demo`` of version 0.1.0, as it was written.
"""

import shutil
import subprocess
import time
from pathlib import Path

import numpy as np

from selavi_ref.store import StoreWriter

HERE = Path(__file__).parent
N, KINDS = 48, 2


def main() -> None:
    work = Path("/tmp/version_0_1_0")  # stands in the files
    work.mkdir()
    rng = np.random.default_rng(0)
    kinds = rng.permutation(N) % KINDS
    features = {
        f"features/{modality}": (rng.normal(0, 1, (KINDS, width))[kinds] + rng.normal(0, 0.4, (N, width))).astype("f4")
        for modality, width in (("video", 6), ("audio", 4))
    }
    widths = {name: x.shape[1] for name, x in features.items()}
    paths = [f"videos/{'ab'[kind]}/{row:02d}.mp4" for row, kind in enumerate(kinds)]
    with StoreWriter(work / "features.h5", paths, widths, classes=["ab"[kind] for kind in kinds]) as writer:
        writer.write(slice(None), features)
        writer.finish()
    options = ["--clusters", "2", "--heads", "2", "--epochs", "20", "--labellings", "8", "--out", "run"]
    running = subprocess.Popen(["selavi", "train-heads", "features.h5", *options], cwd=work)
    checkpoints, early = work / "run" / "checkpoints", work / "early"
    while not (found := sorted(checkpoints.glob("*-step-*.npz"))) or found[-1].name < "000008":
        time.sleep(0.001)
    shutil.copytree(checkpoints, early, ignore=shutil.ignore_patterns("*.partial"))
    assert running.wait() == 0
    # With an early checkpoint alone, the run is one that was killed.
    shutil.rmtree(checkpoints)
    checkpoints.mkdir()
    newest = sorted(early.iterdir())[-1]
    newest.rename(checkpoints / newest.name)
    shutil.rmtree(work / "run" / "tensorboard", ignore_errors=True)
    shutil.copytree(work / "run", HERE / "run")
    shutil.copy(work / "features.h5", HERE)


if __name__ == "__main__":
    main()
