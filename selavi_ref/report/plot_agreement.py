"""Agreement of heads with each other and with the labels, as a table and a figure."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError
from selavi_ref.metrics import normalized_mutual_info_score
from selavi_ref.report.figures import matrix_figure
from selavi_ref.report.table import Cell, Table


def agreement_table(labellings: Mapping[str, NDArray[np.int32]]) -> Table:
    """
    Return the NMI of each labelling with each other.

    Parameters
    ----------
    labellings : mapping
        Name of each labelling to the cluster of each video, int32, shape (N,); -1 for none.

    Raises
    ------
    InputError
        If no video is labelled by two of them.
    """
    keys = {name: f"with_{name.replace(' ', '_')}" for name in labellings}
    rows: list[Mapping[str, Cell]] = []
    for name, own in labellings.items():
        row: dict[str, Cell] = {"labels": name}
        for other, labels in labellings.items():
            both = (own >= 0) & (labels >= 0)
            if both.any():
                row[keys[other]] = round(float(normalized_mutual_info_score(own[both], labels[both])), 12)
        rows.append(row)
    if not any(len(row) > 2 for row in rows):
        raise InputError("no video is labelled by two heads")
    return Table(
        "Agreement of heads",
        {"labels": "labels", **{keys[name]: name for name in labellings}},
        rows,
        ["NMI of the labels of all videos that both have labelled; heads number their clusters differently."],
    )


def draw_agreement(
    stem: str | os.PathLike[str], labellings: Mapping[str, NDArray[np.int32]], *, force: bool = False
) -> None:
    """Write the table of `agreement_table`, and draw it; `force` is that of `Table.write`."""
    table = agreement_table(labellings)
    table.write(stem, figures=[stem], force=force)
    names = list(labellings)
    values = [[row.get(key) for key in list(table.columns)[1:]] for row in table.rows]
    matrix_figure(
        stem,
        np.array(values, float),
        title="Agreement of heads (NMI)",
        x="",
        y="",
        rows=names,
        columns=names,
        limits=(0, 1),
        digits=3,
    )
