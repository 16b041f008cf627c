import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.crossfit import CrossfitSettings, crossfit, refine_crossfit
from selavi_ref.crossfit.kmeans_start import kmeans_start
from selavi_ref.crossfit.logistic import log_softmax
from selavi_ref.crossfit.rounds import FeatureSpace, predict_held_out, transport
from selavi_ref.crossfit.search import majority_labels
from selavi_ref.errors import InputError
from selavi_ref.metrics import normalized_mutual_info_score
from selavi_ref.selflabel.constraints import HeadConstraints
from tests.support.gaussian_features import QUICK, gaussians
from tests.support.refusal import refused


@pytest.mark.parametrize("widths", [(6,), (6, 5), (6, 5, 4)])
def test_finds_classes_in_one_two_or_three_spaces(widths):
    spaces, truth = gaussians(0, widths=widths)
    result = crossfit(spaces, 3, settings=QUICK)
    assert normalized_mutual_info_score(truth, result.labels) > 0.8
    assert result.labels.dtype == np.int32


def test_sizes_that_are_a_guess_follow_the_data_and_prescribed_ones_are_met():
    spaces, truth = gaussians(1, N=600, sizes=[0.7, 0.2, 0.1])
    free = crossfit(spaces, 3, settings=QUICK)
    met = crossfit(spaces, 3, settings=QUICK, marginal_penalty=None)
    assert normalized_mutual_info_score(truth, free.labels) > 0.8
    assert np.bincount(met.labels, minlength=3).max() < 0.4 * 600
    assert np.bincount(free.labels).max() > 0.6 * 600


def test_the_same_seed_gives_the_same_and_a_generator_is_taken():
    spaces, _ = gaussians(2)
    first, second = (crossfit(spaces, 3, settings=QUICK, seed=np.random.default_rng(7)) for _ in range(2))
    assert (first.labels == second.labels).all()
    assert (first.log_posterior == second.log_posterior).all()


def test_videos_that_lack_modalities_are_labelled_by_what_they_have():
    spaces, truth = gaussians(3)
    spaces["space 0"][:40] = np.nan
    spaces["space 1"][30:60] = np.nan
    result = crossfit(spaces, 3, settings=QUICK)
    assert (np.flatnonzero(result.labels < 0) == np.arange(30, 40)).all()
    assert np.isnan(result.log_posterior[30:40]).all()
    assert np.isfinite(np.delete(result.log_posterior, np.s_[30:40], 0)).all()
    labelled = result.labels >= 0
    assert normalized_mutual_info_score(truth[labelled], result.labels[labelled]) > 0.6


def test_labels_are_the_maximum_of_the_posterior():
    spaces, _ = gaussians(4)
    result = crossfit(spaces, 3, settings=QUICK)
    np.testing.assert_allclose(np.exp(result.log_posterior).sum(1), 1, rtol=1e-4)
    assert (result.log_posterior.argmax(1) == result.labels).mean() > 0.995
    assert ((result.confidence > 1 / 3) & (result.confidence <= 1 + 1e-6)).all()


def test_heads_label_unseen_videos():
    spaces, truth = gaussians(5)
    result = crossfit(spaces, 3, settings=QUICK)
    unseen, its_truth = gaussians(6)
    posterior = result.model.log_posterior(unseen)
    both = normalized_mutual_info_score(np.r_[truth, its_truth], np.r_[result.labels, posterior.argmax(1)])
    assert both > 0.8
    one = result.model.log_posterior({"space 1": unseen["space 1"]})
    assert (one.argmax(1) == posterior.argmax(1)).mean() > 0.8


def test_a_sample_is_searched_and_all_videos_are_labelled(monkeypatch):
    monkeypatch.setattr("selavi_ref.crossfit.components._BLOCK_BYTES", 6 * 4 * 64)
    spaces, truth = gaussians(7, N=1000)
    small = CrossfitSettings(runs=6, rounds=9, final_rounds=3, draws=2, sample=300)
    result = crossfit(spaces, 3, settings=small)
    assert (result.labels >= 0).all()
    assert normalized_mutual_info_score(truth, result.labels) > 0.75


def test_labels_of_noise_are_not_learnt_by_heart():
    rng = np.random.default_rng(8)
    noise = FeatureSpace(rng.normal(size=(200, 100)).astype(np.float32), np.ones(200, bool))
    labels = rng.integers(0, 4, (1, 200)).astype(np.int32)
    held_out = predict_held_out([noise], labels, 4, folds=5, penalty=np.array([1.0]), iterations=50, rng=rng)
    assert (held_out.scores[0].argmax(1) == labels[0]).mean() < 0.4
    assert held_out.information[0] < 0.05


