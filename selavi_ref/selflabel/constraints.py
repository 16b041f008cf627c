"""Corrections of people as constraints of the transport: clusters that a video may be in, and clusters that are one."""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array

from selavi_ref.errors import FilePath, InputError, printable
from selavi_ref.runs.atomic import replacing

_MARGIN = 0.01  # share of the plan that is kept off the border of what is possible, where potentials are infinite
_FORBIDDEN = 1e4  # exponent of a forbidden pair below that of any other, for any potentials of a plan with the margin
_LOWEST = 300.0  # joint log-probabilities are above minus this


@dataclass(frozen=True)
class HeadConstraints:
    """
    Constraints of the labels of one head.

    Parameters
    ----------
    rows : array
        Videos of whose labels something is known, int64, shape (R,), ascending.
    allowed : array
        The clusters that each of them may get, bool, shape (R, K), at least one in each row.
    target : array
        The cluster into which each cluster is merged, int32, shape (K,); k for one that stays, -1 for one that no video
        may be in.
    """

    rows: NDArray[np.int64]
    allowed: NDArray[np.bool_]
    target: NDArray[np.int32]

    @classmethod
    def of(
        cls, rows: NDArray[np.int64], allowed: NDArray[np.bool_], target: NDArray[np.int32] | None = None
    ) -> HeadConstraints:
        """Return constraints in which merged clusters stand for one; a video without any allowed cluster is free."""
        K = allowed.shape[1]
        target = np.arange(K, dtype=np.int32) if target is None else target
        merged = np.zeros((K, K), bool)
        merged[np.arange(K), target] = target >= 0
        reachable = (allowed.astype(np.int64) @ merged.astype(np.int64)) > 0
        reachable[~reachable.any(1)] = np.arange(K) == target
        return cls(rows, reachable, target)

    def local(self, own: range) -> HeadConstraints:
        """Return the constraints of some consecutive videos, numbered from 0."""
        mine = (self.rows >= own.start) & (self.rows < own.stop)
        return HeadConstraints(self.rows[mine] - own.start, self.allowed[mine], self.target)

    def take(self, rows: NDArray[np.int64]) -> HeadConstraints:
        """Return the constraints of some videos, ascending, numbered from 0 in their order."""
        mine = np.isin(self.rows, rows)
        return HeadConstraints(np.searchsorted(rows, self.rows[mine]), self.allowed[mine], self.target)

    def scores(self, rows: slice, log_prob: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
        """
        Return the scores of some videos (n, K) for the transport, for their joint log-probabilities.

        A merged cluster has the summed probability of its parts. Forbidden pairs have a score so low that their entry
        of the plan is zero.
        """
        forbidden = np.float32(-_LOWEST - _FORBIDDEN / strength)
        changed = log_prob.copy()
        for k in np.flatnonzero(self.target != np.arange(len(self.target))):
            into = self.target[k]
            if into >= 0:
                changed[:, into] = np.logaddexp(changed[:, into], log_prob[:, k])
            changed[:, k] = forbidden
        first, last = np.searchsorted(self.rows, (rows.start, rows.stop))
        mine = self.rows[first:last] - rows.start
        changed[mine] = np.where(self.allowed[first:last], changed[mine], forbidden)
        return changed

    def sizes(self, marginal: NDArray[np.float64], n_videos: int) -> NDArray[np.float64]:
        """
        Return the sizes nearest to prescribed ones that the constraints leave possible, float64, shape (K,), of sum 1.

        Parts of a merged cluster give it their sizes; that of an unused one goes to all. Sizes that are possible, with
        a small margin, stay exactly as they are; otherwise the L1 distance is the smallest possible.

        Parameters
        ----------
        marginal : array
            Prescribed sizes of sum 1, shape (K,).
        n_videos : int
            All videos, of which these constraints are a part.
        """
        used = self.target >= 0
        wanted = np.zeros(len(marginal))
        np.add.at(wanted, self.target[used], marginal[used])
        wanted /= wanted.sum()
        if not len(self.rows):
            return wanted
        patterns = Counter(map(bytes, np.packbits(self.allowed, axis=1)))
        allowed = np.array(
            [np.unpackbits(np.frombuffer(key, np.uint8), count=len(wanted)) for key in patterns], bool
        ) & (self.target == np.arange(len(wanted)))
        mass = np.array(list(patterns.values())) / n_videos
        free = 1 - mass.sum()
        inner = free * wanted
        for clusters, share in zip(allowed, mass, strict=True):
            spread = np.where(clusters, wanted + 1e-9, 0)
            inner = inner + share * spread / spread.sum()
        aim = (wanted - _MARGIN * inner) / (1 - _MARGIN)
        if _is_possible(aim, allowed, mass):
            return wanted
        nearest = (1 - _MARGIN) * _nearest_possible(aim, allowed, mass, free) + _MARGIN * inner
        return np.asarray(nearest / nearest.sum())


@dataclass(frozen=True)
class Constraints:
    """
    What people have said about the clusters of some videos, for all heads.

    Parameters
    ----------
    rows : array
        The videos, int64, shape (R,), ascending.
    allowed : array
        The clusters of the result that each may be in, bool, shape (R, K).
    merged : array
        The cluster into which each cluster is merged, int32, shape (K,); k for one that stays, -1 for one that no video
        may be in.
    groups : array
        The cluster of the result that each cluster of a main head belongs to, int32, shape (H, K); see
        `selavi_ref.ensemble.consensus.HeadConsensus`.
    """

    rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    allowed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))
    merged: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    groups: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0), np.int32))

    def of_result(self) -> HeadConstraints:
        """Return the constraints in the cluster numbers of the result."""
        return HeadConstraints.of(self.rows, self.allowed, self.merged)

    def of_head(self, head: int) -> HeadConstraints:
        """Return the constraints of a main head, in its own cluster numbers."""
        own = self.groups[head]
        result = self.merged[own]  # cluster of the result after merging, for each cluster of the head
        target = np.arange(len(own), dtype=np.int32)
        for k in np.flatnonzero(result != own):
            into = np.flatnonzero(own == result[k])
            if result[k] < 0:
                target[k] = -1
            elif len(into):
                target[k] = into[0]
        return HeadConstraints.of(self.rows, self.allowed[:, result] & (result >= 0), target)

    def of_overclusters(self, groups: NDArray[np.integer[Any]]) -> HeadConstraints:
        """Return the constraints of an over-clustering head, for the first head's cluster of each over-cluster (F,)."""
        return HeadConstraints.of(self.rows, self.of_head(0).allowed[:, groups])


