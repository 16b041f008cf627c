"""What has become of clusters: kept, joined, split or new, and how they are numbered."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.ensemble.fates import fates
from selavi_ref.ensemble.matching import number_like


def labels(*runs):
    return np.concatenate([np.full(n, k, np.int32) for k, n in runs])


def test_each_kind_of_fate():
    before = labels((0, 10), (1, 10), (2, 10), (3, 9), (-1, 5))
    after = labels((0, 9), (1, 1), (1, 10), (1, 8), (2, 2), (0, 3), (1, 3), (2, 3), (4, 5))
    found = fates(before, after, 5)
    assert [(fate.cluster, fate.kind) for fate in found] == [
        (0, "kept"),
        (1, "kept"),
        (2, "joined"),
        (2, "new"),
        (3, "split"),
        (4, "new"),
    ]
    assert found[2].others == (1,)
    assert found[4].others == (0, 1, 2)
    assert [fate.now for fate in found] == [12, 22, 5, 5, 0, 5]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 7))
def test_all_videos_are_counted_and_a_kept_cluster_has_most_of_its_own(seed, K):
    rng = np.random.default_rng(seed)
    before, after = (rng.integers(-1, K, 40).astype(np.int32) for _ in range(2))
    found = fates(before, after, K)
    counted = {fate.cluster: fate.now for fate in found}
    assert sum(counted.values()) == (after >= 0).sum()
    assert sum(fate.before for fate in found) == ((before >= 0) & (after >= 0)).sum()
    for fate in found:
        assert (fate.kind == "kept") == (2 * fate.stayed > fate.before)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 7))
def test_renumbered_clusters_are_numbered_as_before(seed, K):
    rng = np.random.default_rng(seed)
    before = rng.integers(0, K, 60).astype(np.int32)
    shuffled = rng.permutation(K)
    numbers = number_like(shuffled[before].astype(np.int32), before, K)
    assert sorted(numbers.tolist()) == list(range(K))
    used = np.unique(before)
    assert (numbers[shuffled[used]] == used).all()


def test_clusters_without_common_videos_keep_their_number():
    before, after = labels((0, 5), (2, 5), (-1, 5)), labels((2, 5), (0, 5), (4, 5))
    assert number_like(after, before, 5).tolist() == [2, 1, 0, 3, 4]
