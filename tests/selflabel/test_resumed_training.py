"""Trainings that are stopped or killed and resumed, and the checkpoints that they leave."""

from dataclasses import replace

import numpy as np
import pytest

from selavi_ref.errors import CheckpointError, StopRequest
from tests.support.linear_backbone import (
    SETTINGS,
    KilledError,
    Warnings,
    assert_same_end,
    killed_at,
    start,
)
from tests.support.refusal import refused


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    logs = {"a": [], "b": []}
    for name in logs:
        (tmp_path / name).mkdir()
    whole, _ = start(tmp_path / "a", log=logs["a"])
    whole.run()
    whole.finish()
    first, _ = start(tmp_path / "b")
    with pytest.raises(KilledError):
        first.run(killed_at(43))
    first.pseudo_labels.store.close()
    second, _ = start(tmp_path / "b")
    assert second.restore()
    assert second.epoch == 4
    assert second.step == 4 * second.per_epoch
    second.run()
    second.finish()
    assert_same_end(whole, second)


@pytest.mark.parametrize("step", [1, 13, 14, 57])
def test_a_run_that_is_asked_to_stop_saves_at_once_and_loses_nothing(tmp_path, step):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    logs = {"a": [], "b": []}
    whole, _ = start(tmp_path / "a", log=logs["a"])
    whole.run()
    first, _ = start(tmp_path / "b", log=logs["b"])
    with pytest.raises(StopRequest):
        first.run(lambda now: first.request_stop() if now.step == step else None)
    first.pseudo_labels.store.close()
    second, _ = start(tmp_path / "b", log=logs["b"])
    assert second.restore()
    assert second.step in (step, step + 1)
    second.run()
    assert_same_end(whole, second)
    timeless = [[{k: v for k, v in r.items() if k != "labelling_seconds"} for r in log] for log in logs.values()]
    assert timeless[0] == timeless[1]


def test_the_log_of_a_resumed_run_is_cut_where_it_resumes(tmp_path):
    training, _ = start(tmp_path)
    training.step = 6
    records = ({"step": 0, "changed": 1.0}, {"step": 6, "epoch": 1}, {"step": 6, "changed": 0.5}, {"step": 8})
    assert [training.covers(record) for record in records] == [True, True, False, False]


def test_a_request_to_stop_during_a_labelling_is_met_at_once(tmp_path):
    training, _ = start(tmp_path, minutes=0.0)
    write = training.backbone.write_features

    def write_and_ask(*args):
        if training.step:
            training.request_stop()
        write(*args)

    training.backbone.write_features = write_and_ask
    with pytest.raises(StopRequest):
        training.run()
    training.pseudo_labels.store.close()
    again, _ = start(tmp_path)
    assert again.restore()
    assert again.step == training.step > 0


def test_within_an_epoch_the_state_is_saved_every_few_minutes(tmp_path):
    training, _ = start(tmp_path, minutes=0.0)
    with pytest.raises(KilledError):
        training.run(killed_at(5))
    assert [path.name for path in training.checkpoints.newest_first()] == [f"{n:06d}-step-{n}.npz" for n in (4, 3, 2)]


def test_the_last_three_checkpoints_are_kept_and_every_fifth_epoch_for_good(tmp_path):
    training, _ = start(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "000001-step-1.npz.partial").write_bytes(b"of a killed process")
    training.run()
    training.finish()
    written = {13: 12, 12: 12, 11: 11, 10: 10, 5: 5}  # the last is that of the final labels
    names = [f"{n:06d}-step-{e * training.per_epoch}{'' if e % 5 else '-kept'}.npz" for n, e in written.items()]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == sorted(names)


def test_a_damaged_checkpoint_falls_back_to_the_one_before_with_a_warning(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole, _ = start(tmp_path / "a")
    whole.run()
    first, _ = start(tmp_path / "b")
    first.run()
    first.pseudo_labels.store.close()
    newest, before, *_ = first.checkpoints.newest_first()
    newest.write_bytes(newest.read_bytes()[:2000])
    reporter = Warnings()
    second, _ = start(tmp_path / "b", reporter=reporter)
    assert second.restore()
    assert second.epoch == 11
    assert len(reporter.warnings) == 1
    assert newest.name in reporter.warnings[0]
    assert before.name in reporter.warnings[0]
    second.run()
    assert_same_end(whole, second)
    for path in second.checkpoints.newest_first():
        path.write_bytes(b"")
    second.pseudo_labels.store.close()
    with refused(CheckpointError):
        start(tmp_path / "b")[0].restore()


def test_without_stable_change_labels_that_never_change_end_no_run_sooner(tmp_path):
    settings = replace(SETTINGS, overclustering_heads=2, epochs=20, settle_epochs=16, labellings=60, agreement=-1.0)
    training, _ = start(tmp_path, settings, clusters=(4, 20, 20))
    label_now = training.pseudo_labels.relabel
    training.pseudo_labels.relabel = lambda *args: label_now(*args) | {"changed": 0.0, "main_changed": 0.0}
    training.run()
    assert training.finish_from is None
    assert training.epoch == training.settle_from + 16


@pytest.mark.parametrize("stable_change", [0.0, 0.2])
def test_a_resumed_run_settles_where_an_uninterrupted_one_does(tmp_path, stable_change):
    settings = replace(SETTINGS, overclustering_heads=2, epochs=60, settle_epochs=6, labellings=60)
    settings = replace(settings, stable_change=stable_change, labelling_stride=2)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole, _ = start(tmp_path / "a", settings, clusters=(4, 20, 20))
    whole.run()

    first, _ = start(tmp_path / "b", settings, clusters=(4, 20, 20))
    with pytest.raises(KilledError):
        first.run(killed_at(whole.step - 15))
    first.pseudo_labels.store.close()
    second, _ = start(tmp_path / "b", settings, clusters=(4, 20, 20))
    second.restore()
    second.run()
    assert second.settle_from == whole.settle_from
    assert second.finish_from == whole.finish_from
    assert (whole.finish_from is None) == (stable_change == 0)
    assert np.array_equal(whole.labels, second.labels)
