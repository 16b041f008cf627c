"""Bootstrap intervals of the scores: their uncertainty because the videos are a sample."""

import math
import operator
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError
from selavi_ref.metrics.all_scores import SCORES
from selavi_ref.metrics.contingency import Labels, PairCounts, count_pairs

# Scores that are not biased on small samples.
_UNBIASED = ("ami", "ari", "fmi")


def bootstrap_intervals(
    labels_true: Labels,
    labels_pred: Labels,
    *,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    rng: np.random.Generator,
    scores: Sequence[str] = tuple(SCORES),
) -> dict[str, tuple[float, float]]:
    """
    Compute confidence intervals of the scores of the population of which the videos are a random sample.

    Drawing N videos with replacement is drawing the nonzero entries of their contingency table from one multinomial
    distribution, so the cost of a resample grows with the entries of the table, not with N. Classes and clusters of
    which a resample has no video do not count in it.

    Mutual information, purity and the accuracy after matching are biased upwards on a small sample, and again on a
    resample of it. Percentiles of the resamples would double that bias; the basic interval, from
    ``2 s - q_high`` to ``2 s - q_low`` with the score s of all videos and the quantiles q of the resamples, takes the
    second bias as an estimate of the first and subtracts it. The scores ``ami``, ``ari`` and ``fmi`` have no such bias,
    but resamples have, as they hold videos twice, which are always together: ``s + m - q_high`` to ``s + m - q_low``,
    with the mean m of the resamples, leaves it out. Intervals are clipped to the values that a score can have, and
    need not hold s.

    With few videos for each pair of class and cluster, below some five, no resampling makes up for the bias of scores
    that are made of entropies, and their intervals miss more often than they should.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video.
    n_resamples : int
        Number of resamples, at least 1.
    confidence : float
        Confidence level, between 0 and 1, both excluded.
    rng : numpy.random.Generator
        Random generator; in the same state it gives the same intervals.
    scores : sequence of str
        Names of scores, as in `summary`.

    Returns
    -------
    dict
        Name of each score and its interval ``(low, high)``.

    Raises
    ------
    InputError
        Labels that do not fit, an unknown score, or a number or confidence out of range.

    References
    ----------
    Davison and Hinkley, Bootstrap methods and their application, 1997, section 5.2.1.
    """
    _check(n_resamples, confidence, rng, scores)
    pairs = count_pairs(labels_true, labels_pred)
    frequencies = pairs.counts / pairs.n
    values = np.empty((n_resamples, len(scores)))
    for row in values:
        resample = _with_counts(pairs, rng.multinomial(pairs.n, frequencies))
        row[:] = [SCORES[name](resample) for name in scores]
    return {name: _interval(name, pairs, values[:, i], confidence) for i, name in enumerate(scores)}


def _check(n_resamples: int, confidence: float, rng: np.random.Generator, scores: Iterable[str]) -> None:
    try:
        is_positive = operator.index(n_resamples) >= 1
    except TypeError:
        is_positive = False
    if not is_positive:
        message = f"n_resamples must be a whole number of at least 1, not {n_resamples}"
        raise InputError(message, option="n_resamples", value=n_resamples)
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be between 0 and 1, not {confidence}", option="confidence", value=confidence)
    if not isinstance(rng, np.random.Generator):
        raise InputError(f"rng must be a numpy.random.Generator, not {type(rng).__name__}", option="rng", value=rng)
    if isinstance(scores, str):
        raise InputError(f"scores must be a sequence of names, not the text {scores!r}", option="scores", value=scores)
    for name in scores:
        if name not in SCORES:
            message = f"scores must be among {', '.join(SCORES)}, not {name!r}"
            raise InputError(message, option="scores", value=name)


def _with_counts(pairs: PairCounts, counts: NDArray[np.int64]) -> PairCounts:
    """Return the table with other counts, without the entries, rows and columns that are zero."""
    nonzero = np.flatnonzero(counts)
    rows, classes = _without_gaps(pairs.rows[nonzero], len(pairs.classes))
    columns, clusters = _without_gaps(pairs.columns[nonzero], len(pairs.clusters))
    return PairCounts(rows, columns, counts[nonzero], range(classes), range(clusters))


def _without_gaps(numbers: NDArray[np.intp], size: int) -> tuple[NDArray[np.intp], int]:
    present = np.zeros(size, np.bool_)
    present[numbers] = True
    position = np.cumsum(present) - 1
    return position[numbers], int(present.sum())


def _interval(name: str, pairs: PairCounts, values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Return the interval of a score from its values on the resamples."""
    score = SCORES[name](pairs)
    middle = float(np.mean(values)) if name in _UNBIASED else score
    tails = np.quantile(values, [(1 + confidence) / 2, (1 - confidence) / 2])
    low, high = np.clip(score + middle - tails, *_range(name, pairs))
    return float(low), float(high)


def _range(name: str, pairs: PairCounts) -> tuple[float, float]:
    lowest = {"ami": -math.inf, "ari": -0.5}.get(name, 0.0)
    return lowest, math.log(len(pairs.classes)) if name == "mean_entropy" else 1.0
