"""What the browser shows of a run, a store and a table of labels."""

from __future__ import annotations

import base64
import json
import os

import numpy as np
import pytest

from selavi_ref.browser.collection import open_collection, video_file
from selavi_ref.browser.final_labels import final_labels
from selavi_ref.browser.payloads import (
    annotations_payload,
    collection_payload,
    details_of,
    encoded,
    labelling_payload,
    map_payload,
)
from selavi_ref.browser.posterior_index import PosteriorIndex, top
from selavi_ref.ensemble.labels import label_store
from selavi_ref.errors import InputError
from selavi_ref.store import FeatureStore, StoreWriter
from tests.support.browser_run import HEADS, ODD, ODD_CLASS, K, make_run, make_videos, write_store
from tests.support.refusal import refused


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    make_videos(folder / "videos")
    make_run(folder / "run", folder / "videos")
    return folder


def test_every_labelling_is_that_of_selavi_label(place):
    found = open_collection(place / "run")
    with FeatureStore(place / "run" / "features.h5") as store:
        for name in ("consensus", "0", "1"):
            wanted, shown = label_store(store, head=name), found.labelling(name)
            assert np.array_equal(shown.label, wanted.label)
            assert np.array_equal(shown.confidence, wanted.confidence)
            posteriors = found.posterior_index.posteriors(slice(None))[name]
            labelled = wanted.label >= 0
            assert np.array_equal(posteriors.argmax(1)[labelled], wanted.label[labelled])
            assert np.allclose(posteriors.max(1)[labelled], wanted.confidence[labelled], atol=1e-6)
            part = found.posterior_index.posteriors(slice(3, 5))[name]
            assert np.allclose(part, posteriors[3:5], atol=1e-7)
    assert list(found.labels.titles) == ["consensus", "0", "1"]
    with refused(option="labelling", value="7"):
        found.labelling("7")


def test_a_labelling_is_kept_until_the_store_changes(tmp_path):
    for seed in (0, 1):
        write_store(tmp_path / "s.h5", [f"{i}.mp4" for i in range(30)], [str(i % 4) for i in range(30)], seed=seed)
        found = open_collection(tmp_path / "s.h5")
        with FeatureStore(tmp_path / "s.h5") as store:
            wanted = label_store(store, head="1")
        for _ in range(2):
            shown = found.labels.make("1")
            assert np.array_equal(shown.confidence, wanted.confidence)
            assert np.array_equal(shown.heads, wanted.heads)
    kept = next((tmp_path / "s.browser").glob("*.npz"))
    for damage in (b"", kept.read_bytes()[:100]):
        kept.write_bytes(damage)
        assert np.array_equal(found.labels.make("1").label, wanted.label)


def test_a_store_that_is_replaced_while_it_is_shown_leaves_nothing_of_the_old_one(tmp_path):
    paths, classes = [f"{i}.mp4" for i in range(40)], [str(i % 4) for i in range(40)]
    write_store(tmp_path / "s.h5", paths, classes)
    shown = open_collection(tmp_path / "s.h5")
    os.rename(tmp_path / "s.h5", tmp_path / "old.h5")
    write_store(tmp_path / "s.h5", paths, classes, seed=1)
    shown.labels.make("1")
    with FeatureStore(tmp_path / "s.h5") as store:
        wanted = label_store(store, head="1")
    assert np.array_equal(open_collection(tmp_path / "s.h5").labels.make("1").confidence, wanted.confidence)


