"""Findings on the labels: cluster sizes, confidence, and agreement of heads, modalities, clips and runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from selavi_ref.diagnostics.finding import (
    Figure,
    Finding,
    at_least,
    at_most,
    clusters,
    counted,
    listed,
    percent,
    score,
    shown,
    unmeasured,
    worst,
)
from selavi_ref.ensemble.labels import Labels
from selavi_ref.ensemble.matching import match_numbers, overlap
from selavi_ref.errors import printable
from selavi_ref.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

_SURE = 0.5  # confidence below which a label counts as unsure
_COMES_BACK = 0.5  # intersection over union with its best match from which on a cluster comes back
_WORTH_NAMING = 0.9  # mean NMI with the others below which the worst head is named
_ONE_CLUSTER = "all videos are in one cluster, so that nothing can be compared"
_STANDS_OUT = 0.1  # fraction of disagreement from which on a cluster is named


@dataclass(frozen=True)
class Comparison:
    """
    Two labellings of the same videos.

    Parameters
    ----------
    n : int
        Videos that have a label in both.
    equal : float
        Fraction of them with the same label.
    nmi, ami : float
        Normalised and adjusted mutual information.
    """

    n: int
    equal: float
    nmi: float
    ami: float


def compare(a: NDArray[np.int32], b: NDArray[np.int32]) -> Comparison | None:
    """Compare two labellings, int32 (N,) with -1 for none; None if no video has both labels."""
    both = (a >= 0) & (b >= 0)
    if not both.any():
        return None
    a, b = a[both], b[both]
    nmi, ami = normalized_mutual_info_score(a, b), adjusted_mutual_info_score(a, b)
    return Comparison(len(a), float(np.mean(a == b)), float(nmi), float(ami))


def sizes(label: NDArray[np.int32], K: int) -> Finding:
    """
    Report empty and dominating clusters.

    Parameters
    ----------
    label : array
        int32, shape (N,); -1 for none.
    K : int
        Number of clusters.
    """
    labelled = label[label >= 0]
    n = len(labelled)
    figures: dict[str, Figure] = {"videos": len(label), "labelled": n, "clusters": K}
    if not n:
        return Finding("sizes", "warning", f"none of {counted(len(label), 'video')} has a label", figures)
    counts = np.bincount(labelled, minlength=K)
    filled = counts[counts > 0]
    share = filled / n
    entropy = float(-(share * np.log(share)).sum() / np.log(K)) + 0.0 if K > 1 else 1.0  # not minus zero
    largest = float(share.max())
    figures |= {
        "found": len(filled),
        "empty": K - len(filled),
        "largest": largest,
        "smallest": float(share.min()),
        "evenness": entropy + 0.0,
    }
    if K == 1:
        return Finding("sizes", "ok", f"there is only one cluster, which holds {counted(n, 'video')}", figures)
    severity = worst(
        at_least(entropy, 0.85, 0.6),
        at_least(len(filled) / K, 1.0, 0.5) if n >= K else "look",
        at_most(largest, 0.5, 0.5) if K > 3 else "ok",
    )
    empty = np.flatnonzero(counts == 0).tolist()
    held = f"all {K:,} clusters hold videos" if not empty else f"{len(filled):,} of {K:,} clusters hold videos"
    smallest, most = int(filled.min()), int(filled.max())
    sizes = f"{most:,} each" if smallest == most else f"from {smallest:,} to {most:,}"
    if len(filled) == 1:
        held, sizes = f"1 of {K:,} clusters holds all videos", f"{most:,}"
    sentence = (
        f"{held}, {sizes} ({percent(largest)} of all); "
        f"the entropy of their sizes is {percent(entropy)} of that of equal ones"
    )
    if empty:
        sentence += f"; {clusters(empty)} {'is' if len(empty) == 1 else 'are'} empty"
    return Finding("sizes", severity, sentence, figures)


def confidence(labels: Labels) -> Finding:
    """Report the mean posterior of the labels."""
    labelled = labels.label >= 0
    if not labelled.any():
        return unmeasured("confidence", "no video has a label")
    values = labels.confidence[labelled]
    mean, unsure = float(values.mean()), float(np.mean(values < _SURE))
    sentence = (
        f"the mean confidence of the labels is {score(mean)}, and {percent(unsure)} of them have less than {_SURE:g}"
    )
    severity = worst(at_least(mean, 0.8, 0.5), at_most(unsure, 0.1, 0.5))
    return Finding("confidence", severity, sentence, {"mean": mean, "median": float(np.median(values)), "low": unsure})


def heads(labels: Labels, names: Sequence[str], taught_alike: bool = False) -> Finding:
    """
    Report the agreement of the heads with each other, whatever their numbering.

    Parameters
    ----------
    labels : Labels
        Labels, with those of H heads.
    names : sequence of str
        Names of the heads.
    taught_alike : bool
        Whether all heads have learnt the same labels at the end, so that they would agree anyway.
    """
    H = labels.heads.shape[1]
    if H < 2 or _one_cluster(*labels.heads.T):
        return unmeasured("heads", "there is only one head" if H < 2 else _ONE_CLUSTER)
    pairs = {(a, b): compare(labels.heads[:, a], labels.heads[:, b]) for a, b in combinations(range(H), 2)}
    known = {pair: result for pair, result in pairs.items() if result is not None}
    if not known:
        return unmeasured("heads", "no video is labelled by two heads")
    nmi, ami = (float(np.mean([getattr(result, name) for result in known.values()])) for name in ("nmi", "ami"))
    means = [np.mean([result.nmi for pair, result in known.items() if head in pair] or [np.nan]) for head in range(H)]
    least = int(np.nanargmin(means))
    sentence = f"the {H} heads agree with each other with a mean NMI of {score(nmi)} (adjusted MI {score(ami)})"
    if H > 2 and means[least] < _WORTH_NAMING:
        sentence += f"; head {printable(names[least])} agrees least with the others ({means[least]:.2f})"
    if taught_alike:
        sentence += "; they have learnt the same labels, so that this says little"
    figures: dict[str, Figure] = {"heads": H, "nmi": nmi, "ami": ami, "worst": names[least]}
    figures |= {"taught_alike": int(taught_alike)}
    return Finding("heads", at_least(ami, 0.8, 0.5), sentence, figures | {"worst_nmi": float(means[least])})


def modalities(label: NDArray[np.int32], alone: Mapping[str, NDArray[np.int32]], K: int) -> Finding:
    """
    Report the agreement of the labels that each modality gives alone; its clusters have the numbers of the heads.

    Parameters
    ----------
    label : array
        The labels, int32, shape (N,).
    alone : mapping of str to array
        For each modality its labels, int32, shape (N,); -1 where it is missing.
    K : int
        Number of clusters.
    """
    present = [name for name, own in alone.items() if (own >= 0).any()]
    if len(present) < 2:
        only = f"the labels rest on the {shown(present[0])} alone" if present else "no video has a label"
        return unmeasured("modalities", only)
    if _one_cluster(*(alone[name] for name in present)):
        return unmeasured("modalities", _ONE_CLUSTER)
    pairs = [(a, b, compare(alone[a], alone[b])) for a, b in combinations(present, 2)]
    known = [(a, b, result) for a, b, result in pairs if result is not None]
    if not known:
        return unmeasured("modalities", f"no video has both {listed([shown(name) for name in present])}")
    equal, nmi, ami = (float(np.mean([getattr(f, name) for _, _, f in known])) for name in ("equal", "nmi", "ami"))
    both = np.sum([own >= 0 for own in alone.values()], axis=0) > 1
    differ = disagreeing(alone)
    figures: dict[str, Figure] = {"equal": equal, "nmi": nmi, "ami": ami, "videos": int(both.sum())}
    chance = float(np.mean([_chance(alone[a], alone[b], K) for a, b, _ in known]))
    kappa = (equal - chance) / (1 - chance) if chance < 1 else 0.0  # Cohen's: what is equal beyond chance
    figures |= {"chance": chance, "kappa": kappa}
    names = listed([shown(name) for name in present])
    sentence = f"{names} alone give the same label to {percent(equal)} of the videos (NMI {score(nmi)})"
    sentence += _most_different(label, differ, both, figures)
    if one_only := int(np.sum(np.sum([own >= 0 for own in alone.values()], axis=0) == 1)):
        sentence += f"; {counted(one_only, 'video')} {'has' if one_only == 1 else 'have'} only one of them"
    return Finding("modalities", at_least(kappa, 0.75, 0.4), sentence, figures | {"one_only": one_only})


def disagreeing(alone: Mapping[str, NDArray[np.int32]]) -> NDArray[np.bool_]:
    """Return which videos have modalities with different labels, bool, shape (N,)."""
    own = np.stack(list(alone.values()))
    high = own.max(0)
    return np.asarray(np.where(own >= 0, own, high).min(0) != high)


def clips(label: NDArray[np.int32], disagreement: NDArray[np.float32] | None) -> Finding:
    """
    Report how many clips have the label of their video.

    Parameters
    ----------
    label : array
        The labels, int32, shape (N,).
    disagreement : array or None
        Fraction of the clips whose own label differs, shape (N,); None with a single clip.
    """
    if disagreement is None:
        return unmeasured("clips", "the store was made from one clip of each video; extract it again with --clips 3")
    values = disagreement[(label >= 0) & np.isfinite(disagreement)]
    if not len(values):
        return unmeasured("clips", "no video has a label")
    mean, often = float(values.mean()), int(np.sum(values >= 0.5))
    sentence = (
        f"single clips get another label than their video in {percent(mean)} of the cases; "
        f"in {counted(often, 'video')}, at least half of the clips do"
    )
    return Finding("clips", at_most(mean, 0.15, 0.4), sentence, {"different": mean, "half": often})


def stability(label: NDArray[np.int32], other: NDArray[np.int32], name: str) -> Finding:
    """
    Report the agreement with the labels of a second run, whatever its numbering.

    Parameters
    ----------
    label, other : array
        int32, shape (N,); -1 without a label, or for videos that the second run does not have.
    name : str
        Name of the second run.
    """
    both = (label >= 0) & (other >= 0)
    if both.sum() < 2:
        return unmeasured("stability", f"{printable(name)} has labels of {int(both.sum())} of these videos")
    if _one_cluster(label[both], other[both]):
        return unmeasured("stability", _ONE_CLUSTER)
    K = int(max(label.max(), other.max())) + 1
    found = compare(label, match_numbers(other, label, K))
    assert found is not None
    lost = lost_clusters(label, other, K)
    asked = len(np.unique(label[both]))
    sentence = (
        f"{percent(found.equal)} of {counted(found.n, 'video')} are in the same cluster in {printable(name)} "
        f"(NMI {score(found.nmi)}, adjusted MI {score(found.ami)})"
    )
    if lost:
        sentence += f"; {clusters(lost)} {'does' if len(lost) == 1 else 'do'} not come back"
    else:
        sentence += f"; all {asked:,} clusters come back" if asked > 1 else ""
    severity = worst(at_least(found.ami, 0.8, 0.5), at_least(found.equal, 0.8, 0.5), "look" if lost else "ok")
    figures: dict[str, Figure] = {"videos": found.n, "accuracy": found.equal, "nmi": found.nmi, "ami": found.ami}
    return Finding("stability", severity, sentence, figures | {"lost": len(lost), "second": name})


def lost_clusters(label: NDArray[np.int32], other: NDArray[np.int32], K: int) -> list[int]:
    """Return the clusters without a match in another labelling: intersection over union of less than a half."""
    together = overlap(label, other, K)
    union = together.sum(1, keepdims=True) + together.sum(0) - together
    share = (together / np.maximum(union, 1)).max(1)
    return [int(k) for k in np.flatnonzero((together.sum(1) > 0) & (share < _COMES_BACK))]


def _one_cluster(*labellings: NDArray[np.int32]) -> bool:
    return all(len(np.unique(own[own >= 0])) < 2 for own in labellings)


def _chance(a: NDArray[np.int32], b: NDArray[np.int32], K: int) -> float:
    """Return the fraction of equal labels that two independent labellings with these sizes would have."""
    both = (a >= 0) & (b >= 0)
    sizes_a, sizes_b = (np.bincount(own[both], minlength=K) / both.sum() for own in (a, b))
    return float(sizes_a @ sizes_b)


def _most_different(
    label: NDArray[np.int32], differ: NDArray[np.bool_], both: NDArray[np.bool_], figures: dict[str, Figure]
) -> str:
    """Name the cluster in which the modalities differ most, if it stands out."""
    used = both & (label >= 0)
    if not used.any():
        return ""
    counts = np.bincount(label[used])
    shares = np.bincount(label[used], weights=differ[used]) / np.maximum(counts, 1)
    most = int(shares.argmax())
    figures |= {"worst": most, "worst_different": float(shares[most])}
    if shares[most] < _STANDS_OUT:
        return ""
    return f"; they differ most in cluster {most} ({percent(float(shares[most]))} of its {counts[most]:,})"
