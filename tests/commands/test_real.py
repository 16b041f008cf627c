"""The main job on a real collection, where it lies beside the checkout: minutes, so only with ``-m slow``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
COLLECTION = ROOT.parent / "shared" / "data" / "avdigits"


@pytest.mark.slow
@pytest.mark.skipif(not COLLECTION.is_dir(), reason="the collection avdigits does not lie beside the checkout")
@pytest.mark.parametrize("seed", range(3))
def test_unseen_videos_get_good_labels(tmp_path, seed):
    def selavi(*args):
        command = [sys.executable, "-m", "selavi_ref", *map(str, args)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    selavi("train", COLLECTION / "train", "--clusters", 10, "--seed", seed, "--out", "run")
    selavi("label", "run", COLLECTION / "test", "--clips", 3, "--out", "labels.csv")
    data = json.loads(selavi("evaluate", "labels.csv", "--format", "json"))
    scores = data["rows"][0]
    assert data["videos"] == 400
    assert scores["nmi"] >= 0.93
    assert scores["accuracy"] >= 0.93
