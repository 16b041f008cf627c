"""The hidden Markov model of windows equals a sum over all paths; windows that disagree are smoothed."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selavi_ref.timeline.hmm import Smoother, fit
from selavi_ref.timeline.stretches import timelines

MODELS = st.builds(Smoother, st.floats(0.05, 0.99), st.floats(0.001, 0.5))


@st.composite
def posteriors(draw: st.DrawFn) -> np.ndarray:
    T, K = draw(st.integers(1, 5)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.dirichlet(np.full(K, 0.3), T)
    values[rng.random(T) < 0.2] = 0
    return values


def all_paths(model: Smoother, posterior: np.ndarray) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """Every path, and its probability together with the windows."""
    T, K = posterior.shape
    change = (1 - model.stay) / (K - 1)
    paths, weights = list(product(range(K), repeat=T)), []
    for path in paths:
        weight = 1 / K
        for t, k in enumerate(path):
            says = posterior[t].any()
            weight *= (1 - model.noise) * K * posterior[t, k] + model.noise if says else 1.0
            if t:
                weight *= model.stay if path[t - 1] == k else change
        weights.append(weight)
    return paths, np.array(weights)


@given(posteriors(), MODELS)
def test_forward_backward_is_the_sum_over_all_paths(posterior: np.ndarray, model: Smoother) -> None:
    paths, weights = all_paths(model, posterior)
    smoothed, stays, log_likelihood = model.forward_backward(posterior)
    share = weights / weights.sum()
    assert log_likelihood == pytest.approx(np.log(weights.sum()))
    for t, k in np.ndindex(posterior.shape):
        assert smoothed[t, k] == pytest.approx(sum(s for s, p in zip(share, paths, strict=True) if p[t] == k), abs=1e-9)
    stayed = [sum(a == b for a, b in pairwise(path)) for path in paths]
    assert stays == pytest.approx(float(share @ np.array(stayed)), abs=1e-9)


@given(posteriors(), MODELS)
def test_viterbi_finds_a_most_probable_path(posterior: np.ndarray, model: Smoother) -> None:
    paths, weights = all_paths(model, posterior)
    found = tuple(model.most_probable(posterior).tolist())
    assert weights[paths.index(found)] == pytest.approx(weights.max())


@given(posteriors(), MODELS)
def test_fitting_never_makes_the_windows_less_likely(posterior: np.ndarray, start: Smoother) -> None:
    fitted = fit([posterior], start)
    assert fitted.forward_backward(posterior)[2] >= start.forward_backward(posterior)[2] - 1e-5


def test_fitting_finds_how_often_clusters_change() -> None:
    rng = np.random.default_rng(0)
    truth = [0]
    for _ in range(4000):
        truth.append(truth[-1] if rng.random() < 0.95 else (truth[-1] + rng.integers(1, 4)) % 4)
    posterior = np.full((len(truth), 4), 0.01)
    shown = np.where(rng.random(len(truth)) < 0.8, truth, rng.integers(0, 4, len(truth)))
    posterior[np.arange(len(truth)), shown] = 0.97
    fitted = fit([posterior[:2000], posterior[2000:]])
    assert fitted.stay == pytest.approx(0.95, abs=0.01)
    raw, smooth = (np.mean(path == truth) for path in (posterior.argmax(1), fitted.most_probable(posterior)))
    assert raw < 0.87 < 0.95 < smooth


def test_stretches_join_windows_of_one_label() -> None:
    windows = [f"a.mp4#t={2 * t},{2 * t + 2}" for t in range(6)] + ["b.mp4", "c.mp4"]
    posterior = np.array([[0.9, 0.1]] * 3 + [[0.1, 0.9]] * 3 + [[0.8, 0.2], [0, 0]])
    found, _ = timelines(windows, posterior, lengths={"b.mp4": 3.5}, names={1: "rain"}, smoother=Smoother(0.8, 0.01))
    first, second, third = found
    assert [(s.start, s.end, s.label, s.title) for s in first.stretches] == [
        (0, 6, 0, "cluster 0"),
        (6, 12, 1, "rain"),
    ]
    assert [(s.start, s.end) for s in second.stretches] == [(0, 3.5)]
    assert third.stretches == []
    assert all(0.5 < s.confidence <= 1 for s in first.stretches)
