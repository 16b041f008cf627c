"""Self-labelling of a store: sizes, their match with clusters, alignment of modalities."""

import numpy as np
import pytest

from selavi_ref.ensemble.posterior import posterior
from selavi_ref.ensemble.strength import STRENGTH
from selavi_ref.selflabel.cluster_sizes import ClusterSizes
from selavi_ref.selflabel.self_labelling import align_modalities, predicted_mass, self_label
from selavi_ref.store import FeatureStore, StoreWriter
from selavi_ref.store.joint_log_prob import joint_log_prob
from selavi_ref.transport import assign
from selavi_ref.transport.store_scores import joint_scores
from tests.support.noisy_heads import K, log_softmax, make_store
from tests.support.refusal import refused


def test_the_largest_size_goes_to_the_cluster_with_the_largest_mass(tmp_path):
    make_store(tmp_path / "s.h5", heads=1)
    with FeatureStore(tmp_path / "s.h5") as store:
        sizes = np.array([0.1, 0.4, 0.2, 0.3])
        found, marginal = self_label(store, 0, sizes)
        mass = predicted_mass(joint_log_prob(store, 0))
    assert np.array_equal(np.argsort(marginal), np.argsort(mass))
    counts = np.bincount(found.labels, minlength=K) / 200
    assert np.abs(counts - marginal).sum() < 0.1
    assert STRENGTH == 10.0


@pytest.mark.parametrize("silent", [False, True])
def test_scores_too_large_for_memory_are_left_in_the_file(tmp_path, silent):
    rng = np.random.default_rng(3)
    names = {"log_prob/video/0": K, "log_prob/audio/0": K}
    has_sound = np.ones(300, bool)
    has_sound[7:40] = not silent
    with StoreWriter(tmp_path / "s.h5", [f"{i}" for i in range(300)], names) as writer:
        values = {name: log_softmax(2 * rng.normal(size=(300, K))) for name in names}
        writer.write(slice(None), values, present={"video": True, "audio": has_sound})
        writer.finish()
    with FeatureStore(tmp_path / "s.h5") as store:
        inside, outside = joint_log_prob(store, 0), joint_scores(store, 0, most_bytes=1000)
        assert not isinstance(outside, np.ndarray)
        assert np.array_equal(outside.array(), inside)
        assert np.allclose(predicted_mass(outside), posterior(inside).mean(0), atol=1e-6)
        assert np.array_equal(assign(outside).labels, assign(inside).labels)


def test_alignment_undoes_a_permutation_of_the_sounds_clusters(tmp_path):
    rng = np.random.default_rng(3)
    video = log_softmax(2 * rng.normal(size=(300, K)))
    permutation = rng.permutation(K)
    with StoreWriter(
        tmp_path / "s.h5", [f"{i}" for i in range(300)], {"log_prob/video/0": K, "log_prob/audio/0": K}
    ) as writer:
        writer.write(slice(None), {"log_prob/video/0": video, "log_prob/audio/0": video[:, permutation]})
        writer.finish()
    with FeatureStore(tmp_path / "s.h5") as store:
        assert np.array_equal(permutation[align_modalities(store, 0)], np.arange(K))


@pytest.mark.parametrize("distribution", ["uniform", "gaussian", "zipf"])
def test_sizes_are_shares_of_at_least_one_video(distribution):
    sizes = ClusterSizes(distribution, spread=2.0).draw(10, 40, np.random.default_rng(0))
    assert sizes.shape == (10,)
    assert sizes.sum() == pytest.approx(1)
    assert sizes.min() >= 1 / 40 - 1e-12


def test_sizes_follow_their_spread_and_their_generator():
    def draw(spread, seed):
        return ClusterSizes("gaussian", spread).draw(10, 1000, np.random.default_rng(seed))

    assert np.allclose(draw(0.0, 0), 0.1)
    assert 0.05 < draw(0.1, 0).std() / 0.1 < 0.2
    assert np.array_equal(draw(0.1, 0), draw(0.1, 0))
    assert not np.array_equal(draw(0.1, 0), draw(0.1, 1))


def test_given_sizes_win_over_a_distribution_and_must_be_as_many_as_clusters():
    rng = np.random.default_rng(0)
    sizes = ClusterSizes("sizes.txt", given=(1.0, 1.0, 2.0))
    assert sizes.draw(3, 100, rng).tolist() == [0.25, 0.25, 0.5]
    with refused(option="sizes"):
        sizes.draw(4, 100, rng)
    with refused(option="spec", value="even"):
        ClusterSizes("even").draw(3, 100, rng)
