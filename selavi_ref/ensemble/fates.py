"""What has become of clusters after further learning: kept, split, joined with others, or new."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selavi_ref.ensemble.matching import overlap

_PART = 0.2  # share of a split cluster's videos from which on a part is told


@dataclass(frozen=True)
class Fate:
    """
    What has become of one cluster.

    Parameters
    ----------
    cluster : int
        Its number.
    kind : str
        ``"kept"``: more than half of its videos have the same label as before; ``"joined"``: more than half have
        another label, the same one; ``"split"``: neither; ``"new"``: the number is that of other videos now.
    before : int
        Videos with this label before, of those that have a label now.
    stayed : int
        How many of them have it now.
    now : int
        Videos with this label now.
    others : tuple of int
        Where others went: the cluster that it was joined with, or those that have a fifth of its videos.
    """

    cluster: int
    kind: str
    before: int
    stayed: int
    now: int
    others: tuple[int, ...] = ()


def fates(before: NDArray[np.int32], after: NDArray[np.int32], K: int) -> list[Fate]:
    """
    Compare the labels of the same N videos before and after learning.

    Parameters
    ----------
    before, after : array
        int32, shape (N,), 0 to K - 1; -1 for none, such as of videos that were added.
    K : int
        Number of clusters.

    Returns
    -------
    list of Fate
        By cluster; one that is not kept, and whose number has videos now, has a second entry, ``"new"``.
    """
    shared = overlap(before, after, K)
    now = np.bincount(after[after >= 0], minlength=K)
    found = []
    for k in range(K):
        total, stayed = int(shared[k].sum()), int(shared[k, k])
        if total and 2 * stayed > total:
            found.append(Fate(k, "kept", total, stayed, int(now[k])))
            continue
        if total:
            largest = int(shared[k].argmax())
            joined = 2 * int(shared[k, largest]) > total
            others = (largest,) if joined else tuple(np.flatnonzero(shared[k] >= _PART * total).tolist())
            found.append(Fate(k, "joined" if joined else "split", total, stayed, int(now[k]), others))
        if now[k]:
            found.append(Fate(k, "new", 0, 0, int(now[k])))
    return found
