import subprocess
import sys
from collections import Counter
from decimal import Decimal

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics.cluster import contingency_matrix

from selavi_ref import metrics
from selavi_ref.errors import InputError
from selavi_ref.metrics.expected_mi import expected_mutual_information
from tests.support import metrics_reference as reference
from tests.support.refusal import refused

WITH_MEANS = ["normalized_mutual_info_score", "adjusted_mutual_info_score"]
ONE_IF_EQUAL = [*WITH_MEANS, "adjusted_rand_score", "rand_score"]
SYMMETRIC = [*ONE_IF_EQUAL, "mutual_info_score", "fowlkes_mallows_score"]
SCORES = [*SYMMETRIC, "hungarian_accuracy", "purity_score", "mean_purity", "mean_entropy"]
TABLES = ["contingency_table", "cluster_report", "matched_confusion", "homogeneity_completeness_v_measure", "summary"]
SUMMARY = {
    "nmi": "normalized_mutual_info_score",
    "ami": "adjusted_mutual_info_score",
    "ari": "adjusted_rand_score",
    "accuracy": "hungarian_accuracy",
    "mean_purity": "mean_purity",
    "mean_entropy": "mean_entropy",
    "fmi": "fowlkes_mallows_score",
}
MEANS = ["arithmetic", "geometric", "min", "max"]

VOCABULARIES = [
    [0, 1, 2, 3, 4],
    [-3, 7, 2**40, -(2**60), 2**60 + 1],
    ["dog", "cat", "", "ñandú", "犬"],
    [0.5, -1.0, 2.0, 1e9, 3.25],
]


@st.composite
def labellings(draw, most=60, vocabularies=VOCABULARIES):
    """Two labellings of the same videos, of unequal vocabularies and numbers of labels."""
    n = draw(st.integers(1, most))
    pair = []
    for _ in range(2):
        vocabulary = draw(st.sampled_from(vocabularies))
        size = draw(st.integers(1, len(vocabulary)))
        pair.append(draw(st.lists(st.sampled_from(vocabulary[:size]), min_size=n, max_size=n)))
    return pair


def as_numbers(labels):
    return np.unique(np.array(labels), return_inverse=True)[1]


@pytest.mark.parametrize("name", SYMMETRIC)
@given(pair=labellings())
@settings(max_examples=50, deadline=None)
def test_equals_scikit_learn(name, pair):
    theirs = getattr(sklearn.metrics, name)(*map(as_numbers, pair))
    assert getattr(metrics, name)(*pair) == pytest.approx(theirs, abs=1e-10, rel=0)
    assert getattr(metrics, name)(*map(np.array, pair)) == pytest.approx(theirs, abs=1e-10, rel=0)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("name", WITH_MEANS)
@given(pair=labellings())
@settings(max_examples=50, deadline=None)
def test_equals_scikit_learn_with_every_mean(name, mean, pair):
    # Adjusted by chance, singletons by the smaller entropy are 0 / 0: there, scikit-learn's rounding gives -1 to 3.
    assume(name != "adjusted_mutual_info_score" or mean != "min" or all(len(set(x)) < len(x) for x in pair))
    theirs = getattr(sklearn.metrics, name)(*map(as_numbers, pair), average_method=mean)
    assert getattr(metrics, name)(*pair, average_method=mean) == pytest.approx(theirs, abs=1e-10, rel=0)


@given(pair=labellings(), beta=st.sampled_from([0, 0.25, 1, 3]))
@settings(max_examples=60, deadline=None)
def test_the_parts_of_the_v_measure_equal_scikit_learn_with_every_weight(pair, beta):
    ours = metrics.homogeneity_completeness_v_measure(*pair, beta=beta)
    # Of a single class and clusters that say nothing of it, scikit-learn divides 0 by 0 when completeness counts not.
    assume(beta > 0 or ours[1] > 0)
    theirs = sklearn.metrics.homogeneity_completeness_v_measure(*map(as_numbers, pair), beta=beta)
    assert ours == pytest.approx(theirs, abs=1e-10, rel=0)


@pytest.mark.parametrize("beta", [-1, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(beta):
    with pytest.raises(InputError) as error:
        metrics.homogeneity_completeness_v_measure([1, 2], [1, 2], beta=beta)
    assert error.value.option == "beta"


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12).filter(lambda labels: len(set(labels)) > 1))
@settings(max_examples=50, deadline=None)
def test_singletons_share_all_that_they_can_by_the_smaller_entropy(labels):
    singletons = list(range(len(labels)))
    for pair in ((labels, singletons), (singletons, labels)):
        assert metrics.adjusted_mutual_info_score(*pair, average_method="min") == 1.0
    assert metrics.adjusted_mutual_info_score(singletons, singletons) == 1.0


