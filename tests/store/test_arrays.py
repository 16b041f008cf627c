import h5py
import numpy as np
import pytest

from selavi_ref.errors import InputError
from selavi_ref.store import FeatureStore, partial_path
from tests.support.refusal import refused

PATHS = ["a.mp4", "b.mp4", "c.mp4"]
RNG = np.random.default_rng(0)
FEATURES = {"clip": RNG.normal(size=(3, 4)), "mel": RNG.normal(size=(3, 2)).astype(np.float16)}


def test_arrays_become_a_store(tmp_path):
    log_prob = {"clip": np.zeros((3, 5)), "mel/1": np.zeros((3, 5))}
    with FeatureStore.from_arrays(
        tmp_path / "f.h5", FEATURES, paths=PATHS, classes=["x", "", "y"], log_prob=log_prob, provenance={"by": "us"}
    ) as store:
        assert store.names == ["features/clip", "features/mel", "log_prob/clip/0", "log_prob/mel/1"]
        assert np.array_equal(store.features("clip"), FEATURES["clip"].astype(np.float32))
        assert np.array_equal(store.features("mel"), FEATURES["mel"].astype(np.float32))
        assert (store.paths, store.classes, store.provenance) == (PATHS, ["x", "", "y"], {"by": "us"})
        assert store.present("mel").all()


def test_a_row_of_nan_is_a_missing_modality(tmp_path):
    features = {"clip": FEATURES["clip"], "mel": FEATURES["mel"].copy()}
    features["mel"][1] = np.nan
    with FeatureStore.from_arrays(tmp_path / "f.h5", features, paths=PATHS) as store:
        assert store.present("mel").tolist() == [True, False, True]
        assert store.present("clip").all()


def test_files_are_read_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr("selavi_ref.store.arrays._BLOCK_BYTES", 40)
    values = RNG.normal(size=(50, 3))
    np.save(tmp_path / "x.npy", values)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = values
        features = {"mapped": np.load(tmp_path / "x.npy", mmap_mode="r"), "hdf5": file["x"], "list": values.tolist()}
        store = FeatureStore.from_arrays(tmp_path / "f.h5", features, paths=[f"{row}.mp4" for row in range(50)])
    with store:
        for space in features:
            assert np.array_equal(store.features(space), values.astype(np.float32))


@pytest.mark.parametrize(
    ("features", "fields"),
    [
        ({}, {"option": "features"}),
        ({"a": np.zeros(3)}, {"option": "features", "value": "a"}),
        ({"a": np.zeros((3, 0))}, {"option": "features", "value": "a"}),
        ({"a": np.zeros((2, 4))}, {"option": "features/a", "value": 2}),
        ({"a": np.full((3, 1), "text")}, {"option": "features", "value": "a"}),
        ({"a/b": np.zeros((3, 4))}, {"value": "a/b"}),
        ({"a": [[0.0, 1.0], [2.0, np.nan], [3.0, 4.0]]}, {"option": "features/a", "row": 1, "column": 1}),
        ({"a": [[0.0, 1.0], [2.0, 3.0], [np.inf, 4.0]]}, {"option": "features/a", "row": 2, "column": 0}),
        ({"a": [[0.0, 1.0], [2.0, 1e300], [3.0, 4.0]]}, {"option": "features/a", "row": 1, "column": 1}),
    ],
)
def test_arrays_that_do_not_fit_are_refused_and_leave_nothing(tmp_path, features, fields):
    with refused(InputError, **fields):
        FeatureStore.from_arrays(tmp_path / "f.h5", features, paths=PATHS)
    assert not list(tmp_path.iterdir())


def test_log_probabilities_lack_the_videos_that_features_lack(tmp_path):
    log_prob = {"clip": np.full((3, 2), np.nan)}
    with refused(InputError, option="log_prob/clip/0"):
        FeatureStore.from_arrays(tmp_path / "f.h5", FEATURES, paths=PATHS, log_prob=log_prob)


def test_a_store_that_exists_stays_when_the_new_one_is_refused(tmp_path):
    FeatureStore.from_arrays(tmp_path / "f.h5", FEATURES, paths=PATHS).close()
    with refused(InputError):
        FeatureStore.from_arrays(tmp_path / "f.h5", {"clip": np.full((3, 1), np.inf)}, paths=PATHS)
    assert not partial_path(tmp_path / "f.h5").exists()
    with FeatureStore(tmp_path / "f.h5") as store:
        assert store.modalities == ["clip", "mel"]
