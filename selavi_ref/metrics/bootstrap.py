"""How far scores may be off because the videos are a sample: bootstrap intervals."""

import math
import operator
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError
from selavi_ref.metrics.all_scores import SCORES
from selavi_ref.metrics.contingency import Labels, PairCounts, count_pairs

# Scores that a small sample makes look neither better nor worse.
_CENTRED = ("ami", "ari", "fmi")


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
    Intervals that hold, with a given chance, the scores of the population of which the videos are a random sample.

    To draw N videos with replacement is to draw the nonzero entries of their contingency table from one multinomial
    distribution, so a resample costs as much as the table has entries, whatever N is. Classes and clusters of which a
    resample has no video do not count in it.

    A small sample makes mutual information, purity and the accuracy after matching look too good, and a resample of
    the sample does so once more. Percentiles of the resamples would double that error; the basic interval, from
    ``2 s - q_high`` to ``2 s - q_low`` with the score s of all videos and the quantiles q of the resamples, takes the
    second one as an estimate of the first and subtracts it. The scores ``ami``, ``ari`` and ``fmi`` have no such error,
    but resamples do, as they hold videos twice, which are always together: ``s + m - q_high`` to ``s + m - q_low``,
    with the mean m of the resamples, leaves it out. Intervals are clipped to the values that a score can have, and
    need not hold s.

    With few videos for each pair of class and cluster, below some five, no resampling makes up for the error of the
    scores made of entropies, and their intervals miss more often than they should.

    Parameters
    ----------
    labels_true, labels_pred : sequence of hashable, length N
        Class and cluster of each video.
    n_resamples : int
        Number of resamples, at least 1.
    confidence : float
        The chance, between 0 and 1, both excluded.
    rng : numpy.random.Generator
        The randomness; a generator in the same state gives the same intervals.
    scores : sequence of str
        Names of scores, as in `summary`.

    Returns
    -------
    dict
        Name of each score and its interval ``(low, high)``.

    Raises
    ------
    InputError
        Labels that do not fit, an unknown score, or a number or chance out of range.

    References
    ----------
    Davison and Hinkley, Bootstrap methods and their application, 1997, section 5.2.1.
    """
    _check(n_resamples, confidence, rng, scores)
    pairs = count_pairs(labels_true, labels_pred)
    shares = pairs.counts / pairs.n
    values = np.empty((n_resamples, len(scores)))
    for row in values:
        resample = _drawn(pairs, rng.multinomial(pairs.n, shares))
        row[:] = [SCORES[name](resample) for name in scores]
    return {name: _interval(name, pairs, values[:, i], confidence) for i, name in enumerate(scores)}


def _check(n_resamples: int, confidence: float, rng: np.random.Generator, scores: Iterable[str]) -> None:
    try:
        enough = operator.index(n_resamples) >= 1
    except TypeError:
        enough = False
    if not enough:
        raise InputError(f"n_resamples must be a whole number of at least 1, not {n_resamples}")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be between 0 and 1, not {confidence}")
    if not isinstance(rng, np.random.Generator):
        raise InputError(f"rng must be a numpy.random.Generator, not {type(rng).__name__}")
    if isinstance(scores, str):
        raise InputError(f"scores must be a sequence of names, not the text {scores!r}")
    for name in scores:
        if name not in SCORES:
            raise InputError(f"scores must be among {', '.join(SCORES)}, not {name!r}")


def _drawn(pairs: PairCounts, counts: NDArray[np.int64]) -> PairCounts:
    """Return the table with these counts in place of its own, without entries, rows and columns of zeros."""
    kept = np.flatnonzero(counts)
    rows, classes = _without_gaps(pairs.rows[kept], len(pairs.classes))
    columns, clusters = _without_gaps(pairs.columns[kept], len(pairs.clusters))
    return PairCounts(rows, columns, counts[kept], range(classes), range(clusters))


def _without_gaps(numbers: NDArray[np.intp], size: int) -> tuple[NDArray[np.intp], int]:
    present = np.zeros(size, np.bool_)
    present[numbers] = True
    place = np.cumsum(present) - 1
    return place[numbers], int(present.sum())


def _interval(name: str, pairs: PairCounts, values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Return the interval of a score from its values on the resamples."""
    score = SCORES[name](pairs)
    middle = float(np.mean(values)) if name in _CENTRED else score
    tails = np.quantile(values, [(1 + confidence) / 2, (1 - confidence) / 2])
    low, high = np.clip(score + middle - tails, *_range(name, pairs))
    return float(low), float(high)


def _range(name: str, pairs: PairCounts) -> tuple[float, float]:
    lowest = {"ami": -math.inf, "ari": -0.5}.get(name, 0.0)
    return lowest, math.log(len(pairs.classes)) if name == "mean_entropy" else 1.0
