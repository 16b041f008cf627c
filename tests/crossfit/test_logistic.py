from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from selavi_ref.crossfit.logistic import fit_logistic, log_softmax


def plain_loss(w, x, labels, K, penalty):
    """Cross entropy summed over rows and the penalty on the weights, the plainest way."""
    w = w.reshape(x.shape[1] + 1, K)
    logits = x @ w[:-1] + w[-1]
    shifted = logits - logits.max(1, keepdims=True)
    loss = (np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(x)), labels]).sum()
    return loss + penalty / 2 * (w[:-1] ** 2).sum()


def problem(seed, N=60, D=4, K=3, B=2):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(N, D)) * np.linspace(2, 0.3, D)).astype(np.float32)
    labels = ((x @ rng.normal(size=(D, K))) + rng.normal(size=(N, K))).argmax(1).astype(np.int32)
    trained_on = rng.random((B, N)) < 0.7
    return x, np.tile(labels, (B, 1)), trained_on, K


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), penalty=st.sampled_from([0.1, 1.0, 10.0]))
def test_reaches_the_minimum_that_a_general_optimiser_finds(seed, penalty):
    x, labels, trained_on, K = problem(seed)
    heads = fit_logistic(x, labels, trained_on, K, penalty=penalty, max_iterations=500, tol=1e-5)
    for b, rows in enumerate(trained_on):
        start = np.zeros((x.shape[1] + 1) * K)
        best = minimize(plain_loss, start, (x[rows].astype(float), labels[b, rows], K, penalty)).fun
        ours = plain_loss(heads.weights[:, b].astype(float), x[rows], labels[b, rows], K, penalty)
        assert ours <= best * (1 + 1e-4) + 1e-4


def test_equals_scikit_learn():
    sklearn = pytest.importorskip("sklearn.linear_model")
    x, labels, trained_on, K = problem(3, N=400, D=10, K=5)
    heads = fit_logistic(x, labels, trained_on, K, penalty=2.0, max_iterations=500, tol=1e-5)
    rows = trained_on[1]
    theirs = sklearn.LogisticRegression(C=0.5, tol=1e-8, max_iter=5000).fit(x[rows], labels[1, rows])
    np.testing.assert_allclose(log_softmax(heads.logits(x, 1)), theirs.predict_log_proba(x), atol=5e-3)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_rows_that_are_left_out_do_not_matter(seed):
    x, labels, trained_on, K = problem(seed)
    changed = np.where(trained_on, labels, -1)
    kept = fit_logistic(x, labels, trained_on, K, penalty=1.0, max_iterations=20)
    assert (fit_logistic(x, changed, trained_on, K, penalty=1.0, max_iterations=20).weights == kept.weights).all()


def test_problems_do_not_disturb_each_other():
    x, labels, trained_on, K = problem(5, B=3)
    penalty = np.array([0.1, 1.0, 10.0])
    together = fit_logistic(x, labels, trained_on, K, penalty=penalty, max_iterations=300, tol=1e-6)
    for b in range(3):
        alone = fit_logistic(
            x, labels[b : b + 1], trained_on[b : b + 1], K, penalty=penalty[b], max_iterations=300, tol=1e-6
        )
        np.testing.assert_allclose(together.weights[:, b], alone.weights[:, 0], atol=2e-2, rtol=2e-2)


def test_more_steps_never_make_it_worse():
    x, labels, trained_on, K = problem(7, N=300, D=20, K=6)
    rows = trained_on[0]
    losses = [
        plain_loss(
            fit_logistic(x, labels, trained_on, K, penalty=0.1, max_iterations=n, tol=0).weights[:, 0].astype(float),
            x[rows],
            labels[0, rows],
            K,
            0.1,
        )
        for n in (0, 1, 3, 10, 30)
    ]
    assert all(later <= earlier + 1e-3 for earlier, later in pairwise(losses))


def test_log_softmax_of_huge_logits_is_finite():
    values = log_softmax(np.array([[1e4, 0.0, -1e4]], np.float32))
    assert np.isfinite(values).all()
    assert values.argmax() == 0


def test_a_problem_without_rows_stays_at_zero():
    x, labels, trained_on, K = problem(9)
    trained_on[1] = False
    assert np.abs(fit_logistic(x, labels, trained_on, K, penalty=1.0).weights[:, 1]).max() == 0
