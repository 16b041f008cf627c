"""Stores whose data sets are rewritten in place."""

import numpy as np

from selavi_ref.errors import StoreError
from selavi_ref.store import FeatureStore, WorkingStore
from tests.support.example_store import (
    PATHS,
    VALUES,
    D,
    K,
    N,
    interrupted,
    run_python,
)
from tests.support.refusal import refused


class TestWorkingStore:
    NAME = "log_prob/video/current"

    def make(self, folder):
        return WorkingStore.create(folder / "w.h5", PATHS, {"features/video": D, self.NAME: K})

    def test_data_sets_are_rewritten_in_place(self, tmp_path):
        with self.make(tmp_path) as store:
            with refused(StoreError, problem="incomplete", dataset="features/video"):
                store.features("video")
            store.replace("features/video", VALUES["features/video"])
            size = store.path.stat().st_size
            for sign in (1, -1):
                with store.rewrite(self.NAME) as write:
                    for block in store.blocks(8):
                        write(block, {self.NAME: sign * VALUES["log_prob/video/0"][block]})
                assert np.array_equal(store.log_prob("video", "current"), sign * VALUES["log_prob/video/0"])
            assert store.path.stat().st_size == size
        with FeatureStore(tmp_path / "w.h5") as store:
            assert np.array_equal(store.features("video"), VALUES["features/video"])
            assert store.present("video").all()

    def test_a_rewriting_that_was_cut_off_is_never_read(self, tmp_path):
        with self.make(tmp_path) as store:
            store.replace("features/video", VALUES["features/video"])
            store.replace(self.NAME, VALUES["log_prob/video/0"])
            with interrupted(), store.rewrite(self.NAME) as write:
                write([0], {self.NAME: np.zeros((1, K))})
                raise KeyboardInterrupt
            with refused(StoreError, problem="incomplete", dataset=self.NAME), store.rewrite(self.NAME) as write:
                write(slice(1, None), {self.NAME: np.zeros((N - 1, K))})
        with WorkingStore(tmp_path / "w.h5") as store:
            assert np.array_equal(store.features("video"), VALUES["features/video"])
            with refused(StoreError, problem="incomplete", dataset=self.NAME):
                store.log_prob("video", "current")
            store.replace(self.NAME, VALUES["log_prob/video/0"])
            assert np.array_equal(store.log_prob("video", "current"), VALUES["log_prob/video/0"])

    def test_names_and_shapes_that_do_not_fit(self, tmp_path):
        with self.make(tmp_path) as store:
            with refused(option="names"):
                store.replace("features/audio", np.zeros((N, D)))
            with refused(option="features/video"):
                store.replace("features/video", np.zeros((N, D + 1)))

    def test_another_process_waits_for_the_file(self, tmp_path):
        with self.make(tmp_path):
            code = "import sys; from selavi_ref.store import FeatureStore; FeatureStore(sys.argv[1])"
            outcome = run_python(code, tmp_path / "w.h5")
        assert "in use by another process" in outcome.stderr
