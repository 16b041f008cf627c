import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.crossfit.components import fit_components, iterate_blocks, read_rows
from selavi_ref.errors import InputError


def features(seed, N=80, D=7):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(N, D)) @ rng.normal(size=(D, D)) * 3 + 100).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_equals_a_singular_value_decomposition_of_standardised_features(seed):
    x = features(seed)
    components, _ = fit_components(x, 4)
    z = (x - x.mean(0, dtype=float)) / x.std(0, dtype=float)
    values = np.linalg.svd(z)[1] ** 2 / len(x)
    np.testing.assert_allclose(components.variances, values[:4] / values.sum(), rtol=1e-3)
    np.testing.assert_allclose(components(x).var(0), values[:4] / values.sum(), rtol=1e-3)


def test_all_components_have_a_total_variance_of_one_and_are_uncorrelated():
    x = features(1)
    reduced = fit_components(x, 99)[0](x)
    assert reduced.shape == (80, 7)
    np.testing.assert_allclose(np.cov(reduced.T, bias=True), np.diag(reduced.var(0)), atol=1e-4)
    assert reduced.var(0).sum() == pytest.approx(1, rel=1e-3)


def test_units_of_the_features_do_not_matter():
    x = features(2)
    scaled = x * np.float32([1, 10, 0.1, 5, 2, 100, 1]) - 3
    np.testing.assert_allclose(fit_components(x, 3)[0](x), fit_components(scaled, 3)[0](scaled), atol=2e-3)


def test_rows_with_gaps_are_left_out_and_become_zero():
    x = features(3)
    x[5, 2], x[9] = np.nan, np.inf
    components, present = fit_components(x, 3)
    assert np.flatnonzero(~present).tolist() == [5, 9]
    assert (components(x)[[5, 9]] == 0).all()
    np.testing.assert_allclose(fit_components(x[present], 3)[0].variances, components.variances, rtol=1e-4)


def test_components_and_rows_are_the_same_in_blocks_from_a_file(tmp_path, monkeypatch):
    x = features(4, N=500)
    whole = fit_components(x, 3)[0](x)
    monkeypatch.setattr("selavi_ref.crossfit.components._BLOCK_BYTES", 7 * 4 * 64)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("x", data=x)
        assert len(list(iterate_blocks(data))) == 8
        rows = np.array([0, 3, 64, 65, 499])
        np.testing.assert_array_equal(read_rows(data, rows), x[rows])
        np.testing.assert_allclose(fit_components(data, 3)[0](x), whole, atol=1e-3)


def test_the_leading_vectors_alone_equal_all_of_them(monkeypatch):
    x = features(5, N=200, D=40)
    whole = fit_components(x, 5)[0]
    monkeypatch.setattr("selavi_ref.crossfit.components._WIDE", 10)
    np.testing.assert_allclose(np.abs(fit_components(x, 5)[0].vectors), np.abs(whole.vectors), atol=1e-3)


def test_a_constant_feature_does_no_harm():
    x = features(6)
    x[:, 3] = 7
    assert np.isfinite(fit_components(x, 7)[0](x)).all()


@pytest.mark.parametrize("shape", [(5,), (0, 3), (3, 0)])
def test_refuses_what_is_no_matrix(shape):
    with pytest.raises(InputError):
        fit_components(np.zeros(shape, np.float32), 2)


def test_refuses_features_without_two_finite_rows():
    with pytest.raises(InputError):
        fit_components(np.array([[1.0], [np.nan], [np.nan]], np.float32), 1)


def test_refuses_other_widths():
    with pytest.raises(InputError):
        fit_components(features(7), 2)[0](np.zeros((2, 5), np.float32))