def test_held_out_scores_are_those_of_heads_fitted_on_the_other_folds():
    sklearn = pytest.importorskip("sklearn.linear_model")
    spaces, truth = gaussians(9, widths=(6,))
    space = FeatureSpace(spaces["space 0"], np.ones(240, bool))
    rng = np.random.default_rng(1)
    held_out = predict_held_out([space], truth[None], 3, folds=2, penalty=np.array([1.0]), iterations=300, rng=rng)
    fold = np.random.default_rng(1).permutation(240) % 2
    theirs = np.empty((240, 3))
    for f in range(2):
        model = sklearn.LogisticRegression(C=1.0, tol=1e-8, max_iter=2000).fit(space.x[fold != f], truth[fold != f])
        theirs[fold == f] = model.predict_log_proba(space.x[fold == f])
    ours = held_out.scores[0] + held_out.log_prior[0]
    np.testing.assert_allclose(np.exp(ours), np.exp(theirs), atol=0.03)


def test_transport_meets_sizes_without_a_penalty():
    scores = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    labels, _ = transport(scores, np.array([0.5, 0.3, 0.2]), 50.0, None)
    np.testing.assert_allclose(np.sort(np.bincount(labels)) / 300, [0.2, 0.3, 0.5], atol=0.05)


def test_consensus_outvotes_one_run_and_knows_no_numbering():
    truth = np.repeat(np.arange(3), 50).astype(np.int32)
    wrong = np.roll(truth, 20)
    renamed = (truth + 1) % 3
    assert (
        normalized_mutual_info_score(truth, majority_labels(np.stack([truth, wrong, renamed.astype(np.int32)]), 3))
        > 0.999
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), K=st.integers(1, 6))
def test_kmeans_gives_each_row_its_nearest_mean(seed, K):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(50, 3)).astype(np.float32)
    labels = kmeans_start(x, K, rng)
    means = np.stack([x[labels == k].mean(0) for k in range(K)])
    assert (((x[:, None] - means) ** 2).sum(2).argmin(1) == labels).mean() > 0.95


def test_kmeans_of_equal_rows_ends():
    assert set(kmeans_start(np.ones((10, 2), np.float32), 3, np.random.default_rng(0))) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("change", "option"),
    [
        (lambda s: {}, "features"),
        (lambda s: {**s, "space 1": s["space 1"][:10]}, "features"),
        (lambda s: {name: x[:5] for name, x in s.items()}, "clusters"),
    ],
)
def test_what_does_not_fit_is_refused(change, option):
    with refused(option=option):
        crossfit(change(gaussians(0)[0]), 3, settings=QUICK)


def test_refuses_one_cluster():
    with pytest.raises(InputError) as error:
        crossfit(gaussians(0)[0], 1)
    assert (error.value.option, error.value.value) == ("clusters", 1)


def test_unequal_sizes_go_to_the_clusters_that_are_predicted_to_be_large():
    scores = np.log(np.tile([[0.1, 0.2, 0.7]], (300, 1))) + np.random.default_rng(0).normal(size=(300, 3))
    labels, _ = transport(scores.astype(np.float32), np.array([0.6, 0.3, 0.1]), 20.0, None)
    np.testing.assert_allclose(np.bincount(labels) / 300, [0.1, 0.3, 0.6], atol=0.08)


def test_refining_mends_wrong_labels_keeps_numbers_and_obeys_corrections():
    spaces, truth = gaussians(7, noise=0.7)
    rng = np.random.default_rng(1)
    labels = np.where(rng.random(len(truth)) < 0.2, rng.integers(0, 3, len(truth)), truth).astype(np.int32)
    rows = np.array([3, 17, 90])
    allowed = np.ones((3, 3), bool)
    allowed[np.arange(3), truth[rows]] = False  # against the data, so that only the constraint can explain it
    constraints = HeadConstraints.of(rows, allowed)
    free = refine_crossfit(spaces, 3, labels, settings=QUICK)
    bound = refine_crossfit(spaces, 3, labels, constraints=constraints, settings=QUICK)
    assert (free.log_posterior(spaces).argmax(1) == truth).mean() > 0.95
    found = log_softmax(constraints.scores(slice(0, len(truth)), bound.log_posterior(spaces), 1.0)).argmax(1)
    assert (found == truth).mean() > 0.93
    assert all(allowed[i, found[row]] for i, row in enumerate(rows))


def test_constraints_of_some_videos_are_numbered_in_their_order():
    constraints = HeadConstraints.of(np.array([2, 5, 9]), np.eye(3, dtype=bool))
    taken = constraints.take(np.array([0, 5, 6, 9]))
    assert taken.rows.tolist() == [1, 3]
    assert taken.allowed.tolist() == constraints.allowed[1:].tolist()
