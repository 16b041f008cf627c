"""The course of a training as a table and a figure, from the run's log."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from selavi_ref.errors import InputError
from selavi_ref.report.figures import line_figure
from selavi_ref.report.table import Cell, Table
from selavi_ref.runs.run import Run

_LABELLING = {
    "nmi_with_classes": "with the true classes",
    "nmi_between_heads": "between heads",
    "nmi_with_last": "with the labels before",
}


def training_curve(run: Run, stem: str | os.PathLike[str], *, force: bool = False) -> list[Table]:
    """
    Write how loss, rate and agreements of a run went: ``STEM.txt`` and so on, and figures of agreements, loss and rate.

    Agreements are NMI: of the labels with those before, of heads with each other, and with true classes where these
    are known, which learning never sees. What the collection's own spectrum says (the mean of the eigenvalues 2 to K
    of `selavi_ref.selflabel.overclustering`) is drawn along, where the run has over-clustering heads.

    Parameters
    ----------
    run : Run
        That has learnt at least one epoch.
    stem : path
        Of the files.
    force : bool
        As of `Table.write`.

    Raises
    ------
    InputError
        If the run has no log yet.
    """
    records = run.records
    labellings = [record for record in records if _is_number(record.get("changed"))]
    epochs = [record for record in records if _is_number(record.get("epoch"))]
    if not labellings or not epochs:
        raise InputError(
            f"{run.folder} has learnt nothing yet: {run.log_file.name} has no whole epoch", path=run.folder
        )
    table = Table(
        f"Course of {run.folder}",
        {
            "step": "step",
            "epoch": "epoch",
            "loss": "loss",
            "rate": "rate",
            "changed": "labels changed",
            **{name: f"NMI {text}" for name, text in _LABELLING.items()},
            "agreement": "picture and sound agree",
            "labelling_seconds": "seconds",
        },
        [_row(record) for record in sorted(epochs + labellings, key=lambda record: record["step"])],
        ["Rows with an epoch: mean loss, and rate, at its end. Other rows: a self-labelling before that step."],
        {"run": str(run.folder)},
    )
    table.write(stem, figures=[stem, f"{os.fspath(stem)}-loss", f"{os.fspath(stem)}-rate"], force=force)
    rows = [_row(record) for record in labellings]
    lines = {
        text: ([r["step"] for r in rows if name in r], [r[name] for r in rows if name in r])
        for name, text in (*_LABELLING.items(), ("agreement", "picture and sound agree (spectrum)"))
        if any(name in r for r in rows)
    }
    line_figure(stem, lines, title="Agreement of the labels", x="step", y="NMI", y_range=(0, 1.02), points=False)
    line_figure(
        f"{os.fspath(stem)}-loss",
        {"loss": _course(epochs, "loss")},
        title="Mean loss of each epoch",
        x="step",
        y="cross-entropy, nats",
        points=False,
    )
    line_figure(
        f"{os.fspath(stem)}-rate",
        {"rate": _course(epochs, "rate")},
        title="Learning rate at the end of each epoch",
        x="step",
        y="rate",
        points=False,
    )
    return [table]


def _course(records: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    known = [record for record in records if _is_number(record.get(name))]
    return [record["step"] for record in known], [record[name] for record in known]


def _row(record: Mapping[str, Any]) -> dict[str, Cell]:
    row: dict[str, Cell] = {name: value for name, value in record.items() if _is_number(value)}
    spectrum = record.get("spectrum")
    if isinstance(spectrum, list) and len(spectrum) > 2 and all(map(_is_number, spectrum)):
        row["agreement"] = sum(spectrum[1:-1]) / (len(spectrum) - 2)
    return row


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
