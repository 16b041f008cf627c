"""The main job from Python: runs on videos and runs of heads on features, opened, read, applied and checked."""

import shutil
import sys

import numpy as np
import pytest

import selavi_ref
from selavi_ref import FeatureStore, Run, label_videos, train_heads
from selavi_ref.browser.annotations import annotations_of
from selavi_ref.errors import InputError, SelaviError
from selavi_ref.heads import any_run
from selavi_ref.heads.crossfit_run import start_crossfit
from selavi_ref.heads.training_run import start_heads
from selavi_ref.metrics import normalized_mutual_info_score
from selavi_ref.runs.run import Run as RunFolder
from tests.support.command_line import rows_of, selavi, succeeded
from tests.support.gaussian_features import gaussians
from tests.support.listening import Listening
from tests.support.refusal import refused
from tests.support.small_runs import small_place


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with small_place(tmp_path_factory.mktemp("api")) as folder:
        yield folder


@pytest.fixture(scope="module")
def run(place):
    return Run.open(place / "run")


@pytest.fixture
def named(place, tmp_path):
    """A copy of the run, in which a person has named one cluster, merged two and moved a video."""
    folder = tmp_path / "named"
    shutil.copytree(place / "run", folder)
    annotations = annotations_of(RunFolder(folder))
    annotations.apply({"op": "rename", "labelling": "consensus", "cluster": 0, "name": "cats"})
    annotations.apply({"op": "merge", "labelling": "consensus", "clusters": [2], "into": 1})
    moved = Run.open(place / "run").paths[0]
    annotations.apply({"op": "move", "labelling": "consensus", "videos": [moved], "to": 3})
    return folder


@pytest.fixture(scope="module", params=["cross-fitted", "of 0.1.0"])
def heads(tmp_path_factory, request):
    """A run of heads on features of 240 videos of three kinds."""
    folder = tmp_path_factory.mktemp("heads")
    spaces, truth = gaussians(0)
    spaces = dict(zip(("video", "audio"), spaces.values(), strict=True))
    classes = [f"kind {k}" for k in truth]
    paths = [f"{row}.mp4" for row in range(len(truth))]
    FeatureStore.from_arrays(folder / "features.h5", spaces, paths=paths, classes=classes).close()
    if request.param == "cross-fitted":
        started = start_crossfit(folder / "features.h5", folder / "run", 3)
    else:
        started = start_heads(folder / "features.h5", folder / "run", 3, epochs=10, heads=2, overclustering_heads=0)
    any_run.train(started)
    any_run.apply(started, folder / "features.h5", started.features_file)
    return Run.open(folder / "run"), spaces, truth


def test_a_folder_is_labelled_quietly_as_by_the_command(place, tmp_path, capfd):
    heard = Listening()
    run = label_videos(
        place / "videos", 4, tmp_path / "run", workers=0, reporter=heard, config=place / "quick.toml", epochs=2
    )
    assert capfd.readouterr() == ("", "")
    assert heard.actions[0] == "scanning"
    assert "extracting" in heard.actions
    assert run.contact_sheet.exists()
    options = ["--clusters", "4", "--config", place / "quick.toml", "--epochs", "2", "--workers", "0"]
    succeeded(selavi("train", place / "videos", *options, "--out", tmp_path / "same"))
    assert (tmp_path / "same" / "labels.csv").read_bytes() == (tmp_path / "run" / "labels.csv").read_bytes()


def test_labels_are_those_of_the_table(run):
    rows = rows_of(run.folder / "labels.csv")
    assert run.paths == [row["path"] for row in rows]
    assert run.labels.dtype == np.int32
    assert run.labels.tolist() == [int(row["label"]) for row in rows]
    assert run.confidence == pytest.approx([float(row["confidence"]) for row in rows], abs=1e-4)
    assert len(run) == 32
    assert run.names == {}


def test_names_merged_clusters_and_moved_videos_are_followed(named, run):
    edited = Run.open(named)
    assert edited.names == {0: "cats"}
    assert edited.labels[0] == 3
    expected = np.where(run.labels == 2, 1, run.labels)
    assert edited.labels[1:].tolist() == expected[1:].tolist()
    # Clips that are decoded on demand begin elsewhere than those of the run: labels of uncertain videos may differ.
    before, predicted = (each.predict(run.paths, workers=0) for each in (run, edited))
    assert predicted.names == {0: "cats"}
    assert predicted.labels.tolist() == np.where(before.labels == 2, 1, before.labels).tolist()
    annotations_of(RunFolder(named)).apply({"op": "rename", "labelling": "consensus", "cluster": 1, "name": "dogs"})
    assert edited.names[1] == "dogs"
    assert set(edited.to_pandas()["name"]) <= {"", "cats", "dogs"}


def test_new_videos_are_predicted_as_by_the_command(run, place, tmp_path):
    predicted = run.predict(place / "new", workers=0)
    succeeded(selavi("label", place / "run", place / "new", "--workers", "0", "--out", tmp_path / "labels.csv"))
    rows = rows_of(tmp_path / "labels.csv")
    assert predicted.paths == [row["path"] for row in rows]
    assert predicted.labels.tolist() == [int(row["label"]) for row in rows]
    assert predicted.confidence == pytest.approx([float(row["confidence"]) for row in rows], abs=1e-4)
    frame = predicted.to_pandas()
    assert frame["label"].tolist() == predicted.labels.tolist()
    assert len(predicted) == 16


