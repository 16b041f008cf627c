"""The number of kinds is estimated from heads that have learnt more clusters than there are kinds."""

import json

import numpy as np
import pytest

from selavi_ref.ensemble.n_clusters import estimate_n_clusters, pilot_n_clusters
from selavi_ref.errors import InputError
from selavi_ref.report.n_clusters import describe, write_estimate
from selavi_ref.runs.pilot_run import PilotRun
from selavi_ref.store import FeatureStore, StoreWriter
from tests.support.refusal import refused


def fine_store(path, kinds, per_kind, *, heads=4, n=1200, unsure=0.1, seed=0):
    """Heads with several clusters for each kind, in numbers of their own; modalities disagree on which of a kind's."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, kinds, n)
    F = kinds * per_kind
    values = {}
    for head in range(heads):
        order = rng.permutation(F).reshape(kinds, per_kind)
        for modality in ("video", "audio"):
            seen = np.where(rng.random(n) < unsure, rng.integers(0, kinds, n), truth)
            cluster = order[seen, rng.integers(0, per_kind, n)]
            logits = 4.0 * np.eye(F)[cluster] + rng.normal(0, 0.3, (n, F))
            values[f"log_prob/{modality}/{head}"] = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    with StoreWriter(path, [f"{i}.mp4" for i in range(n)], dict.fromkeys(values, F)) as writer:
        writer.write(slice(0, n), values)
        writer.finish()
    return path


@pytest.mark.parametrize(("kinds", "per_kind"), [(2, 10), (3, 6), (7, 4), (12, 3)])
def test_the_number_of_kinds_is_found(tmp_path, kinds, per_kind):
    with FeatureStore(fine_store(tmp_path / "s.h5", kinds, per_kind)) as store:
        count = estimate_n_clusters(store)
    assert count.clusters == kinds
    assert count.agreement.argmax() == np.flatnonzero(count.tried == kinds)[0]
    assert count.gap == kinds
    assert not count.at_the_end


def test_an_estimate_at_the_end_of_the_range_is_marked(tmp_path):
    with FeatureStore(fine_store(tmp_path / "s.h5", 8, 3)) as store:
        count = estimate_n_clusters(store, most=5)
        assert count.at_the_end or count.clusters < 5
        assert count.tried.tolist() == [2, 3, 4, 5]
        assert estimate_n_clusters(store, most=24).clusters == 8
    if count.at_the_end:
        assert "there may be more" in describe(count, tmp_path)


def test_the_curve_is_written_as_tables_and_figures(tmp_path):
    with FeatureStore(fine_store(tmp_path / "s.h5", 4, 4)) as store:
        count = estimate_n_clusters(store)
    write_estimate(count, tmp_path / "c")
    assert {path.suffix for path in tmp_path.glob("c.*")} == {".txt", ".csv", ".json", ".png", ".svg"}
    told_json = json.loads((tmp_path / "c.json").read_text())
    assert told_json["estimate"] == 4
    assert [row["clusters"] for row in told_json["rows"]] == list(range(1, 9))


def test_stores_without_enough_heads_or_videos_are_refused(tmp_path):
    path = fine_store(tmp_path / "one.h5", 3, 4, heads=1, n=60)
    with FeatureStore(path) as store, refused(path=tmp_path / "one.h5"):
        estimate_n_clusters(store)
    for n_videos, most in ((31, None), (400, 30)):
        with refused(option="clusters", value=n_videos):
            pilot_n_clusters(n_videos, most)
    assert [pilot_n_clusters(n) for n in (32, 400, 1500, 230_976)] == [4, 30, 58, 721]
    assert pilot_n_clusters(400, 20) == 40


def test_a_pilot_run_notes_what_the_run_will_be_started_from(tmp_path):
    out = tmp_path / "run"
    assert not PilotRun(out).under_way
    started = []
    pilot_run = PilotRun.create(out, started.append, {"options": {"heads": 3, "rate": 0.1}, "most": None})
    assert started == [out / "pilot"]
    assert pilot_run.under_way
    assert PilotRun(out).note == {"options": {"heads": 3, "learning_rate": 0.1}, "most": None}
    pilot_run.note_file.write_text("{")
    with refused(path=tmp_path / "run/counting.json"):
        _ = pilot_run.note
    (out / "config.toml").write_text("")
    assert not pilot_run.under_way
    with pytest.raises(InputError):
        PilotRun.create(out, started.append, {})
    assert len(started) == 1
