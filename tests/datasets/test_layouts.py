from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selavi_ref.datasets.layouts import LAYOUTS, SILENT_LAYOUTS, list_layout
from selavi_ref.datasets.manifest import Manifest
from selavi_ref.errors import InputError

HEADER = "label,youtube_id,time_start,time_end,split\n"
LISTS = {
    "vggsound": {"vggsound.csv": '--0PQM4-hqg,30,"female speech, woman speaking",train\na_b_c-d_e_f,0,airplane,test\n'},
    "kinetics": {"train.csv": HEADER + "abseiling,-3B32lodo2M,59,69,train\n"},
    "kinetics-sound": {"train.csv": HEADER + "singing,-3B32lodo2M,59,69,train\n"},
    "ave": {"trainSet.txt": "Church bell&RUhOCu3LNXM&good&0&10\n"},
    "ucf101": {
        "classInd.txt": "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n",
        "trainlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n",
        "testlist01.txt": "HandstandPushups/v_HandStandPushups_g01_c01.avi\n",
    },
    "hmdb51": {"brush_hair_test_split1.txt": "April_09_brush_0.avi 1 \n#20_brush_1.avi 2 \n(Rad)_brush!_2.avi 0 \n"},
}


def write(root: Path, texts: dict[str, str] | dict[str, bytes]) -> None:
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


def touch(root: Path, *names: str) -> None:
    write(root, dict.fromkeys(names, b""))


def rows(manifest: Manifest, root: Path) -> list[tuple[str, str, str]]:
    """Path, class and split of each video; the path in brackets where there is no file."""
    for entry in manifest:
        assert entry.skipped == ("" if os.path.exists(entry.path) else "not in the folder")
    names = [os.path.relpath(entry.path, root) for entry in manifest]
    return [
        (f"({name})" if entry.skipped else name, entry.class_name, entry.split)
        for name, entry in zip(names, manifest, strict=True)
    ]


def listed(root: Path, layout: str, **options: str | int) -> list[tuple[str, str, str]]:
    return rows(list_layout(root, layout, **options), root)  # type: ignore[arg-type]


def test_vggsound_is_found_under_each_name_that_its_files_have(tmp_path: Path) -> None:
    text = '---g-f_I2yQ,1,people marching,test\n--0PQM4-hqg,30,"female speech, woman speaking",train\n'
    text += 'a_b_c-d_e_f,0,"bee, wasp, etc. buzzing",train\n-3YWuPXHknk,123,car engine starting,train\n'
    write(tmp_path, {"vggsound.csv": text})
    touch(tmp_path, "x/---g-f_I2yQ_000001.mp4", "--0PQM4-hqg_30.webm", "a_b_c-d_e_f.mkv", "elsewhere_000003.mp4")
    assert listed(tmp_path, "vggsound") == [
        ("--0PQM4-hqg_30.webm", "female speech, woman speaking", "train"),
        ("a_b_c-d_e_f.mkv", "bee, wasp, etc. buzzing", "train"),
        ("(-3YWuPXHknk_000123.mp4)", "car engine starting", "train"),
        ("x/---g-f_I2yQ_000001.mp4", "people marching", "test"),
    ]
    touch(tmp_path, "a_b_c-d_e_f_000000.mp4")
    assert ("a_b_c-d_e_f_000000.mp4", "bee, wasp, etc. buzzing", "train") in listed(tmp_path, "vggsound")