def test_features_are_those_of_the_store(run):
    with FeatureStore(run.folder / "features.h5") as store:
        assert np.array_equal(run.features("audio"), store.features("audio"))
        assert run.features("video").shape == (32, store.width("features/video"))


def test_a_check_is_that_of_the_command(run, tmp_path):
    report = run.check(clips=1, files=False, out=tmp_path / "here")
    succeeded(selavi("check", run.folder, "--clips", "1", "--no-files", "--out", tmp_path / "there"))
    for name in ("check.csv", "videos.csv"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    assert report.verdict.severity in ("ok", "look", "warning")
    with_other = run.check(clips=1, files=False, out=tmp_path / "other", other=run)
    assert next(one for one in with_other.findings if one.name == "stability").severity == "ok"


def test_labels_are_evaluated_by_folders_a_file_or_a_list(run, tmp_path):
    classes = [path.split("/")[-2] for path in run.paths]
    (tmp_path / "truth.csv").write_text(
        "path,class\n" + "".join(f"{path},{true}\n" for path, true in zip(run.paths, classes, strict=True))
    )
    scores = run.evaluate()
    assert scores["videos"] == 32
    assert scores == run.evaluate(classes) == run.evaluate(tmp_path / "truth.csv")
    with pytest.raises(InputError) as error:
        run.evaluate(classes[1:])
    assert error.value.option == "truth"


def test_heads_on_features_need_no_videos(heads):
    run, spaces, truth = heads
    assert run.evaluate()["nmi"] > 0.5
    assert np.array_equal(run.features("audio"), spaces["audio"])
    # Videos of the training are labelled by heads that were fitted on others, arrays by all heads.
    assert np.mean(run.predict(spaces).labels == run.labels) > 0.95
    assert run.predict(run.folder.parent / "features.h5").labels.tolist() == run.labels.tolist()
    assert run.evaluate([str(k) for k in truth])["nmi"] == run.evaluate()["nmi"]
    assert run.check(files=False).findings
    with pytest.raises(InputError):
        run.predict(["a.mp4"])


def test_numbers_of_clusters_of_numpy_are_numbers(place, tmp_path):
    with pytest.raises(InputError) as error:
        label_videos(place / "videos", np.int64(500), tmp_path / "run")
    assert error.value.option != "n_clusters"  # but that there are fewer videos


def test_a_run_is_continued_only_on_request(place, tmp_path):
    with pytest.raises(InputError) as error:
        label_videos(place / "videos", 4, place / "run")
    assert error.value.path == place / "run"
    heard = Listening()
    run = label_videos(place / "videos", 4, place / "run", resume=True, reporter=heard)
    assert len(heard.messages) == 1
    assert len(run) == 32


@pytest.mark.parametrize("n_clusters", [0, 1, True, "many", 2.5])
def test_other_numbers_of_clusters_are_refused(n_clusters, tmp_path):
    with pytest.raises(InputError) as error:
        label_videos(tmp_path, n_clusters, tmp_path / "run")
    assert error.value.option == "n_clusters"


def test_unknown_settings_are_refused_before_anything_is_written(place, tmp_path):
    with pytest.raises(InputError) as error:
        label_videos(place / "videos", 4, tmp_path / "run", epoch=3)
    assert error.value.option == "epoch"
    assert not (tmp_path / "run").exists()


def test_arrays_do_not_fit_a_run_on_videos(run):
    with pytest.raises(InputError):
        run.predict({"video": np.zeros((2, 3))})
    with pytest.raises(InputError):
        run.predict([])


def test_missing_packages_are_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with refused(SelaviError):
        run.to_pandas()


def test_names_of_the_package_are_complete():
    for name in selavi_ref.__all__:
        assert getattr(selavi_ref, name) is not None


def test_heads_are_trained_on_arrays(tmp_path):
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1, 2], 40)
    spaces = {name: (5 * np.eye(3, 6)[kinds] + rng.normal(size=(120, 6))).astype(np.float32) for name in ("a", "b")}
    run = train_heads(spaces, 3, tmp_path / "run", paths=[f"{row}.mp4" for row in range(120)])
    assert run.paths[7] == "7.mp4"
    assert normalized_mutual_info_score(kinds, run.labels) == pytest.approx(1)
    assert (run.folder / "labels.csv").exists()
    assert (run.predict({name: x[:5] for name, x in spaces.items()}).labels == run.labels[:5]).all()
    # The same as on the command line, from a store; and from where it is, if it is asked for again.
    succeeded(selavi("train-heads", run.folder / "input.h5", "--clusters", "3", "--out", "other", cwd=tmp_path))
    assert (Run.open(tmp_path / "other").labels == run.labels).all()
    assert (train_heads(spaces, 3, tmp_path / "run", resume=True).labels == run.labels).all()
    for wrong in ({"n_clusters": 1}, {"n_clusters": "many"}, {"use": ["c"]}, {"paths": ["x"]}):
        options = {"n_clusters": 3, "out": tmp_path / "new"} | wrong
        with refused():
            train_heads(spaces, **options)
        assert not [path for path in (tmp_path / "new").glob("*") if path.suffix in (".toml", ".h5")]
    with refused():
        train_heads(spaces, 3, tmp_path / "run")
    with refused(option="features"):
        train_heads(spaces["a"], 3, tmp_path / "new")
