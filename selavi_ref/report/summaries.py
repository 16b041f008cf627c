"""Labels and collections in a few lines of text."""

from __future__ import annotations

from collections import Counter

import numpy as np

from selavi_ref.datasets import Manifest
from selavi_ref.datasets.modalities import modalities_of
from selavi_ref.datasets.video_files import describe_ignored
from selavi_ref.ensemble.labels import Labels
from selavi_ref.errors import printable
from selavi_ref.runs.reporter import counted

_MOST_REASONS = 8


def labels_summary(labels: Labels) -> str:
    """Return in a few lines how many videos got which labels, and what they rest on."""
    labelled = labels.label >= 0
    n = int(labelled.sum())
    if not n:
        why = next(filter(None, labels.reasons), "they have neither picture nor sound")
        return f"0 of {len(labels.paths)} videos labelled: {printable(why)}"
    sizes = np.bincount(labels.label[labelled])
    used = sizes[sizes > 0].tolist()
    span = counted(used[0], "video") if min(used) == max(used) else f"{min(used)} to {max(used)} videos"
    lines = [
        f"{n} of {len(labels.paths)} videos labelled by {printable(labels.source)}; "
        f"{counted(len(used), 'cluster')} of {span}, "
        f"mean confidence {labels.confidence[labelled].mean():.2f}"
    ]
    kinds, counts = np.unique(
        [m for m, has in zip(labels.modalities, labelled, strict=True) if has], return_counts=True
    )
    if len(kinds) > 1 or kinds[0] != "video+audio":
        lines.append("labels rest on " + ", ".join(f"{printable(k)} ({c})" for k, c in zip(kinds, counts, strict=True)))
    if n < len(labels.paths):
        lines.append(f"{len(labels.paths) - n} without a label; the column reason says why")
    if labels.disagreement is not None:
        lines.append(
            f"clips disagree with their video's label in {labels.disagreement[labelled].mean():.1%} of the cases"
        )
    return "\n".join(lines)


def manifest_summary(manifest: Manifest) -> str:
    """Return in a few lines how many videos of a scanned collection can be used, and why others cannot."""
    usable = manifest.usable
    hours = sum(entry.info.seconds for entry in usable if entry.info) / 3600
    length = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
    classes = len(set(usable.classes) - {""})
    named = f", {counted(classes, 'class')}" if classes else ""
    lines = [f"{len(usable)} of {len(manifest)} videos can be used: {length}{named}"]
    having = Counter("+".join(modalities_of(entry)) for entry in usable)
    single = {"video": "with a picture only", "audio": "with sound only"}
    lines += [f"{having[name]:>8}  {text}" for name, text in single.items() if having[name]]
    reasons = Counter(entry.skipped for entry in manifest.skipped)
    lines += [f"{count:>8}  {printable(why)}" for why, count in reasons.most_common(_MOST_REASONS)]
    if rest := sum(reasons.values()) - sum(count for _, count in reasons.most_common(_MOST_REASONS)):
        lines.append(f"{rest:>8}  for other reasons; the list has the reason of each video")
    if manifest.ignored:
        lines.append(f"ignored: {describe_ignored(manifest.ignored)}")
    return "\n".join(lines)
