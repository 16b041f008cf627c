"""Check that a store that is about to be reused belongs to the same run and videos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backbones.learner.checkpoint import read_newest
from backbones.runs.extract import checkpoint_consensus
from backbones.runs.run_settings import RunSettings
from selavi_ref.errors import InputError, printable
from selavi_ref.runs.provenance import Provenance
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore


def check_same_run(store: FeatureStore, run: Run, paths: Sequence[str], reporter: Reporter = SILENT) -> None:
    """
    Raise unless a store of `backbones.runs.extract.extract` holds these videos, by the present state of this run.

    A run is identified by its settings, its epoch and the agreement of its heads, not by the path of its folder.
    `reporter` receives a warning if the newest checkpoint is damaged.

    Raises
    ------
    InputError
        If the store belongs to other videos, another run or another state of it.
    """
    if store.paths != list(paths):
        raise InputError(
            f"{printable(store.path)} is of other videos; choose another --out, or remove it", path=store.path
        )
    settings = RunSettings.from_dict(run.config)
    state = read_newest(run, reporter)["state"]
    consensus = checkpoint_consensus({**state, "labels": np.asarray(state["labels"])}, settings)
    stored = Provenance.from_dict(store.provenance)
    same = (
        _settings_of(stored) == settings
        and stored.epoch == int(state["epoch"])
        and stored.reference == consensus.reference
        and stored.agreement == tuple(consensus.agreement.tolist())
    )
    if not same:
        raise InputError(
            f"{printable(store.path)} is of another run than {printable(run.folder)}, or of an earlier state of it; "
            "choose another --out, or remove it",
            path=store.path,
        )


def _settings_of(provenance: Provenance) -> RunSettings | None:
    """Return the settings of a store's run, whose version may have had fewer of them, or None if they do not fit."""
    try:
        return RunSettings.from_dict(provenance.settings)
    except InputError:
        return None
