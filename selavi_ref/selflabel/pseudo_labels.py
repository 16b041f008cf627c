"""The pseudo-labels of all heads, with cluster sizes and potentials, and how they are found anew."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.ensemble.matching import match_numbers
from selavi_ref.errors import ConvergenceWarning, InputError
from selavi_ref.metrics import adjusted_mutual_info_score, mean_entropy, mean_purity, normalized_mutual_info_score
from selavi_ref.runs.blas_threads import blas_threads
from selavi_ref.runs.processes import Exchange, engine, local_rows
from selavi_ref.selflabel.backbone import Backbone, working_names
from selavi_ref.selflabel.cluster_sizes import ClusterSizes
from selavi_ref.selflabel.constraints import Constraints, HeadConstraints
from selavi_ref.selflabel.kmeans import kmeans_labels
from selavi_ref.selflabel.overclustering import matching_columns, merge_overclusters
from selavi_ref.selflabel.self_labelling import align_modalities, predicted_mass, self_label
from selavi_ref.selflabel.settings import TrainingSettings
from selavi_ref.store import WorkingStore
from selavi_ref.transport import assign, marginals
from selavi_ref.transport.store_scores import joint_scores

_OVERCLUSTER_SPREAD = 0.02  # spread of the sizes of over-clusters, whatever the settings of the main heads
_COMPARED = 1_000_000  # videos, evenly spread, whose labels are compared for the log
_CLIPS, _SIZES, _GROUPS, _SIZE_ORDER = 2, 3, 5, 6  # first entries of seeds; see `selavi_ref.selflabel.training`

_SCORES_WITH_CLASSES = {  # of each head's labels, in the log
    "nmi": normalized_mutual_info_score,
    "anmi": adjusted_mutual_info_score,
    "purity": mean_purity,
    "entropy": mean_entropy,
}


class PseudoLabels:
    """
    Pseudo-labels of all videos and heads, and the state from which they are found anew.

    With several processes, each predicts its own videos and knows the labels of all videos.

    Parameters
    ----------
    backbone : Backbone
        The networks.
    settings : TrainingSettings
        Cluster sizes and solver.
    store : WorkingStore
        Scratch store for this process's videos; see `selavi_ref.selflabel.backbone.working_datasets`.
    exchange : Exchange
        The other processes of the run.
    classes : sequence of str, optional
        True classes of all videos, "" where unknown; only the log compares them with the labels.
    constraints : Constraints, optional
        Corrections of people, which the labels of the transport meet.

    Attributes
    ----------
    labels : array
        int32, shape (N, H); -1 before the first self-labelling.
    potentials : list of array or None
        Potentials of each head's last solution, float64, shape (K,).
    sizes : list of array
        Prescribed sizes of each head's clusters, float64, shape (K,).
    spectrum : array or None
        Last spectrum of `selavi_ref.selflabel.overclustering.merge_overclusters`.
    """

    def __init__(
        self,
        backbone: Backbone[Any],
        settings: TrainingSettings,
        store: WorkingStore,
        exchange: Exchange,
        classes: Sequence[str] | None = None,
        constraints: Constraints | None = None,
    ):
        self.backbone = backbone
        self.settings = settings
        self.store = store
        self.exchange = exchange
        N, H = backbone.n_videos, len(backbone.clusters)
        if settings.labeller != "transport" and exchange.size > 1:
            raise InputError(
                f"--labeller {settings.labeller} runs in one process, not in {exchange.size}", option="labeller"
            )
        self.own = local_rows(N, exchange)
        self.labels = np.full((N, H), -1, np.int32)
        self.potentials: list[NDArray[np.float64] | None] = [None] * H
        self.sizes = self._draw_sizes([_SIZES, settings.seed])
        self.spectrum: NDArray[np.float64] | None = None
        self._names = working_names(backbone.clusters, settings.overclustering_heads)
        self._main = H - settings.overclustering_heads
        self._n_numbers = len(self.own) * (sum(backbone.datasets().values()) + sum(backbone.clusters))
        self._truth = _codes(classes)
        self._constraints = constraints
        self._overgroups: list[NDArray[np.int64]] | None = None  # main cluster of each over-cluster, by head
        self._solutions: list[tuple[float, int]] = []
        self._penalty = 0.0
        self._step = 0

    def relabel(self, step: int, use_overclusters: bool, soft_sizes: bool = False) -> dict[str, Any]:
        """
        Find the pseudo-labels of all videos and heads anew, from the networks as they are.

        Parameters
        ----------
        step : int
            Steps taken; part of the seed of random clips.
        use_overclusters : bool
            Whether the main heads get the labels of the merged over-clusters.
        soft_sizes : bool
            Whether the marginal penalty of the settings applies; otherwise the sizes are met.

        Returns
        -------
        dict
            Record for the log: seconds, fraction of labels changed, cost, passes of the solver, and scores.
        """
        s = self.settings
        started = time.perf_counter()
        before = self.labels.copy()
        self._solutions = []
        self._step = step
        self._penalty = s.sizes.marginal_penalty if soft_sizes else 0.0
        if s.sizes.redrawn:
            self.sizes = self._draw_sizes([_SIZES, s.seed, step])
        with blas_threads(self._n_numbers):
            self._label_heads(step, use_overclusters)
        return self._record(before, time.perf_counter() - started, use_overclusters)

    def label_finally(self) -> None:
        """Find the final labels of every head by itself, from undistorted clips."""
        self._penalty = self.settings.sizes.marginal_penalty
        with blas_threads(self._n_numbers):
            self.backbone.write_features(self.store, self.own, None)
            for head in range(len(self.sizes)):
                self._label_head(head)

    def _label_heads(self, step: int, use_overclusters: bool) -> None:
        """Label by the heads, those of the same group from the same clips, and by the merged over-clusters."""
        s = self.settings
        heads = range(self._main if use_overclusters else 0, len(self.sizes))
        order = np.random.default_rng([_GROUPS, s.seed, step]).permutation(len(self.sizes))
        for group in range(s.groups):
            mine = [head for head in heads if order[head] % s.groups == group]
            if mine:
                self.backbone.write_features(
                    self.store, self.own, None if s.groups == 1 else [_CLIPS, s.seed, step, group]
                )
                for head in mine:
                    self._label_head(head)
        if s.overclustering_heads:
            self._merge_overclusters(use_overclusters)

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        state: dict[str, Any] = {"labels": self.labels}
        for head, groups in enumerate(self._overgroups or ()):
            state[f"overgroups_{head}"] = groups
        for head, (sizes, potentials) in enumerate(zip(self.sizes, self.potentials, strict=True)):
            state[f"sizes_{head}"] = sizes
            if potentials is not None:
                state[f"potentials_{head}"] = potentials
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load the result of `state`."""
        self.labels = state["labels"].astype(np.int32)
        self.potentials = [state.get(f"potentials_{head}") for head in range(len(self.potentials))]
        self.sizes = [state[f"sizes_{head}"] for head in range(len(self.sizes))]
        if "overgroups_0" in state:
            self._overgroups = [state[f"overgroups_{head}"] for head in range(self.settings.overclustering_heads)]

    def _label_head(self, head: int) -> None:
        name = self._names[head]
        constraints = self._constraints_of(head)
        log_prob = self._held_log_prob(head, constraints)
        if log_prob is None:
            self.backbone.write_log_prob(self.store, head, name)
        if self.settings.align and self.potentials[head] is None and len(self.store.modalities) > 1:
            permutation = align_modalities(self.store, name, self.exchange)
            self.backbone.permute(head, permutation)
            self.backbone.write_log_prob(self.store, head, name)
        if self.settings.labeller == "kmeans":
            self._cluster_head(head)
            return
        if self.settings.labeller == "published":
            self._label_as_published(head)
            return
        overclustering = head >= self._main
        solution, _ = self_label(
            self.store,
            name,
            self.sizes[head],
            strength=self.settings.strength,
            potentials=self.potentials[head],
            matched=self.settings.sizes.matched or overclustering,
            marginal_penalty=0.0 if overclustering else self._penalty,
            only=self.settings.only,
            constraints=constraints,
            n_videos=len(self.labels),
            log_prob=log_prob,
            exchange=self.exchange,
        )
        self._solutions.append((solution.cost, solution.n_passes))
        self.labels[:, head] = self.exchange.gather(solution.labels)
        self.potentials[head] = solution.potentials

    def _held_log_prob(self, head: int, constraints: HeadConstraints | None) -> Any:
        """Return the joint log-probabilities of a head from memory, or None if they are to be read from the store."""
        s = self.settings
        first = s.align and self.potentials[head] is None and len(self.store.modalities) > 1
        if first or constraints is not None or head >= self._main or s.labeller != "transport":
            return None
        return self.backbone.joint_log_prob(self.store, head, s.only)

    def _constraints_of(self, head: int) -> HeadConstraints | None:
        """Return the constraints of a head; over-clusters have none until they were merged for the first time."""
        if self._constraints is None:
            return None
        if head < self._main:
            return self._constraints.of_head(head)
        if self._overgroups is None:
            return None
        return self._constraints.of_overclusters(self._overgroups[head - self._main])

    def _label_as_published(self, head: int) -> None:
        """Label by the algorithm of the published program, which assigns the sizes at random and inverts them."""
        scores = joint_scores(self.store, self._names[head], only=self.settings.only)
        rng = np.random.default_rng([_SIZE_ORDER, self.settings.seed, self._step, head])
        sizes = rng.permutation(self.sizes[head])
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # the published program takes it
            result = assign(scores, sizes, strength=self.settings.strength, published=True)
        self._solutions.append((result.cost, result.n_passes))
        self.labels[:, head] = result.labels
        self.potentials[head] = np.nan_to_num(result.potentials, nan=0.0, posinf=0.0, neginf=0.0)

    def _cluster_head(self, head: int) -> None:
        """Label by K-means on the features; cluster numbers are those that overlap most with the last labels."""
        K = self.backbone.clusters[head]
        labels = kmeans_labels(self.store, K, seed=self.settings.seed + head)
        if (self.labels[:, head] >= 0).all():
            labels = match_numbers(labels, self.labels[:, head], K)
        self._solutions.append((0.0, 0))
        self.labels[:, head] = labels
        self.potentials[head] = np.zeros(K)

    def _merge_overclusters(self, use_overclusters: bool) -> None:
        """Merge the over-clusters, and label the main heads by them if that is due."""
        s = self.settings
        merged = merge_overclusters(self.store, self._names[self._main :], self.backbone.clusters[0], self.exchange)
        self.spectrum = merged.spectrum
        if use_overclusters:
            own = self.labels[self.own.start : self.own.stop, 0]
            columns = matching_columns(merged.posterior, own, self.exchange)
            posterior = merged.posterior[:, columns]
            if s.labeller == "kmeans":
                self.labels[:, : self._main] = posterior.argmax(1)[:, None]
                return
            log_prob = np.log(np.maximum(posterior, np.float32(1e-12)))
            marginal = self.sizes[0]
            if s.sizes.matched:
                marginal = marginals.match(marginal, predicted_mass(log_prob, self.exchange))
            if self._constraints is not None:
                self._overgroups = [np.argsort(columns)[groups] for groups in merged.groups]
                constraints = self._constraints.of_head(0)
                log_prob = constraints.local(self.own).scores(slice(0, len(log_prob)), log_prob, s.strength)
                marginal = constraints.sizes(marginal, len(self.labels))
            solution = assign(
                log_prob,
                marginal,
                strength=s.strength,
                marginal_penalty=self._penalty or None,
                engine=engine(self.exchange),
            )
            self._solutions.append((solution.cost, solution.n_passes))
            self.labels[:, : self._main] = self.exchange.gather(solution.labels)[:, None]

    def _draw_sizes(self, seed: Sequence[int]) -> list[NDArray[np.float64]]:
        sizes = self.settings.sizes
        rng = np.random.default_rng(seed)
        main = len(self.backbone.clusters) - self.settings.overclustering_heads
        drawn: list[NDArray[np.float64]] = []
        for head, K in enumerate(self.backbone.clusters):
            if 0 < head < main and not sizes.per_head:
                drawn.append(drawn[0])
            else:
                prescribed = sizes if head < main else ClusterSizes("gaussian", _OVERCLUSTER_SPREAD)
                drawn.append(prescribed.draw(K, self.backbone.n_videos, rng))
        return drawn

    def _record(self, before: NDArray[np.int32], seconds: float, use_overclusters: bool) -> dict[str, Any]:
        record: dict[str, Any] = {
            "labelling_seconds": seconds,
            "changed": float(np.mean(before != self.labels)),
            "main_changed": float(np.mean(before[:, : self._main] != self.labels[:, : self._main])),
            "cost": float(np.mean([cost for cost, _ in self._solutions])),
            "passes": sum(passes for _, passes in self._solutions),
        }
        every = max(1, len(before) // _COMPARED)
        main, last = self.labels[::every, : self._main], before[::every, : self._main]
        scores: dict[str, list[float]] = {}
        if (last >= 0).all():
            scores["nmi_with_last"] = [normalized_mutual_info_score(a, b) for a, b in zip(last.T, main.T, strict=True)]
        if self._main > 1 and not use_overclusters:  # otherwise they are the same
            scores["nmi_between_heads"] = [normalized_mutual_info_score(a, b) for a, b in combinations(main.T, 2)]
        if self._truth is not None:
            truth = self._truth[::every]
            known = truth >= 0
            for name, score in _SCORES_WITH_CLASSES.items():
                scores[f"{name}_with_classes"] = [score(truth[known], a[known]) for a in main.T]
        record |= {name: float(np.mean(values)) for name, values in scores.items() if values}
        return record | ({} if self.spectrum is None else {"spectrum": self.spectrum.tolist()})


def _codes(classes: Sequence[str] | None) -> NDArray[np.int64] | None:
    """Return classes as numbers, -1 where unknown; None if fewer than two classes are known."""
    names, codes = np.unique(np.asarray(classes or [], dtype=object).astype(str), return_inverse=True)
    if len(names) - ("" in names) < 2:
        return None
    return np.where(names[codes] == "", -1, codes)
