"""Segments in lists: a video in many rows, cut by rule or by hand, each row judged by itself."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selavi_ref.api.video_runs import as_manifest
from selavi_ref.datasets import read_manifest, scan, write_manifest
from selavi_ref.datasets.scan import list_videos, scan_to
from selavi_ref.datasets.segmentation import Segmentation
from selavi_ref.datasets.tables import match_paths
from selavi_ref.ensemble.label_table import LabelTable
from selavi_ref.errors import InputError
from selavi_ref.media.segments import segment_of
from selavi_ref.report.export import FinalLabels, csv_bytes, json_bytes, write_csv
from tests.support.listening import Listening
from tests.support.media_files import tone, write_video
from tests.support.refusal import refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 65 s, and one of 5 s."""
    root = tmp_path_factory.mktemp("videos")
    write_video(root / "long.mp4", n_frames=65 * 4, fps=4, sound=tone(65.0, 440), audio_codec="aac")
    write_video(root / "short.mp4", n_frames=20, fps=4, sound=tone(5.0, 440))
    return root


def bounds(manifest) -> list[tuple[str, float, float]]:
    segments = [segment_of(path) for path in manifest.paths]
    return [(Path(segment.file).name, segment.start, segment.end) for segment in segments]


def test_a_list_has_many_rows_of_a_video(folder: Path, tmp_path: Path) -> None:
    table = folder / "list.csv"
    table.write_text("path,start,end,class\nlong.mp4,10,20,a\nlong.mp4,0:30,40.5,b\nshort.mp4,,,c\nlong.mp4,60,,d\n")
    manifest = scan(table)
    inf = float("inf")
    expected = [("long.mp4", 10.0, 20.0), ("long.mp4", 30.0, 40.5), ("short.mp4", 0.0, inf), ("long.mp4", 60.0, inf)]
    assert bounds(manifest) == expected
    assert manifest.classes == list("abcd")
    seconds = [entry.info.video_seconds for entry in manifest.usable]
    assert seconds == pytest.approx([10.0, 10.5, 5.0, 5.0])
    write_manifest(manifest, tmp_path / "out.csv")
    assert read_manifest(tmp_path / "out.csv").entries == manifest.entries
    assert scan(tmp_path / "out.csv").entries == manifest.entries
    table.unlink()


def test_segments_that_cannot_be_used_have_a_reason(folder: Path) -> None:
    table = folder / "odd.csv"
    table.write_text("path,start,end\nlong.mp4,0,0.5\nlong.mp4,100,120\ngone.mp4,0,5\n")
    assert all(entry.skipped for entry in scan(table))
    assert scan(table, min_seconds=0.0).entries[0].skipped == ""
    table.unlink()


ROWS = [
    *(("x.mp4,5,5", "end"), ("x.mp4,a,5", "start"), ("x.mp4,1,-2", "end"), ("x.mp4,1,1:99:00", "end")),
    *(("x.mp4,nan,", "start"), ("x.mp4,1,inf", "end"), ("x.mp4,0:75,", "start"), ('"x.mp4#t=5,1",,', "end")),
    ('"x.mp4#t=5,",,', "end"),
]


@pytest.mark.parametrize(("row", "option"), ROWS)
def test_times_that_make_no_segment_are_refused(tmp_path: Path, row: str, option: str) -> None:
    (tmp_path / "x.mp4").touch()
    table = tmp_path / "list.csv"
    table.write_text(f"path,start,end\nx.mp4,0,1\n{row}\n")
    with pytest.raises(InputError) as caught:
        read_manifest(table)
    assert (caught.value.option, caught.value.row) == (option, 1)


