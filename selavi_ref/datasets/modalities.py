"""Which modalities the files of a collection have, and on which of them a run learns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from selavi_ref.datasets.manifest import Manifest, ManifestEntry
from selavi_ref.errors import InputError, printable
from selavi_ref.media.still import is_picture
from selavi_ref.runs.modality_names import BOTH

_LEAST_SHARE = 0.1  # of the files that must have both modalities, so that a run learns on both by default
_WORDS = {"video": "a picture only", "audio": "sound only", BOTH: "picture and sound"}


def modalities_of(entry: ManifestEntry, min_seconds: float = 0.0) -> tuple[str, ...]:
    """
    Return which modalities of a file are long enough: some of ``("video", "audio")``.

    A still picture is never too short. Of a file that was not scanned, both are expected.
    """
    info = entry.info
    if info is None:
        return ("video", "audio")
    has = {
        "video": info.has_video and (is_picture(entry.path) or info.video_seconds >= min_seconds),
        "audio": info.has_audio and info.audio_seconds >= min_seconds,
    }
    return tuple(modality for modality, present in has.items() if present)


def learning_modalities(manifest: Manifest, min_seconds: float, chosen: str | None = None) -> str:
    """
    Return what a run learns on: ``"video+audio"``, ``"video"`` or ``"audio"``.

    Parameters
    ----------
    manifest
        The scanned collection.
    min_seconds
        Length from which on a modality of a file counts.
    chosen
        What the user has chosen. By default both, if at least a tenth of the usable files have both; otherwise the one
        that more files have.

    Raises
    ------
    InputError
        If no file has what was chosen.
    """
    counts = Counter("+".join(modalities_of(entry, min_seconds)) for entry in manifest.usable)
    n_video, n_audio = (counts[BOTH] + counts[modality] for modality in ("video", "audio"))
    if chosen is None:
        if counts[BOTH] and counts[BOTH] >= _LEAST_SHARE * len(manifest.usable):
            return BOTH
        return "video" if n_video >= n_audio else "audio"
    if len(manifest.usable) and not {BOTH: counts[BOTH], "video": n_video, "audio": n_audio}[chosen]:
        what = {BOTH: "picture and sound", "video": "a picture", "audio": "sound"}[chosen]
        raise InputError(
            f"--modalities {chosen}: no file of {printable(manifest.source)} has {what} of {min_seconds:g} s",
            option="modalities",
            value=chosen,
        )
    return chosen


def with_modalities(manifest: Manifest, modalities: str, min_seconds: float) -> Manifest:
    """Return a scanned collection in which files without any of the modalities are skipped, with the reason."""
    wanted = set(modalities.split("+"))
    return replace(manifest, entries=[_checked(entry, wanted, min_seconds) for entry in manifest])


def rows_modalities(manifest: Manifest, modalities: str, min_seconds: float) -> list[tuple[str, ...]]:
    """Return those of the modalities that each file of a collection has; all, where that is not known."""
    wanted = tuple(modalities.split("+"))
    found = [tuple(m for m in modalities_of(entry, min_seconds) if m in wanted) for entry in manifest]
    return [row or wanted for row in found]


def modalities_sentence(rows: Sequence[tuple[str, ...]], modalities: str) -> str:
    """Return in one line what a run learns on."""
    if modalities != BOTH:
        what = {"video": "the picture", "audio": "the sound"}[modalities]
        return f"learning on {what} alone: two augmented views of each file stand for the two modalities"
    counts = Counter("+".join(row) for row in rows)
    single = ", ".join(f"{counts[name]} have {_WORDS[name]}" for name in ("video", "audio") if counts[name])
    if not single:
        return "learning on picture and sound"
    return f"learning on picture and sound; {single} and count with two augmented views of it"


def _checked(entry: ManifestEntry, wanted: set[str], min_seconds: float) -> ManifestEntry:
    if entry.skipped or wanted & set(modalities_of(entry, min_seconds)):
        return entry
    faults = {"video": "picture", "audio": "sound"}
    return replace(entry, skipped="; ".join(f"no {faults[modality]} to learn on" for modality in sorted(wanted)))