@pytest.mark.parametrize("name", SYMMETRIC)
@pytest.mark.parametrize(("n", "classes", "clusters"), [(20_000, 40, 300), (20_000, 3, 2), (500, 500, 20), (300, 1, 7)])
@pytest.mark.parametrize("agreement", [0.0, 0.6, 1.0])
def test_equals_scikit_learn_on_larger_collections(name, n, classes, clusters, agreement):
    rng = np.random.default_rng(n + classes + clusters)
    # Long-tailed classes, as collections of real videos have them.
    labels_true = (classes * rng.random(n) ** 2).astype(int)
    labels_pred = np.where(rng.random(n) < agreement, labels_true, rng.integers(0, clusters, n))
    theirs = getattr(sklearn.metrics, name)(labels_true, labels_pred)
    assert getattr(metrics, name)(labels_true, labels_pred) == pytest.approx(theirs, abs=1e-10, rel=0)


@given(pair=labellings(most=12))
@settings(max_examples=60, deadline=None)
def test_every_score_follows_its_definition(pair):
    assert metrics.adjusted_rand_score(*pair) == pytest.approx(reference.adjusted_rand_index(*pair), abs=1e-12)
    assert metrics.rand_score(*pair) == pytest.approx(reference.rand_index(*pair), abs=1e-12)
    assert metrics.fowlkes_mallows_score(*pair) == pytest.approx(reference.fowlkes_mallows(*pair), abs=1e-12)
    assert metrics.mutual_info_score(*pair) == pytest.approx(reference.mutual_information(*pair), abs=1e-12)
    assert metrics.purity_score(*pair) == pytest.approx(reference.purity(*pair), abs=1e-12)
    assert metrics.mean_purity(*pair) == pytest.approx(reference.mean_purity(*pair), abs=1e-12)
    assert metrics.mean_entropy(*pair) == pytest.approx(reference.mean_entropy(*pair), abs=1e-12)
    if len(set(pair[0])) + len(set(pair[1])) <= 7:
        assert metrics.hungarian_accuracy(*pair) == pytest.approx(reference.hungarian_accuracy(*pair), abs=1e-12)
    together = (reference.entropy(pair[0]) + reference.entropy(pair[1])) / 2
    if together > 0:
        expected = reference.mutual_information(*pair) / together
        assert metrics.normalized_mutual_info_score(*pair) == pytest.approx(expected, abs=1e-12)


@given(pair=labellings(most=80))
@settings(max_examples=50, deadline=None)
def test_the_expected_information_is_that_of_exact_probabilities(pair):
    sizes = [np.unique(as_numbers(labels), return_counts=True)[1] for labels in pair]
    exact = reference.expected_mutual_information(*(size.tolist() for size in sizes))
    assert expected_mutual_information(*sizes) == pytest.approx(exact, abs=1e-14, rel=1e-12)


@pytest.mark.parametrize(("a", "b"), [([1500, 1500], [2990, 10]), ([1, 2999], [1, 2999]), ([700, 2300], [1600, 1400])])
def test_the_expected_information_of_few_large_clusters_is_exact(a, b):
    exact = reference.expected_mutual_information(a, b)
    assert expected_mutual_information(np.array(a), np.array(b)) == pytest.approx(exact, rel=1e-10)


