"""The checkpoints of a run: which there are, which are kept, and which is the next to be written."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

_NAME = re.compile(r"step-(\d+)(-kept)?\.\w+")


@dataclass
class Checkpoints:
    """
    The checkpoints in a folder, named by the step after which they were written.

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
        found = [path for path in self.folder.glob("step-*") if _NAME.fullmatch(path.name)]
        return sorted(found, key=_step, reverse=True)

    def older_than(self, minutes: float) -> bool:
        """Tell whether the last one was written, or the run begun, as long ago as that."""
        return monotonic() - self._written >= 60 * minutes

    def place(self, step: int, epoch: int | None = None) -> Path:
        """Return the file for the state after a step, which ended an epoch if one is given; it makes the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for_good = epoch is not None and self.keep_every and epoch % self.keep_every == 0
        return self.folder / f"step-{step:010d}{'-kept' if for_good else ''}{self.suffix}"

    def tidy(self, written: Path) -> None:
        """Remove what is older than the last few and not kept for good, after one was written."""
        self._written = monotonic()
        newest = self.newest_first()
        same_step = [path for path in newest if path != written and _step(path) == _step(written)]
        others = [path for path in newest if path not in same_step]
        old = [path for path in others[self.last :] if not path.stem.endswith("-kept")]
        for path in [*same_step, *old, *self.folder.glob("*.partial")]:
            with suppress(OSError):
                path.unlink()


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-").partition(".")[0].partition("-")[0])
