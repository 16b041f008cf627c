"""Search for the labels that held-out heads predict best: many runs, of which the better continue, and a consensus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from selavi_ref.crossfit.kmeans_start import kmeans_start
from selavi_ref.crossfit.logistic import log_softmax
from selavi_ref.crossfit.rounds import FeatureSpace, HeldOut, predict_held_out, transport
from selavi_ref.ensemble.consensus import find_consensus
from selavi_ref.selflabel.constraints import HeadConstraints

_FIRST_PENALTY = 10.0  # marginal penalty at the start of a gradual run
_MANY = 8192  # videos above which fewer draws of folds are averaged
_RECENT = 0.7  # weight of the past in the running mean of the information


@dataclass(frozen=True)
class CrossfitSettings:
    """
    Settings of cross-fitted self-labelling; the defaults are meant for every collection.

    Parameters
    ----------
    runs : int
        Runs from K-means starts, distributed over penalties and size schedules; fewer for many clusters.
    rounds : int
        Self-labellings of each run; the worse half of the runs ends after two thirds of them.
    final_rounds : int
        Self-labellings of each candidate (the best runs and their consensus), with scores averaged over fold draws.
    draws : int
        Fold draws per round of a candidate; fewer for more than 8,192 videos.
    folds : int
        Number of folds; the videos of one are labelled by heads fitted on the others.
    penalties : tuple of float
        Penalties on the squared weights to choose from.
    components : int
        Principal components of each modality, at most.
    strength : float
        Factor of the scores in the transport, see `selavi_ref.transport.assign`.
    iterations : int
        Steps of L-BFGS of each fit.
    search_sample : int
        Videos that the runs label, at most (or 32 for each cluster, if that is more).
    sample : int
        Videos that the candidates label, at most (or 50 for each cluster); all others are labelled by the heads.
    """

    runs: int = 24
    rounds: int = 36
    final_rounds: int = 10
    draws: int = 4
    folds: int = 2
    penalties: tuple[float, ...] = (0.05, 0.1, 0.2)
    components: int = 128
    strength: float = 5.0
    iterations: int = 6
    search_sample: int = 4096
    sample: int = 32_768

    @property
    def total_rounds(self) -> int:
        """Number of rounds of a whole search."""
        return self.rounds + self.final_rounds

    def n_runs(self, K: int) -> int:
        """Return the number of runs for K clusters."""
        return max(min(self.runs, 6), min(self.runs, 2400 // K))

    def sample_size(self, K: int) -> int:
        """Return the number of videos that the candidates label, at most."""
        return max(self.sample, 50 * K)

    def search_sample_size(self, K: int) -> int:
        """Return the number of videos that the runs label, at most."""
        return max(self.search_sample, 32 * K)


@dataclass(frozen=True)
class Round:
    """
    Result of one round, for progress and diagnostics.

    Parameters
    ----------
    number : int
        Number of the round in the whole search, from 1.
    information : array
        Running mean of `HeldOut.information` of each run, nats.
    changed : array
        Fraction of the labels of each run that changed.
    """

    number: int
    information: NDArray[np.float64]
    changed: NDArray[np.float64]


@dataclass(frozen=True)
class SearchSummary:
    """
    What a search has chosen, and how sure it was.

    Parameters
    ----------
    penalty : float
        Penalty on the squared weights.
    candidate : str
        Name of the chosen candidate.
    information : dict of str to float
        Held-out information of all candidates, nats.
    agreement : float or None
        Mean NMI between the labels of the better runs, which started from different labels; None for a single start.
    """

    penalty: float
    candidate: str
    information: dict[str, float]
    agreement: float | None


@dataclass(frozen=True)
class SearchResult:
    """
    The candidate with the most held-out information.

    Parameters
    ----------
    labels : array
        int32, shape (N,).
    log_ratio : array
        float32, shape (M, N, K): held-out log ratios, mean over the fold draws of the last rounds.
    weights : list of array
        Of each modality, float32, shape (C + 1, K): mean of the heads of the same draws.
    log_prior : array
        float32, shape (K,): mean log prior that was subtracted from their log-probabilities.
    potentials : array
        float64, shape (K,): of the transport of the summed log ratios that gave the labels.
    summary : SearchSummary
        What was chosen.
    rounds : list of Round
        History of the search.
    """

    labels: NDArray[np.int32]
    log_ratio: NDArray[np.float32]
    weights: list[NDArray[np.float32]]
    log_prior: NDArray[np.float32]
    potentials: NDArray[np.float64]
    summary: SearchSummary
    rounds: list[Round]


@dataclass(frozen=True)
class _Runs:
    """S runs: labels (S, N), penalty (S,), whether their sizes become soft gradually (S,), information (S,)."""

    labels: NDArray[np.int32]
    penalty: NDArray[np.float64]
    gradual: NDArray[np.bool_]
    information: NDArray[np.float64]

    def best(self, n: int) -> _Runs:
        """Return the n runs with the most information, the best first."""
        kept = np.argsort(-self.information, kind="stable")[:n]
        return _Runs(self.labels[kept], self.penalty[kept], self.gradual[kept], self.information[kept])


@dataclass
class Search:
    """
    Cross-fitted self-labelling of N videos from many starts.

    Parameters
    ----------
    spaces : sequence of FeatureSpace
        Components of each modality.
    K : int
        Number of clusters.
    marginal : array
        float64, shape (K,): sizes of the clusters, sum 1.
    marginal_penalty : float or None
        Penalty for missing these sizes, see `selavi_ref.transport.assign`; None: they are met.
    settings : CrossfitSettings
        Settings of the search.
    rng : Generator
        Source of starts and folds.
    on_round : callable
        Called after each round.
    constraints : HeadConstraints, optional
        Corrections of people, in the cluster numbers of the labels that `refine` starts from.
    """

    spaces: Sequence[FeatureSpace]
    K: int
    marginal: NDArray[np.float64]
    marginal_penalty: float | None
    settings: CrossfitSettings
    rng: np.random.Generator
    on_round: Callable[[Round], None] = lambda _: None
    constraints: HeadConstraints | None = None
    rounds: list[Round] = field(default_factory=list)

    def run(self) -> SearchResult:
        """Search from all starts, and return the best candidate."""
        few, whole = self._few(), self.spaces
        runs = self._run_starts(few)
        better = runs.best(max(1, len(runs.labels) // 2))
        candidates = _candidates(runs, better, self.K)
        penalty = float(np.median(better.penalty))
        labels = np.stack(list(candidates.values()))
        if few is not whole:
            labels = self._spread(labels, few, penalty)
        return self._finish(list(candidates), labels, penalty, _agreement(better.labels, self.K))

    def run_each(self, n: int) -> list[SearchResult]:
        """Return n independent labellings, each from one start, for an ensemble of heads."""
        few, whole = self._few(), self.spaces
        runs = self._run_starts(few, n, select=False)
        results = []
        for labels, penalty in zip(runs.labels, runs.penalty, strict=True):
            its_labels = labels[None] if few is whole else self._spread(labels[None], few, float(penalty))
            results.append(self._finish(["run"], its_labels, float(penalty), _agreement(runs.labels, self.K)))
        return results

    def refine(self, labels: NDArray[np.int32]) -> SearchResult:
        """Return the result of the last rounds alone, from given labels (N,), whose cluster numbers stay."""
        penalty = float(np.median(self.settings.penalties))
        return self._finish(["given labels"], labels[None], penalty, None)

    def _few(self) -> Sequence[FeatureSpace]:
        """Return the videos that the runs label."""
        N, most = len(self.spaces[0].x), self.settings.search_sample_size(self.K)
        if most >= N:
            return self.spaces
        rows = np.sort(self.rng.choice(N, most, replace=False))
        return [space.take(rows) for space in self.spaces]

    def _run_starts(self, spaces: Sequence[FeatureSpace], n: int | None = None, select: bool = True) -> _Runs:
        runs, rounds = self._start(spaces, n or self.settings.n_runs(self.K)), self.settings.rounds
        for number in range(rounds):
            if select and number == rounds * 2 // 3:
                runs = runs.best(max(2, len(runs.labels) // 2))
            runs = self._advance(runs, spaces, number / rounds)
        return runs

    def _start(self, spaces: Sequence[FeatureSpace], n: int) -> _Runs:
        joined = np.concatenate([space.x for space in spaces], 1)
        labels = np.stack([kmeans_start(joined, self.K, self.rng) for _ in range(n)])
        order = np.arange(n)
        penalty = np.asarray(self.settings.penalties)[order // 2 % len(self.settings.penalties)]
        return _Runs(labels, penalty, order % 2 == 1, np.full(n, np.nan))

    def _advance(self, runs: _Runs, spaces: Sequence[FeatureSpace], progress: float) -> _Runs:
        held_out = self._predict(spaces, runs.labels, runs.penalty)
        scores, penalties = held_out.scores, self._marginal_penalties(runs.gradual, progress)
        labels = np.stack([self._transport(s, p)[0] for s, p in zip(scores, penalties, strict=True)])
        past = np.where(np.isnan(runs.information), held_out.information, runs.information)
        information = _RECENT * past + (1 - _RECENT) * held_out.information
        self._record(information, (labels != runs.labels).mean(1))
        return _Runs(labels, runs.penalty, runs.gradual, information)

    def _marginal_penalties(self, gradual: NDArray[np.bool_], progress: float) -> list[float | None]:
        """
        Return the marginal penalty of each run after a fraction of its rounds.

        Sizes that are free from the start let the largest K-means clusters grow; sizes that are met to the end split
        large classes. Half of the runs meet them for a third of their rounds; the other half lower the penalty
        gradually.
        """
        last = self.marginal_penalty
        if last is None:
            return [None] * len(gradual)
        falling = max(last, _FIRST_PENALTY * (last / _FIRST_PENALTY) ** min(1.0, progress / 0.7))
        early = 3 * progress < 1
        return [falling if slow else (None if early else last) for slow in gradual]

    def _spread(self, labels: NDArray[np.int32], few: Sequence[FeatureSpace], penalty: float) -> NDArray[np.int32]:
        """Label all videos by heads fitted to labels (S, n) of a few of them, int32, shape (S, N)."""
        held_out = self._predict(few, labels, np.full(len(labels), penalty))
        spread = []
        for run in range(len(labels)):
            scores = np.zeros((len(self.spaces[0].x), self.K), np.float32)
            for space, weights in zip(self.spaces, held_out.weights, strict=True):
                mean = weights[:, run].mean(1)
                log_prob = log_softmax(space.x @ mean[:-1] + mean[-1])
                scores += (log_prob - held_out.log_prior[run]) * space.present[:, None]
            spread.append(self._transport(scores, self.marginal_penalty)[0])
        return np.stack(spread)

    def _finish(
        self, names: list[str], labels: NDArray[np.int32], penalty: float, agreement: float | None
    ) -> SearchResult:
        """Self-label each candidate with log ratios averaged over draws; return the one with most information."""
        n, N, M = len(names), labels.shape[1], len(self.spaces)
        final_rounds = self.settings.final_rounds
        averaged = max(1, final_rounds // 2)
        draws = max(1, min(self.settings.draws, self.settings.draws * _MANY // N))
        log_ratio = np.zeros((M, n, N, self.K), np.float32)
        weights = [np.zeros((space.x.shape[1] + 1, n, self.K), np.float32) for space in self.spaces]
        log_prior, information = np.zeros((n, self.K), np.float32), np.zeros(n)
        for number in range(final_rounds):
            held_out = self._predict(self.spaces, np.repeat(labels, draws, 0), np.full(n * draws, penalty))
            mean_ratio = held_out.log_ratio.reshape(M, n, draws, N, self.K).mean(2)
            new = np.stack([self._transport(scores, self.marginal_penalty)[0] for scores in mean_ratio.sum(0)])
            mean_information = held_out.information.reshape(n, -1).mean(1)
            self._record(mean_information, (new != labels).mean(1))
            labels = new
            if number < final_rounds - averaged:
                continue
            log_ratio += mean_ratio / averaged
            information += mean_information / averaged
            log_prior += held_out.log_prior[::draws] / averaged
            for total, its in zip(weights, held_out.weights, strict=True):
                total += its.reshape(len(total), n, -1, self.K).mean(2) / averaged
        best = int(information.argmax())
        final_labels, potentials = self._transport(log_ratio[:, best].sum(0), self.marginal_penalty)
        return SearchResult(
            labels=final_labels,
            log_ratio=np.ascontiguousarray(log_ratio[:, best]),
            weights=[np.ascontiguousarray(w[:, best]) for w in weights],
            log_prior=log_prior[best],
            potentials=potentials,
            summary=SearchSummary(penalty, names[best], dict(zip(names, information.tolist(), strict=True)), agreement),
            rounds=self.rounds,
        )

    def _predict(
        self, spaces: Sequence[FeatureSpace], labels: NDArray[np.int32], penalty: NDArray[np.float64]
    ) -> HeldOut:
        s = self.settings
        return predict_held_out(
            spaces, labels, self.K, folds=s.folds, penalty=penalty, iterations=s.iterations, rng=self.rng
        )

    def _transport(
        self, scores: NDArray[np.float32], marginal_penalty: float | None
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        if self.constraints is not None:
            scores = self.constraints.scores(slice(0, len(scores)), scores, self.settings.strength)
        return transport(scores, self.marginal, self.settings.strength, marginal_penalty)

    def _record(self, information: NDArray[np.float64], changed: NDArray[np.float64]) -> None:
        self.rounds.append(Round(len(self.rounds) + 1, information, changed))
        self.on_round(self.rounds[-1])


def majority_labels(labels: NDArray[np.int32], K: int) -> NDArray[np.int32]:
    """Return for each video the cluster of the consensus for which most of several labellings (S, N) vote, (N,)."""
    groups = find_consensus(np.ascontiguousarray(labels.T), K).groups
    votes = np.zeros((labels.shape[1], K), np.int32)
    for run, its_groups in zip(labels, groups, strict=True):
        votes[np.arange(len(votes)), its_groups[run]] += 1
    return votes.argmax(1).astype(np.int32)


def _candidates(runs: _Runs, better: _Runs, K: int) -> dict[str, NDArray[np.int32]]:
    """Return initial labels of the final rounds: of the best run, and the consensus of the better half and of all."""
    candidates = {"best run": better.labels[0]}
    if len(better.labels) > 2:
        candidates["consensus of the better runs"] = majority_labels(better.labels, K)
    if len(runs.labels) > len(better.labels):
        candidates["consensus of all runs"] = majority_labels(runs.labels, K)
    return candidates


def _agreement(labels: NDArray[np.int32], K: int) -> float:
    return float(find_consensus(np.ascontiguousarray(labels.T), K).agreement.mean())