LISTS = {
    "names.txt": "long.mp4#t=1,2\nshort.mp4\nlong.mp4#t=0:03,0:04.5\nlong.mp4#t=5\n",
    "names.csv": "path\nlong.mp4#t=1,2\nshort.mp4\nlong.mp4#t=3,4.5\nlong.mp4#t=5\n",
    "classes.csv": "path,class\nlong.mp4#t=1,2,dog\nshort.mp4,cat\nlong.mp4#t=3,4.5,dog\nlong.mp4#t=5,dog\n",
    "quoted.csv": 'class,path\ndog,"long.mp4#t=1,2"\ncat,short.mp4\ndog,long.mp4#t=3,4.5\ndog,long.mp4#t=5\n',
    "tabs.tsv": "path\tclass\nlong.mp4#t=1,2\tdog\nshort.mp4\tcat\nlong.mp4#t=3,4.5\tdog\nlong.mp4#t=5\tdog\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_names_of_segments_needs_no_quotes(folder: Path, name: str) -> None:
    table = folder / name
    table.write_text(LISTS[name])
    manifest = read_manifest(table)
    inf = float("inf")
    assert bounds(manifest) == [("long.mp4", 1, 2), ("short.mp4", 0, inf), ("long.mp4", 3, 4.5), ("long.mp4", 5, inf)]
    assert manifest.classes == (["dog", "cat", "dog", "dog"] if "class" in LISTS[name] else [""] * 4)
    table.write_text(LISTS[name].replace("3,4.5", "3,nan").replace("0:03,0:04.5", "3,-1"))
    with refused(option="end", row=2, path=table):
        read_manifest(table)
    table.unlink()


def test_a_header_with_times_and_no_path_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("name,start,end\nx.mp4,0,1\n")
    with pytest.raises(InputError) as caught:
        read_manifest(table)
    assert (Path(str(caught.value.path)), caught.value.option) == (table, "path")


def test_long_videos_are_cut_into_windows(folder: Path, tmp_path: Path) -> None:
    assert bounds(scan(folder)) == [("long.mp4", 0.0, float("inf")), ("short.mp4", 0.0, float("inf"))]
    heard = Listening()
    found = bounds(scan(folder, segments="auto", reporter=heard))
    assert len(heard.messages) == 1
    assert (heard.bars[0].done, heard.bars[0].total) == (2, 2)
    assert [start for name, start, _ in found if name == "long.mp4"] == [0, 10, 20, 30, 40, 50]
    assert found[-1] == ("short.mp4", 0.0, float("inf"))
    assert len(bounds(scan(folder, segments=2))) == 32 + 2
    out = tmp_path / "list.csv"
    first = scan_to(out, list_videos(folder), segments="30")
    assert len(first) == 3
    assert read_manifest(out).entries == first.entries
    assert scan_to(out, list_videos(folder), segments="30").entries == first.entries
    assert len(scan_to(out, list_videos(folder), segments="10")) == 7
    assert len(scan(out, segments=2)) == 6 + 2, "rows of segments are not cut again"


NO_LENGTHS = ["ten", "0", "-5", "0.5", "nan", "", "inf", "1:99:00", "1:60", "1_0", math.nan, None]


@pytest.mark.parametrize("text", NO_LENGTHS)
def test_segmentations_that_there_are_not(text: Any) -> None:
    with refused(option="segments", value=text):
        Segmentation.parse(text)


def test_the_length_of_windows_may_be_a_clock_time() -> None:
    assert Segmentation.parse("1:30") == Segmentation.parse(90.0) == Segmentation("windows", 90.0)


def test_parts_are_asked_for_by_clock_times(folder: Path) -> None:
    name = f"{folder / 'long.mp4'}#t=0:10,1:00"
    assert bounds(list_videos(name)) == [("long.mp4", 10.0, 60.0)]
    assert bounds(as_manifest([name])) == [("long.mp4", 10.0, 60.0)]
    for missing in (f"{folder}#t=1,2", f"{folder}/gone.mp4#t=1,2", f"{folder}/gone.mp4#t=2,1"):
        with refused(path=Path(missing)):
            list_videos(missing)
    for wrong in ("5,1", "5,", "1:99:00"):
        for listing in (list_videos, lambda name: as_manifest([name])):
            with refused(path=folder / "long.mp4"):
                listing(f"{folder / 'long.mp4'}#t={wrong}")


def test_a_segment_has_the_class_of_its_file() -> None:
    known = ["/v/a.mp4", "/v/b.mp4#t=0,5"]
    paths = ["/v/a.mp4#t=10,20", "/v/b.mp4#t=0,5", "/v/b.mp4#t=5,10", "/w/a.mp4#t=0,3"]
    assert match_paths(paths, known, "/v") == ["/v/a.mp4", "/v/b.mp4#t=0,5", None, None]


def test_a_table_of_labels_has_the_times_of_its_segments(tmp_path: Path) -> None:
    paths = ["/v/a.mp4#t=10,20.5", "/v/a.mp4#t=20.5", "/v/b.mp4"]
    label = np.array([1, 0, 1], np.int32)
    nothing = [""] * 3
    labels = FinalLabels(
        paths, label, nothing, label, np.ones(3, np.float32), label, nothing, nothing, nothing, nothing
    )
    write_csv(labels, tmp_path / "labels.csv")
    header, first, *_ = (tmp_path / "labels.csv").read_text().splitlines()
    assert header.startswith("path,start,end,label,")
    assert first.startswith("/v/a.mp4,10.000,20.500,1,")
    assert LabelTable.read(tmp_path / "labels.csv").columns["path"] == paths
    assert json.loads(json_bytes(labels))["videos"][1]["start"] == 20.5
    whole = dataclasses.replace(labels, paths=["/v/a.mp4", "/v/b.mp4", "/v/c.mp4"])
    assert csv_bytes(whole).startswith(b"path,label,")
