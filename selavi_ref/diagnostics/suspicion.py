"""Findings on shortcuts, duplicates and misfits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selavi_ref.diagnostics.duplicates import Group
from selavi_ref.diagnostics.finding import Figure, Finding, at_most, counted, listed, percent, unmeasured, worst
from selavi_ref.diagnostics.shortcuts import FEWEST, Shortcut

NO_FILES = "the video files were not measured"
LIKELY, STRONG = 0.1, 0.3  # adjusted mutual information from which on a shortcut is reported, and is a warning
_HELD, _RARER, _ENOUGH = 0.5, 3.0, 10  # of one cluster in one bin: fraction, times that of all videos, videos
_FOLLOWS = ("file size",)  # depends on the content, so that it is never a warning
_SURE = 0.01  # p-value from which on a shortcut is not reported


def shortcut_findings(found: Sequence[Shortcut] | None, n_labelled: int) -> list[Finding]:
    """
    Report the quantities that predict the labels: one finding for each, or one that there is none.

    A shortcut is reported if its p-value is below 0.01, if it predicts more labels than the largest cluster does, and
    if its adjusted mutual information is 0.1 or more or it explains one cluster: half of the cluster's videos, ten or
    more, are in a bin with at most a third of that fraction of all videos. It is a warning from 0.3 on, except for the
    size of the file, which depends on the content.

    Parameters
    ----------
    found : sequence of Shortcut or None
        All quantities that vary; None if the files were not measured.
    n_labelled : int
        Labelled videos that could be read.
    """
    if found is None:
        return [unmeasured("shortcuts", NO_FILES)]
    if n_labelled < FEWEST:
        return [unmeasured("shortcuts", f"it takes {FEWEST} labelled videos that can be read, not {n_labelled}")]
    if not found:
        return [unmeasured("shortcuts", "there is only one cluster, or the files are all alike in what they could be")]
    reported = [shortcut for shortcut in found if _is_reported(shortcut)]
    if reported:
        return [_shortcut_finding(shortcut) for shortcut in reported]
    best = found[0]
    sentence = (
        f"no likely shortcut: of {listed([shortcut.name for shortcut in found])}, {best.name} tells most of the labels "
        f"(adjusted MI {best.adjusted:.2f}; {percent(best.accuracy)} guessed right, {percent(best.base)} without it)"
    )
    if len(found) == 1:
        sentence = f"no likely shortcut: only {best.name} varies, and it tells little (adjusted MI {best.adjusted:.2f})"
    return [Finding("shortcuts", "ok", sentence, {"quantities": len(found), **_figures(best)})]


def _is_reported(s: Shortcut) -> bool:
    fraction = s.together / s.of
    one_cluster = s.together >= _ENOUGH and fraction >= _HELD and fraction >= _RARER * s.usual
    return s.p_value < _SURE and s.accuracy > s.base and (s.adjusted >= LIKELY or one_cluster)


def _shortcut_finding(s: Shortcut) -> Finding:
    sentence = (
        f"{s.name} alone predicts the labels of {percent(s.accuracy)} of the videos, always guessing the largest "
        f"cluster {percent(s.base)} (adjusted MI {s.adjusted:.2f}): {s.together:,} of the {s.of:,} videos in "
        f"cluster {s.label} have {s.kind}, and {percent(s.usual)} of all"
    )
    severity = worst(at_most(s.adjusted, LIKELY, STRONG), "look")
    if s.name in _FOLLOWS:
        severity, sentence = "look", f"{sentence}; it may follow from what they show"
    return Finding(f"shortcut: {s.name}", severity, sentence, _figures(s))


def _figures(s: Shortcut) -> dict[str, Figure]:
    figures = {"accuracy": s.accuracy, "base": s.base, "ami": s.adjusted, "p_value": s.p_value, "bins": s.bins}
    return {"quantity": s.name, **figures}


def duplicates(groups: Sequence[Group] | None, n_videos: int, unreadable: int) -> Finding:
    """
    Report how many videos are in the collection more than once.

    Parameters
    ----------
    groups : sequence of Group or None
        None if the files were not measured.
    n_videos, unreadable : int
        Videos in all, and files that could not be read.
    """
    if groups is None:
        return unmeasured("duplicates", NO_FILES)
    readable = n_videos - unreadable
    if readable < 2:
        return unmeasured("duplicates", f"{unreadable:,} of {counted(n_videos, 'file')} could not be read")
    rest = f"; {counted(unreadable, 'file')} could not be read" if unreadable else ""
    if not groups:
        sentence = f"no two of {counted(readable, 'video')} are the same or nearly so{rest}"
        return Finding("duplicates", "ok", sentence, {"groups": 0, "videos": 0, "unreadable": unreadable})
    inside = sum(len(group.rows) for group in groups)
    extra, split = inside - len(groups), sum(group.split for group in groups)
    identical = sum(group.identical for group in groups)
    which = {0: "none of identical files", len(groups): "all of identical files"}
    sentence = (
        f"{counted(inside, 'video')} are in {counted(len(groups), 'group')} of the same or nearly the same video "
        f"({which.get(identical, f'{identical:,} of identical files')}); "
        f"{'none' if not split else f'{split:,}'} of the groups {'has' if split < 2 else 'have'} more than one label"
    )
    figures: dict[str, Figure] = {"groups": len(groups), "videos": inside, "extra": extra, "identical": identical}
    severity = worst(at_most(extra / readable, 0.01, 0.2), "look" if split else "ok")
    return Finding("duplicates", severity, sentence + rest, figures | {"split": split, "unreadable": unreadable})


def misfits(bad: NDArray[np.bool_], label: NDArray[np.int32], K: int, features: bool) -> Finding:
    """
    Report how many videos fit no cluster, although each was given one.

    Parameters
    ----------
    bad : array
        Misfits, bool, shape (N,): see `selavi_ref.diagnostics.fit.misfits`.
    label : array
        int32, shape (N,); those with -1 do not count.
    K : int
        Number of clusters.
    features : bool
        Whether the store has features, which find misfits too.
    """
    labelled = label >= 0
    n = int(labelled.sum())
    if not n or (K < 2 and not features):
        return unmeasured("misfits", "no video has a label" if not n else "there is only one cluster, and no features")
    count = int((bad & labelled).sum())
    if not count:
        why = "" if features else " by their posteriors (the store has no features)"
        return Finding("misfits", "ok", f"every video fits its cluster{why}", {"videos": 0, "share": 0.0})
    counts = np.bincount(label[bad & labelled], minlength=K)
    most = int(counts.argmax())
    sentence = (
        f"{counted(count, 'video')} of {n:,} ({percent(count / n)}) {'fits' if count == 1 else 'fit'} no cluster, "
        "although each was given one"
    )
    if K > 1 and counts[most] > 1:
        sentence += f"; cluster {most} has the most of them ({counts[most]:,})"
    figures: dict[str, Figure] = {"videos": count, "share": count / n, "worst": most, "worst_videos": int(counts[most])}
    return Finding("misfits", at_most(count / n, 0.02, 0.2), sentence, figures)
