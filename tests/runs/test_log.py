"""A damaged log stops neither a training nor a plot: what can be read of it is shown and kept."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selavi_ref.report.training_curves import training_curve
from selavi_ref.runs.run import Run
from selavi_ref.runs.session import training_session

HOSTILE = [
    b"\xff\xfe\x00",
    b"",
    b"[" * 100_000,
    b'{"step": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'{"step": 1e400}',
    b'{"step": Infinity, "loss": 1}',
    b'{"step": true}',
    b'{"step": "3", "epoch": 1}',
    b'{"step": -1' + b"0" * 400 + b"}",
    b'{"step": 1' + b"0" * 5000 + b"}",
    b"[1, 2]",
    b"null",
    b'"step"',
    b'{"loss": 1.0}',
    b'{"step": 4, "loss": "x", "epoch": [1], "rate": {"a": 1}}',
    b'{"step": 4, "loss": NaN, "epoch": null, "rate": -Infinity}',
    b'{"step": 4, "changed": "x", "spectrum": "abc", "labelling_seconds": [1]}',
    b'{"step": 4, "changed": 0.5, "spectrum": ["a", null, [1]], "nmi_with_last": "x", "labelling_seconds": "x"}',
    b'{"step": 4, "epoch": 1, "fold": "x", "loss": 1e308}',
    b'{"step": 3, "ch',
]
SOUND = [
    {"step": 0, "changed": 1.0, "labelling_seconds": 0.1, "spectrum": [1.0, 0.9, 0.8, 0.1], "nmi_with_last": 0.5},
    {"step": 5, "epoch": 1, "loss": 2.0, "rate": 0.1},
    {"step": 5, "changed": 0.5, "labelling_seconds": 0.1},
]


def write_log(run, lines):
    run.folder.mkdir(exist_ok=True)
    run.log_file.write_bytes(b"\n".join(lines) + b"\n")


class Untrained:
    """A training that has yet to take the steps from the fifth on."""

    step, total_steps = 5, 10

    def restore(self):
        return True

    def covers(self, record):
        return record["step"] < 5 or (record["step"] == 5 and "changed" not in record)


def test_a_training_is_resumed_beside_a_damaged_log(tmp_path):
    run = Run(tmp_path)
    write_log(run, [*HOSTILE, *(json.dumps(record).encode() for record in SOUND)])
    with training_session(run) as session:
        assert session.restore(Untrained())
        session.log({"step": 6})
    records = run.records
    assert [record for record in records if record in SOUND] == SOUND[:2]
    assert records[-1] == {"step": 6}
    assert b"NaN" not in run.log_file.read_bytes()


def test_a_damaged_log_is_drawn_as_far_as_it_can_be_read(tmp_path):
    run = Run(tmp_path / "run")
    write_log(run, [*HOSTILE, *(json.dumps(record).encode() for record in SOUND)])
    (table,) = training_curve(run, tmp_path / "curve")
    shown = [row for row in table.rows if row.get("loss") == 2.0]
    assert [row["step"] for row in shown] == [5]
    assert (tmp_path / "curve.svg").exists()


@pytest.mark.parametrize("line", HOSTILE)
def test_a_line_that_is_no_record_leaves_the_others(tmp_path, line):
    run = Run(tmp_path)
    write_log(run, [json.dumps(SOUND[0]).encode(), line, json.dumps(SOUND[1]).encode()])
    records = run.records
    assert records[0] == SOUND[0]
    assert records[-1] == SOUND[1]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.binary(max_size=30) | json_values.map(lambda value: json.dumps(value).encode()), max_size=8))
def test_whatever_a_log_holds_its_records_are_plain(tmp_path_factory, lines):
    run = Run(tmp_path_factory.mktemp("run"))
    write_log(run, lines)
    for record in run.records:
        assert type(record["step"]) is int
        json.dumps(record, allow_nan=False)
    run.keep_records(lambda record: record["step"] < 3)
