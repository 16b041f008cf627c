"""The core by itself, run by `.ci/package` where nothing else is installed: solver, metrics, a store, its labels."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np

from selavi_ref import assign
from selavi_ref.metrics import normalized_mutual_info_score
from selavi_ref.store import StoreWriter

assert not any(find_spec(name) for name in ("torch", "av", "sklearn", "flask"))
rng = np.random.default_rng(0)
classes = np.arange(400) % 4
logits = (rng.normal(size=(400, 4)) + 5 * np.eye(4)[classes]).astype(np.float32)
log_prob = logits - np.log(np.exp(logits).sum(1, keepdims=True))
for engine in ("numpy", "numba"):
    assert normalized_mutual_info_score(classes, assign(log_prob, engine=engine).labels) > 0.9

paths = [f"{kind}/{row}.mp4" for row, kind in enumerate(classes)]
with StoreWriter("features.h5", paths, {"log_prob/video/0": 4}) as writer:
    writer.write(range(400), {"log_prob/video/0": log_prob})
    writer.finish()
selavi = [sys.executable, "-m", "selavi_ref"]
subprocess.run([*selavi, "label", "features.h5", "--out", "labels.csv"], check=True)
subprocess.run([*selavi, "evaluate", "labels.csv"], check=True)
