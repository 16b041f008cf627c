"""The self-labellings of a run: the labels, sizes and potentials of every head, and how they are found anew."""

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
from selavi_ref.runs.processes import Exchange, engine, local_rows
from selavi_ref.selflabel.backbone import Backbone, working_names
from selavi_ref.selflabel.kmeans import kmeans_labels
from selavi_ref.selflabel.overclustering import merge_overclusters, renumber
from selavi_ref.selflabel.self_labelling import ClusterSizes, align_modalities, predicted_mass, self_label
from selavi_ref.selflabel.settings import TrainingSettings
from selavi_ref.store import WorkingStore
from selavi_ref.transport import assign, marginals
from selavi_ref.transport.store_scores import joint_scores

_SIDE_SPREAD = 0.02  # of the sizes of side heads' clusters, whatever was asked for the others
_COMPARED = 1_000_000  # videos, evenly spread, whose labels are compared for the log
_LOOK, _SIZES, _GROUPS, _SIZE_ORDER = 2, 3, 5, 6  # first entries of seeds; see `selavi_ref.selflabel.training`

_SCORES_WITH_CLASSES = {  # of each head's labels, for the log
    "nmi": normalized_mutual_info_score,
    "anmi": adjusted_mutual_info_score,
    "purity": mean_purity,
    "entropy": mean_entropy,
}


