"""Training and applying heads of a run on features, cross-fitted or of version 0.1.0."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from selavi_ref.errors import InputError
from selavi_ref.heads.crossfit_run import apply_crossfit, is_crossfit, train_crossfit
from selavi_ref.heads.training_run import apply_heads, newest_state, train_heads
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run

_OWN_STORES = ("encoded.h5", "input.h5")  # features that are kept in the folder of a run


def learnt_store(run: Run) -> Path:
    """Return the store of features that a run has learnt from; one in its folder moves with it."""
    store = Path(run.config["store"])
    own = run.folder / store.name
    return own if store.name in _OWN_STORES and own.exists() else store


def train(run: Run, reporter: Reporter = SILENT) -> None:
    """Train the heads of a run to the end; see `train_crossfit` and `train_heads`."""
    (train_crossfit if is_crossfit(run) else train_heads)(run, reporter)


def apply(run: Run, store: str | os.PathLike[str], out: str | os.PathLike[str], reporter: Reporter = SILENT) -> Path:
    """Write the log-probabilities of a run's heads for a store; see `apply_crossfit` and `apply_heads`."""
    return (apply_crossfit if is_crossfit(run) else apply_heads)(run, store, out, reporter)


def prescribed_state(run: Run, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Return the state of the training loop of a run, which has the prescribed cluster sizes; see `newest_state`."""
    if is_crossfit(run):
        raise InputError("cross-fitted heads keep no sizes of single self-labellings")
    return newest_state(run, reporter)
