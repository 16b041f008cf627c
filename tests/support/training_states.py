"""The state of a training loop, as its checkpoints hold it."""

import numpy as np


def training_state(n_videos, clusters, step=0):
    """A state after a number of steps, with all labels 0."""
    return {
        "step": step,
        "epoch": 1,
        "per_epoch": 1,
        "settle_from": -1,
        "finished": False,
        "losses": np.zeros(0),
        "failures": "[]",
        "labels": np.zeros((n_videos, len(clusters)), np.int32),
        **{f"sizes_{head}": np.full(K, 1 / K) for head, K in enumerate(clusters)},
    }
