"""Predict labels from properties of the files that are not their content, such as codec or loudness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.diagnostics.file_measures import Measures
from selavi_ref.errors import InputError
from selavi_ref.metrics import adjusted_mutual_info_score

FEWEST = 30  # labelled videos below which nothing is computed
_FOLDS = 5
_SHUFFLES = 199  # of the labels, so that the smallest p-value is 0.005
_MOST_BINS = 16  # of a numerical quantity
_PER_BIN = 10  # videos in a bin, on average, at least
_MOST_KINDS = 64  # of a categorical quantity; rarer ones count as one kind
_MISSING = "none"
_TINY = 1e-9


@dataclass(frozen=True)
class Shortcut:
    """
    How well one quantity predicts the labels.

    Parameters
    ----------
    name : str
        The quantity, such as ``loudness``.
    accuracy : float
        Fraction of the videos whose label is predicted correctly from the quantity alone, as the most frequent label
        of the same bin in the other folds.
    base : float
        The same without the quantity: always the largest cluster of the other folds.
    adjusted : float
        Adjusted mutual information of label and bin: 0 by chance.
    p_value : float
        Fraction of shuffled labellings that depend as much on any quantity's bins, this one counted.
    bins : int
        Number of bins of the quantity.
    label, kind : int, str
        The cluster and the bin that exceed chance most.
    together, of : int
        Videos of the cluster in that bin, and all videos of the cluster.
    usual : float
        Fraction of all videos in that bin.
    """

    name: str
    accuracy: float
    base: float
    adjusted: float
    p_value: float
    bins: int
    label: int
    kind: str
    together: int
    of: int
    usual: float


def shortcuts(labels: ArrayLike, measures: Sequence[Measures], rng: np.random.Generator) -> list[Shortcut]:
    """
    Predict the labels from each of several quantities alone.

    Codec, picture size, frame rate and sample rate are taken as they are; duration, file size and loudness are cut into
    up to 16 bins of equal numbers of videos, the mean colour into 4 x 4 x 4. Missing values have a bin of
    their own. A quantity that is the same for all videos is left out; with a single cluster, all are.

    Parameters
    ----------
    labels : array of int, shape (N,)
        Labels; videos with -1, and those that could not be read, are left out.
    measures : sequence of Measures
        Of the same videos.
    rng : Generator
        Draws the folds and the shuffled labels.

    Returns
    -------
    list of Shortcut
        One for each quantity that varies, by falling adjusted mutual information; `p_value` shows whether it exceeds
        chance.

    Raises
    ------
    InputError
        If labels and measures are not of the same videos.
    """
    codes = np.asarray(labels, np.int64)
    if codes.shape != (len(measures),):
        raise InputError(f"{len(measures)} measures do not go with labels of shape {codes.shape}", option="labels")
    used = np.array([code >= 0 and not video.reason for code, video in zip(codes, measures, strict=True)], bool)
    if used.sum() < FEWEST:
        return []
    clusters, codes = np.unique(codes[used], return_inverse=True)
    if len(clusters) == 1:
        return []
    videos = [measures[row] for row in np.flatnonzero(used).tolist()]
    cuts = {name: cut(videos) for name, cut in _QUANTITIES.items()}
    cuts = {name: (bins, kinds) for name, (bins, kinds) in cuts.items() if len(kinds) > 1}
    folds = _folds(codes, rng)
    if not cuts:
        return []
    p_values = _p_values(codes, cuts, rng)
    results = [_shortcut(name, codes, clusters, *cuts[name], folds, p_values[name]) for name in cuts]
    return sorted(results, key=lambda shortcut: -shortcut.adjusted)


Bins = tuple[NDArray[np.int64], list[str]]


def _folds(codes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Deal the videos of each cluster out to the folds in turn, so that a cluster is as large in one as in another."""
    mixed = rng.permutation(len(codes))
    folds = np.empty(len(codes), np.int64)
    folds[mixed[np.argsort(codes[mixed], kind="stable")]] = np.arange(len(codes)) % _FOLDS
    return folds


def _p_values(codes: NDArray[np.int64], cuts: dict[str, Bins], rng: np.random.Generator) -> dict[str, float]:
    """
    Return the p-value of the dependence of the labels on each quantity, corrected for the number of quantities.

    The dependence is measured in standard deviations from its mean over shuffled labels, and compared with the largest
    over all quantities for each shuffle (Westfall and Young, Resampling-based multiple testing, 1993).
    """
    K = int(codes.max()) + 1
    observed = np.array([[_n_log_n(_table(bins, codes, len(kinds), K)) for bins, kinds in cuts.values()]])
    by_chance = np.empty((_SHUFFLES, len(cuts)))
    for row in by_chance:
        shuffled = rng.permutation(codes)
        row[:] = [_n_log_n(_table(bins, shuffled, len(kinds), K)) for bins, kinds in cuts.values()]
    mean, spread = by_chance.mean(0), np.maximum(by_chance.std(0), _TINY)
    largest = ((by_chance - mean) / spread).max(1)
    as_much = (largest[:, None] >= (observed - mean) / spread - _TINY).sum(0)
    return dict(zip(cuts, ((1 + as_much) / (1 + _SHUFFLES)).tolist(), strict=True))


