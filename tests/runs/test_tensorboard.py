"""The log of a run as TensorBoard shows it."""

import pytest

from selavi_ref.runs.tensorboard import Events

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

RECORDS = [
    {"step": 0, "labelling_seconds": 2.0, "changed": 1.0, "cost": 3.5, "passes": 12, "nmi_with_classes": 0.25},
    {"step": 50, "loss": 2.25, "rate": 0.1},
    {"step": 60, "epoch": 1, "loss": 2.0, "rate": 0.1, "not_decoded": 3},
]
SHOWN = {
    "labelling/cost": [(0, 3.5)],
    "labelling/seconds": [(0, 2.0)],
    "labelling/passes of the solver": [(0, 12.0)],
    "labelling/share changed": [(0, 1.0)],
    "agreement/NMI with true classes": [(0, 0.25)],
    "step/loss": [(50, 2.25)],
    "step/rate": [(50, pytest.approx(0.1))],
    "epoch/loss": [(60, 2.0)],
    "epoch/rate": [(60, pytest.approx(0.1))],
    "epoch/videos not decoded": [(60, 3.0)],
}


def shown(folder):
    events = accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    tags = events.Tags()["tensors"]
    return {
        tag: [
            (e.step, float(e.tensor_proto.float_val[0] if e.tensor_proto.float_val else _number(e)))
            for e in events.Tensors(tag)
        ]
        for tag in tags
    }


def _number(event):
    from tensorboard.util import tensor_util

    return tensor_util.make_ndarray(event.tensor_proto)


def test_events_are_the_numbers_of_the_log(tmp_path):
    with Events(tmp_path / "events") as events:
        events.restart([])
        for record in RECORDS:
            events.add(record)
    assert shown(tmp_path / "events") == SHOWN


def test_a_run_that_goes_on_has_its_events_once(tmp_path):
    for kept in (0, 1, 3):
        with Events(tmp_path / "events") as events:
            events.restart(RECORDS[:kept])
            for record in RECORDS[kept:]:
                events.add(record)
    assert shown(tmp_path / "events") == SHOWN


def test_nowhere_is_fine(tmp_path):
    with Events(None) as events:
        events.restart(RECORDS)
        events.add(RECORDS[0])
    assert list(tmp_path.iterdir()) == []
