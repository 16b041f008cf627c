"""Findings on what labels may rest on instead of content, and on videos that no label fits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selavi_ref.diagnostics.duplicates import Group
from selavi_ref.diagnostics.finding import Figure, Finding, at_most, counted, listed, percent, unmeasured, worst
from selavi_ref.diagnostics.shortcuts import FEWEST, Shortcut

NO_FILES = "the video files were not looked into"
LIKELY, STRONG = 0.1, 0.3  # adjusted mutual information from which on a shortcut is told, and is a warning
_HELD, _RARER, _ENOUGH = 0.5, 3.0, 10  # of a cluster that a quantity holds together: share, how much rarer, videos
_FOLLOWS = ("file size",)  # what an encoder makes of the content, and no warning therefore
_SURE = 0.01  # p-value of a shortcut that is not told any more


def shortcut_findings(found: Sequence[Shortcut] | None, n_labelled: int) -> list[Finding]:
    """
    Tell the quantities by which labels can be guessed: one finding for each, or one that there is none.

    A shortcut is told if it shares more with the labels than all but one in a hundred shuffled labellings do, and
    guesses more labels than the largest cluster does, and either has an adjusted mutual information of 0.1 or more, or
    holds one cluster together: half of the cluster's videos, ten or more, in a bin with at most a third of that share
    of all videos. It is a warning from 0.3 on, but for the size of the file, which follows from what a video shows.

    Parameters
    ----------
    found : sequence of Shortcut or None
        Of all quantities that vary; None if the files were not looked into.
    n_labelled : int
        Labelled videos that could be read.
    """
    if found is None:
        return [unmeasured("shortcuts", NO_FILES)]
    if n_labelled < FEWEST:
        return [unmeasured("shortcuts", f"it takes {FEWEST} labelled videos that can be read, not {n_labelled}")]
    if not found:
        return [unmeasured("shortcuts", "there is only one cluster, or the files are all alike in what they could be")]
    told = [one for one in found if _is_told(one)]
    if told:
        return [_shortcut(one) for one in told]
    best = found[0]
    sentence = (
        f"no likely shortcut: of {listed([one.name for one in found])}, {best.name} tells most of the labels "
        f"(adjusted MI {best.adjusted:.2f}; {percent(best.accuracy)} guessed right, {percent(best.base)} without it)"
    )
    if len(found) == 1:
        sentence = f"no likely shortcut: only {best.name} varies, and it tells little (adjusted MI {best.adjusted:.2f})"
    return [Finding("shortcuts", "ok", sentence, {"quantities": len(found), **_figures(best)})]


def _is_told(one: Shortcut) -> bool:
    share = one.together / one.of
    one_cluster = one.together >= _ENOUGH and share >= _HELD and share >= _RARER * one.usual
    return one.p_value < _SURE and one.accuracy > one.base and (one.adjusted >= LIKELY or one_cluster)


def _shortcut(one: Shortcut) -> Finding:
    sentence = (
        f"{one.name} alone predicts the labels of {percent(one.accuracy)} of the videos, always guessing the largest "
        f"cluster {percent(one.base)} (adjusted MI {one.adjusted:.2f}): {one.together:,} of the {one.of:,} videos in "
        f"cluster {one.label} have {one.kind}, and {percent(one.usual)} of all"
    )
    severity = at_most(one.adjusted, LIKELY, STRONG)
    if one.name in _FOLLOWS:
        return Finding(f"shortcut: {one.name}", "look", f"{sentence}; it may follow from what they show", _figures(one))
    return Finding(f"shortcut: {one.name}", worst(severity, "look"), sentence, _figures(one))


def _figures(one: Shortcut) -> dict[str, Figure]:
    return {
        "quantity": one.name,
        "accuracy": one.accuracy,
        "base": one.base,
        "ami": one.adjusted,
        "p_value": one.p_value,
        "bins": one.bins,
    }


def duplicates(groups: Sequence[Group] | None, n_videos: int, unreadable: int) -> Finding:
    """
    Tell how many videos are in the collection more than once.

    Parameters
    ----------
    groups : sequence of Group or None
        None if the files were not looked into.
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
    Tell how many videos fit no cluster, although each was given one.

    Parameters
    ----------
    bad : array
        Which ones, bool, shape (N,): see `selavi_ref.diagnostics.fit.misfits`.
    label : array
        int32, shape (N,); those with -1 do not count.
    K : int
        Number of clusters.
    features : bool
        Whether the store has features, by which they are found too.
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
