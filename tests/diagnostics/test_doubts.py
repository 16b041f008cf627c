"""What the end of train, train-heads and label says: why labels cannot be trusted, and which videos get none."""

import json

import numpy as np
import pytest

from selavi_ref.diagnostics.doubts import doubts
from selavi_ref.ensemble.labels import label_store
from selavi_ref.store import FeatureStore, StoreWriter
from tests.support.command_line import rows_of, selavi, succeeded

N, K = 60, 5


def log_prob(labels, sure=6.0):
    logits = sure * np.eye(K)[labels]
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def write(path, heads, provenance=None, final=None):
    """Write a store with the labels (video, audio) of each head."""
    values = {
        f"log_prob/{m}/{h}": log_prob(its)
        for h, pair in enumerate(heads)
        for m, its in zip(("video", "audio"), pair, strict=True)
    }
    if final is not None:
        values["log_posterior"] = log_prob(final)
    with StoreWriter(path, [f"{i}.mp4" for i in range(N)], dict.fromkeys(values, K), provenance=provenance) as writer:
        writer.write(slice(None), values)
        writer.finish()


CLEAR = np.arange(N) % K
RANDOM = np.random.default_rng(0).integers(0, K, (4, N))


@pytest.mark.parametrize(
    ("heads", "provenance", "doubt"),
    [
        ([(CLEAR, CLEAR)], None, None),
        ([(CLEAR, CLEAR), ((CLEAR + 1) % K, (CLEAR + 1) % K)], {"search": {"agreement": 0.6}}, None),
        ([(np.zeros(N, int), np.zeros(N, int))], None, "sizes"),
        ([(RANDOM[0], RANDOM[1])], None, "modalities"),
        ([(RANDOM[0], RANDOM[0]), (RANDOM[1], RANDOM[1])], None, "heads"),
        ([(CLEAR, CLEAR)], {"search": {"agreement": 0.1}}, "runs"),
    ],
)
def test_labels_are_doubted_with_the_reason_and_the_command_for_details(tmp_path, heads, provenance, doubt):
    write(tmp_path / "f.h5", heads, provenance)
    lines = succeeded(selavi("label", "f.h5", cwd=tmp_path)).splitlines()
    summary = json.loads(succeeded(selavi("label", "f.h5", "--json", "--force", cwd=tmp_path)))
    assert (summary["videos"], summary["labelled"]) == (N, N)
    if doubt is None:
        assert lines[-1] == "wrote labels.csv"
        assert (summary["doubts"], summary["check"]) == ({}, None)
    else:
        assert lines[-2].startswith("these labels cannot be trusted: ")
        assert lines[-1] == "more about it: selavi check f.h5"
        assert doubt in summary["doubts"]
        assert summary["check"] == "selavi check f.h5"


def test_unsure_labels_and_misfits_are_left_empty_with_the_reason(tmp_path):
    video = CLEAR.copy()
    video[3], video[4] = (video[3] + 1) % K, (video[4] + 1) % K  # picture and sound differ
    write(tmp_path / "f.h5", [(video, CLEAR)])
    succeeded(selavi("label", "f.h5", "--min-confidence", "0.9", "--out", "sure.csv", cwd=tmp_path))
    rows = rows_of(tmp_path / "sure.csv")
    assert [row["path"] for row in rows if not row["label"]] == ["3.mp4", "4.mp4"]
    assert rows[3]["reason"] == "confidence 0.50 is below 0.9"
    succeeded(selavi("label", "f.h5", "--drop-misfits", "--out", "fit.csv", cwd=tmp_path))
    rows = rows_of(tmp_path / "fit.csv")
    assert [(row["path"], row["reason"]) for row in rows if not row["label"]] == [
        ("3.mp4", "it fits no cluster"),
        ("4.mp4", "it fits no cluster"),
    ]


def test_where_labels_are_cross_fitted_heads_that_differ_are_no_doubt_but_runs_that_differ_are(tmp_path):
    heads = [(RANDOM[0], RANDOM[0]), (RANDOM[1], RANDOM[1])]
    for agreement, doubted in ((0.6, set()), (0.1, {"runs"})):
        write(tmp_path / "f.h5", heads, {"search": {"agreement": agreement}}, final=CLEAR)
        summary = json.loads(succeeded(selavi("label", "f.h5", "--json", "--force", cwd=tmp_path)))
        assert set(summary["doubts"]) == doubted
        assert [int(row["label"]) for row in rows_of(tmp_path / "labels.csv")] == CLEAR.tolist()


def test_other_videos_may_all_be_of_one_cluster(tmp_path):
    write(tmp_path / "f.h5", [(np.zeros(N, int), np.zeros(N, int))])
    with FeatureStore(tmp_path / "f.h5") as store:
        labels = label_store(store)
        assert [each.name for each in doubts(store, labels)] == ["sizes"]
        assert doubts(store, labels, of_training=False) == []