class PseudoLabels:
    """
    The labels of all videos by every head, and what is needed to find them anew.

    With several processes, each looks at its share of the videos and knows the labels of all of them.

    Parameters
    ----------
    backbone : Backbone
        Predicts.
    settings : TrainingSettings
        How.
    store : WorkingStore
        Of this process's share of the videos; see `selavi_ref.selflabel.backbone.working_datasets`.
    exchange : Exchange
        With the other processes.
    classes : sequence of str, optional
        True classes of all videos, "" where unknown; they are compared with the labels for the log, and nothing else.

    Attributes
    ----------
    labels : array
        int32, shape (N, H); -1 before the first self-labelling.
    potentials : list of array or None
        Of each head's last solution, float64, shape (K,).
    sizes : list of array
        Of each head's clusters, float64, shape (K,).
    spectrum : array or None
        What `selavi_ref.selflabel.overclustering.merge_overclusters` has last found.
    """

    def __init__(
        self,
        backbone: Backbone,
        settings: TrainingSettings,
        store: WorkingStore,
        exchange: Exchange,
        classes: Sequence[str] | None = None,
    ):
        self.backbone = backbone
        self.settings = settings
        self.store = store
        self.exchange = exchange
        N, H = backbone.n_videos, len(backbone.clusters)
        if settings.labeller != "transport" and exchange.size > 1:
            raise InputError(f"--labeller {settings.labeller} runs in one process, not in {exchange.size}")
        self.own = local_rows(N, exchange)
        self.labels = np.full((N, H), -1, np.int32)
        self.potentials: list[NDArray[np.float64] | None] = [None] * H
        self.sizes = self._drawn_sizes([_SIZES, settings.seed])
        self.spectrum: NDArray[np.float64] | None = None
        self._names = working_names(backbone.clusters, settings.overclustering_heads)
        self._main = H - settings.overclustering_heads
        self._truth = _codes(classes)
        self._solutions: list[tuple[float, int]] = []
        self._penalty = 0.0
        self._step = 0

    def relabel(self, step: int, use_overclusters: bool, soft_sizes: bool = False) -> dict[str, Any]:
        """
        Label all videos anew with every head, from the networks as they are.

        Parameters
        ----------
        step : int
            Steps taken; part of the seed of random clips.
        use_overclusters : bool
            Whether the labelling heads get the labels of the merged overclusters.
        soft_sizes : bool
            Whether the marginal penalty of the settings applies; otherwise the sizes are met.

        Returns
        -------
        dict
            For the log: seconds, share of labels changed, cost, passes of the solver, and agreements (NMI).
        """
        s = self.settings
        started = time.perf_counter()
        before = self.labels.copy()
        self._solutions = []
        self._step = step
        self._penalty = s.sizes.marginal_penalty if soft_sizes else 0.0
        if s.sizes.redrawn:
            self.sizes = self._drawn_sizes([_SIZES, s.seed, step])
        heads = range(self._main if use_overclusters else 0, len(self.sizes))
        order = np.random.default_rng([_GROUPS, s.seed, step]).permutation(len(self.sizes))
        for group in range(s.groups):
            mine = [head for head in heads if order[head] % s.groups == group]
            if mine:
                self.backbone.write_features(
                    self.store, self.own, None if s.groups == 1 else [_LOOK, s.seed, step, group]
                )
                for head in mine:
                    self._label_head(head)
        if s.overclustering_heads:
            self._bring_together(use_overclusters)
        return self._record(before, time.perf_counter() - started, use_overclusters)

    def label_finally(self) -> None:
        """Label with every head by itself, looking at the videos as they are."""
        self._penalty = self.settings.sizes.marginal_penalty
        self.backbone.write_features(self.store, self.own, None)
        for head in range(len(self.sizes)):
            self._label_head(head)

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes."""
        state: dict[str, Any] = {"labels": self.labels}
        for head, (sizes, potentials) in enumerate(zip(self.sizes, self.potentials, strict=True)):
            state[f"sizes_{head}"] = sizes
            if potentials is not None:
                state[f"potentials_{head}"] = potentials
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self.labels = state["labels"].astype(np.int32)
        self.potentials = [state.get(f"potentials_{head}") for head in range(len(self.potentials))]
        self.sizes = [state[f"sizes_{head}"] for head in range(len(self.sizes))]

    def _label_head(self, head: int) -> None:
        name = self._names[head]
        self.backbone.write_log_prob(self.store, head, name)
        if self.settings.align and self.potentials[head] is None:
            permutation = align_modalities(self.store, name, self.exchange)
            self.backbone.permute(head, permutation)
            self.backbone.write_log_prob(self.store, head, name)
        if self.settings.labeller == "kmeans":
            self._cluster_head(head)
            return
        if self.settings.labeller == "published":
            self._label_as_published(head)
            return
        side = head >= self._main
        found, _ = self_label(
            self.store,
            name,
            self.sizes[head],
            strength=self.settings.strength,
            potentials=self.potentials[head],
            matched=self.settings.sizes.matched or side,
            marginal_penalty=0.0 if side else self._penalty,
            only=self.settings.only,
            exchange=self.exchange,
        )
        self._solutions.append((found.cost, found.n_passes))
        self.labels[:, head] = self.exchange.gather(found.labels)
        self.potentials[head] = found.potentials

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
        """Label by K-means on the features, with the numbers that overlap most with those of the last labels."""
        K = self.backbone.clusters[head]
        found = kmeans_labels(self.store, K, seed=self.settings.seed + head)
        if (self.labels[:, head] >= 0).all():
            found = match_numbers(found, self.labels[:, head], K)
        self._solutions.append((0.0, 0))
        self.labels[:, head] = found
        self.potentials[head] = np.zeros(K)

    def _bring_together(self, use_overclusters: bool) -> None:
        """Look at how far the side heads' clusters come together, and label the other heads by them if it is time."""
        s = self.settings
        found = merge_overclusters(self.store, self._names[self._main :], self.backbone.clusters[0], self.exchange)
        self.spectrum = found.spectrum
        if use_overclusters:
            own = self.labels[self.own.start : self.own.stop, 0]
            coarse = renumber(found.posterior, own, self.exchange)
            if s.labeller == "kmeans":
                self.labels[:, : self._main] = coarse.argmax(1)[:, None]
                return
            log_prob = np.log(np.maximum(coarse, np.float32(1e-12)))
            marginal = self.sizes[0]
            if s.sizes.matched:
                marginal = marginals.match(marginal, predicted_mass(log_prob, self.exchange))
            solved = assign(
                log_prob,
                marginal,
                strength=s.strength,
                marginal_penalty=self._penalty or None,
                engine=engine(self.exchange),
            )
            self._solutions.append((solved.cost, solved.n_passes))
            self.labels[:, : self._main] = self.exchange.gather(solved.labels)[:, None]

    def _drawn_sizes(self, seed: Sequence[int]) -> list[NDArray[np.float64]]:
        sizes = self.settings.sizes
        rng = np.random.default_rng(seed)
        main = len(self.backbone.clusters) - self.settings.overclustering_heads
        drawn: list[NDArray[np.float64]] = []
        for head, K in enumerate(self.backbone.clusters):
            if 0 < head < main and not sizes.per_head:
                drawn.append(drawn[0])
            else:
                wanted = sizes if head < main else ClusterSizes("gaussian", _SIDE_SPREAD)
                drawn.append(wanted.draw(K, self.backbone.n_videos, rng))
        return drawn

    def _record(self, before: NDArray[np.int32], seconds: float, use_overclusters: bool) -> dict[str, Any]:
        record: dict[str, Any] = {
            "labelling_seconds": seconds,
            "changed": float(np.mean(before != self.labels)),
            "cost": float(np.mean([cost for cost, _ in self._solutions])),
            "passes": sum(passes for _, passes in self._solutions),
        }
        every = max(1, len(before) // _COMPARED)
        main, last = self.labels[::every, : self._main], before[::every, : self._main]
        agreements: dict[str, list[float]] = {}
        if (last >= 0).all():
            agreements["nmi_with_last"] = [
                normalized_mutual_info_score(a, b) for a, b in zip(last.T, main.T, strict=True)
            ]
        if self._main > 1 and not use_overclusters:  # else they are the same
            agreements["nmi_between_heads"] = [normalized_mutual_info_score(a, b) for a, b in combinations(main.T, 2)]
        if self._truth is not None:
            truth = self._truth[::every]
            known = truth >= 0
            for name, score in _SCORES_WITH_CLASSES.items():
                agreements[f"{name}_with_classes"] = [score(truth[known], a[known]) for a in main.T]
        record |= {name: float(np.mean(values)) for name, values in agreements.items() if values}
        return record | ({} if self.spectrum is None else {"spectrum": self.spectrum.tolist()})


def _codes(classes: Sequence[str] | None) -> NDArray[np.int64] | None:
    """Return classes as numbers, -1 where unknown; None if there are not two classes to tell apart."""
    names, codes = np.unique(np.asarray(classes or [], dtype=object).astype(str), return_inverse=True)
    if len(names) - ("" in names) < 2:
        return None
    return np.where(names[codes] == "", -1, codes)
