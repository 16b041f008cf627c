"""Stores that are reused must be of the same run: its settings, also those that an older version did not have."""

from __future__ import annotations

import numpy as np
import pytest

from backbones.runs import store_check
from backbones.runs.presets import run_settings
from backbones.runs.run_settings import RunSettings
from selavi_ref.ensemble.consensus import find_consensus
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore, StoreWriter
from tests.support.refusal import refused

PATHS = [f"{n}.mp4" for n in range(12)]
SETTINGS = run_settings(12, clusters=3, heads=2, overclustering_heads=0, device="cpu")
LABELS = np.stack([np.arange(12) % 3, np.arange(12) // 4], 1).astype(np.int32)


def write_store(path, settings, epoch=4):
    consensus = find_consensus(LABELS, 3)
    provenance = {
        "settings": settings,
        "epoch": epoch,
        "reference": consensus.reference,
        "agreement": consensus.agreement.tolist(),
    }
    with StoreWriter(path, PATHS, {"features/video": 2}, provenance=provenance) as writer:
        writer.write(np.arange(12), {"features/video": np.zeros((12, 2), np.float32)})
        writer.finish()
    return FeatureStore(path)


@pytest.fixture
def run(tmp_path, monkeypatch):
    run = Run.prepare(tmp_path / "run")
    run.rewrite_config(SETTINGS.to_dict())
    monkeypatch.setattr(store_check, "read_newest", lambda run, reporter: {"state": {"epoch": 4, "labels": LABELS}})
    return run


def test_a_store_of_a_version_with_fewer_settings_is_of_the_same_run(run, tmp_path):
    settings = SETTINGS.to_dict()
    del settings["backbone"]["clip"]["antialias"]
    assert RunSettings.from_dict(settings) == SETTINGS
    with write_store(tmp_path / "old.h5", settings) as store:
        store_check.check_same_run(store, run, PATHS)


@pytest.mark.parametrize("change", ["seed", "epoch", "unknown", "paths"])
def test_another_run_or_state_is_refused(run, tmp_path, change):
    settings = SETTINGS.to_dict()
    if change == "seed":
        settings["training"]["seed"] = 9
    if change == "unknown":
        settings["training"]["unknown"] = 1
    paths = [*PATHS[:-1], "other.mp4"] if change == "paths" else PATHS
    with (
        write_store(tmp_path / "other.h5", settings, epoch=5 if change == "epoch" else 4) as store,
        refused(path=tmp_path / "other.h5"),
    ):
        store_check.check_same_run(store, run, paths)
