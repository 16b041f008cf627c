"""Exact search among the videos of a store, against sorting all distances."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from selavi_ref.report import store_search
from selavi_ref.report.store_search import SearchedStores, nearest_by_features, nearest_by_posteriors
from selavi_ref.store import FeatureStore


def make_store(path: Path, features: dict[str, np.ndarray], log_prob: dict[str, np.ndarray] | None = None) -> Path:
    n = len(next(iter(features.values())))
    FeatureStore.from_arrays(path, features, paths=[f"{row}.mp4" for row in range(n)], log_prob=log_prob).close()
    return path


def distances(items: np.ndarray, query: np.ndarray, metric: str) -> np.ndarray:
    items, query = items.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        return np.linalg.norm(items - query, axis=1)
    lengths = np.linalg.norm(items, axis=1) * np.linalg.norm(query)
    return 1 - np.divide(items @ query, lengths, where=lengths > 0, out=np.zeros(len(items)))


@settings(max_examples=40, deadline=None)
@given(
    items=arrays.arrays(np.float32, st.tuples(st.integers(1, 40), st.just(3)), elements=st.floats(-100, 100, width=16)),
    missing=st.sets(st.integers(0, 39)),
    metric=st.sampled_from(["euclidean", "cosine"]),
    n=st.integers(1, 8),
)
def test_the_nearest_are_those_of_all_distances(tmp_path_factory, items, missing, metric, n) -> None:
    items = items.copy()
    items[[row for row in missing if row < len(items)]] = np.nan
    usable = np.flatnonzero(np.isfinite(items).all(1))
    queries = np.array([[1, 2, 3], [0, 0, 50]], np.float32)
    path = make_store(tmp_path_factory.mktemp("search") / "s.h5", {"x": items})
    with FeatureStore(path) as store:
        rows, far = nearest_by_features(store, "x", queries, n, metric)
    for query, numbers, found in zip(queries, rows, far, strict=True):
        expected = np.sort(distances(items[usable], query, metric))[:n]
        assert (numbers >= 0).sum() == len(expected)
        assert set(numbers[numbers >= 0]) <= set(usable.tolist())
        assert found[: len(expected)] == pytest.approx(expected, abs=1e-5)
        assert found[: len(expected)] == pytest.approx(
            distances(items[numbers[: len(expected)]], query, metric), abs=1e-5
        )


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_many_blocks_in_several_threads_find_the_same(tmp_path, monkeypatch, offset) -> None:
    rng = np.random.default_rng(0)
    items = (rng.standard_normal((3000, 512)) + offset).astype(np.float32)  # chunks of 512 rows
    monkeypatch.setattr(store_search, "n_threads", lambda: 3)
    monkeypatch.setattr(store_search, "_SCORE_BYTES", 1 << 12)
    with FeatureStore(make_store(tmp_path / "s.h5", {"x": items})) as store:
        rows, far = nearest_by_features(store, "x", items[[7, 2999]], 5)
    for query, numbers, found in zip((7, 2999), rows, far, strict=True):
        expected = distances(items, items[query], "euclidean")
        assert numbers.tolist() == np.argsort(expected, kind="stable")[:5].tolist()
        assert found == pytest.approx(expected[numbers], rel=1e-6)


def test_posteriors_are_compared_over_the_modalities_that_a_video_has(tmp_path) -> None:
    rng = np.random.default_rng(1)
    log_prob = {
        f"{m}/{head}": rng.standard_normal((50, 6)).astype(np.float32) for m in ("video", "audio") for head in (0, 1)
    }
    features = {m: rng.standard_normal((50, 2)).astype(np.float32) for m in ("video", "audio")}
    for name in ("audio/0", "audio/1"):
        log_prob[name][:20] = np.nan
    features["audio"][:20] = np.nan
    roots = []
    for head in (0, 1):
        joint = log_prob[f"video/{head}"] + np.nan_to_num(log_prob[f"audio/{head}"])
        posterior = np.exp(joint - joint.max(1, keepdims=True))
        roots.append(np.sqrt(posterior / posterior.sum(1, keepdims=True)))
    expected = 1 - sum(root @ root[:4].T for root in roots) / 2
    with FeatureStore(make_store(tmp_path / "s.h5", features, log_prob)) as store:
        rows, far = nearest_by_posteriors(store, ["0", "1"], np.concatenate(roots, 1)[:4], 50)
    for query in range(4):
        assert rows[query, 0] == query
        assert far[query] == pytest.approx(np.sort(expected[:, query]), abs=1e-6)


def test_a_store_stays_open_until_its_file_is_replaced(tmp_path) -> None:
    stores = SearchedStores()
    path = make_store(tmp_path / "s.h5", {"x": np.eye(3)})
    first = stores[path]
    assert stores[path] is first
    os.replace(make_store(tmp_path / "t.h5", {"x": np.eye(4)}), path)
    assert stores[path].n_videos == 4
    stores.close()