def _shortcut(
    name: str,
    codes: NDArray[np.int64],
    clusters: NDArray[np.int64],
    bins: NDArray[np.int64],
    kinds: list[str],
    folds: NDArray[np.int64],
    p_value: float,
) -> Shortcut:
    K, B, N = len(clusters), len(kinds), len(codes)
    table = _table(bins, codes, B, K)
    usual = table.sum(1) / N
    # How far each cell exceeds what chance would put there, in standard deviations.
    expected = usual[:, None] * table.sum(0)
    kind, label = divmod(int(((table - expected) / np.sqrt(expected + 1)).argmax()), K)
    return Shortcut(
        name=name,
        accuracy=_held_out_accuracy(bins, codes, folds, B, K),
        base=_held_out_accuracy(np.zeros_like(bins), codes, folds, 1, K),
        adjusted=float(adjusted_mutual_info_score(codes, bins)),
        p_value=p_value,
        bins=B,
        label=int(clusters[label]),
        kind=kinds[kind],
        together=int(table[kind, label]),
        of=int(table[:, label].sum()),
        usual=float(usual[kind]),
    )


def _held_out_accuracy(
    bins: NDArray[np.int64], codes: NDArray[np.int64], folds: NDArray[np.int64], B: int, K: int
) -> float:
    """Return the fraction of labels that equal the most frequent one of their bin in the other folds."""
    whole, right = _table(bins, codes, B, K), 0
    for fold in range(_FOLDS):
        mine = folds == fold
        held_out = _table(bins[mine], codes[mine], B, K)
        rest = whole - held_out
        # A bin that is not in the other folds gets the most frequent label of all bins.
        guess = np.where(rest.any(1), rest.argmax(1), rest.sum(0).argmax())
        right += int(held_out[np.arange(B), guess].sum())
    return right / len(codes)


def _table(bins: NDArray[np.int64], codes: NDArray[np.int64], B: int, K: int) -> NDArray[np.int64]:
    return np.bincount(bins * K + codes, minlength=B * K).reshape(B, K)


def _n_log_n(table: NDArray[np.int64]) -> float:
    """Return the sum of ``n log n`` over the cells, which rises with the mutual information for given margins."""
    counts = table[table > 1]
    return float(np.sum(counts * np.log(counts)))


def _categories(names: Sequence[str]) -> Bins:
    """Return the bin of each name; the rarest of very many names are one bin."""
    kinds, numbers, counts = np.unique(np.array(names, object).astype(str), return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(kinds), np.int64)
    rank[order] = np.minimum(np.arange(len(kinds)), _MOST_KINDS - 1)
    shown = [str(kinds[kind]) for kind in order[:_MOST_KINDS]]
    if len(kinds) > _MOST_KINDS:
        shown[-1] = "rare ones"
    return rank[numbers], shown


def _quantile_bins(
    values: Sequence[float | None], shown: Callable[[float, float], str], most: int = _MOST_BINS
) -> Bins:
    """Cut numbers into bins of about equal counts; missing ones have a bin of their own."""
    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    known = np.isfinite(numbers)
    bins = np.zeros(len(numbers), np.int64)
    kinds: list[str] = []
    if known.any():
        count = int(np.clip(known.sum() // _PER_BIN, 2, most))
        edges = np.unique(np.quantile(numbers[known], np.arange(1, count) / count, method="nearest"))
        filled, bins[known] = np.unique(np.searchsorted(edges, numbers[known], side="left"), return_inverse=True)
        for number in range(len(filled)):
            members = numbers[known & (bins == number)]
            kinds.append(shown(float(members.min()), float(members.max())))
    if not known.all():
        bins[~known] = len(kinds)
        kinds.append(_MISSING)
    return bins, kinds


def _range(unit: str, digits: int = 1) -> Callable[[float, float], str]:
    def shown(low: float, high: float) -> str:
        return f"{low:.{digits}f} {unit}" if low == high else f"{low:.{digits}f} to {high:.{digits}f} {unit}"

    return shown


def _codec(videos: Sequence[Measures]) -> Bins:
    parts = [(v.container, v.video_codec or "no picture", v.audio_codec or "no sound") for v in videos]
    return _categories([", ".join(part) for part in parts])


def _picture_size(videos: Sequence[Measures]) -> Bins:
    return _categories([f"{v.width} x {v.height} pixels" if v.width and v.height else _MISSING for v in videos])


def _frame_rate(videos: Sequence[Measures]) -> Bins:
    return _categories([f"{v.fps:.4g} frames/s" if v.fps else _MISSING for v in videos])


def _sample_rate(videos: Sequence[Measures]) -> Bins:
    return _categories([f"{v.sample_rate} Hz" if v.sample_rate else _MISSING for v in videos])


def _duration(videos: Sequence[Measures]) -> Bins:
    # Rounded, so that lengths that differ by a frame or a packet of sound are equal.
    return _quantile_bins([round(v.seconds, 1) if v.seconds else None for v in videos], _range("s"))


def _file_size(videos: Sequence[Measures]) -> Bins:
    return _quantile_bins([None if v.bytes is None else v.bytes / 1e3 for v in videos], _range("kB", 0))


def _loudness(videos: Sequence[Measures]) -> Bins:
    return _quantile_bins([v.loudness for v in videos], _range("dB"))


def _mean_colour(videos: Sequence[Measures]) -> Bins:
    """Cut each of red, green and blue into four, which makes 64 cells of which many may be empty."""
    grades = []
    for colour in ("red", "green", "blue"):
        bins, kinds = _quantile_bins([getattr(v, colour) for v in videos], _range(colour, 0), most=4)
        grades.append([kinds[number] for number in bins])
    return _categories([_MISSING if _MISSING in cell else ", ".join(cell) for cell in zip(*grades, strict=True)])


_QUANTITIES: dict[str, Callable[[Sequence[Measures]], Bins]] = {
    "codec": _codec,
    "picture size": _picture_size,
    "frame rate": _frame_rate,
    "sample rate": _sample_rate,
    "duration": _duration,
    "file size": _file_size,
    "loudness": _loudness,
    "mean colour": _mean_colour,
}
