"""The labellings of a table of labels, of which there is no more than it says."""

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
    Labels as a table has them.

    Parameters
    ----------
    path : Path
        CSV with the columns path and label; others of `selavi_ref.ensemble.label_table.write_csv` are read as well.
    heads : bool
        Whether the labels of heads are shown.

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
        self._confidence, self._runner_up = self._shares("confidence"), self._numbers("runner_up")
        self.titles = {name: "labels" if name == CONSENSUS else f"head {name}" for name in columns}

    def make(self, name: str) -> Labelling:
        """Return a labelling; the most confident videos count as the most typical."""
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

    def joined(self, name: str, joined: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return confidence and runner-up of each video when clusters are joined: no more is known of the former."""
        found = self.make(name)
        label, second = (np.where(of < 0, -1, joined[of]).astype(np.int32) for of in (found.label, found.runner_up))
        return found.confidence, np.where(second == label, -1, second).astype(np.int32)

    @property
    def paths(self) -> list[str]:
        """The videos."""
        return self.column("path")

    @property
    def classes(self) -> list[str]:
        """True class of each video: of the column ``class``, or else its folder."""
        return self.column("class") if "class" in self._rows[0] else [folder_class(path) for path in self.paths]

    @property
    def names(self) -> dict[int, str]:
        """Names of clusters, of the column ``name``."""
        named = zip(self._labels[CONSENSUS].tolist(), self.column("name"), strict=True)
        return {cluster: plain_name(name) for cluster, name in named if name and cluster >= 0}

    def column(self, name: str) -> list[str]:
        """Return what a column says of each video; "" where there is no such column."""
        return [row.get(name, "") for row in self._rows]

    def _numbers(self, column: str) -> NDArray[np.int32]:
        """Read cluster numbers; -1 where there is none."""
        values = np.full(len(self._rows), -1, np.int32)
        for row, text in enumerate(self.column(column)):
            if text and not (text.isascii() and text.isdecimal() and int(text) < _MOST_CLUSTERS):
                wanted = f"a cluster number, from 0 to {_MOST_CLUSTERS - 1}"
                raise InputError(f"{printable(self._path)}, row {row + 2}: {column} must be {wanted}, not {text!r}")
            if text:
                values[row] = int(text)
        return values

    def _shares(self, column: str) -> NDArray[np.float32]:
        """Read shares; NaN where there is none."""
        values = np.full(len(self._rows), np.nan, np.float32)
        for row, text in enumerate(self.column(column)):
            try:
                values[row] = float(text or "nan")
            except ValueError as error:
                raise InputError(
                    f"{printable(self._path)}, row {row + 2}: {column} must be a number, not {text!r}"
                ) from error
        return values
