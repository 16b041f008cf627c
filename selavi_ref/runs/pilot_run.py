"""The pilot run: it learns more clusters than there may be kinds of videos, so that their number can be estimated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selavi_ref.ensemble.n_clusters import NClustersEstimate, estimate_n_clusters
from selavi_ref.errors import InputError, printable
from selavi_ref.report.n_clusters import write_estimate
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.old_names import with_current_names
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore


@dataclass(frozen=True)
class PilotRun:
    """
    A run whose number of clusters is being estimated: by another run, the pilot, in a folder of it.

    Parameters
    ----------
    folder : Path
        Of the run that is to be started.
    """

    folder: Path

    @property
    def pilot(self) -> Run:
        """The run that has more clusters than there may be kinds."""
        return Run(self.folder / "pilot")

    @property
    def note(self) -> Path:
        """What is to be started once the number is known."""
        return self.folder / "counting.json"

    @property
    def under_way(self) -> bool:
        """Whether the number is still being estimated."""
        return self.note.exists() and not Run(self.folder).config_file.exists()

    def begin(self, options: Mapping[str, Any]) -> None:
        """Note with which options the run is to be started; from here on it can be gone on with."""
        write_text(self.note, json.dumps(dict(options), indent=1) + "\n")

    @property
    def options(self) -> dict[str, Any]:
        """
        What `begin` noted.

        Raises
        ------
        InputError
            If the file is damaged.
        """
        try:
            return with_current_names(json.loads(self.note.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise InputError(f"{printable(self.note)} cannot be read: {error}") from error

    def count(self, most: int | None) -> NClustersEstimate:
        """Estimate the number from the pilot's store, and write the curve to the run's folder."""
        with FeatureStore(self.pilot.features_file) as store:
            found = estimate_n_clusters(store, most=most)
        write_estimate(found, self.folder / "clusters_counted")
        return found
