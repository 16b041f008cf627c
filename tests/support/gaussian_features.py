"""Features of Gaussian classes, and settings of a quick cross-fitted search."""

import numpy as np

from selavi_ref.crossfit import CrossfitSettings

QUICK = CrossfitSettings(runs=6, rounds=9, final_rounds=3, draws=2)


def gaussians(seed, N=240, K=3, widths=(6, 5), sizes=None, noise=1.0):
    rng = np.random.default_rng(seed)
    truth = rng.choice(K, N, p=sizes)
    spaces = {}
    for number, D in enumerate(widths):
        means = 3 * np.eye(K, D)
        spaces[f"space {number}"] = (means[truth] + noise * rng.normal(size=(N, D))).astype(np.float32)
    return spaces, truth.astype(np.int32)