@given(pair=labellings(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_names_and_order_do_not_matter(pair, data):
    renamed = [
        {label: data.draw(st.just(f"{len(labels)}-{i}")) for i, label in enumerate(set(labels))} for labels in pair
    ]
    order = data.draw(st.permutations(range(len(pair[0]))))
    other = [[names[labels[i]] for i in order] for names, labels in zip(renamed, pair, strict=True)]
    for name, value in metrics.summary(*pair).items():
        assert metrics.summary(*other)[name] == pytest.approx(value, abs=1e-12)


@given(pair=labellings())
@settings(max_examples=60, deadline=None)
def test_the_report_describes_every_cluster(pair):
    report = metrics.cluster_report(*pair)
    members = reference.clusters_of(*pair)
    assert report.clusters == sorted(set(pair[1]))
    assert report.sizes.tolist() == [len(cluster) for cluster in members]
    assert report.entropy == pytest.approx([reference.entropy(cluster) for cluster in members], abs=1e-12)
    assert report.purity == pytest.approx([max(Counter(cluster).values()) / len(cluster) for cluster in members])
    assert report.majority == [max(sorted(set(cluster)), key=cluster.count) for cluster in members]
    assert not np.signbit(report.entropy).any()
    assert np.mean(report.entropy) == metrics.mean_entropy(*pair)
    assert np.mean(report.purity) == metrics.mean_purity(*pair)
    assert np.average(report.purity, weights=report.sizes) == pytest.approx(metrics.purity_score(*pair), abs=1e-12)


@given(pair=labellings())
@settings(max_examples=60, deadline=None)
def test_matched_classes_and_clusters_meet_on_the_diagonal(pair):
    confusion, table = metrics.matched_confusion(*pair), metrics.contingency_table(*pair)
    matched = confusion.matched
    assert matched == min(table.counts.shape)
    assert np.trace(confusion.counts) / len(pair[0]) == pytest.approx(metrics.hungarian_accuracy(*pair), abs=1e-12)
    rows = [table.classes.index(label) for label in confusion.classes]
    columns = [table.clusters.index(label) for label in confusion.clusters]
    assert sorted(rows) == list(range(len(rows)))
    assert sorted(columns) == list(range(len(columns)))
    assert np.array_equal(confusion.counts, table.counts[np.ix_(rows, columns)])
    assert rows[:matched] == sorted(rows[:matched])
    assert confusion.counts.dtype == np.int64
    for sizes in (confusion.counts.sum(0)[matched:], confusion.counts.sum(1)[matched:]):
        assert (np.diff(sizes) <= 0).all()


def test_groups_without_a_match_come_last_the_largest_first():
    labels_true = ["a"] * 5 + ["b"] * 4
    labels_pred = [3, 3, 3, 7, 7, 1, 1, 1, 5]
    clusters = metrics.matched_confusion(labels_true, labels_pred)
    assert (clusters.classes, clusters.clusters, clusters.matched) == (["a", "b"], [3, 1, 7, 5], 2)
    assert clusters.counts.tolist() == [[3, 0, 2, 0], [0, 3, 0, 1]]
    classes = metrics.matched_confusion(labels_pred, labels_true)
    assert (classes.classes, classes.clusters, classes.matched) == ([1, 3, 7, 5], ["b", "a"], 2)
    assert classes.counts.tolist() == [[3, 0], [0, 3], [0, 2], [1, 0]]


@given(pair=labellings())
@settings(max_examples=60, deadline=None)
def test_symmetric_scores_are_symmetric_and_all_keep_their_bounds(pair):
    labels_true, labels_pred = pair
    for name in [*SYMMETRIC, "hungarian_accuracy"]:
        score = getattr(metrics, name)
        assert score(labels_true, labels_pred) == pytest.approx(score(labels_pred, labels_true), abs=1e-10)
    homogeneity, completeness, v_measure = metrics.homogeneity_completeness_v_measure(*pair)
    exchanged = metrics.homogeneity_completeness_v_measure(labels_pred, labels_true)
    assert exchanged == pytest.approx((completeness, homogeneity, v_measure), abs=1e-10)
    assert 0 < metrics.hungarian_accuracy(*pair) <= metrics.purity_score(*pair) <= 1
    assert 0 <= metrics.rand_score(*pair) <= 1
    result = metrics.summary(*pair)
    for name in ("nmi", "homogeneity", "completeness", "fmi"):
        assert 0 <= result[name] <= 1 + 1e-12
    assert result["ami"] <= 1 + 1e-9
    assert -0.5 <= result["ari"] <= 1
    assert 0 < result["accuracy"] <= result["mean_purity"] * len(labels_true)
    assert 1 / result["classes"] <= result["mean_purity"] + 1e-12
    assert result["mean_purity"] <= 1
    assert 0 <= result["mean_entropy"] <= np.log(result["classes"]) + 1e-12


@given(labels=labellings())
@settings(max_examples=50, deadline=None)
def test_equal_labellings_are_perfect(labels):
    result = metrics.summary(labels[0], [f"cluster of {label}" for label in labels[0]])
    for name in ("nmi", "ami", "ari", "accuracy", "mean_purity", "homogeneity", "completeness"):
        assert result[name] == pytest.approx(1, abs=1e-9)
    assert result["fmi"] == (1 if len(set(labels[0])) < len(labels[0]) else 0)
    assert result["mean_entropy"] == 0


def test_the_summary_holds_every_score():
    rng = np.random.default_rng(0)
    labels_true, labels_pred = rng.integers(0, 5, 200), rng.integers(0, 7, 200)
    result = metrics.summary(labels_true, labels_pred)
    expected = {name: getattr(metrics, score)(labels_true, labels_pred) for name, score in SUMMARY.items()}
    homogeneity, completeness, _ = metrics.homogeneity_completeness_v_measure(labels_true, labels_pred)
    expected |= {"n": 200, "classes": 5, "clusters": 7, "homogeneity": homogeneity, "completeness": completeness}
    assert result == expected


@given(pair=labellings())
@settings(max_examples=60, deadline=None)
def test_the_contingency_table_counts(pair):
    table = metrics.contingency_table(*pair)
    assert np.array_equal(table.counts, contingency_matrix(*map(as_numbers, pair)))
    assert table.counts.dtype == np.int64
    assert (table.classes, table.clusters) == (sorted(set(pair[0])), sorted(set(pair[1])))


@pytest.mark.parametrize(
    ("labels", "vocabulary"),
    [
        ([1, "1", 1], [1, "1"]),
        ([None, 2, None], [None, 2]),
        ([(1, 2), (1, 3), (1, 2)], [(1, 2), (1, 3)]),
        ([2**63, -1, 2**63 + 1], [-1, 2**63, 2**63 + 1]),
        ([10**30, 0, 0], [0, 10**30]),
        (np.array([2**64 - 1, 2**64 - 2, 2**64 - 1], np.uint64), [2**64 - 2, 2**64 - 1]),
        (np.array([-128, 127, 0], np.int8), [-128, 0, 127]),
        (np.array([True, False, True]), [False, True]),
        (np.array(["b", "a", "b"]), ["a", "b"]),
        (np.array(["b", "a", 3], object), ["b", "a", 3]),
        (range(5, 8), [5, 6, 7]),
    ],
)
def test_labels_of_any_kind_stay_what_they_are(labels, vocabulary):
    table = metrics.contingency_table(labels, [0, 0, 0])
    assert table.classes == vocabulary
    assert table.counts.sum() == 3


def test_singletons_take_no_table_of_all_against_all():
    n = 60_000
    labels = np.arange(n) * 10**9
    clusters = np.arange(n)[::-1]
    for name in ONE_IF_EQUAL:
        assert getattr(metrics, name)(labels, clusters) == 1
    assert metrics.purity_score(labels, clusters) == 1
    assert metrics.fowlkes_mallows_score(labels, clusters) == 0
    with refused():
        metrics.contingency_table(labels, clusters)


@pytest.mark.parametrize("name", [*SCORES, *TABLES])
@pytest.mark.parametrize(
    ("labels_true", "labels_pred", "fields"),
    [
        ([1, 2], [1, 2, 3], {"option": "labels_pred"}),
        ([], [], {"option": "labels_true"}),
        ([1], np.array([]), {"option": "labels_pred"}),
        ([1, 2], [1.0, float("nan")], {"option": "labels_pred", "row": 1}),
        (np.array([1, np.nan, 2]), [1, 2, 3], {"option": "labels_true", "row": 1}),
        (["a", float("nan")], [1, 2], {"option": "labels_true", "row": 1}),
        ([1, np.float32("nan")], [1, 2], {"option": "labels_true", "row": 1}),
        (["a", np.float16("nan")], [1, 2], {"option": "labels_true", "row": 1}),
        (np.array([1, np.inf], np.float16), [1, 2], {"option": "labels_true", "row": 1}),
        (np.array(["2020-01-01", "NaT"], "M8[D]"), [1, 2], {"option": "labels_true", "row": 1}),
        (["a", np.datetime64("NaT")], [1, 2], {"option": "labels_true", "row": 1}),
        ([np.timedelta64("NaT"), "a"], [1, 2], {"option": "labels_true", "row": 0}),
        (np.array([1, np.nan], object), [1, 2], {"option": "labels_true", "row": 1}),
        (np.array([1, complex("nan")]), [1, 2], {"option": "labels_true", "row": 1}),
        ([1, complex(1, 2)], [1, 2], {"option": "labels_true", "row": 1}),
        (["a", Decimal("nan")], [1, 2], {"option": "labels_true", "row": 1}),
        ([[1, 2]], [1], {"option": "labels_true"}),
        (np.zeros((2, 2)), [1, 2], {"option": "labels_true"}),
        ([{1}, {2}], [1, 2], {"option": "labels_true"}),
        ("ab", [1, 2], {"option": "labels_true"}),
        (3, [1, 2], {"option": "labels_true"}),
    ],
)
def test_labels_that_do_not_fit_are_refused_in_one_line(name, labels_true, labels_pred, fields):
    with refused(**fields):
        getattr(metrics, name)(labels_true, labels_pred)


@pytest.mark.parametrize("name", WITH_MEANS)
def test_an_unknown_mean_is_refused(name):
    with refused(option="average_method", value="median"):
        getattr(metrics, name)([1, 2], [1, 2], average_method="median")


def test_importing_the_metrics_loads_nothing_heavy():
    code = "import sys, selavi_ref.metrics; print({'torch', 'numba', 'scipy', 'sklearn'} & sys.modules.keys())"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "set()"
