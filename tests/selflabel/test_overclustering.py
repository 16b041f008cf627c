"""Over-clusters that the two modalities confuse are merged, whatever their numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.ensemble.spectral import cross_modal_confusion, spectral_groups
from selavi_ref.metrics import adjusted_rand_score
from selavi_ref.selflabel.overclustering import matching_columns, merge_overclusters
from selavi_ref.store import FeatureStore, StoreWriter
from tests.support.refusal import refused


def fine_store(path, *, kinds=4, per_kind=5, heads=2, n=800, seed=0):
    """Each modality knows the kind, but guesses at which fine cluster of the kind it is."""
    rng = np.random.default_rng(seed)
    classes = rng.permutation(n) % kinds
    F = kinds * per_kind
    datasets = {f"log_prob/{m}/side{h}": F for m in ("video", "audio") for h in range(heads)}
    values = {}
    for h in range(heads):
        kind_of = rng.permutation(F) % kinds
        for m in ("video", "audio"):
            logits = rng.normal(0, 1, (n, F)) + 4 * (kind_of[None] == classes[:, None])
            values[f"log_prob/{m}/side{h}"] = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    with StoreWriter(path, [f"{i}.mp4" for i in range(n)], datasets) as writer:
        writer.write(slice(None), values)
        writer.finish()
    return classes


def test_kinds_are_found_and_the_spectrum_shows_how_many(tmp_path):
    classes = fine_store(tmp_path / "s.h5")
    with FeatureStore(tmp_path / "s.h5") as store:
        found = merge_overclusters(store, ["side0", "side1"], 4)
    assert adjusted_rand_score(classes, found.posterior.argmax(1)) > 0.98
    assert np.allclose(found.posterior.sum(1), 1, atol=1e-4)
    assert found.spectrum[0] == pytest.approx(1)
    gaps = -np.diff(found.spectrum)
    assert gaps.argmax() == 3
    assert [len(group) for group in found.groups] == [20, 20]


def test_confusion_is_the_plain_product(tmp_path):
    fine_store(tmp_path / "s.h5", n=50)
    with FeatureStore(tmp_path / "s.h5") as store:
        video, audio = (
            np.concatenate([np.exp(store.log_prob(m, f"side{h}")) for h in range(2)], 1) for m in ("video", "audio")
        )
        assert np.allclose(cross_modal_confusion(store, ["side0", "side1"]), video.T @ audio, rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 10_000))
def test_blocks_of_a_graph_are_its_groups_in_any_order(K, per_group, seed):
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(K), per_group))
    graph = (truth[:, None] == truth) * rng.uniform(0.5, 1, (len(truth), len(truth))) + 1e-4
    groups, spectrum = spectral_groups(graph, K)
    assert adjusted_rand_score(truth, groups) == pytest.approx(1)
    assert set(groups) == set(range(K))
    assert len(spectrum) == min(K + 1, len(truth))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), st.integers(0, 8), st.integers(0, 10_000))
def test_no_group_is_empty_even_of_noise(K, more, seed):
    graph = np.random.default_rng(seed).random((K + more, K + more)) ** 8
    groups, spectrum = spectral_groups(graph, K)
    assert set(groups) == set(range(K))
    assert np.isfinite(spectrum).all()


def test_more_groups_than_fine_clusters_are_refused():
    with refused(option="K", value=4):
        spectral_groups(np.ones((3, 3)), 4)


def test_matching_columnsing_keeps_labels_that_were_given_before():
    rng = np.random.default_rng(0)
    before = rng.integers(5, size=300).astype(np.int32)
    permutation = rng.permutation(5)
    shuffled = np.eye(5, dtype=np.float32)[permutation[before]]
    assert np.array_equal(shuffled[:, matching_columns(shuffled, before)].argmax(1), before)


@pytest.mark.parametrize("K", [2, 3, 4, 6])
@pytest.mark.parametrize("heads", [2, 3, 6])
def test_groups_that_share_nothing_are_found_though_their_eigenvalues_are_all_equal(K, heads):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        names = np.concatenate([rng.permutation(K) for _ in range(heads)])
        sizes = rng.integers(1, 30, K)
        graph = np.where(names[:, None] == names, sizes[names], 0.0)
        groups, spectrum = spectral_groups(graph, K)
        assert ((groups[:, None] == groups) == (names[:, None] == names)).all()
        assert np.allclose(spectrum[:K], 1)
