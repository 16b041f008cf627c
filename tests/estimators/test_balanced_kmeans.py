"""Balanced K-means: sizes are met exactly, no labels of these sizes are better, scikit-learn's conventions hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

pytest.importorskip("sklearn")

from sklearn.cluster import kmeans_plusplus
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from selavi_ref.errors import InputError
from selavi_ref.estimators import BalancedKMeans
from selavi_ref.estimators.seeding import plus_plus


@parametrize_with_checks([BalancedKMeans(n_clusters=3)])
def test_it_follows_the_conventions_of_scikit_learn(estimator, check):
    check(estimator)


def inertia_of_best_labels(X, centres, sizes):
    """Solve the assignment of samples to places in clusters by SciPy."""
    cost = ((X[:, None] - np.repeat(centres, sizes, 0)[None]) ** 2).sum(2)
    return cost[linear_sum_assignment(cost)].sum()


@settings(max_examples=50)
@given(
    N=st.integers(1, 60), K=st.integers(1, 6), D=st.integers(1, 3), seed=st.integers(0, 2**32 - 1), ties=st.booleans()
)
def test_sizes_are_met_and_no_labels_of_these_sizes_are_better(N, K, D, seed, ties):
    rng = np.random.default_rng(seed)
    K = min(K, N)
    X = rng.integers(0, 3, (N, D)).astype(float) if ties else rng.normal(size=(N, D))
    wanted = rng.uniform(0.1, 1, K)
    found = BalancedKMeans(K, sizes=wanted, random_state=seed % 1000).fit(X)
    sizes = np.bincount(found.labels_, minlength=K)
    assert np.abs(sizes - N * wanted / wanted.sum()).max() < 1
    filled = sizes > 0
    best = inertia_of_best_labels(X, found.cluster_centers_[filled], sizes[filled])
    assert found.inertia_ == pytest.approx(((X - found.cluster_centers_[found.labels_]) ** 2).sum(), abs=1e-6)
    assert found.inertia_ <= best + 1e-6 * max(1.0, best)


def plain_plus_plus(X, K, random):
    """Compute all squared distances in float64 from differences."""
    trials = 2 + int(np.log(K))
    chosen, drawn, closest = [], np.full(trials, random.randint(len(X))), np.full(len(X), np.inf)
    for _ in range(K):
        distance = np.minimum(((X[None] - X[drawn][:, None]) ** 2).sum(2), closest)
        best = distance.sum(1).argmin()
        chosen.append(drawn[best])
        closest = distance[best]
        cumulative = np.cumsum(closest)
        drawn = np.minimum(np.searchsorted(cumulative, random.uniform(size=trials) * cumulative[-1]), len(X) - 1)
    return chosen


@given(N=st.integers(1, 200), K=st.integers(1, 30), D=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_starts_are_those_of_a_plain_greedy_kmeans_plus_plus(N, K, D, seed):
    X = np.random.default_rng(seed).integers(-50, 50, (N, D)).astype(float)  # exact in single precision, too
    K = min(K, N)
    chosen = plus_plus(X.astype(np.float32), K, np.random.RandomState(seed % 1000))
    assert chosen.tolist() == plain_plus_plus(X, K, np.random.RandomState(seed % 1000))
    assert len(np.unique(X[chosen], axis=0)) == min(K, len(np.unique(X, axis=0)))


def test_starts_are_as_good_as_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(40, 8))[rng.integers(40, size=2000)] * 3 + rng.normal(size=(2000, 8))).astype(np.float32)

    def cost(centres):
        return ((X[:, None] - centres[None]) ** 2).sum(2).min(1).sum()

    ours = [cost(X[plus_plus(X, 40, np.random.RandomState(seed))]) for seed in range(8)]
    theirs = [cost(kmeans_plusplus(X, 40, random_state=seed)[0]) for seed in range(8)]
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.05)


def test_equal_sizes_differ_by_one_at_most():
    X = np.random.default_rng(0).normal(size=(103, 4))
    sizes = np.bincount(BalancedKMeans(10, random_state=0).fit_predict(X))
    assert sizes.min() == 10
    assert sizes.max() == 11


def test_separate_groups_of_the_given_sizes_are_found():
    rng = np.random.default_rng(1)
    sizes = [100, 50, 200]
    truth = np.repeat([0, 1, 2], sizes)
    X = np.eye(3)[truth] * 20 + rng.normal(size=(350, 3))
    found = BalancedKMeans(3, sizes=sizes, n_init=5, random_state=0).fit(X)
    assert len(set(zip(truth.tolist(), found.labels_.tolist(), strict=True))) == 3
    assert np.array_equal(found.predict(X), found.labels_)
    assert found.transform(X).shape == (350, 3)


def test_single_precision_stays_and_equal_seeds_give_equal_labels():
    X = np.random.default_rng(2).normal(size=(500, 8)).astype(np.float32)
    first, second = (BalancedKMeans(7, random_state=3).fit(X) for _ in range(2))
    assert first.cluster_centers_.dtype == np.float32
    assert np.array_equal(first.labels_, second.labels_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_do_not_matter_however_large_or_small(dtype):
    X = np.random.default_rng(4).normal(size=(400, 3)).astype(dtype)
    plain = BalancedKMeans(5, random_state=0).fit(X)
    for exponent in (-90, 90):
        scaled = BalancedKMeans(5, random_state=0).fit(np.ldexp(X, exponent))
        assert np.array_equal(plain.labels_, scaled.labels_)
        assert np.ldexp(scaled.inertia_, -2 * exponent) == pytest.approx(plain.inertia_)


@pytest.mark.parametrize(
    "parameters", [{"n_clusters": 0}, {"n_clusters": 9}, {"n_init": 0}, {"max_iter": 0}, {"sizes": [1, 2]}]
)
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(InputError):
        BalancedKMeans(**{"n_clusters": 3, **parameters}).fit(np.eye(8))


def test_predicting_before_fitting_is_refused():
    with pytest.raises(NotFittedError):
        BalancedKMeans(2).predict(np.eye(3))
