"""JSON data of the page, the same for the served page and for the exported one."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.browser.collection import Collection, video_file
from selavi_ref.browser.edit_history import EditHistory
from selavi_ref.browser.posterior_index import Neighbours, most_probable, top
from selavi_ref.naming.proposals import ProposalsFile, proposals_json

CHUNK = 100  # videos per file of details of an exported page
NEAREST = 12  # neighbours of a video on the page
_LARGEST = 12  # most probable clusters of a video on the page
_NOWHERE = 65535  # coordinate of a video without a position on the map

Payload = dict[str, Any]


def encoded(payload: Payload) -> bytes:
    """Return a payload as JSON in ASCII; names that are not UTF-8 are written as lone surrogates."""
    return json.dumps(payload, separators=(",", ":"), allow_nan=False).encode("ascii")


def collection_payload(collection: Collection) -> Payload:
    """Return the videos and the names of their classes, modalities and labellings."""
    classes = sorted(set(collection.classes) - {""})
    numbers = {"": -1, **{name: number for number, name in enumerate(classes)}}
    modalities = ["", *sorted(set(collection.modalities) - {""})]
    modality_numbers = {name: number for number, name in enumerate(modalities)}
    return {
        "title": collection.title,
        "source": str(collection.source),
        "videos": {
            "path": collection.paths,
            "class": [numbers[name] for name in collection.classes],
            "modalities": [modality_numbers[name] for name in collection.modalities],
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
        "details": collection.posterior_index is not None,
    }


def labelling_payload(collection: Collection, name: str) -> Payload:
    """Return the labels of one labelling, before any edit."""
    labelling = collection.labelling(name)
    return {
        "name": name,
        "clusters": labelling.clusters,
        "label": labelling.label.tolist(),
        "confidence": _rounded(labelling.confidence, 4),
        "entropy": None if labelling.entropy is None else _rounded(np.maximum(labelling.entropy, 0), 3),
        "runner_up": labelling.runner_up.tolist(),
        "order": labelling.order.tolist(),
    }


def proposals_payload(file: ProposalsFile) -> Payload:
    """Return the proposed names of all labellings: labelling -> cluster -> name, score and source, best first."""
    return {name: proposals_json(proposals) for name, proposals in file.labellings.items()}


def annotations_payload(history: EditHistory, rows: Mapping[str, list[int]]) -> Payload:
    """
    Return the edits of all labellings.

    Parameters
    ----------
    history : EditHistory
        All edits.
    rows : mapping
        Row numbers of the videos with each path; edits of other videos are ignored.
    """
    labellings = {}
    for name, edits in history.edits.items():
        moved = {str(row): to for path, to in edits.moved.items() for row in rows.get(path, ())}
        wrong = [row for path in edits.wrong for row in rows.get(path, ())]
        if edits.names or edits.merged or moved or wrong or edits.created:
            labellings[name] = {
                "names": {str(cluster): text for cluster, text in edits.names.items()},
                "merged": {str(cluster): into for cluster, into in edits.merged.items()},
                "moved": moved,
                "wrong": sorted(wrong),
                "created": edits.created,
            }
    return {"revision": history.revision, "undo": history.undo, "redo": history.redo, "labellings": labellings}


def video_payload(
    collection: Collection,
    row: int,
    posteriors: Mapping[str, NDArray[np.float32]],
    row_in_posteriors: int,
    neighbours: Neighbours,
    preview: bool,
) -> Payload:
    """
    Return the details of one video.

    Parameters
    ----------
    collection : Collection
        The collection.
    row : int
        Row number of the video.
    posteriors : mapping
        From `PosteriorIndex.posteriors`, for some rows.
    row_in_posteriors : int
        Index of the video among these rows.
    neighbours : mapping
        From `PosteriorIndex.neighbours`.
    preview : bool
        Whether a preview can be played in place of the file.
    """
    file, info = video_file(collection.files[row]), collection.info.get(collection.paths[row])
    return {
        "heads": most_probable(posteriors, row_in_posteriors),
        "posterior": {name: top(part[row_in_posteriors], _LARGEST) for name, part in posteriors.items()},
        "neighbours": {
            modality: [(other, round(distance, 4)) for other, distance in nearest]
            for modality, nearest in neighbours.items()
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
    """Compute and return the `video_payload` of one video."""
    posterior_index = collection.posterior_index
    if posterior_index is None:
        return video_payload(collection, row, {}, 0, {}, preview)
    near = posterior_index.neighbours(row, NEAREST)
    return video_payload(collection, row, posterior_index.posteriors(slice(row, row + 1)), 0, near, preview)


def map_payload(positions: ArrayLike, description: str) -> Payload:
    """
    Return the map of the videos.

    Parameters
    ----------
    positions : array
        Shape (N, 2); NaN for a video without a position.
    description : str
        How the map was computed.
    """
    xy = np.asarray(positions, np.float64)
    valid = np.isfinite(xy).all(1)
    low, high = (xy[valid].min(0), xy[valid].max(0)) if valid.any() else (np.zeros(2), np.ones(2))
    span = float((high - low).max()) or 1.0
    grid = np.full(xy.shape, _NOWHERE, "<u2")
    grid[valid] = np.rint((xy[valid] - low + (span - (high - low)) / 2) / span * (_NOWHERE - 1))
    return {
        "by": description,
        **{name: base64.b64encode(grid[:, axis].tobytes()).decode() for axis, name in enumerate("xy")},
    }


def _aspects(collection: Collection) -> list[float] | None:
    if not collection.info:
        return None
    infos = [collection.info.get(path) for path in collection.paths]
    return [round(info.width / info.height, 3) if info is not None and info.height else 1 for info in infos]


def _rounded(values: NDArray[np.float32], digits: int) -> list[float | None]:
    """Round numbers to so many decimal digits, NaN to None; a probability below 1 is never rounded to 1."""
    exact = values.astype(np.float64)
    near = np.round(exact, digits)
    rounded: list[float | None] = np.where((near == 1) & (exact < 1), 1 - 10.0**-digits, near).round(digits).tolist()
    if np.isnan(exact).any():
        rounded = [None if value != value else value for value in rounded]
    return rounded
