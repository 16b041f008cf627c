"""Figures: lines, bars, matrices and maps in one plain style, each written as PNG and as SVG."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.errors import SelaviError, printable

# Colours that people with any kind of colour vision tell apart (Okabe and Ito, 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MOST_NAMED = 40  # rows, columns or bars whose names are written
_DASHES = ("-", "--", "-.", ":")
_SHARP = 200  # dots an inch, of what is drawn in points
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 100,
    "font.size": 10,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text, which can be searched and read aloud
    "svg.hashsalt": "selavi",  # the same figure gives the same file
    "text.parse_math": False,  # a class may be called $x$
}


def line_figure(
    stem: str | os.PathLike[str],
    lines: Mapping[str, tuple[Any, Any]],
    *,
    title: str,
    x: str,
    y: str,
    log_x: bool = False,
    y_range: tuple[float, float] | None = None,
    marks: Mapping[str, float] | None = None,
    points: bool = True,
    twins: Mapping[str, str] | None = None,
) -> list[Path]:
    """
    Draw lines and write them as ``STEM.png`` and ``STEM.svg``.

    Parameters
    ----------
    stem : path
        Of the two files.
    lines : mapping
        Name of each line to its x and y values.
    title, x, y : str
        Texts; `x` and `y` name the axes with their units.
    log_x : bool
        Logarithmic x axis.
    y_range : pair of float, optional
        Of the y axis.
    marks : mapping, optional
        Vertical lines: name to x.
    points : bool
        Whether each value has a point.
    twins : mapping, optional
        Lines that are drawn dashed in the colour of another, whose name stands behind theirs.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    SelaviError
        If one cannot be written.
    """
    figure, axes = _blank()
    twins = twins or {}
    alone = [name for name in lines if name not in twins]
    for name, (xs, ys) in lines.items():
        index = alone.index(twins.get(name, name))
        colour = COLOURS[index % len(COLOURS)]
        dash = _DASHES[(index // len(COLOURS) + (name in twins)) % len(_DASHES)]
        axes.plot(xs, ys, dash, color=colour, marker="o" if points else None, markersize=4, label=_label(name))
    for name, position in (marks or {}).items():
        axes.axvline(position, color="#999999", linestyle=":", linewidth=1)
        axes.annotate(
            _label(name), (position, 1), (3, -10), xycoords=("data", "axes fraction"), textcoords="offset points"
        )
    if log_x:
        axes.set_xscale("log", base=2)
        ticks = np.unique(np.concatenate([np.asarray(xs, float) for xs, _ in lines.values()]))
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        axes.minorticks_off()
    if y_range is not None:
        axes.set_ylim(*y_range)
    _texts(axes, title, x, y)
    if len(lines) > 1:
        axes.legend()
    return _write(figure, stem)


def bar_figure(
    stem: str | os.PathLike[str],
    groups: Sequence[str],
    bars: Mapping[str, Sequence[float]],
    *,
    title: str,
    y: str,
    spreads: Mapping[str, Sequence[float]] | None = None,
) -> list[Path]:
    """
    Draw bars side by side, one group for each of ``groups``, and write them as PNG and SVG.

    Parameters
    ----------
    stem, title, y
        As in `line_figure`.
    groups : sequence of str
        Names along the axis.
    bars : mapping
        Of each kind of bar: its height in each group.
    spreads : mapping, optional
        Of each kind of bar: how far its height varies to both sides.
    """
    figure, axes = _blank(width=max(6.4, 0.5 * len(groups) * max(1, len(bars)) + 3))
    width = 0.8 / max(1, len(bars))
    for index, (name, heights) in enumerate(bars.items()):
        places = np.arange(len(groups)) + (index - (len(bars) - 1) / 2) * width
        spread = spreads.get(name) if spreads else None
        axes.bar(
            places, heights, width, color=COLOURS[index % len(COLOURS)], yerr=spread, capsize=2, label=_label(name)
        )
    axes.set_xticks(np.arange(len(groups)), [_label(group) for group in groups], rotation=20, ha="right")
    axes.grid(False, axis="x")
    _texts(axes, title, "", y)
    if len(bars) > 1:
        axes.legend()
    return _write(figure, stem)


def matrix_figure(
    stem: str | os.PathLike[str],
    values: ArrayLike,
    *,
    title: str,
    x: str,
    y: str,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    limits: tuple[float, float] | None = None,
    root: bool = False,
    digits: int = 2,
) -> list[Path]:
    """
    Draw a matrix as a picture, with its numbers where there is room, and write it as PNG and SVG.

    Parameters
    ----------
    stem, title, x, y
        As in `line_figure`.
    values : array
        Shape (R, C).
    rows, columns : sequence of str, optional
        Names of the rows and columns; left out where there are too many to be read.
    limits : pair of float, optional
        Values of the lightest and the darkest colour; by default the least and the largest.
    root : bool
        Let colours follow the square root, so that small numbers are seen beside large ones.
    digits : int
        Decimals of the numbers that are no whole ones.
    """
    _matplotlib()
    from matplotlib.colors import PowerNorm

    matrix = np.asarray(values, float)
    low, high = limits or ((np.nanmin(matrix), np.nanmax(matrix)) if np.isfinite(matrix).any() else (0, 1))
    shade = PowerNorm(0.5 if root else 1, low, high)
    side = max(5.0, min(14.0, 0.45 * max(matrix.shape)))
    figure, axes = _blank(side + 1.5, side)
    axes.grid(False)
    picture = axes.imshow(matrix, norm=shade, cmap="Blues", aspect="auto", interpolation="nearest")
    figure.colorbar(picture, ax=axes, fraction=0.04)
    for names, count, set_ticks, turn in (
        (rows, matrix.shape[0], axes.set_yticks, 0),
        (columns, matrix.shape[1], axes.set_xticks, 60),
    ):
        if names is not None and count <= MOST_NAMED:
            set_ticks(np.arange(count), [_label(name) for name in names], rotation=turn)
    if matrix.size <= 400:
        for (row, column), value in np.ndenumerate(matrix):
            text = f"{value:.0f}" if float(value).is_integer() else f"{value:.{digits}f}"
            ink = "white" if shade(value) > 0.5 else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    _texts(axes, title, x, y)
    return _write(figure, stem)


def sizes_figure(
    stem: str | os.PathLike[str],
    sizes: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    title: str,
    x: str,
    y: str,
    bars: str,
    names: Sequence[str] | None = None,
) -> list[Path]:
    """
    Draw sizes as bars without gaps and others as steps over them, and write them as PNG and SVG.

    Parameters
    ----------
    stem, title, x, y
        As in `line_figure`.
    sizes : sequence of float
        Heights of the bars.
    lines : mapping
        Name of each line to its height over each bar.
    bars : str
        What the bars are, beside the names of lines.
    names : sequence of str, optional
        Names of the bars; left out where there are too many to be read.
    """
    figure, axes = _blank(width=max(6.4, min(12.0, 0.3 * len(sizes) + 2)))
    edges = np.arange(len(sizes) + 1) - 0.5
    gap = "white" if len(sizes) <= 2 * MOST_NAMED else "none"
    name = _label(bars)
    axes.bar(np.arange(len(sizes)), sizes, 1.0, color="#B3CDE3", edgecolor=gap, linewidth=0.8, label=name)
    for index, (name, heights) in enumerate(lines.items()):
        colour, dash = ("black", COLOURS[1], COLOURS[2])[index % 3], _DASHES[(index + 1) % 3 if index else 0]
        axes.stairs(heights, edges, baseline=None, color=colour, linestyle=dash, linewidth=1.5, label=_label(name))
    if names is not None and len(sizes) <= MOST_NAMED:
        long = max(map(len, names), default=0) > 3
        axes.set_xticks(
            np.arange(len(sizes)),
            list(map(_label, names)),
            rotation=60 if long else 0,
            ha="right" if long else "center",
        )
    axes.set_xlim(-0.7, len(sizes) - 0.3)
    axes.set_ylim(0, 1.08 * max([*sizes, *(max(heights) for heights in lines.values()), 1e-9]))
    axes.grid(False, axis="x")
    _texts(axes, title, x, y)
    if lines:
        axes.legend(loc="lower left", frameon=True, framealpha=0.9, edgecolor="none")
    return _write(figure, stem)


def scatter_figure(
    stem: str | os.PathLike[str],
    places: NDArray[np.float32],
    groups: NDArray[np.int32],
    *,
    title: str,
    names: Mapping[int, str],
    colours: Mapping[int, str],
    centres: Mapping[int, tuple[float, float]],
    note: str = "",
) -> list[Path]:
    """
    Draw points on a map, coloured by the groups they belong to, and write it as PNG and SVG.

    The points are a picture within the SVG, which stays small however many there are; its texts are texts.

    Parameters
    ----------
    stem, title
        As in `line_figure`.
    places : array
        Shape (N, 2); NaN for a point without a place.
    groups : array
        Group of each point, int32, shape (N,); -1 for none, which is drawn in grey.
    names, colours, centres : mapping
        Of each group: what is written at its centre, its colour, and its centre.
    note : str
        A line below the map.
    """
    _matplotlib()
    from matplotlib.colors import to_rgba_array

    figure, axes = _blank(7.2 if len(names) <= MOST_NAMED else 10.0, 7.2 if len(names) <= MOST_NAMED else 10.0)
    drawn = np.flatnonzero(np.isfinite(places).all(1))
    drawn = np.random.default_rng(0).permutation(drawn)  # no group lies over all others
    inks = to_rgba_array([*(colours[group] for group in sorted(colours)), "#C8C8C8"])
    colour_of = {group: number for number, group in enumerate(sorted(colours))}
    ink = np.array([colour_of.get(group, len(colour_of)) for group in groups[drawn].tolist()], int)
    drawn, ink = (of[np.argsort(ink != len(colour_of), kind="stable")] for of in (drawn, ink))  # grey ones lie below
    area = float(np.clip(25_000 / max(1, len(drawn)), 0.8, 22))
    axes.scatter(*places[drawn].T, s=area, c=inks[ink], linewidths=0, alpha=0.85, rasterized=True)
    size = float(np.clip(70 / np.sqrt(max(1, len(names))), 4.5, 12))
    for group, name in names.items():
        if group in centres:
            axes.text(
                *centres[group], _label(name), fontsize=size, ha="center", va="center", weight="bold",
                bbox={"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.7},
            )  # fmt: skip
    axes.set_aspect("equal", "datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    _texts(axes, title, note, "")
    axes.xaxis.label.set_size(8)
    return _write(figure, stem, dpi=_SHARP)


def check_drawing() -> None:
    """Fail before long work, and not after it, where matplotlib is not installed."""
    _matplotlib()


def _matplotlib() -> Any:
    """Import matplotlib with the backend that draws to files, whatever MPLBACKEND names: in notebooks, none of ours."""
    backend = os.environ.get("MPLBACKEND")
    if "matplotlib" not in sys.modules and backend is not None:
        os.environ["MPLBACKEND"] = "agg"
    try:
        return import_module("matplotlib")
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def _blank(width: float = 6.4, height: float = 4.2) -> tuple[Any, Any]:
    with _matplotlib().rc_context(_STYLE):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def _texts(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(_label(title), loc="left", fontsize=11)
    axes.set_xlabel(_label(x))
    axes.set_ylabel(_label(y))


def _label(text: str) -> str:
    """Return a text as it can be drawn; a leading underscore would hide a line's name."""
    readable = printable(text)
    return f" {readable}" if readable.startswith("_") else readable


def _write(figure: Any, stem: str | os.PathLike[str], dpi: int | None = None) -> list[Path]:
    mpl = _matplotlib()
    written = []
    for ending in ("png", "svg"):
        path = Path(f"{os.fspath(stem)}.{ending}")
        partial = Path(f"{path}.partial")
        try:
            with mpl.rc_context(_STYLE):
                metadata = {"Date": None} if ending == "svg" else None
                figure.savefig(partial, format=ending, metadata=metadata, dpi=dpi or "figure")
            figure.set_layout_engine("none")  # the second file is laid out as the first, in less time
            os.replace(partial, path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(partial)
            raise SelaviError(f"{printable(path)} cannot be written: {error.strerror or error}", path=path) from error
        written.append(path)
    return written