def test_kinetics_lists_of_each_split_go_by_their_header(tmp_path: Path) -> None:
    train = HEADER.replace("\n", ",is_cc\n") + '"playing guitar",-3B32lodo2M,59,69,train,0\nabseiling,_x,0,10,train,1\n'
    write(tmp_path, {
        "annotations/kinetics-400_train.csv": train,
        "annotations/kinetics-400_val.csv": "split,time_end,time_start,youtube_id,label\nvalidate,14,4.0,Vv1,bowling\n",
        "annotations/kinetics-400_test.csv": "youtube_id,time_start,time_end\nTt1,1,11\n",
    })  # fmt: skip
    videos = tmp_path / "videos"
    touch(videos, "train/playing_guitar/-3B32lodo2M_000059_000069.mp4", "val/Vv1.mp4", "test/Tt1_000001_000011.mkv")
    assert listed(videos, "kinetics") == [
        ("train/playing_guitar/-3B32lodo2M_000059_000069.mp4", "playing guitar", "train"),
        ("(_x_000000_000010.mp4)", "abseiling", "train"),
        ("val/Vv1.mp4", "bowling", "val"),
        ("test/Tt1_000001_000011.mkv", "", "test"),
    ]
    assert listed(videos, "kinetics-sound") == [
        ("train/playing_guitar/-3B32lodo2M_000059_000069.mp4", "playing guitar", "train"),
        ("val/Vv1.mp4", "bowling", "val"),
    ]


@pytest.mark.parametrize(
    "name", ["train.csv", "kinetics400_train.csv", "kinetics_700_train.csv", "Kinetics-600_train.csv"]
)
def test_kinetics_lists_have_several_names_and_the_column_split_wins(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: HEADER + "Tap_Dancing,a,0,10,\nabseiling,b,0,10,validate\n"})
    assert [row[1:] for row in listed(tmp_path, "kinetics")] == [("Tap_Dancing", "train"), ("abseiling", "val")]
    assert [row[1:] for row in listed(tmp_path, "kinetics-sound")] == [("Tap_Dancing", "train")]


def test_kinetics_sound_has_32_classes(tmp_path: Path) -> None:
    classes = [
        *("blowing nose", "blowing out candles", "bowling", "chopping wood", "dribbling basketball", "laughing"),
        *("mowing lawn", "playing accordion", "playing bagpipes", "playing bass guitar", "playing clarinet"),
        *("playing drums", "playing guitar", "playing harmonica", "playing keyboard", "playing organ", "playing piano"),
        *("playing saxophone", "playing trombone", "playing trumpet", "playing violin", "playing xylophone"),
        *("ripping paper", "shoveling snow", "shuffling cards", "singing", "stomping grapes", "strumming guitar"),
        *("tap dancing", "tapping guitar", "tapping pen", "tickling"),
    ]
    others = ["abseiling", "playing cello", ""]
    lines = [f"{name},v{n},0,10,train\n" for n, name in enumerate(classes + others)]
    write(tmp_path, {"train.csv": HEADER + "".join(lines)})
    assert len(classes) == 32
    assert list_layout(tmp_path, "kinetics-sound").classes == classes


def test_two_clips_of_one_video_are_two_videos_unless_they_share_a_file(tmp_path: Path) -> None:
    write(tmp_path, {"val.csv": HEADER + "cutting apple,c9Z,64,74,val\npeeling apples,c9Z,14,24,val\n"})
    assert [name for name, _, _ in listed(tmp_path, "kinetics")] == [
        "(c9Z_000064_000074.mp4)",
        "(c9Z_000014_000024.mp4)",
    ]
    touch(tmp_path, "c9Z.mp4")
    assert listed(tmp_path, "kinetics") == [("c9Z.mp4", "cutting apple", "val")]


