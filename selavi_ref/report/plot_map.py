"""The map of all videos in colours: by cluster, and by true class in the colours of the clusters matched with them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import printable
from selavi_ref.report.figures import scatter_figure
from selavi_ref.report.own_files import PLACES_COLUMNS
from selavi_ref.runs.atomic import replacing
from selavi_ref.runs.csv_file import write_rows

# The first ten can be told apart with any kind of colour vision: seven of Okabe and Ito (2008), and three that are
# farthest from them in OKLab, as normal, protan, deutan and tritan eyes see them (Machado et al., 2009). The others
# were found likewise, mostly for normal vision.
PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#92003D", "#0000FF", "#79E7B6",
    "#F300FF", "#7900B6", "#6D5500", "#F3B6E7", "#00F300", "#CE0092", "#8679FF", "#865586", "#6DC249", "#FF79F3",
    "#FF2461", "#AA3DDB", "#006161", "#FF9286", "#927949", "#C20C00", "#DBCE79", "#00499E", "#86B69E", "#613DFF",
)  # fmt: skip
_LONGEST = 18  # letters of a name on the map

Centres = dict[int, tuple[float, float]]


def draw_map(
    stem: str | os.PathLike[str],
    places: NDArray[np.float32],
    groups: NDArray[np.int32],
    *,
    title: str,
    names: Mapping[int, str],
    colours: Mapping[int, str],
    note: str,
) -> list[Path]:
    """
    Draw videos on a map in the colours of their groups, whose names stand at their centres.

    Parameters
    ----------
    stem : path
        Of the figure.
    places : array
        float32, shape (N, 2); NaN for a video without a place.
    groups : array
        Group of each video, int32, shape (N,); -1 for none, drawn in grey.
    title, note : str
        Texts above and below.
    names, colours : mapping
        Of each group.
    """
    without = int((groups[np.isfinite(places).all(1)] < 0).sum())
    if without:
        note += f"; {without:,} in grey have none"
    return scatter_figure(
        stem,
        places,
        groups,
        title=title,
        names={group: _short(name) for group, name in names.items()},
        colours=colours,
        centres=centres_of(places, groups),
        note=note,
    )


def write_places(
    path: Path, paths: Sequence[str], places: NDArray[np.float32], labels: NDArray[np.int32], classes: Sequence[str]
) -> None:
    """Write the place, label and class of each video as CSV; empty where there is none."""
    with replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = (
            [video, *(("", "") if x != x else (f"{x:.4f}", f"{y:.4f}")), label if label >= 0 else "", true]
            for video, (x, y), label, true in zip(paths, places.tolist(), labels.tolist(), classes, strict=True)
        )
        write_rows(file, PLACES_COLUMNS, rows, PLACES_COLUMNS)  # negative numbers are no formulas


def centres_of(places: NDArray[np.float32], groups: NDArray[np.int32]) -> Centres:
    """Return for each group the place of that of its videos which is nearest to the medians of both coordinates."""
    known = np.flatnonzero((groups >= 0) & np.isfinite(places).all(1))
    known = known[np.argsort(groups[known], kind="stable")]
    numbers, starts = np.unique(groups[known], return_index=True)
    centres = {}
    for number, start, end in zip(numbers.tolist(), starts, [*starts[1:], len(known)], strict=False):
        members = known[start:end]
        own = places[members].astype(np.float64)
        nearest = own[np.square(own - np.median(own, 0)).sum(1).argmin()]
        centres[number] = (float(nearest[0]), float(nearest[1]))
    return centres


def spread_colours(centres: Centres, given: Mapping[int, str] | None = None) -> dict[int, str]:
    """
    Give each group a colour, unlike those of the groups around it.

    Up to ten groups have the first ten colours, by their numbers; up to thirty have one each; of more, groups of one
    colour lie far from each other.

    Parameters
    ----------
    centres : mapping
        Of each group.
    given : mapping, optional
        Colours that some groups have already.
    """
    colours = {group: colour for group, colour in (given or {}).items() if group in centres}
    if not colours and max(centres, default=0) < 10:
        return {group: PALETTE[group] for group in centres}
    groups = [*colours, *(group for group in centres if group not in colours)]
    at = np.array([centres[group] for group in groups], np.float64).reshape(-1, 2)
    scale = float(np.ptp(at, 0).max()) / max(1.0, np.sqrt(len(groups))) or 1.0 if len(groups) else 1.0
    lab = _oklab(PALETTE)
    unlike = np.linalg.norm(lab[:, None] - lab, axis=-1) + 0.02
    numbers = [PALETTE.index(colours[group]) for group in colours]
    for index in range(len(numbers), len(groups)):
        apart = np.square((at[:index] - at[index]) / scale).sum(1)
        cost = (1 / (apart + 0.05) / unlike[:, numbers]).sum(1)
        if len(groups) <= len(PALETTE):
            cost[numbers] += 1e9
        if len(groups) <= 10:
            cost[10:] += 1e12
        numbers.append(int(cost.argmin()))
    return {group: PALETTE[number] for group, number in zip(groups, numbers, strict=True)}


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def _oklab(colours: Sequence[str]) -> NDArray[np.float64]:
    """Return colours in OKLab, in which distances are about as large as they look (Ottosson, 2020)."""
    rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = [[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]
    opponents = [[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]]
    lab: NDArray[np.float64] = np.cbrt(linear @ np.array(cones).T) @ np.array(opponents).T
    return lab
