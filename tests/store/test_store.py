import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.errors import InputError, StoreError
from selavi_ref.store import FeatureStore, StoreWriter, partial_path
from tests.support.example_store import (
    DATASETS,
    PATHS,
    RNG,
    VALUES,
    D,
    K,
    N,
    damage,
    make,
    rows_of,
    run_python,
)
from tests.support.refusal import refused


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

    def test_an_incomplete_store_reports_how_many_rows_are_done(self, tmp_path):
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


def test_importing_the_store_loads_nothing_heavy():
    code = (
        "import sys, selavi_ref.store; print([m for m in ('torch', 'numba', 'scipy', 'sklearn') if m in sys.modules])"
    )
    assert run_python(code).stdout.strip() == "[]"
