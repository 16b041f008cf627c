"""Fitting cross-fitted heads on features in memory or in a file, and the log-probabilities that they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.crossfit.components import Components, FeatureRows, check_rows, fit_components, read_rows
from selavi_ref.crossfit.logistic import fit_logistic, log_softmax
from selavi_ref.crossfit.rounds import FeatureSpace
from selavi_ref.crossfit.search import CrossfitSettings, Round, Search, SearchResult, SearchSummary
from selavi_ref.errors import InputError
from selavi_ref.selflabel.constraints import HeadConstraints
from selavi_ref.transport import marginals

DEFAULT_MARGINAL_PENALTY = 0.3


@dataclass(frozen=True)
class CrossfitModel:
    """
    Linear heads for any video, and held-out predictions for the videos that they were fitted on.

    Parameters
    ----------
    components : dict of str to Components
        Standardisation and principal components of each modality.
    weights : dict of str to array
        float32, shape (C + 1, K): weights of the logits; the last row holds the biases.
    log_prior : array
        float32, shape (K,): subtracted from each modality's log-probabilities.
    potentials : array
        float64, shape (K,): potentials of the last transport, in units of the log-probabilities; they stand for the
        sizes of the clusters.
    keys : dict of str to array
        uint64, shape (n,), of each modality: hashes of the features that the heads were fitted on, see `row_keys`.
    held_out : dict of str to array
        float32, shape (n, K), of each modality: ``log p(k | x) - log_prior`` by heads of other folds; NaN for videos
        that lack the modality.
    summary : SearchSummary
        How the search chose them.
    """

    components: dict[str, Components]
    weights: dict[str, NDArray[np.float32]]
    log_prior: NDArray[np.float32]
    potentials: NDArray[np.float64]
    keys: dict[str, NDArray[np.uint64]]
    held_out: dict[str, NDArray[np.float32]]
    summary: SearchSummary

    @property
    def n_clusters(self) -> int:
        """Number of clusters K."""
        return len(self.log_prior)

    @property
    def widths(self) -> dict[str, int]:
        """Number of features D of each modality."""
        return {modality: len(components.mean) for modality, components in self.components.items()}

    def log_prob(self, features: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """
        Return log-probabilities of each modality whose sum over modalities gives the posterior.

        Prior and potentials are part of them, so that the posterior is the softmax of their sum over whatever
        modalities a video has. Features that the heads were fitted on get held-out predictions.

        Parameters
        ----------
        features : mapping of str to array
            float32, shape (n, D), of some or all modalities. A row that is not finite lacks the modality.

        Returns
        -------
        dict of str to array
            float32, shape (n, K); NaN where the modality is missing.
        """
        ratios = {modality: self._log_ratio(modality, x) for modality, x in features.items()}
        n_present = np.sum([~np.isnan(ratio[:, 0]) for ratio in ratios.values()], 0)
        part = self.potentials.astype(np.float32) / np.maximum(n_present, 1).astype(np.float32)[:, None]
        return {modality: np.asarray(log_softmax(ratio + part)) for modality, ratio in ratios.items()}

    def log_posterior(self, features: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the log-posterior, float32, shape (n, K), from `log_prob`; NaN for videos without any modality."""
        each = np.stack(list(self.log_prob(features).values()))
        total = np.nansum(each, 0)
        total[np.isnan(each).all((0, 2))] = np.nan
        return np.asarray(log_softmax(total))

    def renumbered(self, clusters: NDArray[np.int32]) -> CrossfitModel:
        """Return the same model with other cluster numbers: cluster k becomes ``clusters[k]``, a permutation."""
        old = np.argsort(clusters)
        return replace(
            self,
            weights={modality: weights[:, old] for modality, weights in self.weights.items()},
            log_prior=self.log_prior[old],
            potentials=self.potentials[old],
            held_out={modality: ratio[:, old] for modality, ratio in self.held_out.items()},
        )

    def without_held_out(self) -> CrossfitModel:
        """Return the heads alone, which are all that unseen videos need."""
        none = np.empty((0, self.n_clusters), np.float32)
        return replace(
            self,
            keys=dict.fromkeys(self.components, np.empty(0, np.uint64)),
            held_out=dict.fromkeys(self.components, none),
        )

    def _log_ratio(self, modality: str, features: NDArray[np.float32]) -> NDArray[np.float32]:
        weights, present = self.weights[modality], np.isfinite(features).all(1)
        ratio = log_softmax(self.components[modality](features) @ weights[:-1] + weights[-1]) - self.log_prior
        order = np.argsort(self.keys[modality], kind="stable")
        known, keys = self.keys[modality][order], row_keys(features)
        place = np.searchsorted(known, keys)
        learnt = np.append(known, np.uint64(0))[place] == keys
        learnt &= place < len(known)
        ratio[learnt] = self.held_out[modality][order[place[learnt]]]
        ratio[~present] = np.nan
        return np.asarray(ratio)


