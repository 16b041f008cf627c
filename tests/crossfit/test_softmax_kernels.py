import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.crossfit.softmax_kernels import residual, shift


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), K=st.integers(1, 7))
def test_equal_the_plain_lines_of_their_docstrings(seed, K):
    rng = np.random.default_rng(seed)
    logits = (30 * rng.normal(size=(5, 3, K))).astype(np.float32)
    labels = rng.integers(-1, K, (5, 3)).astype(np.int32)
    shifted, label_logits, totals = logits.copy(), np.empty((5, 3), np.float32), np.empty((5, 3), np.float32)
    shift(shifted, labels, label_logits)
    plain = logits - logits.max(2, keepdims=True)
    np.testing.assert_array_equal(shifted, plain)
    at_label = np.take_along_axis(plain, np.maximum(labels, 0)[:, :, None], 2)[:, :, 0]
    np.testing.assert_array_equal(label_logits, np.where(labels >= 0, at_label, 0))
    exponentials = np.exp(shifted)
    residual(exponentials, labels, totals)
    total = np.where(labels >= 0, np.exp(plain).sum(2), 1)
    expected = (np.exp(plain) / total[:, :, None] - np.eye(K)[labels]) * (labels >= 0)[:, :, None]
    np.testing.assert_allclose(exponentials, expected, atol=1e-5)
    np.testing.assert_allclose(totals, total, rtol=1e-5)
