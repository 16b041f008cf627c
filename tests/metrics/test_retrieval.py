from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from selavi_ref import metrics
from tests.support import metrics_reference as reference
from tests.support.refusal import refused

METRICS = ["euclidean", "cosine"]
TYPES = [np.float32, np.float64]


@st.composite
def collections(draw):
    """Queries and items of small whole numbers, so that many distances are equal, and classes that may be missing."""
    width = draw(st.integers(1, 3))
    vectors = st.lists(st.integers(-3, 3), min_size=width, max_size=width)
    given = []
    for _ in range(2):
        rows = draw(st.lists(vectors, min_size=1, max_size=12))
        classes = draw(st.lists(st.sampled_from(["a", "b", "c", -(2**60)]), min_size=len(rows), max_size=len(rows)))
        given += [np.array(rows, draw(st.sampled_from(TYPES))), classes]
    return given


def random_collection(dtype, n_queries=90, n_items=400, width=24, seed=0, offset=1):
    rng = np.random.default_rng(seed)
    classes = [rng.integers(0, 12, n) for n in (n_queries, n_items)]
    # Away from the origin, as features behind a ReLU are.
    centres = offset + rng.standard_normal((12, width))
    vectors = [(centres[c] + 1.5 * rng.standard_normal((len(c), width))).astype(dtype) for c in classes]
    return vectors[0], classes[0], vectors[1], classes[1]


@given(given=collections(), k=st.integers(1, 12), block_bytes=st.sampled_from([1, 100, 1 << 20]))
@settings(max_examples=100, deadline=None)
def test_recall_equals_sorting_all_items(given, k, block_bytes):
    k = min(k, len(given[2]))
    ours = metrics.retrieval_recall(*given, at=(k, 1), block_bytes=block_bytes)
    assert ours == {k: reference.recall(*given, k), 1: reference.recall(*given, 1)}


@given(given=collections(), k=st.integers(1, 11))
@settings(max_examples=60, deadline=None)
def test_no_video_finds_itself_when_it_is_left_out(given, k):
    _, _, items, classes = given
    items, classes = np.concatenate([items, items[:1]]), [*classes, classes[0]]
    k = min(k, len(items) - 1)
    ours = metrics.retrieval_recall(items, classes, items, classes, at=[k], leave_out_self=True)
    assert ours == {k: reference.recall(items, classes, items, classes, k, leave_out_self=True)}
    indices, distances = metrics.nearest(items, items, k, leave_out_self=True)
    expected = reference.nearest(items, items, k, leave_out_self=True)
    assert np.array_equal(indices, expected[0])
    assert distances == pytest.approx(expected[1], rel=1e-6)


@given(given=collections(), k=st.integers(1, 12), scale=st.sampled_from([1, 2.0**-80, 2.0**40]))
@settings(max_examples=100, deadline=None)
def test_the_nearest_are_those_of_sorting_all_items(given, k, scale):
    queries, _, items, _ = given
    queries, items = (rows * rows.dtype.type(scale) for rows in (queries, items))
    k = min(k, len(items))
    indices, distances = metrics.nearest(queries, items, k, block_bytes=200)
    expected = reference.nearest(queries, items, k)
    assert np.array_equal(indices, expected[0])
    assert np.allclose(distances, expected[1], rtol=1e-6, atol=0)
    assert (indices.dtype, distances.dtype) == (np.int64, np.float32)


@given(given=collections(), k=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_distances_by_cosine_are_right_and_ascend(given, k):
    queries, _, items, _ = given
    k = min(k, len(items))
    indices, distances = metrics.nearest(queries, items, k, metric="cosine")
    assert distances == pytest.approx(reference.nearest(queries, items, k, "cosine")[1], abs=1e-6)
    assert distances == pytest.approx(
        np.take_along_axis(reference.distances(queries, items, "cosine"), indices, axis=1), abs=1e-6
    )
    assert (np.diff(distances, axis=1) >= 0).all()
    assert all(len(set(row)) == k for row in indices.tolist())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("metric", "offset"), [("euclidean", 1), ("euclidean", 1000), ("cosine", 1)])
def test_equals_scikit_learn(metric, offset, dtype):
    queries, query_classes, items, item_classes = random_collection(dtype, offset=offset)
    model = NearestNeighbors(algorithm="brute", metric=metric).fit(items.astype(np.float64))
    theirs, indices = model.kneighbors(queries.astype(np.float64), 50)
    ours = metrics.nearest(queries, items, 50, metric=metric, block_bytes=1 << 14)
    assert np.array_equal(ours[0], indices)
    assert ours[1] == pytest.approx(theirs, rel=1e-5, abs=1e-7)
    found = item_classes[indices] == query_classes[:, None]
    expected = {k: found[:, :k].any(1).mean() for k in (1, 5, 10, 20, 50)}
    recall = metrics.retrieval_recall(queries, query_classes, items, item_classes, metric=metric)
    assert recall == pytest.approx(expected, abs=1e-12)
    assert 0.1 < recall[1] < recall[5] < recall[20] <= 1