def test_without_its_store_a_run_shows_no_heads_whose_numbers_would_be_others(place, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.toml", "labels.csv", "videos.csv"):
        (run / name).write_bytes((place / "run" / name).read_bytes())
    found = open_collection(run)
    assert list(found.labels.titles) == ["consensus"]
    assert found.annotations.clusters == dict.fromkeys(["consensus", "0", "1"], K)
    with_store = open_collection(place / "run").labelling("consensus")
    assert np.array_equal(found.labelling("consensus").label, with_store.label)


def test_heads_on_features_have_the_neighbours_of_the_store_they_learnt_from(tmp_path):
    N = 40
    paths, classes = [f"{i}.mp4" for i in range(N)], [str(i % 4) for i in range(N)]
    write_store(tmp_path / "features.h5", paths, classes)
    with (
        FeatureStore(tmp_path / "features.h5") as store,
        StoreWriter(
            tmp_path / "heads.h5",
            paths,
            {f"log_prob/{m}/0": K for m in ("video", "audio")},
            provenance={"store": str(tmp_path / "features.h5")},
        ) as writer,
    ):
        values = {f"log_prob/{m}/0": store.log_prob(m, "0") for m in ("video", "audio")}
        writer.write(slice(None), values, present=dict.fromkeys(("video", "audio"), np.ones(N, bool)))
        writer.finish()
    shown, source = open_collection(tmp_path / "heads.h5"), open_collection(tmp_path / "features.h5")
    assert shown.posterior_index.neighbours(3, 5) == source.posterior_index.neighbours(3, 5)
    assert np.array_equal(shown.labelling("0").order, source.labelling("0").order)


def test_a_table_that_lists_a_path_twice_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\na.mp4,0\nb.mp4,1\na.mp4,1\n")
    with pytest.raises(InputError) as caught:
        open_collection(tmp_path / "labels.csv")
    assert (caught.value.row, caught.value.value) == (2, "a.mp4")


def test_a_path_that_is_there_twice_is_edited_in_both_places(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\na.mp4,0\nb.mp4,1\n")
    history = open_collection(tmp_path / "labels.csv").annotations.read()
    history.apply({"op": "move", "videos": ["a.mp4"], "to": 0})
    history.apply({"op": "wrong", "videos": ["a.mp4"], "wrong": True})
    data = annotations_payload(history, {"a.mp4": [0, 2], "b.mp4": [1]})["labellings"]["consensus"]
    assert data["moved"] == {"0": 0, "2": 0}
    assert data["wrong"] == [0, 2]


def test_the_most_typical_come_first_and_the_unlabelled_not_at_all(place):
    shown = open_collection(place / "run").labelling("consensus")
    assert sorted(shown.order) == np.flatnonzero(shown.label >= 0).tolist()
    sure = np.round(shown.confidence[shown.order].astype(float), 3)
    assert (np.diff(sure) <= 0).all()


def test_neighbours_are_the_nearest_by_plain_distance(place):
    found = open_collection(place / "run")
    everyone = found.posterior_index.all_neighbours(5)
    with FeatureStore(place / "run" / "features.h5") as store:
        for modality in ("video", "audio"):
            values, there = store.features(modality).astype(float), store.present(modality)
            for row in range(len(found)):
                near = found.posterior_index.neighbours(row, 5)
                if not there[row]:
                    assert modality not in near
                    assert modality not in everyone[row]
                    continue
                distances = np.linalg.norm(values - values[row], axis=1)
                wanted = [o for o in np.argsort(distances, kind="stable") if o != row and there[o]][:5]
                assert [o for o, _ in near[modality]] == wanted
                assert [o for o, _ in everyone[row][modality]] == wanted
                assert np.allclose([d for _, d in near[modality]], distances[wanted], rtol=1e-5)


def test_neighbours_of_one_video_alone_and_of_twins(tmp_path):
    write_store(tmp_path / "one.h5", ["a.mp4"], [""])
    with FeatureStore(tmp_path / "one.h5") as store:
        assert PosteriorIndex(store, store).neighbours(0, 5) == {"video": [], "audio": []}
        assert PosteriorIndex(store, store).all_neighbours(5) == [{}]


def test_a_payload_is_plain_json_of_all_videos(place):
    found = open_collection(place / "run")
    data = json.loads(encoded(collection_payload(found)))
    N = len(found)
    assert len(data["videos"]["path"]) == len(data["videos"]["class"]) == len(data["videos"]["modalities"]) == N
    assert {name for path in data["videos"]["path"] for name in ODD if path.endswith(name)} == set(ODD)
    assert ODD_CLASS.replace("/", "\u2215") in data["classes"]
    assert data["videos"]["reason"] == {str(N - 2): "the file is missing"}
    assert data["videos"]["modalities"][N - 2] == data["modalities"].index("")
    assert data["labellings"][0] == {"name": "consensus", "title": f"consensus of {HEADS} heads", "clusters": K}
    labels = json.loads(encoded(labelling_payload(found, "consensus")))
    assert labels["label"][N - 2] == -1
    assert len(labels["entropy"]) == N
    assert min(labels["entropy"]) >= 0
    details = json.loads(encoded(details_of(found, 0, preview=False)))
    assert [head["name"] for head in details["heads"]] == ["0", "1"]
    assert details["posterior"]["consensus"][0][0] == labels["label"][0]
    assert details["file"]["exists"]
    assert details["file"]["width"] == 32
    assert not json.loads(encoded(details_of(found, N - 2, preview=False)))["file"]["exists"]
    assert not json.loads(encoded(details_of(found, N - 1, preview=False)))["file"]["exists"]


def test_what_is_nearly_certain_is_not_told_as_certain(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label,confidence\na,0,0.99999\nb,0,1\nc,0,0.99994\n")
    data = labelling_payload(open_collection(tmp_path / "labels.csv"), "consensus")
    assert data["confidence"] == [0.9999, 1.0, 0.9999]


def test_annotations_are_told_by_the_numbers_of_videos(place, tmp_path):
    found = open_collection(place / "run" / "labels.csv")
    assert found.annotations.file == place / "run" / "annotations.json"
    history = found.annotations.read()
    history.apply({"op": "move", "videos": [found.paths[3], "unknown.mp4"], "to": "new", "name": "new ones"})
    history.apply({"op": "wrong", "labelling": "1", "videos": [found.paths[2]], "wrong": True})
    data = annotations_payload(history, found.rows)
    assert data["labellings"]["consensus"] == {
        "names": {str(K): "new ones"},
        "merged": {},
        "moved": {"3": K},
        "wrong": [],
        "created": [K],
    }
    assert data["labellings"]["1"]["wrong"] == [2]
    assert data["undo"] == "mark a video as wrong"


def test_a_table_of_labels_is_shown_without_a_store(tmp_path):
    table = tmp_path / "new.csv"
    table.write_text(
        "path,label,name,confidence,runner_up,reason,head_0,head_1,class\n"
        "a/1.mp4,0,dogs,0.5,1,,0,1,x\na/2.mp4,0,dogs,0.9,1,,0,0,y\nb/3.mp4,,,,,broken,,,\nb/4.mp4,2,,1,,,2,2,x\n"
    )
    found = open_collection(table)
    assert found.labelling("consensus").order.tolist() == [3, 1, 0]
    assert found.labelling("consensus").label.tolist() == [0, 0, -1, 2]
    assert found.labelling("1").label.tolist() == [1, 0, -1, 2]
    assert found.classes == ["x", "y", "", "x"]
    assert found.reasons[2] == "broken"
    assert found.annotations.read().edits_of("consensus").names == {0: "dogs"}
    assert found.annotations.file == tmp_path / "new.annotations.json"
    data = collection_payload(found)
    assert not data["details"]
    assert not data["map"]
    assert labelling_payload(found, "consensus")["entropy"] is None
    assert labelling_payload(found, "consensus")["confidence"] == [0.5, 0.9, None, 1.0]
    assert labelling_payload(found, "1")["confidence"] == [None] * 4
    assert details_of(found, 0, preview=False)["heads"] == []


@pytest.mark.parametrize(
    ("text", "row", "option"),
    [
        ("path,label\na,x\n", 0, "label"),
        ("path,label\na,-4\n", 0, "label"),
        ("path,label,confidence\na,1,high\n", 0, "confidence"),
        ("path,label\na,\n", None, None),
        ("path,number\na,1\n", None, "label"),
    ],
)
def test_a_table_that_does_not_fit_is_named(tmp_path, text, row, option):
    table = tmp_path / "labels.csv"
    table.write_text(text)
    with refused(path=table, row=row, option=option):
        open_collection(table)


def test_what_holds_no_labels_is_refused(tmp_path, place):
    with refused(path=tmp_path / "nothing"):
        open_collection(tmp_path / "nothing")
    with refused(path=tmp_path):
        open_collection(tmp_path)
    (tmp_path / "config.toml").write_text("clusters = 3\nheads = 1\n")
    with refused(path=tmp_path):
        open_collection(tmp_path)
    (tmp_path / "truth.csv").write_text("path,class\nother.mp4,x\n")
    with refused(path=tmp_path / "truth.csv", option="--truth"):
        open_collection(place / "run", truth=tmp_path / "truth.csv")
    with refused(path=tmp_path / "nowhere", option="--videos"):
        open_collection(place / "run", videos=tmp_path / "nowhere")


def test_videos_that_have_moved_are_found_in_their_new_folder(place, tmp_path):
    (tmp_path / "b").mkdir(parents=True)
    (tmp_path / "labels.csv").write_text("path,label\n/old/place/a/1.mp4,0\n/old/place/b/2.mp4,1\n")
    found = open_collection(tmp_path / "labels.csv", videos=tmp_path)
    assert found.files == [str(tmp_path / "a" / "1.mp4"), str(tmp_path / "b" / "2.mp4")]


def test_a_list_with_relative_paths_is_read_from_its_folder_or_from_here(tmp_path, monkeypatch):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "1.mp4").write_bytes(b"")
    (tmp_path / "labels.csv").write_text("path,label\ngone.mp4,0\nvideos/1.mp4,0\n")
    for here in (tmp_path, tmp_path / "videos"):
        monkeypatch.chdir(here)
        found = open_collection(tmp_path / "labels.csv")
        assert found.files == [str(tmp_path / "gone.mp4"), str(tmp_path / "videos" / "1.mp4")]
        assert final_labels(found).paths == (found.files if found.relative_to_source else found.paths)


def test_only_files_with_the_ending_of_a_video_are_served(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "folder.mp4").mkdir()
    assert video_file(str(tmp_path / "a.mp4"))
    (tmp_path / "link.mp4").symlink_to("/etc/passwd")
    for path in (
        str(tmp_path / "link.mp4"),
        "/etc/passwd",
        str(tmp_path / "folder.mp4"),
        str(tmp_path / "gone.mp4"),
        "a\0.mp4",
        "/dev/zero",
    ):
        assert video_file(path) is None


def test_a_map_keeps_shape_and_says_who_is_not_on_it():
    data = map_payload([[0.0, 0.0], [2.0, 1.0], [np.nan, np.nan]], "words")
    x, y = (np.frombuffer(base64.b64decode(data[axis]), "<u2") for axis in "xy")
    assert x.tolist() == [0, 65534, 65535]
    assert y.tolist() == [16384, 49150, 65535]
    assert map_payload(np.full((2, 2), 3.0), "one place")["x"]
    assert map_payload(np.full((1, 2), np.nan), "no place")["x"]


def test_the_largest_shares_are_shown_and_no_zeros():
    assert top(np.array([0.1, 0.7, 0.0, 0.2, 0.00001], np.float32), 3) == [(1, 0.7), (3, 0.2), (0, 0.1)]
    assert top(np.array([1.0, 0.0], np.float32), 3) == [(0, 1.0)]
