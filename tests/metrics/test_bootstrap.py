import numpy as np
import pytest

from selavi_ref import metrics
from tests.support import metrics_reference as reference
from tests.support.refusal import refused

LABELS = ([0, 0, 0, 1, 1, 2, 2, 2, 3, 3], ["a", "a", "b", "b", "b", "c", "c", "a", "c", "d"])


def joint_distribution(classes, agreement):
    shares = np.exp(-1.2 * np.arange(classes) / classes)
    shares /= shares.sum()
    return (1 - agreement) * np.outer(shares, np.full(classes, 1 / classes)) + agreement * np.diag(shares)


def test_the_intervals_cover_the_scores_of_the_population():
    rng = np.random.default_rng(0)
    joint = joint_distribution(classes=5, agreement=0.5)
    truth = reference.population_scores(joint)
    covered = dict.fromkeys(truth, 0)
    collections = 100
    for _ in range(collections):
        cells = rng.choice(joint.size, 300, p=joint.ravel())
        pair = np.divmod(cells, len(joint))
        intervals = metrics.bootstrap_intervals(*pair, n_resamples=150, rng=rng, scores=tuple(truth))
        for name, (low, high) in intervals.items():
            covered[name] += low <= truth[name] <= high
    assert all(0.88 <= times / collections <= 1 for times in covered.values()), covered


def test_the_intervals_become_narrower_with_more_videos_and_wider_with_more_confidence():
    joint = joint_distribution(classes=4, agreement=0.5)

    def widths(n, confidence):
        cells = np.random.default_rng(1).choice(joint.size, n, p=joint.ravel())
        rng = np.random.default_rng(2)
        intervals = metrics.bootstrap_intervals(*np.divmod(cells, 4), n_resamples=200, confidence=confidence, rng=rng)
        return np.array([high - low for low, high in intervals.values()])

    assert (widths(10_000, 0.95) < widths(500, 0.95) / 2).all()
    assert (widths(500, 0.5) < widths(500, 0.95)).all()


def test_the_same_randomness_gives_the_same_intervals_of_every_score():
    first, again, other = (
        metrics.bootstrap_intervals(*LABELS, n_resamples=30, rng=np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert first == again != other
    assert list(first) == list(metrics.summary(*LABELS))[3:]
    for name, (low, high) in first.items():
        assert low <= high <= (np.log(4) if name == "mean_entropy" else 1)
        assert low >= (-0.5 if name == "ari" else -np.inf if name == "ami" else 0)


def test_the_intervals_are_those_of_videos_drawn_one_by_one():
    rng = np.random.default_rng(5)
    labels_true = rng.integers(0, 6, 200)
    labels_pred = np.where(rng.random(200) < 0.5, labels_true, rng.integers(0, 9, 200))
    scores = ("nmi", "mean_entropy", "ari")
    drawn = []
    for _ in range(1500):
        videos = rng.integers(0, 200, 200)
        result = metrics.summary(labels_true[videos], labels_pred[videos])
        drawn.append([result[name] for name in scores])
    ours = metrics.bootstrap_intervals(labels_true, labels_pred, n_resamples=1500, rng=rng, scores=scores)
    for (low, high), values in zip(ours.values(), np.transpose(drawn), strict=True):
        tails = np.quantile(values, [0.025, 0.975])
        assert high - low == pytest.approx(tails[1] - tails[0], rel=0.1)


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (([1, 1, 1], ["x", "x", "x"]), {"nmi": (1, 1), "accuracy": (1, 1), "mean_entropy": (0, 0)}),
        (([-(2**60), 4, 4, -(2**60)], ["b", "", "", "b"]), {"nmi": (1, 1), "homogeneity": (1, 1)}),
        (([7], [7]), {"ari": (1, 1), "fmi": (0, 0)}),
    ],
)
def test_what_no_resample_changes_is_certain(pair, expected):
    rng = np.random.default_rng(0)
    intervals = metrics.bootstrap_intervals(*pair, n_resamples=20, rng=rng, scores=tuple(expected))
    assert list(intervals) == list(expected)
    for name, interval in intervals.items():
        assert interval == pytest.approx(expected[name], abs=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"n_resamples": 0},
        {"n_resamples": -5},
        {"n_resamples": 2.5},
        {"confidence": 1.0},
        {"confidence": float("nan")},
        {"scores": ("nmi", "nmj")},
        {"scores": "nmi"},
        {"rng": 0},
    ],
)
def test_options_that_do_not_fit_are_refused(options):
    with refused(option=next(iter(options))):
        metrics.bootstrap_intervals(*LABELS, **{"rng": np.random.default_rng(0), **options})


def test_labels_that_do_not_fit_are_refused():
    with refused(option="labels_pred"):
        metrics.bootstrap_intervals([1, 2], [1, 2, 3], rng=np.random.default_rng(0))