def test_ave_is_listed_by_its_sets_and_the_rest_by_its_annotations(tmp_path: Path) -> None:
    bell, speech, horn = "Church bell&Aa&good&0&10\n", "Male speech, man speaking&-b_&good&2&7\n", "Horn&Cc&good&0&10\n"
    header = "Category&VideoID&Quality&StartTime&EndTime\n"
    write(tmp_path, {
        "Annotations.txt": header + bell + speech + horn + "Truck&Dd&good&1&2",
        "trainSet.txt": bell,
        "valSet.txt": speech,
        "testSet.txt": horn + bell.replace("Church bell", "Clock"),
    })  # fmt: skip
    touch(tmp_path / "AVE", "Aa.mp4", "-b_.mp4")
    every = [
        ("Aa.mp4", "Church bell", "train"),
        ("-b_.mp4", "Male speech, man speaking", "val"),
        ("(Cc.mp4)", "Horn", "test"),
        ("(Dd.mp4)", "Truck", ""),
    ]
    assert listed(tmp_path / "AVE", "ave") == every
    for split in ("train", "val", "test"):
        assert listed(tmp_path / "AVE", "ave", split=split) == [row for row in every if row[2] == split]
    alone = listed(tmp_path / "AVE", "ave", annotations=str(tmp_path / "testSet.txt"))
    assert alone == [("(Cc.mp4)", "Horn", "test"), ("Aa.mp4", "Clock", "test")]


def test_ucf101_is_listed_by_fold_and_found_with_other_endings(tmp_path: Path) -> None:
    write(tmp_path / "ucfTrainTestlist", LISTS["ucf101"])
    second = {"trainlist02.txt": "handstandpushups/v_HandStandPushups_g08_c01.avi 2\r\n"}
    write(tmp_path / "ucfTrainTestlist", second)
    videos = tmp_path / "UCF-101"
    touch(videos, "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.mp4")
    assert listed(videos, "ucf101") == [
        ("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.mp4", "ApplyEyeMakeup", "train"),
        ("(HandstandPushups/v_HandStandPushups_g01_c01.avi)", "HandstandPushups", "test"),
    ]
    assert listed(videos, "ucf101", fold=2) == [
        ("(HandstandPushups/v_HandStandPushups_g08_c01.avi)", "HandstandPushups", "train")
    ]
    (tmp_path / "ucfTrainTestlist/classInd.txt").unlink()
    assert listed(videos, "ucf101", fold=2)[0][1] == "handstandpushups"


def test_hmdb51_is_listed_by_fold_without_what_is_unused(tmp_path: Path) -> None:
    write(tmp_path / "testTrainMulti_7030_splits", LISTS["hmdb51"])
    other = {"wave_test_split1.txt": "w.avi 1 \n", "wave_test_split2.txt": "w.avi 2 \n"}
    write(tmp_path / "testTrainMulti_7030_splits", other)
    touch(tmp_path, "brush_hair/April_09_brush_0.avi", "brush_hair/(Rad)_brush!_2.avi", "wave/w.avi")
    assert listed(tmp_path, "hmdb51") == [
        ("brush_hair/April_09_brush_0.avi", "brush_hair", "train"),
        ("wave/w.avi", "wave", "train"),
        ("(brush_hair/#20_brush_1.avi)", "brush_hair", "test"),
    ]
    assert listed(tmp_path, "hmdb51", fold=2) == [("wave/w.avi", "wave", "test")]


def test_of_several_files_the_one_in_the_folder_of_the_class_is_taken_else_the_first(tmp_path: Path) -> None:
    write(tmp_path, {"train.csv": HEADER + "tap dancing,a,0,10,train\nbowling,b,0,10,train\n"})
    touch(tmp_path, "abseiling/a.mp4", "Tap_Dancing/a.mp4", "zumba/b.mp4", "archery/b.mp4")
    assert [name for name, _, _ in listed(tmp_path, "kinetics")] == ["Tap_Dancing/a.mp4", "archery/b.mp4"]


def test_a_video_that_is_listed_twice_keeps_its_first_class(tmp_path: Path) -> None:
    write(tmp_path, {"vggsound.csv": "a,1,dog,train\na,1,cat,train\na,1,dog,train\na,1,cow,test\n"})
    assert listed(tmp_path, "vggsound") == [("(a_000001.mp4)", "dog", "train")]
    touch(tmp_path, "cat/a_000001.mp4", "dog/a_000001.mp4")
    assert listed(tmp_path, "vggsound") == [("dog/a_000001.mp4", "dog", "train")]