def write_constraints(constraints: Constraints, path: FilePath) -> None:
    """Write constraints to a ``.npz`` file, atomically."""
    with replacing(path) as file:
        np.savez(file, **{each.name: getattr(constraints, each.name) for each in fields(constraints)})


def read_constraints(path: FilePath) -> Constraints | None:
    """
    Read constraints of `write_constraints`; None if there is no such file.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    if not os.path.exists(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Constraints(**{each.name: arrays[each.name] for each in fields(Constraints)})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{printable(path)} is damaged", path=path) from error


def _is_possible(sizes: NDArray[np.float64], allowed: NDArray[np.bool_], mass: NDArray[np.float64]) -> bool:
    """
    Tell whether sizes can be met; False may also mean that it is not known.

    It is known if each pattern allows one cluster, or all but one.
    """
    if (sizes < 0).any():
        return False
    n_allowed, n_clusters = allowed.sum(1), int((sizes > 0).sum())
    single, most = n_allowed == 1, n_allowed >= n_clusters - 1
    if not (single | most).all():
        return False
    rest = sizes - mass[single] @ allowed[single]
    left_out = mass[~single] @ ~allowed[~single]
    return bool((rest >= 0).all() and (left_out <= rest.sum() - rest).all())


def _nearest_possible(
    sizes: NDArray[np.float64], allowed: NDArray[np.bool_], mass: NDArray[np.float64], free: float
) -> NDArray[np.float64]:
    """Return the possible sizes of the smallest L1 distance from the given ones, by linear programming."""
    open_clusters = allowed.any(0) | (sizes > 0)
    pattern, cluster = np.nonzero(np.vstack([allowed, open_clusters]))
    G, K, pairs = len(mass) + 1, len(sizes), len(pattern)
    every, k = np.arange(pairs), np.arange(K)
    ones = np.ones
    # Unknowns: mass of each pair, then how much each size is too small, and too large.
    rows = np.concatenate([pattern, G + cluster, G + k, G + k])
    columns = np.concatenate([every, every, pairs + k, pairs + K + k])
    values = np.concatenate([ones(pairs), ones(pairs), ones(K), -ones(K)])
    equations: Any = coo_array((values, (rows, columns)), shape=(G + K, pairs + 2 * K)).tocsr()
    cost = np.concatenate([np.zeros(pairs), ones(2 * K)])
    found = linprog(cost, A_eq=equations, b_eq=np.concatenate([mass, [free], sizes]), method="highs")
    plan = np.asarray(found.x)[:pairs]
    return np.bincount(cluster, plan, K).astype(np.float64)
