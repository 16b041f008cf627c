"""What the page must show of a run, computed from its store by plain NumPy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tests.support.browser_run import HEADS

MODALITIES = ("video", "audio")
NAME = "weather <i>&amp;</i>"  # given to cluster 2 of the run that is only looked at
WRONG = [8, 20, 26]  # its videos that are marked as wrong


@dataclass(frozen=True)
class Truth:
    """
    The consensus of a run whose heads number their clusters alike.

    Parameters
    ----------
    paths, classes : list of str
        Of N videos.
    heads : array
        Posterior of each head, shape (H, N, K); zero without label.
    label, confidence, entropy : array
        Of the consensus, shape (N,); label -1 where there is none.
    features : dict
        Features (N, D) of each modality; NaN where a video has none.
    """

    paths: list[str]
    classes: list[str]
    heads: NDArray[np.float64]
    label: NDArray[np.int64]
    confidence: NDArray[np.float64]
    entropy: NDArray[np.float64]
    features: dict[str, NDArray[np.float64]]

    def members(self, cluster: int) -> list[int]:
        """Return the videos of a cluster, the most typical first: surest, and of those, nearest to the mean."""
        rows = np.flatnonzero(self.label == cluster)
        far = np.zeros(len(rows))
        for values in self.features.values():
            scaled = values / np.nanstd(values, axis=0)
            far += ((scaled[rows] - scaled[rows].mean(0)) ** 2).mean(1)
        return rows[np.lexsort((far, -np.round(self.confidence[rows], 3)))].tolist()

    def class_counts(self, cluster: int) -> list[int]:
        """Return how many members each class has, the most common first."""
        known = [self.classes[row] for row in self.members(cluster) if self.classes[row]]
        return sorted((known.count(name) for name in set(known)), reverse=True)

    def figures(self, cluster: int) -> dict[str, float]:
        """Return the figures by which clusters are sorted."""
        rows, counts = self.members(cluster), np.array(self.class_counts(cluster))
        shares = counts / counts.sum()
        return {
            "size": len(rows),
            "confidence": float(self.confidence[rows].mean()),
            "entropy": float(self.entropy[rows].mean()),
            "purity": float(shares.max()),
            "mixture": float(-(shares * np.log(shares)).sum()),
            "number": cluster,
        }

    def nearest(self, row: int, modality: str, count: int = 12) -> list[int]:
        """Return the videos most like one."""
        values = self.features[modality]
        far = np.linalg.norm(values - values[row], axis=1)
        far[row] = np.nan
        order = np.argsort(far, kind="stable")
        return [int(other) for other in order if np.isfinite(far[other])][:count]


def truth_of(run: Path) -> Truth:
    """Read the store of a run of `browser_run.make_run`."""
    with h5py.File(run / "features.h5") as file:
        text = {name: [value.decode() for value in file[f"videos/{name}"][:]] for name in ("path", "class")}
        there = {m: file[f"videos/has_{m}"][:].astype(bool) for m in MODALITIES}
        log_prob = [{m: file[f"log_prob/{m}/{h}"][:].astype(float) for m in MODALITIES} for h in range(HEADS)]
        features = {m: np.where(there[m][:, None], file[f"features/{m}"][:], np.nan) for m in MODALITIES}
    joint = np.stack([sum(np.where(there[m][:, None], of[m], 0) for m in MODALITIES) for of in log_prob])
    heads = np.exp(joint - joint.max(2, keepdims=True))
    heads /= heads.sum(2, keepdims=True)
    labelled = there["video"] | there["audio"]
    heads[:, ~labelled] = 0
    # The mean of the posteriors is the consensus only where the heads number their clusters alike.
    assert (heads.argmax(2) == heads[0].argmax(1)).mean() > 0.8
    mean = heads.mean(0)
    return Truth(
        paths=text["path"],
        classes=text["class"],
        heads=heads,
        label=np.where(labelled, mean.argmax(1), -1),
        confidence=mean.max(1),
        entropy=-(mean * np.log(np.maximum(mean, 1e-300))).sum(1),
        features=features,
    )


def figures_of(truth: Truth, cluster: int) -> dict[str, Any]:
    """Return the figures by which a cluster of the run of `browser_fixture.place` is sorted, its edits included."""
    wrong = sum(int(truth.label[row]) == cluster for row in WRONG)
    return truth.figures(cluster) | {"wrong": wrong, "name": NAME if cluster == 2 else f"Cluster {cluster}"}


def in_words(value: float) -> str:
    """Return a share as the page writes it: never rounded up to certainty."""
    return ">0.99" if 0.995 < value < 1 else f"{math.floor(value * 100 + 0.5) / 100:.2f}"
