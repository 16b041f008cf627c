"""A store of several heads that see the same classes through noise, each with a numbering of its own."""

from __future__ import annotations

import numpy as np

from selavi_ref.store import StoreWriter

K = 4


def log_softmax(x):
    return (x - np.log(np.exp(x).sum(-1, keepdims=True))).astype(np.float32)


def head_log_probs(classes, sharpness, rng, permutation):
    logits = rng.normal(size=(len(classes), K))
    logits[np.arange(len(classes)), permutation[classes]] += sharpness
    return log_softmax(logits)


def make_store(path, *, n=200, heads=5, sharpness=1.5, seed=0, paths=None, present=None, **kwargs):
    """Heads that see the same classes through noise, each with a numbering of its own."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(K, size=n)
    paths = paths or [f"videos/{c}/{i}.mp4" for i, c in enumerate(classes)]
    datasets = {f"log_prob/{m}/{h}": K for m in ("video", "audio") for h in range(heads)}
    with StoreWriter(path, paths, datasets, **kwargs) as writer:
        values = {}
        for h in range(heads):
            permutation = rng.permutation(K)
            for m in ("video", "audio"):
                values[f"log_prob/{m}/{h}"] = head_log_probs(classes, sharpness, rng, permutation)
        writer.write(slice(None), values, present=present)
        writer.finish()
    return classes