@pytest.mark.parametrize("metric", METRICS)
def test_recall_does_not_depend_on_the_size_of_blocks_and_rises_with_k(metric):
    given = random_collection(np.float32, seed=1)
    at = range(1, 51)
    whole, rows = (metrics.retrieval_recall(*given, at=at, metric=metric, block_bytes=b) for b in (1 << 30, 1))
    assert whole == rows
    assert (np.diff(list(whole.values())) >= 0).all()


def test_several_threads_may_search_at_once():
    given = random_collection(np.float32)
    expected = metrics.retrieval_recall(*given)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(metrics.retrieval_recall, *given, block_bytes=1 << 14) for _ in range(12)]
        assert all(call.result() == expected for call in calls)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", TYPES)
def test_equal_vectors_are_at_distance_zero(metric, dtype):
    _, _, items, _ = random_collection(dtype)
    indices, distances = metrics.nearest(items, items, 1, metric=metric)
    assert np.array_equal(indices[:, 0], np.arange(len(items)))
    assert (distances < 1e-6).all()
    assert metric == "cosine" or not distances.any()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e30, 3e38])
def test_numbers_of_any_size_are_compared(metric, size):
    queries, _, items, _ = random_collection(np.float64, 20, 40, 4, offset=0)
    largest = max(np.abs(queries).max(), np.abs(items).max())
    queries, items = ((rows / largest * size).astype(np.float32) for rows in (queries, items))
    indices, distances = metrics.nearest(queries, items, 1, metric=metric)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = reference.nearest(queries, items, 1, metric)[0]
    assert np.array_equal(indices, expected)
    assert not np.isnan(distances).any()


def test_vectors_of_zeros_have_cosine_zero():
    items = np.array([[0, 0], [-1, 0], [0, 0], [1, 1]], np.float32)
    indices, distances = metrics.nearest(np.array([[0, 0], [2, 0]], np.float32), items, 4, metric="cosine")
    assert indices.tolist() == [[0, 1, 2, 3], [3, 0, 2, 1]]
    assert distances == pytest.approx(np.array([[1, 1, 1, 1], [1 - 0.5**0.5, 1, 1, 2]]), abs=1e-6)


def test_items_that_are_all_equal_come_by_index():
    items = np.full((9, 5), 0.1, np.float32)
    indices, distances = metrics.nearest(items[:2], items, 9)
    assert indices.tolist() == [list(range(9))] * 2
    assert not distances.any()
    recall = metrics.retrieval_recall(items[:1], ["b"], items, [*"aaaabaaaa"], at=[4, 5])
    assert recall == {4: 0, 5: 1}


def test_a_query_whose_class_no_item_has_is_a_miss():
    items = np.eye(3)
    assert metrics.retrieval_recall(items, ["a", "x", "c"], items, ["a", "b", "c"], at=[3]) == {3: 2 / 3}
    alone = metrics.retrieval_recall(items, [1, 2, 2], items, [1, 2, 2], at=[2], leave_out_self=True)
    assert alone == {2: 2 / 3}


VECTORS = np.arange(12.0).reshape(4, 3)
BROKEN = np.where(VECTORS == 7, np.nan, VECTORS)


@pytest.mark.parametrize(
    ("queries", "items", "k", "options", "option"),
    [
        (VECTORS[0], VECTORS, 1, {}, "queries"),
        (VECTORS, VECTORS[:0], 1, {}, "items"),
        (VECTORS[:, :0], VECTORS[:, :0], 1, {}, "queries"),
        (VECTORS, VECTORS[:, :2], 1, {}, "items"),
        (BROKEN, VECTORS, 1, {}, "queries"),
        (VECTORS, BROKEN.astype(np.float32), 1, {}, "items"),
        (VECTORS, np.where(VECTORS == 1, -np.inf, VECTORS), 1, {}, "items"),
        (VECTORS.astype(str), VECTORS, 1, {}, "queries"),
        (VECTORS * 1j, VECTORS, 1, {}, "queries"),
        (VECTORS, VECTORS, 0, {}, "k"),
        (VECTORS, VECTORS, 5, {}, "k"),
        (VECTORS, VECTORS, 1.5, {}, "k"),
        (VECTORS, VECTORS, 4, {"leave_out_self": True}, "k"),
        (VECTORS, VECTORS[:3], 1, {"leave_out_self": True}, "leave_out_self"),
        (VECTORS, VECTORS, 1, {"metric": "manhattan"}, "metric"),
        (VECTORS, VECTORS, 1, {"block_bytes": 0}, "block_bytes"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_one_line(queries, items, k, options, option):
    with refused(option=option):
        metrics.nearest(queries, items, k, **options)
    with refused(option="at" if option == "k" else option):
        metrics.retrieval_recall(queries, range(len(queries)), items, range(len(items)), at=(k,), **options)


@pytest.mark.parametrize(
    ("query_classes", "item_classes", "option"),
    [
        ([1, 2, 3], [1, 2, 3, 4], "query_classes"),
        ([1, 2, 3, 4], [1, 2, 3, 4, 5], "item_classes"),
        ([1.0, 2.0, float("nan"), 4.0], [1, 2, 3, 4], "query_classes"),
        ([1, 2, 3, 4], [], "item_classes"),
    ],
)
def test_classes_that_do_not_fit_are_refused(query_classes, item_classes, option):
    with refused(option=option):
        metrics.retrieval_recall(VECTORS, query_classes, VECTORS, item_classes, at=[1])
