"""Stores that a command keeps beside its results: taken again only if they are of the same run and videos."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from backbones.learner.checkpoint import read_newest
from backbones.runs.extract import consensus_of_checkpoint
from backbones.runs.run_settings import RunSettings
from selavi_ref.errors import InputError, printable
from selavi_ref.runs.old_names import with_current_names
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore


def check_same_run(store: FeatureStore, run: Run, paths: Sequence[str]) -> None:
    """
    Refuse a store of `backbones.runs.extract.extract` that is not of these videos, or not of this run as it is now.

    A run is known by its settings, its epoch and the agreement of its heads, wherever its folder lies.

    Raises
    ------
    InputError
        If the store is another one.
    """
    if store.paths != list(paths):
        raise InputError(f"{printable(store.path)} is of other videos; choose another --out, or remove it")
    settings = RunSettings.from_dict(run.config)
    state = read_newest(run)["state"]
    agreement = consensus_of_checkpoint({**state, "labels": np.asarray(state["labels"])}, settings)
    now = {
        "settings": settings.to_dict(),
        "epoch": int(state["epoch"]),
        "reference": agreement.reference,
        "agreement": agreement.agreement.tolist(),
    }
    stored = with_current_names({name: store.provenance.get(name) for name in now})
    if json.loads(json.dumps(now)) != stored:
        raise InputError(
            f"{printable(store.path)} is of another run than {printable(run.folder)}, or of an earlier state of it; "
            "choose another --out, or remove it"
        )
