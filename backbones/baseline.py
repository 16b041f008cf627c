"""What K-means makes of the inputs that the networks get: the comparison that needs no learning of features."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from backbones import augment
from backbones.clips import ClipSource, View
from backbones.settings import AugmentSettings


def kmeans_on_inputs(source: ClipSource, clusters: int, seed: int = 0) -> dict[str, NDArray[np.int32]]:
    """
    Cluster the middle clips of all videos by their pixels, by their log mel energies, and by both.

    Every input number is standardised over the videos; `sklearn.cluster.KMeans` with 10 starts, the best kept. Where a
    video has more than 2,000 numbers, the 100 leading principal components stand for them.

    Returns
    -------
    dict
        ``"pictures"``, ``"sounds"``, ``"both"``: labels, int32, shape (N,).
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    pictures, sounds = [], []
    view = View.whole(source.settings, AugmentSettings())
    for row in range(len(source)):
        free = max(0.0, source.seconds(row) - source.settings.length)
        clip = source.clip(row, free / 2, view)
        pictures.append(augment.picture(torch.from_numpy(clip.frames), source.settings, None, None).flatten().numpy())
        sounds.append(augment.sound(torch.from_numpy(clip.mel)[None], source.settings, None, None).flatten().numpy())
    inputs = {"pictures": _standard(np.stack(pictures)), "sounds": _standard(np.stack(sounds))}
    reduced = {}
    for name, values in inputs.items():
        components = min(100, len(values))
        reduced[name] = PCA(components, random_state=seed).fit_transform(values) if values.shape[1] > 2000 else values
    spread = {name: values / np.sqrt(values.var(0).sum()) for name, values in reduced.items()}
    reduced["both"] = np.concatenate([spread["pictures"], spread["sounds"]], 1)
    return {
        name: KMeans(clusters, n_init=10, random_state=seed).fit_predict(values).astype(np.int32)
        for name, values in reduced.items()
    }


def _standard(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return (values - values.mean(0)) / np.maximum(values.std(0), 1e-6)
