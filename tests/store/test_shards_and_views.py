"""Stores of several shards, and views of their rows in memory."""

from pathlib import Path

import h5py
import numpy as np

from selavi_ref.errors import StoreError
from selavi_ref.store import FeatureStore, StoreWriter, WorkingStore, join, shard_path
from tests.support.example_store import (
    DATASETS,
    PATHS,
    VALUES,
    D,
    N,
    damage,
    make,
    rows_of,
)
from tests.support.refusal import refused


class TestShards:
    def make_shards(self, folder, counts=(20, 1, 29)):
        shards, start = [], 0
        for index, n in enumerate(counts):
            rows = slice(start, start + n)
            shards.append(shard_path(folder / "s.h5", index, len(counts)))
            with StoreWriter(shards[-1], PATHS[rows], DATASETS, start=start, total=N) as writer:
                writer.write(
                    slice(None), rows_of(VALUES, rows), present={"audio": np.arange(start, start + n) % 2 == 0}
                )
                writer.finish()
            start += n
        return shards

    def test_joined_shards_read_like_one_store_wherever_they_are_moved(self, tmp_path, monkeypatch):
        folder = tmp_path / "50%b of %d"
        folder.mkdir()
        join(folder / "s.h5", self.make_shards(folder)[::-1])
        folder = folder.rename(tmp_path / "moved %0")
        monkeypatch.chdir(tmp_path)
        with FeatureStore(folder / "s.h5") as store:
            assert store.paths == PATHS
            assert np.array_equal(store.present("audio"), np.arange(N) % 2 == 0)
            for name in DATASETS:
                assert np.array_equal(store.get(name), VALUES[name])
            assert np.array_equal(store.features("video", [49, 20, 0]), VALUES["features/video"][[49, 20, 0]])

    def test_a_single_shard_is_the_store_itself(self, tmp_path):
        make(tmp_path / "only.h5")
        join(tmp_path / "s.h5", [tmp_path / "only.h5"])
        assert not (tmp_path / "only.h5").exists()
        with FeatureStore(tmp_path / "s.h5") as store:
            assert store.paths == PATHS
        assert shard_path("a/s.h5", 0, 1) == Path("a/s.h5")

    def test_a_shard_that_is_missing_replaced_or_cut_off_is_no_fill_value(self, tmp_path):
        shards = self.make_shards(tmp_path)
        join(tmp_path / "s.h5", shards)
        content = shards[1].read_bytes()
        shards[1].unlink()
        with refused(StoreError, problem="missing", path=shards[1]):
            FeatureStore(tmp_path / "s.h5")
        shards[1].write_bytes(content[:-100])
        with refused(StoreError, problem="damaged", path=shards[1]):
            FeatureStore(tmp_path / "s.h5")
        self.make_shards(tmp_path)
        with refused(StoreError, problem="foreign"):
            FeatureStore(tmp_path / "s.h5")

    def test_a_flipped_bit_in_a_shard_is_found(self, tmp_path):
        shards = self.make_shards(tmp_path)
        join(tmp_path / "s.h5", shards)
        with h5py.File(shards[2]) as file:
            offset = file["features/video"].id.get_chunk_info(0).byte_offset
        damage(shards[2], offset)
        with FeatureStore(tmp_path / "s.h5") as store:
            store.features("video", slice(0, 21))
            with refused(StoreError, problem="damaged", dataset="features/video"):
                store.features("video")

    def test_shards_that_do_not_make_a_whole_are_refused(self, tmp_path):
        shards = self.make_shards(tmp_path)
        for chosen, row in [(shards[:2], 21), ([shards[0], shards[2]], 20), ([*shards, shards[0]], 0)]:
            with refused(StoreError, problem="incomplete", row=row):
                join(tmp_path / "s.h5", chosen)
        with StoreWriter(shards[1], PATHS[20:21], DATASETS, start=20, total=N, provenance={"seed": 2}) as writer:
            writer.write([0], {})
            writer.finish()
        with refused(StoreError, problem="foreign", option="provenance"):
            join(tmp_path / "s.h5", shards)
        assert not (tmp_path / "s.h5").exists()
        with refused(StoreError, problem="foreign"):
            WorkingStore(join(tmp_path / "s.h5", self.make_shards(tmp_path)))


WIDE = {"features/video": 60_000, "labels": 3}


class TestViews:
    """Blocks for many passes: mapped where the file holds the rows as they are, read where it does not."""

    def wide(self, folder, start=0, stop=N, name="s.h5"):
        values = {
            "features/video": np.arange(N * 60_000, dtype=np.float32).reshape(N, -1)[start:stop],
            "labels": np.arange(3 * N).reshape(N, 3)[start:stop],
        }
        with StoreWriter(folder / name, PATHS[start:stop], WIDE, start=start, total=N) as writer:
            writer.write(slice(None), values)
            writer.finish()
        return folder / name

    def holds(self, store, *, mapped):
        for name in WIDE:
            views = store.views(name)
            assert views.mapped == mapped
            assert views[0][0].start == 0
            assert views[-1][0].stop == N
            assert np.array_equal(np.concatenate([values for _, values in views]), store.get(name))
            assert all(np.array_equal(values, store.get(name, rows)) for rows, values in views[::2])

    def test_of_a_store_and_of_shards(self, tmp_path):
        with FeatureStore(self.wide(tmp_path)) as store:
            self.holds(store, mapped=True)
            assert len(store.views("features/video")) > 1
        shards = [self.wide(tmp_path, 0, 23, "a.h5"), self.wide(tmp_path, 23, N, "b.h5")]
        with FeatureStore(join(tmp_path / "joined.h5", shards)) as store:
            self.holds(store, mapped=True)

    def test_of_a_foreign_store(self, tmp_path):
        path = make(tmp_path / "s.h5")
        with h5py.File(path, "r+") as file:
            for name in WIDE:
                if name in file:
                    del file[name]
                file.create_dataset(name, data=np.ones((N, 3)), compression="gzip")
        with FeatureStore(path) as store:
            self.holds(store, mapped=False)

    def test_writing_to_a_view_changes_no_file(self, tmp_path):
        with FeatureStore(make(tmp_path / "s.h5")) as store:
            store.views("features/video")[0][1][:] = 0
            assert np.array_equal(store.features("video"), VALUES["features/video"])

    def test_of_what_is_damaged_or_not_there(self, tmp_path):
        path = make(tmp_path / "s.h5")
        with h5py.File(path) as file:
            offset = file["features/video"].id.get_chunk_info(0).byte_offset
        damage(path, offset + 5)
        with FeatureStore(path) as store:
            with refused(StoreError, problem="damaged", dataset="features/video"):
                store.views("features/video")[0]
            with refused(StoreError, problem="missing", dataset="features/audio"):
                store.views("features/audio")

    def test_after_a_rewriting(self, tmp_path):
        with WorkingStore.create(tmp_path / "w.h5", PATHS, {"features/video": D}) as store:
            with refused(StoreError, problem="incomplete", dataset="features/video"):
                store.views("features/video")
            for sign in (1, -1):
                store.replace("features/video", sign * VALUES["features/video"])
                assert np.array_equal(store.views("features/video")[0][1], sign * VALUES["features/video"])