def row_keys(features: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return a hash of each row of float32 features (n, D), uint64, shape (n,): equal rows have equal hashes."""
    bits = np.ascontiguousarray(features, np.float32).view(np.uint32).astype(np.uint64)
    factors = np.random.Generator(np.random.PCG64(0)).integers(1, 2**63, bits.shape[1], np.uint64) * 2 + 1
    return np.asarray((bits * factors).sum(1))


def fit_crossfit(
    features: Mapping[str, FeatureRows],
    K: int,
    *,
    marginal: ArrayLike | None = None,
    marginal_penalty: float | None = DEFAULT_MARGINAL_PENALTY,
    settings: CrossfitSettings | None = None,
    seed: int | np.random.Generator = 0,
    on_round: Callable[[Round], None] = lambda _: None,
) -> tuple[CrossfitModel, SearchResult]:
    """
    Fit cross-fitted heads on the features of one, two or more modalities, which may be larger than memory.

    Of more videos than `CrossfitSettings.sample`, a random sample is read, in one pass over the features; all others
    are unseen videos for the heads.

    Parameters
    ----------
    features, K, marginal, marginal_penalty, settings, seed, on_round
        As in `selavi_ref.crossfit.crossfit`.

    Returns
    -------
    model, search : CrossfitModel, SearchResult
        The heads, and how the search chose them.

    Raises
    ------
    InputError
        If shapes do not fit, or there are fewer videos than twice the clusters.
    """
    settings, rng = settings or CrossfitSettings(), np.random.default_rng(seed)
    sizes = marginals.uniform(K) if marginal is None else marginals.given(marginal, K)
    keys, components, spaces, _ = _reduce(features, K, settings, rng)
    search = Search(spaces, K, sizes, marginal_penalty, settings, rng, on_round).run()
    return _model(search, keys, components, spaces), search


def refine_crossfit(
    features: Mapping[str, FeatureRows],
    K: int,
    labels: NDArray[np.int32],
    *,
    constraints: HeadConstraints | None = None,
    marginal: ArrayLike | None = None,
    marginal_penalty: float | None = DEFAULT_MARGINAL_PENALTY,
    settings: CrossfitSettings | None = None,
    seed: int | np.random.Generator = 0,
    on_round: Callable[[Round], None] = lambda _: None,
) -> CrossfitModel:
    """
    Fit cross-fitted heads from labels that are known well, such as those of a run before it learnt on.

    Only the last rounds of the search are done, so that clusters keep their numbers. Other parameters and errors are
    those of `fit_crossfit`.

    Parameters
    ----------
    labels : array
        int32, shape (N,), of all videos with features.
    constraints : HeadConstraints, optional
        Corrections of people, in the same cluster numbers.
    """
    settings, rng = settings or CrossfitSettings(), np.random.default_rng(seed)
    sizes = marginals.uniform(K) if marginal is None else marginals.given(marginal, K)
    keys, components, spaces, rows = _reduce(features, K, settings, rng)
    if constraints is not None:
        constraints = constraints.take(rows)
        sizes = constraints.sizes(sizes, len(rows))
    search = Search(spaces, K, sizes, marginal_penalty, settings, rng, on_round, constraints)
    return _model(search.refine(labels[rows]), keys, components, spaces)


def add_modality(
    model: CrossfitModel,
    modality: str,
    features: FeatureRows,
    labels: NDArray[np.int32],
    *,
    settings: CrossfitSettings | None = None,
    seed: int | np.random.Generator = 0,
) -> CrossfitModel:
    """
    Add a head on another modality that predicts labels which were found without it.

    Parameters
    ----------
    model : CrossfitModel
        A fitted model.
    modality : str
        Name of the modality.
    features : rows
        float32, shape (N, D); a row that is not finite lacks the modality.
    labels : array
        int32, shape (N,); -1 for none.
    settings : CrossfitSettings, optional
        Settings of the search; of more videos than its sample, a random sample is used.
    seed : int or Generator
        Seed of the sample.

    Returns
    -------
    CrossfitModel
        Without held-out predictions, and so for unseen videos.
    """
    settings, rng, K = settings or CrossfitSettings(), np.random.default_rng(seed), model.n_clusters
    rows, most = np.flatnonzero(labels >= 0), settings.sample_size(K)
    if most < len(rows):
        rows = np.sort(rng.choice(rows, most, replace=False))
    sample = read_rows(features, rows)
    components, present = fit_components(sample, settings.components)
    heads = fit_logistic(
        components(sample),
        labels[rows][None],
        present[None],
        K,
        penalty=model.summary.penalty,
        max_iterations=settings.iterations,
    )
    model = model.without_held_out()
    return replace(
        model,
        components={**model.components, modality: components},
        weights={**model.weights, modality: heads.weights[:, 0]},
        keys={**model.keys, modality: np.empty(0, np.uint64)},
        held_out={**model.held_out, modality: np.empty((0, K), np.float32)},
    )


def fit_ensemble(
    features: Mapping[str, FeatureRows],
    K: int,
    n: int,
    *,
    settings: CrossfitSettings | None = None,
    seed: int | np.random.Generator = 0,
    on_round: Callable[[Round], None] = lambda _: None,
) -> list[CrossfitModel]:
    """Return n models from independent starts with clusters of equal sizes; parameters are those of `fit_crossfit`."""
    settings, rng = settings or CrossfitSettings(), np.random.default_rng(seed)
    keys, components, spaces, _ = _reduce(features, K, settings, rng)
    results = Search(spaces, K, marginals.uniform(K), None, settings, rng, on_round).run_each(n)
    return [_model(result, keys, components, spaces) for result in results]


def _model(
    search: SearchResult,
    keys: dict[str, NDArray[np.uint64]],
    components: dict[str, Components],
    spaces: list[FeatureSpace],
) -> CrossfitModel:
    held_out = {}
    for modality, ratio, space in zip(components, search.log_ratio, spaces, strict=True):
        held_out[modality] = np.where(space.present[:, None], ratio, np.float32(np.nan))
    weights = dict(zip(components, search.weights, strict=True))
    return CrossfitModel(components, weights, search.log_prior, search.potentials, keys, held_out, search.summary)


def _reduce(
    features: Mapping[str, FeatureRows], K: int, settings: CrossfitSettings, rng: np.random.Generator
) -> tuple[dict[str, NDArray[np.uint64]], dict[str, Components], list[FeatureSpace], NDArray[np.int64]]:
    """Return hashes and components of the videos to fit on, and their numbers."""
    if not features:
        raise InputError("there are no features to label videos from; give at least one modality", option="features")
    if K < 2:
        raise InputError(f"the number of clusters must be at least 2, not {K}", option="clusters", value=K)
    for x in features.values():
        check_rows(x)
    counts = {name: x.shape[0] for name, x in features.items()}
    if len(set(counts.values())) > 1:
        each = ", ".join(f"{name} {n}" for name, n in counts.items())
        raise InputError(f"all modalities must have one row for each video, but rows are: {each}", option="features")
    N, most = next(iter(counts.values())), settings.sample_size(K)
    rows = np.sort(rng.choice(N, most, replace=False)) if most < N else np.arange(N)
    components, keys, spaces = {}, {}, []
    for name, x in features.items():
        sample = read_rows(x, rows)
        keys[name] = row_keys(sample)
        components[name], present = fit_components(sample, settings.components)
        spaces.append(FeatureSpace(components[name](sample), present))
    usable = np.logical_or.reduce([space.present for space in spaces])
    if usable.sum() < 2 * K:
        message = f"{K} clusters need at least {2 * K} videos with features; there are {int(usable.sum())}"
        raise InputError(message, option="clusters", value=K)
    if not usable.all():
        kept = np.flatnonzero(usable)
        keys, spaces = {name: its[kept] for name, its in keys.items()}, [space.take(kept) for space in spaces]
        rows = rows[kept]
    return keys, components, spaces, rows
