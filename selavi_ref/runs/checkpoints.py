"""The checkpoints of a run: their files and numbers, which of them are kept, and the newest that is not damaged."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TypeVar

import numpy as np

from selavi_ref.errors import CheckpointError
from selavi_ref.runs.processes import Exchange, SingleProcess
from selavi_ref.runs.reporter import SILENT, Reporter

_NAME = re.compile(r"(\d+)-step-(\d+)(-kept)?\.\w+")

Content = TypeVar("Content")


@dataclass
class Checkpoints:
    """
    The checkpoints in a folder, numbered in the order in which they were written.

    The step is not used as the number: a run that is resumed with more processes takes fewer steps, and one that falls
    back from a damaged checkpoint takes some steps again.

    Parameters
    ----------
    folder : Path
        Folder of the files; it is made when the first checkpoint is written.
    last : int
        Number of newest checkpoints that `prune` keeps.
    keep_every : int
        Every so many epochs a checkpoint is never removed; 0: none is.
    minutes : float
        Minutes after which a further checkpoint is due within an epoch.
    suffix : str
        Suffix of the files.
    """

    folder: Path
    last: int = 3
    keep_every: int = 25
    minutes: float = 15.0
    suffix: str = ".pt"
    _last_written: float = field(default_factory=monotonic, repr=False)

    def newest_first(self) -> list[Path]:
        """Return the paths of all checkpoints, the newest first."""
        return sorted((p for p in self.folder.glob("*-step-*") if _NAME.fullmatch(p.name)), key=_number, reverse=True)

    def read_newest(
        self,
        read: Callable[[Path], Content],
        *,
        exchange: Exchange = SingleProcess(),  # noqa: B008
        reporter: Reporter = SILENT,
    ) -> tuple[Path, Content] | None:
        """
        Read the newest checkpoint that is not damaged, with a warning if a newer one is.

        Parameters
        ----------
        read : callable
            Reads one file; raises a `CheckpointError` if it is damaged.
        exchange : Exchange
            The other processes of the run: a checkpoint counts only if all of them can read it.
        reporter : Reporter
            Receives the warning.

        Returns
        -------
        (Path, content) or None
            The file, and what `read` returned; None if there are no checkpoints.

        Raises
        ------
        CheckpointError
            If all checkpoints are damaged.
        """
        damage: CheckpointError | None = None
        for path in self.newest_first():
            read_here: list[Content] = []
            try:
                read_here.append(read(path))
            except CheckpointError as error:
                damage = error
            readers = exchange.all_sum(np.array([float(len(read_here))]))[0]
            if readers == exchange.size:
                if damage is not None:
                    reporter.warn(f"{damage}; using the checkpoint before it, {path.name}")
                return path, read_here[0]
            damage = damage or CheckpointError(f"{path} cannot be read by every process", path=path)
        if damage is not None:
            raise damage
        return None

    def older_than(self, minutes: float) -> bool:
        """Return whether the last checkpoint was written, or the run started, at least so many minutes ago."""
        return monotonic() - self._last_written >= 60 * minutes

    def next_path(self, step: int, epoch: int | None = None) -> Path:
        """Return the file for the state after a step, which ended an epoch if one is given; makes the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        permanent = epoch is not None and self.keep_every and epoch % self.keep_every == 0
        newest = self.newest_first()
        number = _number(newest[0]) + 1 if newest else 1
        return self.folder / f"{number:06d}-step-{step}{'-kept' if permanent else ''}{self.suffix}"

    def prune(self) -> None:
        """Remove all checkpoints but the last few and the permanent ones; called after one was written."""
        self._last_written = monotonic()
        outdated = [path for path in self.newest_first()[self.last :] if not path.stem.endswith("-kept")]
        for path in [*outdated, *self.folder.glob("*.partial")]:
            with suppress(OSError):
                path.unlink()


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])