def test_window_line_ends_marks_blank_lines_a_header_and_odd_bytes_do_no_harm(tmp_path: Path) -> None:
    text = b'\xef\xbb\xbfyoutube_id,start_seconds,label,split\r\n\r\n a , 1 ,"caf\xe9, bar",train \r\n  \r\n'
    write(tmp_path, {"vggsound.csv": text})
    assert listed(tmp_path, "vggsound") == [("(a_000001.mp4)", os.fsdecode(b"caf\xe9, bar"), "train")]
    write(tmp_path, {"trainlist01.txt": b"\xef\xbb\xbfA/v_\xff.avi 1\r\n\r\n"})
    touch(tmp_path, os.fsdecode(b"A/v_\xff.mkv"))
    assert listed(tmp_path, "ucf101") == [(os.fsdecode(b"A/v_\xff.mkv"), "A", "train")]


@pytest.mark.parametrize(
    ("layout", "name", "text", "line"),
    [
        ("vggsound", "vggsound.csv", "a,1,dog,train\n\na,1,dog\n", 3),
        ("vggsound", "vggsound.csv", "a,1,dog,train\na,first,dog,train\n", 2),
        ("vggsound", "vggsound.csv", "a,1,dog,val\n", 1),
        ("vggsound", "vggsound.csv", 'a,1,"dog,train\nb,1,dog,train\n', 1),
        ("vggsound", "vggsound.csv", "../a,1,dog,train\n", 1),
        ("kinetics", "train.csv", "", 1),
        ("kinetics", "train.csv", "/data/abseiling/a.mp4 0\n", 1),
        ("kinetics", "train.csv", HEADER + "abseiling,a,0,10,train\nabseiling,a,0\n", 3),
        ("kinetics", "train.csv", HEADER + "abseiling,a,0,ten,train\n", 2),
        ("kinetics", "train.csv", HEADER + "abseiling,a,0,10,holdout\n", 2),
        ("kinetics", "train.csv", HEADER + "abseiling,,0,10,train\n", 2),
        ("ave", "trainSet.txt", "Church bell&Aa&good&0&10\nChurch bell&Aa&good\n", 2),
        ("ucf101", "trainlist01.txt", "v_ApplyEyeMakeup_g08_c01.avi 1\n", 1),
        ("ucf101", "trainlist01.txt", "ApplyEyeMakeup/v_a.avi 2\n", 1),
        ("ucf101", "testlist01.txt", "Archery/v_a.avi\n", 1),
        ("ucf101", "classInd.txt", "1 ApplyEyeMakeup\ntwo Archery\n", 2),
        ("hmdb51", "brush_hair_test_split1.txt", "a.avi 1 \nb.avi 3 \n", 2),
        ("hmdb51", "brush_hair_test_split1.txt", b"a\xff\x00.avi\n".decode("latin1"), 1),
    ],
)
def test_a_damaged_line_is_named_with_what_would_be_right(
    tmp_path: Path, layout: str, name: str, text: str, line: int
) -> None:
    write(tmp_path, LISTS[layout] | {name: text})
    with pytest.raises(InputError) as caught:
        list_layout(tmp_path, layout)
    assert (caught.value.path, caught.value.row) == (tmp_path / name, line - 1)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_annotations_are_named_with_the_places_and_the_option(tmp_path: Path, layout: str) -> None:
    videos = tmp_path / "videos"
    touch(videos, "a.mp4")
    for folder, named in {None: videos, tmp_path / "nowhere": tmp_path / "nowhere"}.items():
        with pytest.raises(InputError) as caught:
            list_layout(videos, layout, annotations=folder)
        assert (caught.value.option, caught.value.path) == ("annotations", named)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_annotations_are_found_beside_above_and_at_the_given_place(tmp_path: Path, layout: str) -> None:
    touch(tmp_path, "up/videos/a.mp4")
    found = []
    for place in ("elsewhere", "up/annotations", "up", "up/videos"):
        write(tmp_path / place, LISTS[layout])
        folder = tmp_path / "elsewhere" if place == "elsewhere" else None
        found.append(list_layout(tmp_path / "up/videos", layout, annotations=folder))
        if folder is None:
            for name in LISTS[layout]:
                (tmp_path / place / name).unlink()
    assert found[1:] == found[:1] * 3


