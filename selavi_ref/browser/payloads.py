"""What the page is told, as JSON: the same for the page that is served and for the one in a folder."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.browser.annotations import History
from selavi_ref.browser.collection import Collection, video_file
from selavi_ref.browser.posterior_index import Neighbours, most_probable, top

CHUNK = 100  # videos whose details are in one file of an exported page
NEAREST = 12  # neighbours that are shown
_LARGEST = 12  # clusters of a posterior that are shown
_NOWHERE = 65535  # of a video without a place on the map

Payload = dict[str, Any]


def encoded(payload: Payload) -> bytes:
    """Return a payload as JSON in ASCII; names that are not UTF-8 are written as lone surrogates."""
    return json.dumps(payload, separators=(",", ":"), allow_nan=False).encode("ascii")


def collection_payload(collection: Collection) -> Payload:
    """Return what the videos are."""
    classes = sorted(set(collection.classes) - {""})
    numbers = {"": -1, **{name: number for number, name in enumerate(classes)}}
    modalities = ["", *sorted(set(collection.modalities) - {""})]
    known = {name: number for number, name in enumerate(modalities)}
    return {
        "title": collection.title,
        "source": str(collection.source),
        "videos": {
            "path": collection.paths,
            "class": [numbers[name] for name in collection.classes],
            "modalities": [known[name] for name in collection.modalities],
            "aspect": _aspects(collection),
            "reason": {str(row): reason for row, reason in enumerate(collection.reasons) if reason},
        },
        "classes": classes,
        "modalities": modalities,
        "labellings": [
            {"name": name, "title": title, "clusters": collection.labels.clusters}
            for name, title in collection.labels.titles.items()
        ],
        "map": collection.features_file is not None,
        "details": collection.opinions is not None,
    }


def labelling_payload(collection: Collection, name: str) -> Payload:
    """Return the labels of one labelling, as learnt."""
    found = collection.labelling(name)
    return {
        "name": name,
        "clusters": found.clusters,
        "label": found.label.tolist(),
        "confidence": _rounded(found.confidence, 4),
        "entropy": None if found.entropy is None else _rounded(np.maximum(found.entropy, 0), 3),
        "runner_up": found.runner_up.tolist(),
        "order": found.order.tolist(),
    }


def annotations_payload(history: History, rows: Mapping[str, list[int]]) -> Payload:
    """
    Return what people have said.

    Parameters
    ----------
    history : History
        All edits.
    rows : mapping
        Numbers of the videos of each path; edits of videos that are not there are passed over.
    """
    said = {}
    for name, edits in history.edits.items():
        moved = {str(row): to for path, to in edits.moved.items() for row in rows.get(path, ())}
        wrong = [row for path in edits.wrong for row in rows.get(path, ())]
        if edits.names or edits.merged or moved or wrong or edits.made:
            said[name] = {
                "names": {str(cluster): text for cluster, text in edits.names.items()},
                "merged": {str(cluster): into for cluster, into in edits.merged.items()},
                "moved": moved,
                "wrong": sorted(wrong),
                "made": edits.made,
            }
    return {"revision": history.revision, "undo": history.undo, "redo": history.redo, "labellings": said}


def video_payload(
    collection: Collection,
    row: int,
    posteriors: Mapping[str, NDArray[np.float32]],
    place: int,
    neighbours: Neighbours,
    preview: bool,
) -> Payload:
    """
    Return what is known of one video.

    Parameters
    ----------
    collection : Collection
        Where it is.
    row : int
        Its number.
    posteriors : mapping
        Of `Opinions.posteriors`, for some rows.
    place : int
        Which of these rows is the video's.
    neighbours : mapping
        Of `Opinions.neighbours`.
    preview : bool
        Whether there is a piece to be played in place of the file.
    """
    file, info = video_file(collection.files[row]), collection.info.get(collection.paths[row])
    return {
        "heads": most_probable(posteriors, place),
        "posterior": {name: top(shares[place], _LARGEST) for name, shares in posteriors.items()},
        "neighbours": {
            modality: [(near, round(far, 4)) for near, far in found] for modality, found in neighbours.items()
        },
        "file": {
            "exists": file is not None,
            "preview": preview,
            "bytes": 0 if file is None else os.path.getsize(file),
            "seconds": None if info is None else round(max(info.video_seconds, info.audio_seconds), 2),
            "width": None if info is None else info.width,
            "height": None if info is None else info.height,
        },
    }


def details_of(collection: Collection, row: int, preview: bool) -> Payload:
    """Return `video_payload` of one video, worked out now."""
    opinions = collection.opinions
    if opinions is None:
        return video_payload(collection, row, {}, 0, {}, preview)
    near = opinions.neighbours(row, NEAREST)
    return video_payload(collection, row, opinions.posteriors(slice(row, row + 1)), 0, near, preview)


def map_payload(places: ArrayLike, words: str) -> Payload:
    """
    Return a map of the videos.

    Parameters
    ----------
    places : array
        Shape (N, 2); NaN for a video that has no place.
    words : str
        How it was made.
    """
    xy = np.asarray(places, np.float64)
    known = np.isfinite(xy).all(1)
    low, high = (xy[known].min(0), xy[known].max(0)) if known.any() else (np.zeros(2), np.ones(2))
    span = float((high - low).max()) or 1.0
    grid = np.full(xy.shape, _NOWHERE, "<u2")
    grid[known] = np.rint((xy[known] - low + (span - (high - low)) / 2) / span * (_NOWHERE - 1))
    return {"by": words, **{name: base64.b64encode(grid[:, axis].tobytes()).decode() for axis, name in enumerate("xy")}}


def _aspects(collection: Collection) -> list[float] | None:
    if not collection.info:
        return None
    known = [collection.info.get(path) for path in collection.paths]
    return [round(info.width / info.height, 3) if info is not None and info.height else 1 for info in known]


def _rounded(values: NDArray[np.float32], places: int) -> list[float | None]:
    """Return numbers with so many places, and None for NaN; what is less than certain does not become it."""
    exact = values.astype(np.float64)
    near = np.round(exact, places)
    rounded: list[float | None] = np.where((near == 1) & (exact < 1), 1 - 10.0**-places, near).round(places).tolist()
    if np.isnan(exact).any():
        rounded = [None if value != value else value for value in rounded]
    return rounded
