"""The self-labelling estimator: conventions of scikit-learn, several modalities, missing ones, unseen samples."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.exceptions import NotFittedError
from sklearn.metrics import normalized_mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from selavi_ref.errors import InputError
from selavi_ref.estimators import SelfLabeller


@parametrize_with_checks([SelfLabeller(n_clusters=2, n_runs=2, n_rounds=4)])
def test_it_follows_the_conventions_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def kinds():
    return np.repeat([0, 1, 2, 3], 60)


@pytest.fixture(scope="module")
def modalities(kinds):
    """Two modalities, each of which confuses two of the four kinds."""
    rng = np.random.default_rng(0)
    video = 3 * np.eye(4, 12)[np.minimum(kinds, 2)] + rng.normal(size=(240, 12))
    audio = 3 * np.eye(4, 8)[np.maximum(kinds, 1)] + rng.normal(size=(240, 8))
    return {"video": video, "audio": audio}


@pytest.fixture(scope="module")
def fitted(modalities):
    return SelfLabeller(4, n_runs=6, n_rounds=12, random_state=0).fit(modalities)


def test_modalities_together_distinguish_what_none_does_alone(fitted, kinds, modalities):
    assert normalized_mutual_info_score(kinds, fitted.labels_) > 0.9
    assert fitted.probabilities_.shape == (240, 4)
    assert np.array_equal(fitted.probabilities_.argmax(1), fitted.labels_)
    assert fitted.n_features_in_ == 20
    listed = SelfLabeller(4, n_runs=6, n_rounds=12, random_state=0).fit(list(modalities.values()))
    assert np.array_equal(listed.labels_, fitted.labels_)


def test_unseen_samples_are_labelled_by_the_modalities_that_they_have(fitted, kinds, modalities):
    again = fitted.predict(modalities)
    assert normalized_mutual_info_score(kinds, again) > 0.9
    by_video = fitted.predict({"video": modalities["video"]})
    assert (by_video == again)[kinds < 2].mean() > 0.9
    assert np.allclose(fitted.predict_proba(modalities).sum(1), 1, atol=1e-5)


def test_samples_that_lack_modalities(kinds, modalities):
    rng = np.random.default_rng(1)
    lacking = {name: x.copy() for name, x in modalities.items()}
    lacking["video"][rng.permutation(240)[:40]] = np.nan
    lacking["video"][0] = lacking["audio"][0] = np.nan
    fitted = SelfLabeller(4, n_runs=6, n_rounds=12, random_state=0).fit(lacking)
    assert fitted.labels_[0] == -1
    assert np.isnan(fitted.probabilities_[0]).all()
    assert (fitted.labels_[1:] >= 0).all()
    whole = np.isfinite(lacking["video"]).all(1) & np.isfinite(lacking["audio"]).all(1)
    assert normalized_mutual_info_score(kinds[whole], fitted.labels_[whole]) > 0.8


def test_it_pickles_and_stands_in_pipelines(fitted, modalities):
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict(modalities), fitted.predict(modalities))
    both = np.concatenate(list(modalities.values()), 1)
    pipeline = make_pipeline(StandardScaler(), SelfLabeller(4, n_runs=2, n_rounds=4, random_state=0))
    assert pipeline.fit_predict(both).shape == (240,)


def test_prescribed_sizes_are_met_without_a_penalty(modalities):
    fitted = SelfLabeller(4, sizes=[3, 1, 1, 1], size_penalty=None, n_runs=4, n_rounds=9, random_state=0).fit(
        modalities
    )
    assert abs(np.bincount(fitted.labels_).max() - 120) <= 12


def test_the_number_of_clusters_is_estimated(kinds):
    rng = np.random.default_rng(2)
    spaces = [4 * np.eye(4, 10)[kinds] + rng.normal(size=(240, 10)) for _ in range(2)]
    fitted = SelfLabeller("auto", n_runs=4, n_rounds=9, random_state=0).fit(spaces)
    assert fitted.n_clusters_ == 4


@pytest.mark.parametrize(
    ("parameters", "option"),
    [({"n_clusters": "many"}, "n_clusters"), ({"n_clusters": "auto"}, "n_clusters"), ({"n_runs": 0}, "n_runs")],
)
def test_parameters_out_of_range_are_refused(parameters, option):
    with pytest.raises(InputError) as error:
        SelfLabeller(**parameters).fit(np.random.default_rng(0).normal(size=(40, 3)))
    assert error.value.option == option


def test_other_modalities_and_unfitted_estimators_are_refused(fitted, modalities):
    with pytest.raises(InputError):
        fitted.predict({"text": modalities["video"]})
    with pytest.raises(NotFittedError):
        SelfLabeller(2).predict(np.eye(3))
