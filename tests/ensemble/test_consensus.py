"""The consensus of several heads is found from their labels alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selavi_ref.ensemble.consensus import co_association, find_consensus, groups_of
from selavi_ref.metrics import normalized_mutual_info_score


def mistaken_heads(truth, K, H, rng, noise=0.2):
    """Heads that each merge two kinds and split a third, each head others, in numbers of their own."""
    heads = []
    for _ in range(H):
        labels = truth.copy()
        a, b, c = rng.choice(K, 3, replace=False)
        labels[truth == b] = a
        labels[(truth == c) & (rng.random(len(truth)) < 0.5)] = b
        wrong = rng.random(len(truth)) < noise
        labels[wrong] = rng.integers(0, K, wrong.sum())
        heads.append(rng.permutation(K)[labels])
    return np.stack(heads, 1).astype(np.int32)


def consensus_of(labels, K, groups):
    H = labels.shape[1]
    votes = np.zeros((len(labels), K))
    for head in range(H):
        votes[np.arange(len(labels)), groups[head, labels[:, head]]] += 1
    return votes.argmax(1)


@pytest.mark.parametrize("seed", range(5))
def test_heads_that_make_different_mistakes_are_better_together(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 10, 2000)
    labels = mistaken_heads(truth, 10, 5, rng)
    found = find_consensus(labels, 10)
    alone = [normalized_mutual_info_score(truth, labels[:, head]) for head in range(5)]
    grouped = normalized_mutual_info_score(truth, consensus_of(labels, 10, found.groups))
    matched = normalized_mutual_info_score(truth, consensus_of(labels, 10, groups_of(found.alignment)))
    assert grouped > max(alone) + 0.1
    assert grouped > matched


@given(st.integers(2, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_heads_that_are_the_same_but_for_numbers_give_these_labels(K, H, seed):
    rng = np.random.default_rng(seed)
    one = rng.permutation(np.concatenate([np.arange(K), rng.integers(0, K, 20)]))
    labels = np.stack([rng.permutation(K)[one] for _ in range(H)], 1).astype(np.int32)
    found = find_consensus(labels, K)
    assert np.allclose(found.agreement, 1)
    reference = labels[:, found.reference]
    for head in range(H):
        assert (found.groups[head, labels[:, head]] == reference).all()
        assert (found.alignment[head, reference] == labels[:, head]).all()


@given(st.integers(1, 7), st.integers(1, 5), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_any_labels_give_groups_in_range(K, H, N, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, K, (N, H)).astype(np.int32)
    found = find_consensus(labels, K)
    assert found.groups.shape == found.alignment.shape == (H, K)
    assert found.groups.dtype == found.alignment.dtype == np.int32
    assert ((found.groups >= 0) & (found.groups < K)).all()
    assert (np.sort(found.alignment, 1) == np.arange(K)).all()


def test_a_cluster_without_videos_goes_where_it_was_matched():
    labels = np.array([[0, 1], [0, 1], [1, 0], [1, 0]], np.int32)
    groups = co_association(labels, 3, np.array([[0, 1, 2], [1, 0, 2]], np.int32))
    assert groups.tolist() == [[0, 1, 2], [1, 0, 2]]
