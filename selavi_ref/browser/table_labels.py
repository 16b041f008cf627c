"""The labellings of a table of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.browser.labelling import CONSENSUS, Labelling
from selavi_ref.datasets.tables import folder_classes
from selavi_ref.ensemble.label_table import HEAD, LabelTable
from selavi_ref.errors import InputError, printable


class TableLabels:
    """
    The labellings in a table: its labels, and optionally those of single heads.

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
        self._columns: dict[str, Any] = dict(LabelTable.read(path).columns)
        self._labels: dict[str, NDArray[np.int32]] = {CONSENSUS: self._columns["label"]}
        for name, column in self._columns.items() if heads else ():
            if name.startswith(HEAD):
                self._labels[name.removeprefix(HEAD)] = column
        self.clusters = 1 + max(int(labels.max()) for labels in self._labels.values())
        N = len(self.paths)
        if self.clusters < 1:
            raise InputError(f"{printable(path)}: none of {N} videos has a label", path=path)
        self._confidence = self._columns.get("confidence", np.full(N, np.nan, np.float32))
        self._runner_up = self._columns.get("runner_up", np.full(N, -1, np.int32))
        self.titles = {name: "labels" if name == CONSENSUS else f"head {name}" for name in self._labels}

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
        return self.column("class") if "class" in self._columns else folder_classes(self.paths)

    @property
    def names(self) -> dict[int, str]:
        """Names of clusters, from the column ``name``."""
        named = zip(self._labels[CONSENSUS].tolist(), self.column("name"), strict=True)
        return {cluster: name for cluster, name in named if name and cluster >= 0}

    def column(self, name: str) -> list[str]:
        """Return a column of text; "" for each video if there is no such column."""
        return list(self._columns.get(name, [""] * len(self._columns["path"])))