def test_what_does_not_exist_is_an_input_error_that_lists_what_does(tmp_path: Path) -> None:
    assert tuple(LISTS) == LAYOUTS
    assert set(LAYOUTS) > SILENT_LAYOUTS
    for layout, lists in LISTS.items():
        write(tmp_path / layout, lists)
    cases = {
        ("imagenet", "layout"): {"videos": tmp_path},
        ("ucf101", "split"): {"split": "val"},
        ("hmdb51", "fold"): {"fold": 0},
        ("ave", "fold"): {"fold": 2},
        ("ave", "annotations"): {"split": "val"},
    }
    for (layout, option), arguments in cases.items():
        with pytest.raises(InputError) as caught:
            list_layout(**{"videos": tmp_path / layout, "layout": layout} | arguments)
        assert caught.value.option == option
    with pytest.raises(InputError) as caught:
        list_layout(tmp_path / "none", "ave")
    assert caught.value.path == tmp_path / "none"
    with pytest.raises(InputError) as caught:
        list_layout(tmp_path / "ucf101", "ucf101", annotations=tmp_path / "ucf101/trainlist01.txt", fold=2)
    assert caught.value.path == tmp_path / "ucf101/trainlist01.txt"


def test_lists_of_two_sizes_of_kinetics_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path, {"kinetics-400_val.csv": HEADER, "kinetics-600_val.csv": HEADER + "singing,a,0,10,val\n"})
    with pytest.raises(InputError) as caught:
        list_layout(tmp_path, "kinetics")
    assert (caught.value.option, caught.value.path) == ("annotations", tmp_path)
    assert len(list_layout(tmp_path, "kinetics", annotations=tmp_path / "kinetics-600_val.csv")) == 1


def test_a_list_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "vggsound.csv").mkdir()
    with pytest.raises(InputError) as caught:
        list_layout(tmp_path, "vggsound")
    assert caught.value.path == tmp_path / "vggsound.csv"


IDS = st.text("ab-_", min_size=1, max_size=3)
PLACES = st.sampled_from(["{}.mp4", "{}_000007.mp4", "dog/{}_7.avi", "cat/{}.webm", "x/y/{}_000007.mkv"])


@given(
    st.lists(st.tuples(IDS, st.sampled_from(["dog", "cat"]), st.sampled_from(["train", "test"])), min_size=1),
    st.lists(st.tuples(IDS, PLACES)),
)
def test_each_annotated_video_appears_once_whatever_files_exist(
    annotated: list[tuple[str, str, str]], files: list[tuple[str, str]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, {"vggsound.csv": "".join(f"{name},7,{label},{split}\n" for name, label, split in annotated)})
        touch(root, *(place.format(name) for name, place in files))
        found = list_layout(root, "vggsound")
        stems = [Path(path).stem.removesuffix("_000007").removesuffix("_7") for path in found.paths]
        assert sorted(stems) == sorted({name for name, _, _ in annotated})
        in_order = sorted(annotated, key=lambda row: row[2] == "test")
        first = {name: (label, split) for name, label, split in in_order[::-1]}
        assert {stem: (entry.class_name, entry.split) for stem, entry in zip(stems, found, strict=True)} == first
        assert {stem for stem, entry in zip(stems, found, strict=True) if not entry.skipped} == (
            {name for name, _ in files} & set(stems)
        )
        for split in {entry.split for entry in found}:
            assert list_layout(root, "vggsound", split=split).entries == [e for e in found if e.split == split]
