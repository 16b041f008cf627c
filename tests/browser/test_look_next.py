"""The videos that a person should look at next: the least certain ones that nobody has judged."""

from __future__ import annotations

import numpy as np
import pytest

from selavi_ref.browser.annotations import Annotations, annotations_beside
from selavi_ref.browser.look_next import least_certain
from selavi_ref.store import FeatureStore


@pytest.fixture
def store(tmp_path):
    """Eight videos: the first ones are sure, the last one has no label, and two are equally uncertain."""
    certain = np.array([0.99, 0.95, 0.9, 0.6, 0.6, 0.8, 0.7, 0.5])
    log_prob = np.log(np.stack([certain, 1 - certain], 1)).astype(np.float32)
    features = np.ones((8, 3), np.float32)
    log_prob[7], features[7] = np.nan, np.nan
    paths = list("abcdefgh")
    FeatureStore.from_arrays(tmp_path / "f.h5", {"video": features}, paths=paths, log_prob={"video": log_prob}).close()
    return tmp_path / "f.h5"


def test_the_least_certain_come_first_and_judged_ones_are_left_out(store):
    assert least_certain(store) == list("degfcba")
    assert least_certain(store, 2) == ["d", "e"]
    with FeatureStore(store) as opened:
        annotations = Annotations(annotations_beside(store), dict.fromkeys(["consensus", *opened.heads], 2))
    annotations.apply({"op": "move", "videos": ["d"], "to": 0})
    annotations.apply({"op": "wrong", "videos": ["g"], "wrong": True})
    assert least_certain(store) == list("efcba")
    annotations.apply({"op": "undo"})
    assert least_certain(store) == list("egfcba")
