"""Out of core: what lies in a file is solved as in memory, and memory stays bounded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from selavi_ref.store import FeatureStore, StoreWriter
from selavi_ref.transport import Blocks, assign
from tests.support.engines import small_blocks, write_h5
from tests.support.refusal import refused


def problem(N: int = 3000, K: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, K)).astype(np.float32), rng.dirichlet(np.full(K, 3.0))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (100, 60)},
        {"chunks": (64, 7), "compression": "gzip"},
        {"chunks": (100, 60), "fletcher32": True},
        {"dtype": ">f4"},
    ],
    ids=["contiguous", "chunked", "compressed", "checksummed", "big-endian"],
)
def test_every_layout_of_hdf5_is_solved(tmp_path: Path, options: dict) -> None:
    x, r = problem()
    expected = assign(x, r, tol=1e-8)
    with h5py.File(write_h5(tmp_path / "x.h5", x, **options)) as file, small_blocks(50_000):
        found = assign(file["scores"], r, tol=1e-8)
        assert np.abs(found.plan - expected.plan).sum() < 1e-6
    assert found.marginal_error <= 1e-8
    assert np.array_equal(found.labels, expected.labels)


def test_sums_of_views_of_a_store_are_solved(tmp_path: Path) -> None:
    x, r = problem()
    names = {"log_prob/video/0": 60, "log_prob/audio/0": 60}
    with StoreWriter(tmp_path / "s.h5", [f"{i}.mp4" for i in range(len(x))], names) as writer:
        writer.write(slice(None), dict.fromkeys(names, x), present={"video": True, "audio": True})
        writer.finish()
    with FeatureStore(tmp_path / "s.h5") as store:
        blocks = Blocks(*(store.views(name) for name in names))
        found = assign(blocks, r, strength=5.0)
        assert np.array_equal(blocks.array(), 2 * x)
    assert np.array_equal(found.labels, assign(x, r, strength=10.0).labels)


def test_memory_maps_keep_what_was_written_to_them(tmp_path: Path) -> None:
    x, r = problem()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="c")
    mapped[5] = 3.0
    with small_blocks(50_000):
        assign(mapped, r, engine="store")
    assert (mapped[5] == 3.0).all()
    integers = (x * 3).astype(np.int16)
    assert np.array_equal(assign(Blocks(integers), r).labels, assign(integers, r).labels)
    read_only = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.array_equal(assign(read_only, r, engine="store").labels, assign(x, r).labels)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    x, _ = problem()
    for sources in ((), (x, x[:-1]), (x.astype(complex),), (x[0],)):
        with refused(option="sources"):
            Blocks(*sources)
    x[2001, 3] = np.inf
    with small_blocks(50_000), refused(option="log_prob", row=2001, column=3):
        assign(Blocks(x))


def test_weights_may_leave_out_whole_blocks() -> None:
    x, r = problem()
    weight = np.zeros(len(x))
    weight[1000:1500] = 1
    with small_blocks(50_000):
        found = assign(Blocks(x), r, sample_weight=weight)
    assert np.abs(found.potentials - assign(x, r, sample_weight=weight).potentials).max() < 1e-3


MEMORY = """
import sys
import h5py, numpy as np
from selavi_ref.transport import assign, engines
small = np.zeros((2000, 100), np.float32)
engines.create("numba", small, 1.0)(np.zeros(100))
def most():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
before = most()
with h5py.File(sys.argv[1]) as file:
    plan_pass = engines.create("store", file["scores"], 1.0)
    for _ in range(3):
        plan_pass(np.zeros(100))
    plan_pass.rows(np.zeros(100))
print((most() - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize(
    "options",
    [{}, {"chunks": (4096, 100)}, {"chunks": (4096, 100), "fletcher32": True}],
    ids=["mapped", "chunks", "read"],
)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, options: dict) -> None:
    x = np.random.default_rng(0).random((300_000, 100), dtype=np.float32)  # 120 MB
    path = write_h5(tmp_path / "x.h5", x, **options)
    del x
    run = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 80  # blocks, and 12 bytes for each row
