"""The labellings of a table of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selavi_ref.browser.labelling import CONSENSUS, Labelling
from selavi_ref.ensemble.label_table import folder_class, plain_name, read_csv
from selavi_ref.errors import InputError, printable

_MOST_CLUSTERS = 100_000


class TableLabels:
    """
    Labels of a table.

    Parameters
    ----------
    path : Path
        CSV with the columns path and label; others of `selavi_ref.ensemble.label_table.write_csv` are read as well.
    heads : bool
        Whether labels of single heads are read.

    Raises
    ------
    InputError
        If it cannot be read, a value does not fit, or no video has a label.
    """

    def __init__(self, path: Path, *, heads: bool = True):
        self._rows, self._path = read_csv(path), path
        columns = {CONSENSUS: "label"}
        for column in self._rows[0] if heads else ():
            if column.startswith("head_") and column.removeprefix("head_").isdecimal():
                columns[column.removeprefix("head_")] = column
        self._labels = {name: self._numbers(column) for name, column in columns.items()}
        self.clusters = 1 + max(int(labels.max()) for labels in self._labels.values())
        if self.clusters < 1:
            raise InputError(f"{printable(path)}: none of {len(self._rows)} videos has a label")
        self._confidence, self._runner_up = self._probabilities("confidence"), self._numbers("runner_up")
        self.titles = {name: "labels" if name == CONSENSUS else f"head {name}" for name in columns}

    def make(self, name: str) -> Labelling:
        """Return a labelling; videos are in order of confidence."""
        label, main = self._labels[name], name == CONSENSUS
        confidence = self._confidence if main else np.full(len(label), np.nan, np.float32)
        order = np.argsort(-confidence, kind="stable")
        return Labelling(
            name=name,
            title=self.titles[name],
            clusters=self.clusters,
            label=label,
            runner_up=self._runner_up if main else np.full_like(label, -1),
            confidence=confidence,
            entropy=None,
            order=order[label[order] >= 0],
            heads=np.stack([*self._labels.values()], 1)[:, 1:],
        )

    def merge(self, name: str, targets: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return confidence, unchanged, and runner-up of each video when cluster k is merged into ``targets[k]``."""
        labelling = self.make(name)
        label, second = (
            np.where(of < 0, -1, targets[of]).astype(np.int32) for of in (labelling.label, labelling.runner_up)
        )
        return labelling.confidence, np.where(second == label, -1, second).astype(np.int32)

    @property
    def paths(self) -> list[str]:
        """Path of each video."""
        return self.column("path")

    @property
    def classes(self) -> list[str]:
        """True class of each video: the column ``class``, or else the name of its folder."""
        return self.column("class") if "class" in self._rows[0] else [folder_class(path) for path in self.paths]

    @property
    def names(self) -> dict[int, str]:
        """Names of clusters, from the column ``name``."""
        named = zip(self._labels[CONSENSUS].tolist(), self.column("name"), strict=True)
        return {cluster: plain_name(name) for cluster, name in named if name and cluster >= 0}

    def column(self, name: str) -> list[str]:
        """Return a column; "" for each video if there is no such column."""
        return [row.get(name, "") for row in self._rows]

    def _numbers(self, column: str) -> NDArray[np.int32]:
        """Return a column of cluster numbers; -1 for empty cells."""
        values = np.full(len(self._rows), -1, np.int32)
        for row, text in enumerate(self.column(column)):
            if text and not (text.isascii() and text.isdecimal() and int(text) < _MOST_CLUSTERS):
                expected = f"a cluster number, from 0 to {_MOST_CLUSTERS - 1}"
                raise InputError(f"{printable(self._path)}, row {row + 2}: {column} must be {expected}, not {text!r}")
            if text:
                values[row] = int(text)
        return values

    def _probabilities(self, column: str) -> NDArray[np.float32]:
        """Return a column of probabilities; NaN for empty cells."""
        values = np.full(len(self._rows), np.nan, np.float32)
        for row, text in enumerate(self.column(column)):
            try:
                values[row] = float(text or "nan")
            except ValueError as error:
                raise InputError(
                    f"{printable(self._path)}, row {row + 2}: {column} must be a number, not {text!r}"
                ) from error
        return values
