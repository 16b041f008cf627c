"""Models of cross-fitted heads: log-probabilities that sum to the posterior, held-out predictions, checkpoints."""

import numpy as np
import pytest

from selavi_ref.crossfit import CrossfitSettings, add_modality, crossfit, refine_crossfit
from selavi_ref.crossfit.checkpoint import load_model, save_model
from selavi_ref.crossfit.logistic import log_softmax
from selavi_ref.crossfit.model import fit_ensemble
from selavi_ref.errors import CheckpointError
from selavi_ref.metrics import normalized_mutual_info_score
from tests.support.gaussian_features import QUICK, gaussians


@pytest.fixture(scope="module")
def fitted():
    spaces, truth = gaussians(3)
    spaces["space 0"][:20] = np.nan
    spaces["space 1"][10:30] = np.nan
    return spaces, truth, crossfit(spaces, 3, settings=QUICK)


def test_the_sum_over_modalities_gives_the_posterior_whatever_is_missing(fitted):
    spaces, _, result = fitted
    each = result.model.log_prob(spaces)
    for name, x in spaces.items():
        assert (np.isnan(each[name]).all(1) == np.isnan(x).any(1)).all()
    total = log_softmax(np.nansum(list(each.values()), 0))
    rows = ~np.isnan(result.log_posterior[:, 0])
    np.testing.assert_allclose(result.log_posterior[rows], total[rows], atol=1e-5)


def test_scores_are_log_ratios_and_potentials(fitted):
    result = fitted[2]
    ratio = sum(result.model.held_out.values())[20:] + result.model.potentials
    np.testing.assert_allclose(result.log_posterior[30:], log_softmax(ratio), atol=1e-4)


def test_features_learnt_from_get_held_out_predictions_in_any_order_and_changed_ones_do_not(fitted):
    spaces, _, result = fitted
    rows = np.random.default_rng(0).permutation(np.arange(100, 150))
    block = {name: x[rows] for name, x in spaces.items()}
    np.testing.assert_array_equal(result.model.log_posterior(block), result.log_posterior[rows])
    changed = {name: x + np.float32(1e-6) for name, x in block.items()}
    other = result.model.log_posterior(changed)
    assert not np.isclose(other, result.log_posterior[rows], atol=1e-4).all(1).any()
    assert (other.argmax(1) == result.labels[rows]).mean() > 0.9


def test_a_checkpoint_gives_the_same_model(fitted, tmp_path):
    spaces, _, result = fitted
    save_model(tmp_path / "model.npz", result.model)
    loaded = load_model(tmp_path / "model.npz")
    unseen = {name: x + 1 for name, x in spaces.items()}
    np.testing.assert_array_equal(loaded.log_posterior(spaces), result.log_posterior)
    np.testing.assert_array_equal(loaded.log_posterior(unseen), result.model.log_posterior(unseen))
    assert list(loaded.widths.items()) == [("space 0", 6), ("space 1", 5)]


def test_every_changed_byte_of_a_checkpoint_is_noticed_or_harmless(fitted, tmp_path):
    path = tmp_path / "model.npz"
    spaces, _, result = fitted
    save_model(path, result.model)
    whole = path.read_bytes()
    for position in range(30, len(whole), len(whole) // 50):
        damaged = bytearray(whole)
        damaged[position] ^= 255
        path.write_bytes(damaged)
        try:
            loaded = load_model(path)
        except CheckpointError:
            continue
        np.testing.assert_array_equal(loaded.log_posterior(spaces), result.log_posterior)
    path.unlink()
    with pytest.raises(CheckpointError):
        load_model(path)


def test_models_of_an_ensemble_agree_on_clear_kinds_and_differ_in_their_starts():
    spaces, truth = gaussians(5, N=300)
    models = fit_ensemble(spaces, 3, 2, settings=CrossfitSettings(runs=2, rounds=9, final_rounds=3, draws=2))
    labels = [model.log_posterior(spaces).argmax(1) for model in models]
    assert all(normalized_mutual_info_score(truth, its) > 0.7 for its in labels)
    assert (models[0].log_posterior(spaces) != models[1].log_posterior(spaces)).any()


def test_other_cluster_numbers_change_nothing_else(fitted):
    spaces, _, result = fitted
    numbers = np.array([2, 0, 1], np.int32)
    renumbered = result.model.renumbered(numbers).log_posterior(spaces)
    np.testing.assert_allclose(renumbered[:, numbers], result.model.log_posterior(spaces), atol=1e-6)


def test_a_modality_that_was_added_predicts_the_labels(fitted):
    spaces, truth, result = fitted
    added = np.eye(3, 6, dtype=np.float32)[truth] * 4 + np.random.default_rng(5).normal(size=(len(truth), 6))
    model = add_modality(result.model, "added", added.astype(np.float32), result.labels, settings=QUICK)
    assert set(model.components) == {*spaces, "added"}
    alone = model.log_posterior({"added": added.astype(np.float32)}).argmax(1)
    assert (alone == result.labels).mean() > 0.9
    # Heads for unseen videos: no held-out predictions are left, and those of the other modalities are as they were.
    unseen = {name: x[40:] + np.float32(1e-3) for name, x in spaces.items()}
    np.testing.assert_allclose(model.log_posterior(unseen), result.model.log_posterior(unseen), atol=1e-5)
    assert all(len(keys) == 0 for keys in model.keys.values())


def test_heads_of_refined_labels_can_be_saved_and_read(tmp_path):
    spaces, truth = gaussians(3)
    model = refine_crossfit(spaces, 3, truth.astype(np.int32), settings=QUICK)
    save_model(tmp_path / "model.npz", model)
    assert load_model(tmp_path / "model.npz").summary == model.summary
    assert model.summary.agreement is None
