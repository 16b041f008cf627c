"""Files of timelines: read back where programs read them, one video each where a format knows one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from selavi_ref.errors import InputError
from selavi_ref.timeline.formats import write_timelines
from selavi_ref.timeline.stretches import Stretch, Timeline

ONE = Timeline("a.mp4", [Stretch(0.0, 61.5, 2, 0.9), Stretch(61.5, 3725.25, 0, 0.75, "rain & <wind>")])
OTHER = Timeline("b.mp4", [])


def test_tables_hold_many_videos(tmp_path: Path) -> None:
    write_timelines([ONE, OTHER], tmp_path / "t.csv")
    with open(tmp_path / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], float(row["start"]), float(row["end"]), row["label"], row["name"]) for row in rows] == [
        ("a.mp4", 0.0, 61.5, "2", ""),
        ("a.mp4", 61.5, 3725.25, "0", "rain & <wind>"),
    ]
    write_timelines([ONE, OTHER], tmp_path / "t.json")
    first, second = json.loads((tmp_path / "t.json").read_text())["videos"]
    assert [part["confidence"] for part in first["stretches"]] == [0.9, 0.75]
    assert second["stretches"] == []


def test_no_name_in_a_table_is_a_formula(tmp_path: Path) -> None:
    write_timelines([Timeline("=a.mp4", [Stretch(0.0, 1.0, 0, 1.0, "=1+1")])], tmp_path / "t.csv")
    with open(tmp_path / "t.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["path"], row["name"]) == ("=a.mp4", "'=1+1")


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("t.vtt", "00:01:01.500 --> 01:02:05.250\nrain &amp; &lt;wind&gt;\n"),
        ("t.txt", "61.500000\t3725.250000\train & <wind>\n"),
        ("t.tsv", "labels\t00:01:01.500\t01:02:05.250\train & <wind>\n"),
    ],
)
def test_tracks_hold_one_video(tmp_path: Path, name: str, last: str) -> None:
    write_timelines([ONE], tmp_path / name)
    assert (tmp_path / name).read_text().endswith(last)
    with pytest.raises(InputError) as caught:
        write_timelines([ONE, OTHER], tmp_path / name)
    assert caught.value.option == "out"


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write_timelines([ONE], tmp_path / "t.doc")
