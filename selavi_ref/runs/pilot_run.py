"""The pilot run, from which the number of clusters of a run is estimated before it starts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selavi_ref.errors import WRONG_CONTENT, InputError, printable, reason
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.old_names import with_current_names
from selavi_ref.runs.run import Run

_MIN_HEADS = 5


@dataclass(frozen=True)
class PilotRun:
    """
    A run folder whose number of clusters is estimated from another run in it: the pilot, which has more clusters.

    Parameters
    ----------
    folder : Path
        Folder of the run that will start once the number is known.
    """

    folder: Path

    @classmethod
    def create(
        cls, out: str | os.PathLike[str], start_pilot: Callable[[Path], object], note: Mapping[str, Any]
    ) -> PilotRun:
        """
        Make the folder of a run and that of its pilot.

        Parameters
        ----------
        out : path
            Folder of the run.
        start_pilot : callable
            Makes the run folder of the pilot at the given path.
        note : mapping
            Plain values for `PilotRun.note`, from which the run will be started.

        Raises
        ------
        InputError
            If the folder holds a run already, or cannot be made.
        """
        pilot_run = cls(Run.prepare(out).folder)
        pilot_run.pilot.config_file.unlink(missing_ok=True)  # of an interrupted start
        start_pilot(pilot_run.pilot.folder)
        write_text(pilot_run.note_file, json.dumps(dict(note), indent=1) + "\n")
        return pilot_run

    @property
    def pilot(self) -> Run:
        """The pilot."""
        return Run(self.folder / "pilot")

    @property
    def note_file(self) -> Path:
        """File with what the run will be started from."""
        return self.folder / "counting.json"

    @property
    def estimate_stem(self) -> Path:
        """Path of the tables and the figure of the estimate, without suffix."""
        return self.folder / "clusters_counted"

    @property
    def under_way(self) -> bool:
        """Whether the number of clusters is still being estimated."""
        return self.note_file.exists() and not Run(self.folder).config_file.exists()

    @property
    def note(self) -> dict[str, Any]:
        """
        The values that `create` was given.

        Raises
        ------
        InputError
            If the file cannot be read.
        """
        try:
            values = json.loads(self.note_file.read_text(encoding="utf-8"))
            if not isinstance(values, dict) or not isinstance(values.get("options"), dict) or "most" not in values:
                raise TypeError("it has no options")
            return with_current_names(values)
        except (OSError, *WRONG_CONTENT) as error:
            message = f"{printable(self.note_file)} cannot be read: {reason(error)}; start the run anew"
            raise InputError(message, path=self.note_file) from error


def pilot_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a run for its pilot: at least five heads, and no over-clustering heads."""
    return {**options, "overclustering_heads": 0, "heads": max(_MIN_HEADS, options.get("heads") or 0)}
