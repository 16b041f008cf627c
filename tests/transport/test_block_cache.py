"""Scores that several passes read are kept in a temporary file; without one, passes read their sources."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.store import WorkingStore
from selavi_ref.transport import Blocks, assign, blocks
from selavi_ref.transport.store_scores import joint_scores

N, K = 700, 9


class Counted:
    """A source of scores that counts the rows that were read."""

    def __init__(self, values: np.ndarray):
        self.values, self.n_read = values, 0
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        self.n_read += len(self.values[rows])
        return self.values[rows]


def scores(seed: int, dtype: Any = np.float32) -> np.ndarray:
    return np.log(np.random.default_rng(seed).dirichlet(np.ones(K), N)).astype(dtype)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BYTES", 50 * K * 4)


def walked(scores: Blocks, apart: int = 1) -> dict[int, np.ndarray]:
    return {number: block.copy() for number, _, block in scores.walk(apart)}


@settings(deadline=None, max_examples=20)
@given(apart=st.lists(st.integers(1, 5), min_size=2, max_size=4), dtype=st.sampled_from([np.float32, np.float64]))
def test_every_walk_gives_the_sums_and_reads_each_row_once(apart: list[int], dtype: Any) -> None:
    one, two = Counted(scores(0, dtype)), Counted(scores(1, dtype))
    with tempfile.TemporaryDirectory() as folder:
        kept, plain = Blocks(one, two, cache=folder), Blocks(scores(0, dtype), scores(1, dtype))
        for step in apart:
            found, expected = walked(kept, step), walked(plain, step)
            assert found.keys() == expected.keys()
            assert all(np.array_equal(found[number], expected[number]) for number in found)
        assert one.n_read == two.n_read <= N


def test_nothing_remains(tmp_path: Path) -> None:
    kept = Blocks(scores(0), scores(1), cache=tmp_path)
    assert np.array_equal(kept.array(), scores(0) + scores(1))
    assert list(tmp_path.iterdir()) == []  # the file has no name


@pytest.mark.parametrize("loss", ["hole", "shorter", "error"])
def test_what_the_disk_has_lost_is_read_from_the_sources(
    loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Blocks(scores(0), scores(1), cache=tmp_path)
    kept.array()
    assert kept._cache is not None
    number = kept._cache._file.fileno()
    if loss == "error":

        def failing(*arguments: Any) -> int:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "preadv", failing)
    else:
        os.ftruncate(number, 100)
        if loss == "hole":
            os.ftruncate(number, 2 * N * K * 4)
    for _ in range(2):
        assert np.array_equal(kept.array(), scores(0) + scores(1))


def test_the_type_is_that_of_all_sources_together(tmp_path: Path) -> None:
    kept = Blocks(scores(0, np.float16), scores(1, np.float64), cache=tmp_path)
    assert np.array_equal(kept.array(), kept.array())


@pytest.mark.parametrize("problem", ["no folder", "no room", "disk fills up"])
def test_without_room_the_sources_are_read(problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, calls = tmp_path, 0

    def full(*arguments: Any) -> int:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise OSError(28, "No space left on device")
        return write(*arguments)

    write = os.pwrite
    if problem == "no folder":
        folder = tmp_path / "missing"
    elif problem == "no room":
        monkeypatch.setattr("selavi_ref.transport.block_cache._SPARE", 1 << 60)
    else:
        monkeypatch.setattr(os, "pwrite", full)
    kept = Blocks(scores(0), scores(1), cache=folder)
    for _ in range(2):
        assert np.array_equal(kept.array(), scores(0) + scores(1))


def test_labels_of_a_store_are_those_from_memory(tmp_path: Path) -> None:
    names = {f"log_prob/{modality}/0": K for modality in ("video", "audio")}
    with WorkingStore.create(tmp_path / "working.h5", [str(row) for row in range(N)], names) as store:
        for seed, name in enumerate(names):
            store.replace(name, scores(seed))
        inside = assign(joint_scores(store, 0), np.full(K, 1 / K), strength=10.0)
        outside = assign(joint_scores(store, 0, most_bytes=0), np.full(K, 1 / K), strength=10.0)
    assert np.array_equal(inside.labels, outside.labels)
