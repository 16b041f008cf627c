"""Runs and stores that version 0.1.0 has written are read, resumed, labelled and checked."""

import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from backbones.runs.run_settings import RunSettings
from selavi_ref.diagnostics.check import check
from selavi_ref.ensemble.labels import label_store
from selavi_ref.heads.training_run import HeadsSettings, newest_state
from selavi_ref.runs.provenance import Provenance
from selavi_ref.runs.run import Run, RunKind
from selavi_ref.store import FeatureStore
from tests.support.command_line import rows_of, selavi, succeeded

WRITTEN = Path(__file__).parent.parent / "support" / "version_0_1_0"


@pytest.fixture
def folder(tmp_path):
    """A copy of the files, in which the run finds its store."""
    for name in ("run", "features.h5", "config.toml"):
        copy = shutil.copytree if (WRITTEN / name).is_dir() else shutil.copy
        copy(WRITTEN / name, tmp_path / name)
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace("/tmp/version_0_1_0", str(tmp_path)))
    return tmp_path


def test_the_settings_of_a_run_on_videos_are_read(tmp_path):
    run = Run(tmp_path)
    shutil.copy(WRITTEN / "config.toml", run.config_file)
    assert run.kind is RunKind.VIDEOS
    settings, old = RunSettings.from_dict(run.config), tomllib.loads(run.config_file.read_text())
    assert settings.overclusters == old["side_clusters"] == 40
    assert settings.training.learning_rate == old["training"]["rate"]
    assert settings.training.bn_warmup_batches == old["training"]["norm_warmup"]
    assert settings.training.overclustering_heads == old["training"]["side_heads"]
    assert settings.training.sizes.marginal_penalty == old["training"]["sizes"]["penalty"]
    assert settings.backbone.eval_batch_size == old["backbone"]["look_batch"]
    assert settings.backbone.clip.frames == old["backbone"]["clip"]["frames"]


def test_a_run_of_heads_is_read(folder):
    run = Run.open(folder / "run")
    assert run.kind is RunKind.HEADS
    settings = HeadsSettings.from_dict(run.config)
    assert settings.head_sizes == (2, 2, 6, 6, 6, 6, 6)
    state = newest_state(run)
    assert state["labels"].shape == (48, 7)
    assert 0 < int(state["step"]) < 40
    assert len(run.records) > 10


def test_a_killed_run_is_resumed_to_the_same_labels(folder):
    before = (folder / "run" / "labels.csv").read_bytes()
    for name in ("labels.csv", "features.h5"):
        (folder / "run" / name).unlink()
    succeeded(selavi("train-heads", "--resume", "--out", "run", cwd=folder))
    assert (folder / "run" / "labels.csv").read_bytes() == before


def test_a_store_is_labelled_as_then(folder):
    succeeded(selavi("label", "run/features.h5", "--out", "labels.csv", cwd=folder))
    assert (folder / "labels.csv").read_bytes() == (folder / "run" / "labels.csv").read_bytes()
    succeeded(selavi("label", "run", "features.h5", "--out", "again.csv", cwd=folder))
    paths = [[row["path"] for row in rows_of(folder / name)] for name in ("labels.csv", "again.csv")]
    assert paths[0] == paths[1]


def test_the_provenance_of_a_store_has_todays_names(folder):
    with FeatureStore(folder / "run" / "features.h5") as store:
        provenance = Provenance.of(store)
    assert provenance.store == "/tmp/version_0_1_0/features.h5"
    assert len(provenance.agreement) == 2
    assert provenance.versions["selavi-ref"] == "0.1.0"
    old = Provenance.from_dict({"settings": {"training": {"side_heads": 5}}, "of another": "program"})
    assert old.settings == {"training": {"overclustering_heads": 5}}


def test_labels_of_a_store_are_checked(folder):
    with FeatureStore(folder / "run" / "features.h5") as store:
        report = check(store, label_store(store), rng=np.random.default_rng(0))
    assert {"sizes", "heads", "modalities"} <= {finding.name for finding in report.findings}
