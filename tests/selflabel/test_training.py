"""The loop of learning and self-labelling, with a small backbone in NumPy: no framework is needed to run it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from selavi_ref.errors import DivergedError
from selavi_ref.metrics import adjusted_mutual_info_score, mean_entropy, mean_purity, normalized_mutual_info_score
from selavi_ref.selflabel import pseudo_labels
from selavi_ref.selflabel.cluster_sizes import ClusterSizes
from selavi_ref.selflabel.training import modality_agreement
from selavi_ref.transport import assign
from tests.support.linear_backbone import (
    SETTINGS,
    start,
)
from tests.support.refusal import refused


def test_it_finds_the_kinds_that_both_modalities_show(tmp_path):
    training, classes = start(tmp_path)
    training.run()
    training.finish()
    scores = [normalized_mutual_info_score(classes, labels) for labels in training.labels.T]
    assert max(scores) > 0.9
    assert training.labels.dtype == np.int32


def test_every_video_is_in_every_epoch_once(tmp_path):
    training, classes = start(tmp_path)
    training.run()
    per_epoch = SETTINGS.steps_per_epoch(len(classes))
    for epoch in range(SETTINGS.epochs):
        rows = np.concatenate(training.backbone.seen[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert sorted(rows) == list(range(len(classes)))


def test_clusters_get_the_sizes_that_were_asked_for(tmp_path):
    training, classes = start(tmp_path, replace(SETTINGS, sizes=ClusterSizes("zipf")), clusters=(4,))
    training.run()
    counts = np.sort(np.bincount(training.labels[:, 0], minlength=4))[::-1] / len(classes)
    assert np.abs(counts - np.sort(training.pseudo_labels.sizes[0])[::-1]).max() < 0.05


def test_heads_may_have_different_numbers_of_clusters_and_groups_split_them(tmp_path):
    training, _ = start(tmp_path, replace(SETTINGS, groups=2, epochs=3), clusters=(4, 4, 16))
    training.run()
    assert training.labels.max(0).tolist()[2] > 4


def test_the_published_solver_and_sizes_can_be_trained_with(tmp_path):
    training, classes = start(tmp_path, replace(SETTINGS, labeller="published", sizes=ClusterSizes("gaussian", 0.1)))
    records = []
    training.log = records.append
    training.run()
    training.finish()
    assert normalized_mutual_info_score(classes, training.labels[:, 0]) > 0.6  # inverted sizes, in an order of chance
    assert all(np.isfinite(potentials).all() for potentials in training.pseudo_labels.potentials)
    last = [record for record in records if "changed" in record][-1]
    assert last["passes"] > 0


def test_it_is_the_published_algorithm_on_sizes_in_an_order_of_chance(tmp_path, monkeypatch):
    training, _ = start(tmp_path, replace(SETTINGS, labeller="published", sizes=ClusterSizes("zipf")))
    given = []

    def watch(scores, sizes, **options):
        given.append((tuple(np.round(sizes, 6)), options["published"]))
        return assign(scores, sizes, **options)

    monkeypatch.setattr(pseudo_labels, "assign", watch)
    for step in range(6):
        training.pseudo_labels.relabel(step, use_overclusters=False)
    orders = {sizes for sizes, _ in given}
    assert all(published for _, published in given)
    assert len(orders) > 3
    assert len({tuple(sorted(sizes)) for sizes in orders}) == 1


def test_the_log_has_the_published_scores_with_true_classes(tmp_path):
    training, classes = start(tmp_path, SETTINGS)
    training.pseudo_labels._truth = np.unique(classes, return_inverse=True)[1]
    record = training.pseudo_labels.relabel(0, use_overclusters=False)
    labels = training.labels.T
    for name, score in (
        ("nmi", normalized_mutual_info_score),
        ("anmi", adjusted_mutual_info_score),
        ("purity", mean_purity),
        ("entropy", mean_entropy),
    ):
        assert record[f"{name}_with_classes"] == pytest.approx(np.mean([score(classes, head) for head in labels]))


def test_heads_are_split_into_groups_anew_at_each_labelling_the_same_by_the_seed(tmp_path):
    def groups(folder, seed):
        folder.mkdir()
        training, _ = start(folder, replace(SETTINGS, groups=2, seed=seed), clusters=(4,) * 6)
        passes = []
        training.backbone.write_features = lambda store, rows, look: passes.append(set())
        training.pseudo_labels._label_head = lambda head: passes[-1].add(head)
        training.pseudo_labels._record = lambda *rest: {}
        for step in range(8):
            training.pseudo_labels.relabel(step, use_overclusters=False)
        return [frozenset(map(frozenset, passes[n : n + 2])) for n in range(0, 16, 2)]

    first = groups(tmp_path / "a", 0)
    assert all(sorted(map(len, pair)) == [3, 3] for pair in first)
    assert all(frozenset().union(*pair) == set(range(6)) for pair in first)
    assert len(set(first)) > 2
    assert groups(tmp_path / "b", 0) == first
    assert groups(tmp_path / "c", 1) != first


def test_side_heads_label_the_others_from_half_of_the_run_on(tmp_path):
    settings = replace(SETTINGS, overclustering_heads=2, epochs=20)
    training, classes = start(tmp_path, settings, clusters=(4, 4, 20, 20))
    seen = []
    label_now = training.pseudo_labels.relabel

    def watch(step, use_overclusters, soft_sizes):
        record = label_now(step, use_overclusters, soft_sizes)
        seen.append((step, np.array_equal(training.labels[:, 0], training.labels[:, 1])))
        return record

    training.pseudo_labels.relabel = watch
    training.run()
    assert all(same == (step >= training.total_steps / 2) for step, same in seen)
    assert normalized_mutual_info_score(classes, training.labels[:, 0]) > 0.95


def test_it_settles_when_the_modalities_agree_and_at_the_end_in_any_case(tmp_path):
    settings = replace(SETTINGS, overclustering_heads=2, epochs=60, settle_epochs=6, labellings=60, warmup_epochs=0)
    training, classes = start(tmp_path, settings, clusters=(4, 20, 20))
    rates = []
    training.run(lambda now: rates.append(now.learning_rate))
    assert 1 <= training.settle_from < 54
    assert training.epoch == training.settle_from + 6
    per_epoch = settings.steps_per_epoch(len(classes))
    assert set(rates[: training.settle_from * per_epoch]) == {settings.learning_rate}
    assert np.all(np.diff(rates[training.settle_from * per_epoch :]) < 0)
    assert normalized_mutual_info_score(classes, training.labels[:, 0]) > 0.95

    (tmp_path / "never").mkdir()
    never, _ = start(tmp_path / "never", replace(settings, agreement=1.1, epochs=10), clusters=(4, 20, 20))
    never.run()
    assert (never.settle_from, never.epoch) == (4, 10)


def test_labels_are_found_anew_less_often_until_the_modalities_agree(tmp_path):
    settings = replace(SETTINGS, overclustering_heads=2, epochs=60, settle_epochs=6, labellings=60, warmup_epochs=0)
    records = []
    training, classes = start(tmp_path, replace(settings, labelling_stride=3), clusters=(4, 20, 20), log=records)
    training.run()
    labellings = [record for record in records if "labelling_seconds" in record]
    agreed = next(r["step"] for r in labellings if modality_agreement(np.array(r["spectrum"])) >= settings.agreement)
    schedule = sorted(settings.labelling_steps(len(classes)))
    expected = [s for s in schedule[::3] if s <= agreed] + [s for s in schedule if agreed < s < training.step]
    assert [record["step"] for record in labellings] == expected


def test_it_finishes_sooner_once_labels_are_stable(tmp_path):
    settings = replace(SETTINGS, overclustering_heads=2, epochs=60, settle_epochs=16, labellings=120, warmup_epochs=0)
    training, classes = start(tmp_path, replace(settings, stable_change=0.1), clusters=(4, 20, 20))
    rates = []
    training.run(lambda now: rates.append(now.learning_rate))
    assert training.settle_from <= training.finish_from
    assert training.epoch == training.finish_from + 2 < training.settle_from + 16
    per_epoch = settings.steps_per_epoch(len(classes))
    assert np.all(np.diff(rates[training.settle_from * per_epoch :]) < 0)
    assert rates[-1] < 0.3 * rates[training.finish_from * per_epoch]
    assert normalized_mutual_info_score(classes, training.labels[:, 0]) > 0.95


def test_it_finishes_sooner_once_the_labels_of_the_main_heads_are_stable(tmp_path):
    """Over-clusters are so small that they change for long after the clusters that they are merged to."""
    settings = replace(SETTINGS, overclustering_heads=2, epochs=20, settle_epochs=16, labellings=60, agreement=-1.0)
    training, _ = start(tmp_path, replace(settings, stable_change=0.06), clusters=(4, 20, 20))
    label_now, main = training.pseudo_labels.relabel, iter([0.005, 0.02, 0.009, 0.0, 0.009])
    training.pseudo_labels.relabel = lambda *args: (
        label_now(*args)
        | {"changed": 0.5, "main_changed": next(main, 1.0) if training.settle_from is not None else 1.0}
    )
    training.run()
    assert training.finish_from is not None
    assert next(main, None) is None
    assert training.epoch == training.finish_from + 2


def test_side_heads_do_without_sizes_that_were_given_for_the_others(tmp_path):
    settings = replace(SETTINGS, overclustering_heads=1, sizes=ClusterSizes("file", given=(4.0, 3.0, 2.0, 1.0)))
    training, _ = start(tmp_path, settings, clusters=(4, 20))
    assert training.pseudo_labels.sizes[0].tolist() == [0.4, 0.3, 0.2, 0.1]
    assert len(training.pseudo_labels.sizes[1]) == 20


def test_each_labelling_and_each_epoch_is_recorded_as_plain_values(tmp_path):
    records = []
    training, _ = start(tmp_path, replace(SETTINGS, epochs=3), log=records)
    training.run()
    assert json.loads(json.dumps(records)) == records
    assert [r["epoch"] for r in records if "epoch" in r] == [1, 2, 3]
    assert sum("labelling_seconds" in r for r in records) == len(training.settings.labelling_steps(300))


def test_the_log_has_the_agreement_of_labels(tmp_path):
    records = []
    training, _ = start(tmp_path, replace(SETTINGS, epochs=12), log=records)
    training.run()
    labellings = [r for r in records if "labelling_seconds" in r]
    assert "nmi_with_last" not in labellings[0]
    assert labellings[-1]["nmi_with_last"] > 0.9
    assert labellings[-1]["nmi_between_heads"] > labellings[0]["nmi_between_heads"]
    assert labellings[-1]["nmi_with_classes"] > 0.9 > labellings[0]["nmi_with_classes"]
    assert labellings[-1]["cost"] < labellings[0]["cost"]
    assert all(r["passes"] > 0 for r in labellings)
    steps = [r["step"] for r in records if "loss" in r and "epoch" not in r]
    assert steps == []  # epochs of nine steps


def test_the_loss_of_long_epochs_is_logged_within_them(tmp_path):
    records = []
    training, _ = start(tmp_path, replace(SETTINGS, epochs=1, batch_size=3), log=records)
    training.run()
    assert [r["step"] for r in records if "loss" in r and "epoch" not in r] == [50, 100]


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(tmp_path):
    training, _ = start(tmp_path)
    step = training.backbone.train_step
    training.backbone.train_step = lambda *args: math.nan if training.step == 20 else step(*args)
    with refused(
        DivergedError,
        path=tmp_path / "checkpoints/000002-step-18.npz",
        option="learning-rate",
        value=0.2753231717119405,
    ):
        training.run()


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    training, _ = start(tmp_path)
    key = ("video", 0)

    def spoil(now):
        if now.step == 18:
            training.backbone.weights[key] = training.backbone.weights[key] * np.inf

    with refused(
        DivergedError, path=tmp_path / "checkpoints/000001-step-9.npz", option="learning-rate", value=0.2820302086770166
    ):
        training.run(spoil)


def test_sizes_are_kept_for_the_run_or_drawn_anew(tmp_path):
    for name, sizes in {
        "kept": ClusterSizes("gaussian", 0.3),
        "alike": ClusterSizes("gaussian", 0.3, per_head=False),
        "anew": ClusterSizes("gaussian", 0.3, redrawn=True),
    }.items():
        (tmp_path / name).mkdir()
        training, _ = start(tmp_path / name, replace(SETTINGS, epochs=2, sizes=sizes))
        before = [head.copy() for head in training.pseudo_labels.sizes]
        training.run()
        after = training.pseudo_labels.sizes
        assert np.array_equal(before, after) == (name != "anew")
        assert np.array_equal(after[0], after[1]) == (name == "alike")


def test_sizes_as_drawn_stay_with_their_clusters(tmp_path):
    sizes = ClusterSizes("file", given=(5.0, 1.0, 2.0, 2.0), matched=False)
    training, _ = start(tmp_path, replace(SETTINGS, sizes=sizes), clusters=(4,))
    training.run()
    counts = np.bincount(training.labels[:, 0], minlength=4) / 300
    assert np.abs(counts - [0.5, 0.1, 0.2, 0.2]).max() < 0.05


def test_more_clusters_than_videos_are_refused(tmp_path):
    with refused(option="clusters", value=400):
        start(tmp_path, clusters=(400,))
