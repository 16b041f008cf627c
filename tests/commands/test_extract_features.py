import numpy as np
import pytest

from selavi_ref.datasets.synthetic import make_collection
from selavi_ref.store import FeatureStore
from tests.support.command_line import refused, rows_of, selavi, start_process, succeeded


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    make_collection(folder / "videos", 24, seconds=1.0, workers=1)
    rng = np.random.default_rng(0)
    np.save(folder / "a.npy", rng.normal(size=(3, 4)))
    np.savez(folder / "b.npz", rng.normal(size=(3, 5)))
    (folder / "list.csv").write_text("path,class\nx.mp4,p\ny.mp4,q\nz.mp4,p\n")
    return folder


def test_embeddings_become_a_store(place):
    succeeded(selavi("extract", "--embeddings", "a.npy", "sound=b.npz", "list.csv", "--out", "e.h5", cwd=place))
    with FeatureStore(place / "e.h5") as store:
        assert store.names == ["features/a", "features/sound"]
        assert store.classes == ["p", "q", "p"]
        assert store.provenance == {"embeddings": ["a.npy", "sound=b.npz", "list.csv"]}


def test_embeddings_need_no_torch(place):
    code = "import cli, sys\ntry: cli.main()\nfinally: assert 'torch' not in sys.modules"
    process = start_process("extract", "--embeddings", "a.npy", "list.csv", "--out", "e2.h5", cwd=place, code=f"{code}")
    assert process.wait(120) == 0, process.stderr.read()


def test_encoders_write_a_store(place):
    succeeded(selavi("extract", "videos", "--encoder", "logmel", "--encoder", "two=logmel", "--out", "m.h5", cwd=place))
    with FeatureStore(place / "m.h5") as store:
        assert store.modalities == ["logmel", "two"]
        assert store.n_videos == 24
        assert len(set(store.classes)) == 8
        assert store.provenance["clips"] == 3
        assert store.present("logmel").all()


def test_arguments_that_do_not_fit_are_refused(place):
    def refuse(*arguments):
        return refused(selavi("extract", *arguments, "--out", "n.h5", cwd=place))

    assert "--encoder" in refuse("videos", "--encoder", "logmel", "--crops", "2")
    assert "--embeddings" in refuse("a.npy", "list.csv", "--embeddings", "--clips", "2")
    assert "VIDEOS" in refuse("videos")
    assert "VIDEOS" in refuse("run", "videos", "--encoder", "logmel")
    assert "resnet" in refuse("videos", "--encoder", "resnet")
    assert "list" in refuse("--embeddings", "a.npy")


def test_train_with_encoders_extracts_and_labels(place):
    options = ("--encoder", "logmel", "--encoder", "two=logmel", "--clusters", "4", "--out", "run")
    succeeded(selavi("train", "videos", *options, cwd=place))
    rows = rows_of(place / "run" / "labels.csv")
    assert len(rows) == 24
    assert len({row["label"] for row in rows}) > 1
    assert (place / "run" / "clusters.png").exists()
    refused(selavi("train", "videos", *options, cwd=place), "--resume")
    refused(selavi("train", "videos", *options[:-1], "other", "--epochs", "3", cwd=place), "--epochs", "--encoder")
    succeeded(selavi("train", "videos", *options, "--resume", cwd=place))
