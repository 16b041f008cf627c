"""Stretches of one label: consecutive windows of a video, smoothed, and joined where their label is the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from selavi_ref.media.segments import segment_of
from selavi_ref.timeline.hmm import Smoother, fit


@dataclass(frozen=True)
class Stretch:
    """
    A part of a video with one label.

    Parameters
    ----------
    start, end
        Seconds.
    label
        Cluster.
    confidence
        Mean posterior of the label over the windows of the stretch, given all windows of the video.
    name
        Name that a person has given to the cluster; "" without one.
    """

    start: float
    end: float
    label: int
    confidence: float
    name: str = ""

    @property
    def title(self) -> str:
        """The name, or the number of the cluster."""
        return self.name or f"cluster {self.label}"


@dataclass(frozen=True)
class Timeline:
    """
    Labels over the time of one video.

    Parameters
    ----------
    path
        The video.
    stretches
        In order of time, without overlap; a time that could not be decoded may be missing.
    """

    path: str
    stretches: list[Stretch]


def timelines(
    windows: Sequence[str],
    posterior: NDArray[np.floating],
    *,
    lengths: Mapping[str, float] | None = None,
    names: Mapping[int, str] | None = None,
    smoother: Smoother | None = None,
) -> tuple[list[Timeline], Smoother]:
    """
    Return the stretches of the videos that windows belong to.

    Parameters
    ----------
    windows
        Names of segments (see `selavi_ref.media.segments`) or whole videos; those of one video in order of time.
    posterior
        Of each window, shape (N, K); rows sum to 1, or are zero for windows that could not be decoded.
    lengths
        Lengths of whole videos, seconds.
    names
        Names of clusters.
    smoother
        The model; by default that of maximum likelihood for these windows.

    Returns
    -------
    timelines, smoother
        One for each video, in the order of their first windows; and the model.
    """
    rows_of: dict[str, list[int]] = {}
    for row, window in enumerate(windows):
        rows_of.setdefault(segment_of(window).file, []).append(row)
    smoother = smoother or fit([posterior[rows] for rows in rows_of.values()])
    found = []
    for path, rows in rows_of.items():
        parts = [segment_of(windows[row]) for row in rows]
        whole = (lengths or {}).get(path, math.inf)
        bounds = [(part.start, whole if part.end == math.inf else part.end) for part in parts]
        seen = np.asarray(posterior[rows], np.float64)
        joined = _joined(bounds, seen, smoother, names or {}) if seen.any() else []
        found.append(Timeline(path, joined))
    return found, smoother


def _joined(
    bounds: Sequence[tuple[float, float]],
    posterior: NDArray[np.float64],
    smoother: Smoother,
    names: Mapping[int, str],
) -> list[Stretch]:
    """Return the stretches of a video with these windows."""
    smoothed, _, _ = smoother.forward_backward(posterior)
    labels = smoother.most_probable(posterior)
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    stretches = []
    for first, last in pairwise(edges):
        label = int(labels[first])
        confidence = float(smoothed[first:last, label].mean())
        stretches.append(Stretch(bounds[first][0], bounds[last - 1][1], label, confidence, names.get(label, "")))
    return stretches
