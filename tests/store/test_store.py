import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.errors import InputError, StoreError
from selavi_ref.store import FeatureStore, StoreWriter, WorkingStore, join, partial_path, shard_path
from tests.support.refusal import refused

N, D, K = 50, 6, 4
DATASETS = {"features/video": D, "log_prob/video/0": K, "log_prob/audio/0": K}
OLD = b"\x89HDF\r\n\x1a\nof a store that was cut off"
PATHS = [f"class/{i}.mp4" for i in range(N)]
RNG = np.random.default_rng(0)
VALUES = {name: RNG.normal(size=(N, width)).astype(np.float32) for name, width in DATASETS.items()}


def rows_of(values, rows):
    return {name: value[rows] for name, value in values.items()}


def make(path, **options):
    with StoreWriter(path, PATHS, DATASETS, **options) as writer:
        writer.write(slice(None), VALUES)
        writer.finish()
    return path


@contextlib.contextmanager
def interrupted():
    try:
        yield
    except KeyboardInterrupt:
        return
    raise AssertionError("the interrupt was swallowed")


def run_python(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def test_what_was_written_is_read_back(tmp_path):
    potentials = RNG.normal(size=(1, K))
    path = make(tmp_path / "s.h5", classes=["a", ""] * 25, provenance={"net": "tiny"}, whole={"potentials": potentials})
    with FeatureStore(path) as store:
        assert store.n_videos == N
        assert store.paths == PATHS
        assert store.classes == ["a", ""] * 25
        assert store.reasons == [""] * N
        assert store.provenance == {"net": "tiny"}
        assert (store.modalities, store.heads, store.n_clusters) == (["video", "audio"], ["0"], K)
        assert np.array_equal(store.features("video"), VALUES["features/video"])
        assert np.array_equal(store.log_prob("audio", 0), VALUES["log_prob/audio/0"])
        assert np.array_equal(store.get("potentials"), potentials)
        assert store.features("video").dtype == np.float32
        assert store.present("audio").all()
        assert store.has("features/video")
        assert not store.has("features/audio")
    assert not partial_path(path).exists()


@given(
    paths=st.lists(st.binary(min_size=1, max_size=20).filter(lambda path: b"\0" not in path), min_size=1, max_size=5),
    label=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=5),
)
@settings(max_examples=40, deadline=None)
def test_any_file_name_and_any_class_survive(tmp_path_factory, paths, label):
    names = [path.decode("utf-8", "surrogateescape") for path in [*paths, "café\n😀 %b".encode()]]
    path = tmp_path_factory.mktemp("names") / "s.h5"
    with StoreWriter(path, names, {"features/video": 1}, classes=[label] * len(names)) as writer:
        writer.write(slice(None), {"features/video": np.zeros((len(names), 1))})
        writer.finish()
    with FeatureStore(path) as store:
        assert store.paths == names
        assert store.classes == [label] * len(names)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_rows_are_written_and_read_in_any_order(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("order") / "s.h5"
    order = np.array(data.draw(st.permutations(range(N))))
    cuts = sorted(data.draw(st.lists(st.integers(0, N), max_size=4)))
    with StoreWriter(path, PATHS, DATASETS) as writer:
        for rows in np.split(order, cuts):
            assert set(rows) <= set(writer.remaining)
            writer.write(rows, rows_of(VALUES, rows))
        writer.finish()
    wanted = np.array(data.draw(st.lists(st.integers(0, N - 1), max_size=80)), dtype=int)
    part = slice(*data.draw(st.tuples(st.integers(-N, N), st.integers(-N, N), st.sampled_from([1, 2, -1]))))
    with FeatureStore(path) as store:
        assert np.array_equal(store.features("video", wanted), VALUES["features/video"][wanted])
        assert np.array_equal(store.features("video", part), VALUES["features/video"][part])
        blocks = [store.log_prob("video", "0", block) for block in store.blocks(7)]
        assert np.array_equal(np.concatenate(blocks), VALUES["log_prob/video/0"])


def test_missing_modalities_and_undecodable_videos_are_marked(tmp_path):
    with StoreWriter(tmp_path / "s.h5", PATHS, DATASETS) as writer:
        mute = np.arange(N) % 2 == 0
        writer.write(slice(0, 40), rows_of(VALUES, slice(0, 40)), present={"audio": ~mute[:40]})
        writer.write(np.arange(40, 49), {"features/video": VALUES["features/video"][40:49]})
        writer.write([49], {}, reason="moov atom\nnot found " + "é" * 200)
        writer.finish()
    with FeatureStore(tmp_path / "s.h5") as store:
        assert np.array_equal(store.present("audio"), ~mute & (np.arange(N) < 40))
        assert np.array_equal(store.present("video"), np.arange(N) < 49)
        assert np.isnan(store.features("video", [49])).all()
        assert store.reasons[:49] == [""] * 49
        assert store.reasons[49].startswith("moov atom not found é")
        assert store.reasons[49].endswith("…")


def test_heads_are_in_the_order_of_their_numbers(tmp_path):
    names = {f"log_prob/video/{head}": 2 for head in (10, 2, 0, "current")}
    with StoreWriter(tmp_path / "s.h5", ["a"], names) as writer:
        writer.write([0], {name: np.zeros((1, 2)) for name in names})
        writer.finish()
    with FeatureStore(tmp_path / "s.h5") as store:
        assert store.heads == ["0", "2", "10", "current"]


@pytest.mark.parametrize(
    ("rows", "values", "fields"),
    [
        ([0, 0], {}, {"option": "rows"}),
        ([N], {}, {"option": "rows", "row": N}),
        ([-1], {}, {"option": "rows", "row": -1}),
        ([0.5], {}, {"option": "rows"}),
        ([0], {"features/audio": np.zeros((1, D))}, {"option": "features/audio"}),
        ([0], {"features/video": np.zeros((1, D + 1))}, {"option": "features/video"}),
        ([0, 1], {"features/video": np.zeros((1, D))}, {"option": "features/video"}),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_change_nothing(tmp_path, rows, values, fields):
    with StoreWriter(tmp_path / "s.h5", PATHS, DATASETS) as writer:
        with refused(**fields):
            writer.write(rows, values)
        assert not writer.done.any()
        with refused(option="present"):
            writer.write([0], {}, present={"smell": True})
        with refused(option="reason"):
            writer.write([0], {}, reason=["a", "b"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"paths": []},
        {"paths": ["a\0b"]},
        {"paths": ["\ud800"]},
        {"classes": ["a"]},
        {"datasets": {"features": 3}},
        {"datasets": {"features/video": 0}},
        {"provenance": {"a": object()}},
        {"whole": {"features/video": np.zeros((N, 2))}},
        {"start": 1, "total": N},
    ],
)
def test_a_writer_refuses_what_makes_no_store(tmp_path, arguments):
    defaults = {"paths": PATHS, "datasets": DATASETS}
    with pytest.raises(InputError):
        StoreWriter(tmp_path / "s.h5", **(defaults | arguments))
    assert list(tmp_path.iterdir()) == []


class TestResuming:
    def test_a_stopped_writer_goes_on(self, tmp_path):
        path = make(tmp_path / "s.h5", provenance={"old": True})
        with interrupted(), StoreWriter(path, PATHS, DATASETS, provenance={"seed": 1}) as writer:
            writer.write(slice(0, 20), rows_of(VALUES, slice(0, 20)))
            raise KeyboardInterrupt
        with FeatureStore(path) as store:
            assert store.provenance == {"old": True}
        with StoreWriter(path, PATHS, DATASETS, provenance={"seed": 1}) as writer:
            assert writer.resumed
            assert np.array_equal(writer.remaining, np.arange(20, N))
            with refused(StoreError, problem="incomplete", row=20):
                writer.finish()
            writer.write(writer.remaining, rows_of(VALUES, writer.remaining))
            writer.finish()
        with FeatureStore(path) as store:
            assert store.provenance == {"seed": 1}
            assert np.array_equal(store.features("video"), VALUES["features/video"])

    @pytest.mark.parametrize(
        "change",
        [
            {"paths": [*PATHS[:-1], "other"]},
            {"datasets": DATASETS | {"features/video": D + 1}},
            {"provenance": {"seed": 2}},
            {"classes": ["a"] * N},
            {"start": 1},
            {"whole": {"potentials": np.zeros((1, K))}},
            {"resume": False},
        ],
    )
    def test_a_partial_file_of_something_else_is_written_anew(self, tmp_path, change):
        same = {"paths": PATHS, "datasets": DATASETS, "provenance": {"seed": 1}}
        with StoreWriter(tmp_path / "s.h5", **same) as writer:
            writer.write([0], {})
        with StoreWriter(tmp_path / "s.h5", **(same | change)) as writer:
            assert not writer.resumed
            assert not writer.done.any()

    def test_a_damaged_partial_file_is_written_anew(self, tmp_path):
        partial_path(tmp_path / "s.h5").write_bytes(b"no store")
        make(tmp_path / "s.h5")

    def test_only_the_rows_of_a_damaged_chunk_are_written_again(self, tmp_path):
        path, wide, n = tmp_path / "s.h5", 60_000, 11
        values = RNG.normal(size=(n, wide)).astype(np.float32)
        datasets = {"features/video": wide}
        with StoreWriter(path, PATHS[:n], datasets) as writer:
            writer.write(slice(0, n), {"features/video": values})
        with h5py.File(partial_path(path)) as file:
            chunk_rows = file["features/video"].chunks[0]
            chunk = file["features/video"].id.get_chunk_info(file["features/video"].id.get_num_chunks() - 1)
        damage(partial_path(path), chunk.byte_offset + 100)
        with StoreWriter(path, PATHS[:n], datasets) as writer:
            assert np.array_equal(writer.remaining, np.arange(chunk.chunk_offset[0], n))
            assert 0 < len(writer.remaining) <= chunk_rows
            writer.write(writer.remaining, {"features/video": values[writer.remaining]})
            writer.finish()
        with FeatureStore(path) as store:
            assert np.array_equal(store.features("video"), values)

    def test_a_killed_writer_loses_nothing_that_was_checkpointed(self, tmp_path):
        code = """
            import sys, numpy as np
            from selavi_ref.store import StoreWriter
            writer = StoreWriter(sys.argv[1], [str(i) for i in range(3000)], {"features/video": 64})
            for row in range(0, 3000, 10):
                writer.write(slice(row, row + 10), {"features/video": np.full((10, 64), row)})
                if row == 2000:
                    writer.checkpoint()
                    print("ready", flush=True)
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "s.h5")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        assert not (tmp_path / "s.h5").exists()
        with refused(StoreError, problem="incomplete", path=tmp_path / "s.h5"):
            FeatureStore(tmp_path / "s.h5")
        with StoreWriter(tmp_path / "s.h5", [str(i) for i in range(3000)], {"features/video": 64}) as writer:
            assert writer.resumed
            assert writer.done[:2010].all()
            rows = writer.remaining
            writer.write(rows, {"features/video": np.repeat(rows[:, None] // 10 * 10, 64, axis=1)})
            writer.finish()
        with FeatureStore(tmp_path / "s.h5") as store:
            assert np.array_equal(store.features("video")[:, 5], np.arange(3000) // 10 * 10)

    def test_a_second_writer_is_refused(self, tmp_path):
        code = """
            import sys
            from selavi_ref.store import StoreWriter
            StoreWriter(sys.argv[1], ["a"], {"features/video": 1})
        """
        with StoreWriter(tmp_path / "s.h5", PATHS, DATASETS):
            outcome = run_python(code, tmp_path / "s.h5")
        assert "StoreError" in outcome.stderr
        assert "in use by another process" in outcome.stderr


def damage(path, offset, bits=0x55):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ bits]))


class TestRefusals:
    """Whatever is wrong with a file, one line says so and names the file."""

    def refuses(self, path, problem, **fields):
        with refused(StoreError, problem=problem, path=path, **fields) as caught:
            FeatureStore(path)
        assert str(path) in str(caught.value)

    def test_missing_file_folder_and_foreign_files(self, tmp_path):
        self.refuses(tmp_path / "none.h5", "missing")
        self.refuses(tmp_path, "foreign")
        (tmp_path / "text.h5").write_text("hello")
        (tmp_path / "empty.h5").touch()
        self.refuses(tmp_path / "text.h5", "foreign")
        self.refuses(tmp_path / "empty.h5", "foreign")
        h5py.File(tmp_path / "other.h5", "w").close()
        self.refuses(tmp_path / "other.h5", "foreign")

    def test_another_version(self, tmp_path):
        path = make(tmp_path / "s.h5")
        with h5py.File(path, "r+") as file:
            file.attrs["version"] = 2
        self.refuses(path, "foreign")

    def test_an_incomplete_store_says_how_much_is_done(self, tmp_path):
        with StoreWriter(tmp_path / "s.h5", PATHS, DATASETS) as writer:
            writer.write(slice(0, 5), {})
        self.refuses(tmp_path / "s.h5", "incomplete")
        self.refuses(partial_path(tmp_path / "s.h5"), "incomplete")

    @pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
    def test_a_file_that_was_cut_off(self, tmp_path, part):
        path = make(tmp_path / "s.h5")
        os.truncate(path, int(path.stat().st_size * part))
        self.refuses(path, "damaged")

    def test_a_flipped_bit_is_found_when_the_rows_are_read(self, tmp_path):
        path = make(tmp_path / "s.h5")
        with h5py.File(path) as file:
            offset = file["log_prob/video/0"].id.get_chunk_info(0).byte_offset
        damage(path, offset + 17)
        with FeatureStore(path) as store:
            store.features("video")
            with refused(StoreError, problem="damaged", dataset="log_prob/video/0"):
                store.log_prob("video", 0, slice(0, 1))

    def test_no_damage_anywhere_leads_to_anything_but_a_store_error(self, tmp_path):
        path = make(tmp_path / "s.h5", classes=["a"] * N)
        size = path.stat().st_size
        rng = np.random.default_rng(1)
        messages = []
        for offset in [*range(0, 96, 3), *rng.integers(0, size, 150)]:
            copy = Path(shutil.copy(path, tmp_path / "copy.h5"))
            damage(copy, int(offset), int(rng.integers(1, 256)))
            try:
                with FeatureStore(copy) as store:
                    read = [store.get(name) for name in store.names]
                    assert len(store.paths) == len(store.classes) == len(store.reasons) == len(read[0])
                    for name, values in zip(store.names, read, strict=True):
                        assert np.array_equal(values, VALUES[name])
            except StoreError as error:
                messages.append(str(error))
        assert messages
        assert not any("\n" in message for message in messages)

    def test_shapes_of_a_foreign_store_that_do_not_fit(self, tmp_path):
        path = make(tmp_path / "s.h5")
        with h5py.File(path, "r+") as file:
            file["log_prob/video/1"] = np.zeros((N, K + 1), np.float32)
        self.refuses(path, "damaged")
        with h5py.File(path, "r+") as file:
            del file["log_prob/video/1"]
            file["features/audio"] = np.zeros((N - 1, 3), np.float32)
        self.refuses(path, "damaged", dataset="features/audio")

    def test_data_sets_that_are_not_there(self, tmp_path):
        with FeatureStore(make(tmp_path / "s.h5")) as store:
            with refused(StoreError, problem="missing", dataset="features/audio"):
                store.features("audio")
            with refused(option="rows", row=50):
                store.features("video", [50])


def test_the_example_of_the_documentation_makes_a_store(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "store.md").read_text()
    example = text.partition("## A store written by another program")[2].split("```python\n")[1].split("```")[0]
    subprocess.run([sys.executable, "-c", example], cwd=tmp_path, check=True, timeout=60)
    with FeatureStore(tmp_path / "features.h5") as store:
        assert store.n_videos == 2
        assert store.modalities == ["video"]
        assert store.present("video").all()
        assert store.log_prob("video", 0).shape == (2, store.n_clusters)
        assert store.classes == ["", ""]


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


class TestFullDisk:
    """A full disk ends in one line, never in a crash of HDF5, and never touches the store that is there."""

    SWEEP = """
        import os, resource, signal, sys
        import numpy as np
        from selavi_ref.errors import StoreError
        from selavi_ref.store import FeatureStore, StoreWriter, WorkingStore, join, partial_path
        path, kind = sys.argv[1], sys.argv[2]
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        def work():
            n = 500
            with StoreWriter(path, [str(i) for i in range(n)], {"features/video": 64, "log_prob/video/0": 8}) as writer:
                if kind == "late":
                    limit_size()
                for row in range(0, n, 50):
                    values = {"features/video": np.ones((50, 64)), "log_prob/video/0": np.ones((50, 8))}
                    writer.write(slice(row, row + 50), values)
                    writer.checkpoint()
                writer.finish()

        def limit_size():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        for limit in map(int, sys.argv[3:]):
            child = os.fork()
            if child == 0:
                if kind == "early":
                    limit_size()
                try:
                    work()
                except StoreError as error:
                    print(limit, error, flush=True)
                    sys.exit(2)
                sys.exit(0)
            status = os.waitpid(child, 0)[1]
            print("status", status, flush=True)
            if kind == "early":
                assert not os.path.exists(partial_path(path))
            assert open(path, "rb").read().startswith(b"\\x89HDF")
    """

    @pytest.mark.parametrize("kind", ["early", "late"])
    def test_of_a_limited_file_size(self, tmp_path, kind):
        pytest.importorskip("resource")
        path = tmp_path / "s.h5"
        path.write_bytes(OLD)
        limits = range(0, 250_000, 9_973) if kind == "early" else range(0, 250_000, 49_999)
        outcome = run_python(self.SWEEP, path, kind, *limits)
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.stderr == ""
        lines = outcome.stdout.splitlines()
        assert len(lines) == 2 * len(limits)
        assert all("no space left" in line and "s.h5" in line for line in lines[::2])
        assert set(lines[1::2]) == {"status 512"}

    def test_of_a_small_file_system(self, tmp_path):
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = shutil.which("mount") and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], capture_output=True, check=False
        )
        if not mounted or mounted.returncode:
            pytest.skip("mounting a small file system needs root")
        try:
            (disk / "s.h5").write_bytes(OLD)
            with refused(StoreError, problem="full", path=disk / "s.h5"):
                StoreWriter(disk / "s.h5", PATHS, {"features/video": 4096})
            assert [entry.name for entry in disk.iterdir()] == ["s.h5"]
            assert (disk / "s.h5").read_bytes() == OLD
            with StoreWriter(disk / "s.h5", PATHS, DATASETS) as writer:
                writer.write(slice(None), VALUES)
                (disk / "filler").write_bytes(b"x" * (shutil.disk_usage(disk).free))
                writer.finish()
            with FeatureStore(disk / "s.h5") as store:
                assert np.array_equal(store.features("video"), VALUES["features/video"])
        finally:
            subprocess.run(["umount", disk], check=True)
        make(tmp_path / "another.h5")


def test_importing_the_store_loads_nothing_heavy():
    code = (
        "import sys, selavi_ref.store; print([m for m in ('torch', 'numba', 'scipy', 'sklearn') if m in sys.modules])"
    )
    assert run_python(code).stdout.strip() == "[]"
