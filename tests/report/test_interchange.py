"""Labels for other programs: what each of them reads is there, and nothing is replaced unasked."""

import contextlib
import csv
import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from selavi_ref import Run
from selavi_ref.api.exporting import FORMS
from selavi_ref.browser.annotations import annotations_of
from selavi_ref.browser.collection import open_collection
from selavi_ref.browser.final_labels import final_labels
from selavi_ref.datasets.embeddings import read_embeddings
from selavi_ref.report.interchange.labelled_videos import LabelledVideos
from selavi_ref.report.interchange.training_sets import write_webdataset
from selavi_ref.runs.run import Run as RunFolder
from selavi_ref.store import FeatureStore
from tests.support.browser_run import make_run, make_videos
from tests.support.command_line import refused, rows_of, selavi, succeeded
from tests.support.refusal import refused as refused_call

NAME = "=weather <i>&amp;</i> \u0663"
FILES = {"label-studio": "tasks.json", "coco": "coco.json"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with a named cluster, a video marked as wrong, and a moved one."""
    folder = tmp_path_factory.mktemp("interchange")
    make_videos(folder / "videos")
    bell = next((folder / "videos" / "bell").iterdir())
    bell.rename(bell.with_name("train test 1.mp4"))  # words that some programs take for splits
    run = make_run(folder / "run", folder / "videos")
    labels = rows_of(run.labels_file)
    members = [row["path"] for row in labels if row["label"] == "2"]
    annotations = annotations_of(run)
    annotations.apply({"op": "rename", "cluster": 2, "name": NAME})
    annotations.apply({"op": "wrong", "videos": members[:1], "wrong": True})
    annotations.apply({"op": "move", "videos": members[1:2], "to": 0})
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    shutil.copytree(made / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def final():
    return final_labels(open_collection("run"))


def write(form, *options):
    out = FILES.get(form, form)
    succeeded(selavi("export", "run", "--to", form, out, *options))
    return Path(out)


def name_of(final, row):
    k = final.cluster[row]
    return (final.name[row] or f"cluster-{k:03d}") if k >= 0 else None


def usable(final):
    return [
        row
        for row, path in enumerate(final.paths)
        if final.cluster[row] >= 0 and final.mark[row] != "wrong" and Path(path).is_file()
    ]


def test_fiftyone(place, final):
    folder = write("fiftyone")
    about = json.loads((folder / "metadata.json").read_text())
    assert about["media_type"] == "video"
    assert "version" not in about  # by which FiftyOne tells this layout from that of its database
    samples = json.loads((folder / "samples.json").read_text())["samples"]
    assert [Path(sample["filepath"]).is_absolute() for sample in samples] == [True] * len(final.paths)
    for row, sample in enumerate(samples):
        assert json.loads((folder / sample["frames"]).read_text()) == {"frames": {}}
        assert (sample["label"] or {}).get("label") == name_of(final, row)
        assert sample["cluster"] == final.cluster[row]
        wanted = [final.mark[row]] if final.mark[row] else []
        assert sample["tags"] == (wanted if final.cluster[row] >= 0 else ["unlabelled"])
        assert (sample["ground_truth"] or {}).get("label", "") == final.classes[row]
    assert {sample["label"]["_cls"] for sample in samples if sample["label"]} == {"Classification"}


def test_label_studio(place, final):
    tasks = json.loads(write("label-studio").read_text())
    interface = ElementTree.parse("tasks.xml").getroot()
    choices = {choice.get("value") for choice in interface.iter("Choice")}
    (tag,) = interface.iter("Choices")
    for row, task in enumerate(tasks):
        prefix, _, path = task["data"]["video"].partition("?d=")
        assert prefix == "/data/local-files/"
        assert f"/{unquote(path, errors='surrogateescape')}" == final.paths[row]
        if (name := name_of(final, row)) is None:
            assert "predictions" not in task
            continue
        (prediction,) = task["predictions"]
        (result,) = prediction["result"]
        assert result["value"] == {"choices": [name]}
        assert (result["from_name"], result["to_name"], name in choices) == (tag.get("name"), tag.get("toName"), True)
        assert ("score" in prediction) == (final.mark[row] != "moved")


def test_cvat(place, final):
    folder = write("cvat")
    labels = json.loads((folder / "labels.json").read_text())
    assert {label["type"] for label in labels} == {"tag"}
    rows = rows_of(folder / "tasks.csv")
    kept = [row for row in range(len(final.paths)) if final.cluster[row] >= 0 and final.mark[row] != "wrong"]
    assert [row["path"] for row in rows] == [final.paths[row] for row in kept]
    for row, task in zip(kept, rows, strict=True):
        root = ElementTree.parse(folder / task["annotations"]).getroot()
        (image,) = root.iter("image")
        (tag,) = image.iter("tag")
        assert (image.get("id"), tag.get("label")) == ("0", name_of(final, row))
        assert tag.get("label") in [label["name"] for label in labels]


def test_coco(place, final):
    data = json.loads(write("coco").read_text())
    categories = {category["id"]: category["name"] for category in data["categories"]}
    videos = {video["id"]: video for video in data["videos"]}
    assert [video["file_name"] for video in data["videos"]] == list(final.paths)
    assert {"width", "height", "seconds", "fps", "length"} <= set(data["videos"][0])
    found = {videos[one["video_id"]]["file_name"]: categories[one["category_id"]] for one in data["annotations"]}
    kept = [row for row in range(len(final.paths)) if final.cluster[row] >= 0 and final.mark[row] != "wrong"]
    assert found == {final.paths[row]: name_of(final, row) for row in kept}


def test_pycocotools_reads_coco(place, final):
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = coco.COCO(write("coco"))
    folder = loaded.dataset["info"]["folder"]
    names = {one["id"]: one["name"] for one in loaded.loadCats(loaded.getCatIds())}
    found = {
        os.path.join(folder, loaded.imgs[one["image_id"]]["file_name"]): names[one["category_id"]]
        for one in loaded.loadAnns(loaded.getAnnIds())
    }
    kept = [row for row in range(len(final.paths)) if final.cluster[row] >= 0 and final.mark[row] != "wrong"]
    assert found == {final.paths[row]: name_of(final, row) for row in kept}


def test_fiftyone_reads_its_samples(place, final, monkeypatch):
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "1")
    importers = pytest.importorskip("fiftyone.utils.data.importers", reason="fiftyone is not installed")
    importer = importers.LegacyFiftyOneDatasetImporter(str(write("fiftyone")))  # the reader of this layout, no database
    importer.setup()
    samples = list(importer)
    assert [sample.filepath for sample in samples] == list(final.paths)
    assert [sample.label and sample.label.label for sample in samples] == [
        name_of(final, row) for row in range(len(final.paths))
    ]


def test_label_studio_accepts_its_tasks(place, final):
    sdk = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk is not installed")
    tasks = json.loads(write("label-studio").read_text())
    interface = sdk.LabelInterface(Path("tasks.xml").read_text())
    interface.validate()
    for task in tasks:
        assert interface.validate_task({"data": task["data"]})
        assert all(interface.validate_prediction(one) for one in task.get("predictions", []))


def test_datumaro_reads_coco_and_cvat(place, final):
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    for folder in ("coco/annotations", "coco/images/train", "task/images"):
        Path(folder).mkdir(parents=True)
    shutil.move(write("coco"), "coco/annotations/labels_train.json")
    row = next(row for row in usable(final) if "windmill" in final.paths[row])
    file = Path(final.paths[row])
    shutil.copy(write("cvat") / "annotations" / f"{file.name}.xml", "task")
    Image.new("RGB", (32, 32)).save("task/images/frame_000000", "PNG")  # the frame that is annotated
    for place_, form in (("coco", "coco_labels"), ("task", "cvat")):
        loaded = datumaro.Dataset.import_from(place_, form)
        names = [one.name for one in loaded.categories()[datumaro.AnnotationType.label]]
        item = next(item for item in loaded if item.id.endswith(file.stem) or form == "cvat")
        assert [names[one.label] for one in item.annotations] == [name_of(final, row)]


def test_webdataset_reads_its_shards(place, final):
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    shards = sorted(map(str, write("webdataset").glob("shard-*.tar")))
    loaded = list(webdataset.WebDataset(shards, shardshuffle=False).decode().to_tuple("mp4", "cls", "json"))
    names = json.loads(Path("webdataset/classes.json").read_text())
    for row, (content, cls, about) in zip(usable(final), loaded, strict=True):
        assert content == Path(final.paths[row]).read_bytes()
        assert names[cls] == name_of(final, row) == about["name"]


@pytest.mark.parametrize("copy", [False, True])
def test_video_folder(place, final, copy):
    folder = write("videofolder", *(["--copy"] if copy else []))
    rows = rows_of(folder / "metadata.csv")
    assert [(folder / row["file_name"]).read_bytes() for row in rows] == [
        Path(final.paths[row]).read_bytes() for row in usable(final)
    ]
    assert {(folder / row["file_name"]).is_symlink() for row in rows} == {not copy}
    assert [int(row["cluster"]) for row in rows] == [final.cluster[row] for row in usable(final)]
    assert {row["label"] for row in rows if row["cluster"] == "2"} == {f"'{NAME}"}  # no spreadsheet calculates it


@pytest.mark.parametrize("copy", [False, True])
def test_hugging_face_reads_the_video_folder(place, final, copy, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets.disable_progress_bars()
    folder = write("videofolder", *(["--copy"] if copy else []))
    loaded = datasets.load_dataset("videofolder", data_dir=str(folder), split="train", cache_dir=str(place / "cache"))
    assert {"video", "label", "cluster", "confidence", "path", "class"} == set(loaded.column_names)
    loaded = loaded.cast_column("video", datasets.Video(decode=False))
    wanted = {Path(final.paths[row]).read_bytes(): int(final.cluster[row]) for row in usable(final)}
    assert {Path(row["video"]["path"]).read_bytes(): row["cluster"] for row in loaded} == wanted
    assert len(loaded) == len(usable(final))


def test_webdataset(place, final):
    collection = open_collection("run")
    videos = LabelledVideos(final, collection.files, collection.info)
    assert write_webdataset(videos, "shards", shard_bytes=40_000) == len(usable(final))
    names = json.loads(Path("shards/classes.json").read_text())
    shards = sorted(Path("shards").glob("shard-*.tar"))
    assert len(shards) > 1
    samples = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, ending = member.name.partition(".")
                samples.setdefault(key, {})[ending] = tar.extractfile(member).read()
    assert len(samples) == len(usable(final))
    for row, sample in zip(usable(final), samples.values(), strict=True):
        assert sample["mp4"] == Path(final.paths[row]).read_bytes()
        assert names[int(sample["cls"])] == name_of(final, row) == json.loads(sample["json"])["name"]
    shutil.rmtree("shards")
    assert write("webdataset").is_dir()


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_features_are_read_back(place, final, ending):
    out = f"features.{ending}"
    succeeded(selavi("export", "run", "--embeddings", out))
    found = read_embeddings([out])
    with FeatureStore("run/features.h5") as store:
        for space in ("video", "audio"):
            wanted = store.features(space)
            there = np.isfinite(wanted).all(1)
            assert np.array_equal(np.asarray(found.spaces[space][:])[there], wanted[there])
    assert found.paths == [path.encode("utf-8", "replace").decode() for path in final.paths]
    assert found.classes == list(final.classes)
    refused(selavi("export", "run", "--embeddings", out), out)
    succeeded(selavi("export", "run", "--embeddings", out, "--force"))
    if ending == "npz":
        with np.load(out) as arrays:
            assert np.array_equal(arrays["label"], final.cluster)
            assert set(arrays) == {"video", "audio", "paths", "label", "name", "confidence", "classes"}


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_replaced_unasked(place, form):
    out = write(form)
    before = {path: path.read_bytes() for path in (out.rglob("*") if out.is_dir() else [out]) if path.is_file()}
    refused(selavi("export", "run", "--to", form, out), str(out))
    assert {path: path.read_bytes() for path in before} == before
    write(form, "--force")
    if out.is_dir():
        foreign = place / "mine"
        foreign.mkdir()
        (foreign / "thesis.txt").write_text("all of it")
        refused(selavi("export", "run", "--to", form, foreign, "--force"), "mine")
        assert (foreign / "thesis.txt").read_text() == "all of it"
    assert not list(place.glob(".*partial"))


def test_tables_of_others_are_not_replaced(place):
    for ending in ("csv", "json", "parquet"):
        out = place / f"mine.{ending}"
        out.write_text("path,label\nmine,1\n")
        refused(selavi("export", "run", "--out", out), "--force")
        assert out.read_text() == "path,label\nmine,1\n"
        succeeded(selavi("export", "run", "--out", out, "--force"))
        succeeded(selavi("export", "run", "--out", out))  # one of its own by now


def test_bad_options_are_refused(place):
    refused(selavi("export", "run", "--to", "coco", "coco.txt"), "coco.txt")
    refused(selavi("export", "run", "--to", "coco", "run/annotations.json"), "run/annotations.json")
    refused(selavi("export", "run", "--copy", "--out", "l.csv"), "--copy")
    refused(selavi("export", "run", "--embeddings", "features.txt"), "features.txt")
    refused(selavi("export", "run/labels.csv", "--to", "webdataset", "s", "--videos", "run"), "--videos")
    (place / "labels.csv").write_bytes((place / "run" / "labels.csv").read_bytes())
    refused(selavi("export", "labels.csv", "--embeddings", "features.npz"), "selavi extract")
    assert not (place / "s").exists()


def test_from_python(place, final):
    run = Run.open("run")
    assert run.export("coco", "c.json") == sum(
        k >= 0 and mark != "wrong" for k, mark in zip(final.cluster, final.mark, strict=True)
    )
    with refused_call(option="form", value="voc"):
        run.export("voc", "c.xml")
    assert RunFolder("run").annotations_file.exists()
    with open("run/labels.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(run)
