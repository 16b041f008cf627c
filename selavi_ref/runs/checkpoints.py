"""The checkpoints of a run: which there are, which are kept, and which is the next to be written."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

_NAME = re.compile(r"(\d+)-step-(\d+)(-kept)?\.\w+")


@dataclass
class Checkpoints:
    """
    The checkpoints in a folder, numbered in the order in which they were written.

    The number of a step would not do: a run that goes on with more processes takes fewer steps, and one that falls back
    from a damaged checkpoint takes some again.

    Parameters
    ----------
    folder : Path
        Where they lie; made when the first is written.
    last : int
        So many of the newest are kept.
    keep_every : int
        One is kept for good every so many epochs; 0: none.
    minutes : float
        Within an epoch, another one is due after so many minutes.
    suffix : str
        Of the files.
    """

    folder: Path
    last: int = 3
    keep_every: int = 25
    minutes: float = 15.0
    suffix: str = ".pt"
    _written: float = field(default_factory=monotonic, repr=False)

    def newest_first(self) -> list[Path]:
        """Return the checkpoints that are there, the newest first."""
        return sorted(filter(_matched, self.folder.glob("*-step-*")), key=_number, reverse=True)

    def older_than(self, minutes: float) -> bool:
        """Tell whether the last one was written, or the run begun, as long ago as that."""
        return monotonic() - self._written >= 60 * minutes

    def place(self, step: int, epoch: int | None = None) -> Path:
        """Return the file for the state after a step, which ended an epoch if one is given; it makes the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for_good = epoch is not None and self.keep_every and epoch % self.keep_every == 0
        newest = self.newest_first()
        number = _number(newest[0]) + 1 if newest else 1
        return self.folder / f"{number:06d}-step-{step}{'-kept' if for_good else ''}{self.suffix}"

    def tidy(self) -> None:
        """Remove what is older than the last few and not kept for good, after one was written."""
        self._written = monotonic()
        passing = [path for path in self.newest_first()[self.last :] if not path.stem.endswith("-kept")]
        for path in [*passing, *self.folder.glob("*.partial")]:
            with suppress(OSError):
                path.unlink()


def _matched(path: Path) -> re.Match[str] | None:
    return _NAME.fullmatch(path.name)


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])
