"""Figures: lines, bars and matrices in one plain style, each written as PNG and as SVG."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from selavi_ref.errors import SelaviError
from selavi_ref.media.container import printable

# Colours that people with any kind of colour vision tell apart (Okabe and Ito, 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_DASHES = ("-", "--", "-.", ":")
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
    for name, place in (marks or {}).items():
        axes.axvline(place, color="#999999", linestyle=":", linewidth=1)
        axes.annotate(
            _label(name), (place, 1), (3, -10), xycoords=("data", "axes fraction"), textcoords="offset points"
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
    """
    matrix = np.asarray(values, float)
    side = max(5.0, min(14.0, 0.45 * max(matrix.shape)))
    figure, axes = _blank(side + 1.5, side)
    axes.grid(False)
    picture = axes.imshow(matrix, cmap="Blues", aspect="auto", interpolation="nearest")
    figure.colorbar(picture, ax=axes, fraction=0.04)
    for names, count, set_ticks, turn in (
        (rows, matrix.shape[0], axes.set_yticks, 0),
        (columns, matrix.shape[1], axes.set_xticks, 60),
    ):
        if names is not None and count <= 40:
            set_ticks(np.arange(count), [_label(name) for name in names], rotation=turn)
    if matrix.size <= 400:
        middle = np.nanmax(matrix) / 2 if matrix.size else 0
        for (row, column), value in np.ndenumerate(matrix):
            shown = f"{value:.0f}" if float(value).is_integer() else f"{value:.2f}"
            ink = "white" if value > middle else "black"
            axes.text(column, row, shown, ha="center", va="center", fontsize=8, color=ink)
    _texts(axes, title, x, y)
    return _write(figure, stem)


def check_drawing() -> None:
    """Fail before long work, and not after it, where matplotlib is not installed."""
    import matplotlib  # noqa: F401


def _blank(width: float = 6.4, height: float = 4.2) -> tuple[Any, Any]:
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def _texts(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(_label(title), loc="left", fontsize=11)
    axes.set_xlabel(_label(x))
    axes.set_ylabel(_label(y))


def _label(text: str) -> str:
    """Return a text as it can be drawn; a leading underscore would hide a line's name."""
    shown = printable(text)
    return f" {shown}" if shown.startswith("_") else shown


def _write(figure: Any, stem: str | os.PathLike[str]) -> list[Path]:
    import matplotlib as mpl

    written = []
    for ending in ("png", "svg"):
        path = Path(f"{os.fspath(stem)}.{ending}")
        partial = Path(f"{path}.partial")
        try:
            with mpl.rc_context(_STYLE):
                figure.savefig(partial, format=ending, metadata={"Date": None} if ending == "svg" else None)
            os.replace(partial, path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(partial)
            raise SelaviError(f"{printable(path)} cannot be written: {error.strerror or error}") from error
        written.append(path)
    return written
