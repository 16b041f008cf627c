"""Copies are found whatever their size, codec and quality; different videos of one kind are not taken for copies."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selavi_ref.datasets import make_collection
from selavi_ref.diagnostics import duplicates as module
from selavi_ref.diagnostics.duplicates import duplicates
from selavi_ref.diagnostics.file_measures import Measures, measure_all
from selavi_ref.media import read_video
from tests.support.media_files import write_video


def recoded(source, target, size, sample_rate, audio_codec="aac", crf="32", fps=12.5):
    """Write a video anew in another size and quality."""
    video = read_video(source, fps=fps, size=size, sample_rate=sample_rate)
    height, width = video.frames.shape[1:3]
    return write_video(
        target,
        n_frames=len(video.frames),
        times=np.arange(len(video.frames)) / fps,
        size=(width, height),
        pictures=video.frames,
        sound=video.samples,
        sample_rate=sample_rate,
        audio_codec=audio_codec,
        crf=crf,
    )


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return make_collection(tmp_path_factory.mktemp("collection"), 32, workers=1).paths


def test_copied_and_recoded_videos_are_found_and_no_others(collection, tmp_path):
    paths = list(collection)
    expected = []
    for number, source in enumerate(paths[::4]):
        name = tmp_path / f"{number}.mkv"
        if number % 4 == 0:
            shutil.copy(source, name)
        elif number % 4 == 1:
            recoded(source, name, 48, 16000)
        elif number % 4 == 2:
            recoded(source, name, 128, 44100, crf="24")
        else:
            recoded(source, name, 32, 24000, "libopus", crf="36")
        expected.append((4 * number, len(collection) + number))
        paths.append(str(name))
    found = duplicates(measure_all(paths))
    assert sorted(group.rows for group in found) == expected
    assert [group.identical for group in sorted(found, key=lambda group: group.rows)] == [True, False, False, False] * 2


def test_the_labels_of_copies_are_compared(collection):
    measures = measure_all([*collection[:3], collection[0], collection[1], collection[2]])
    found = {group.rows: group for group in duplicates(measures, np.array([0, 1, -1, 0, 2, 3]))}
    assert {rows: group.split for rows, group in found.items()} == {(0, 3): False, (1, 4): True, (2, 5): False}
    assert all(group.identical for group in found.values())
    assert found[2, 5].n_labels == 1


def test_plain_silent_videos_are_not_all_the_same(tmp_path):
    paths = []
    for number in range(4):
        picture = np.full((20, 48, 64, 3), 40 + 30 * number, np.uint8)
        paths.append(str(write_video(tmp_path / f"{number}.mp4", n_frames=20, pictures=picture, sound=np.zeros(40000))))
    assert duplicates(measure_all(paths)) == []


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def printed(pictures, sounds, seconds=None):
    """Measures with the given prints, None for none."""
    lengths = [2.0] * len(pictures) if seconds is None else seconds
    return [
        Measures(str(row), picture_seconds=length, picture_print=picture, sound_print=sound)
        for row, (picture, sound, length) in enumerate(zip(pictures, sounds, lengths, strict=True))
    ]


def naive(measures):
    """Groups by the plainest search over all pairs."""
    N = len(measures)
    group = list(range(N))
    for a in range(N):
        for b in range(a):
            x, y = measures[a], measures[b]
            parts = []
            for name in ("picture_print", "sound_print"):
                p, q = getattr(x, name), getattr(y, name)
                if (p is None) != (q is None):
                    break
                if p is not None:
                    parts.append(float(p @ q))
            else:
                low, high = sorted((x.seconds, y.seconds))
                if parts and min(parts) >= (0.95 if len(parts) == 2 else 0.98) and high <= 1.05 * low + 0.5:
                    group = [group[b] if g == group[a] else g for g in group]
    members = {}
    for row, g in enumerate(group):
        members.setdefault(g, []).append(row)
    return sorted(tuple(rows) for rows in members.values() if len(rows) > 1)


@given(st.integers(0, 10_000), st.integers(2, 40))
def test_the_search_in_blocks_finds_what_the_plain_search_does(seed, n):
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, max(2, n // 2), n)
    pictures = unit(rng.normal(size=(n, 256)))[kinds] + 0.01 * rng.normal(size=(n, 256))
    sounds = unit(rng.normal(size=(n, 128)))[kinds] + rng.choice([0.01, 0.03]) * rng.normal(size=(n, 128))
    lacks = rng.integers(0, 4, (2, n))
    measures = printed(
        [None if lack == 0 else row for lack, row in zip(lacks[0], unit(pictures), strict=True)],
        [None if lack == 0 else row for lack, row in zip(lacks[1], unit(sounds), strict=True)],
        rng.choice([2.0, 2.3, 3.0, 10.0], n).tolist(),
    )
    sizes = module._BLOCK, module._MOST_EDGES
    try:
        module._BLOCK, module._MOST_EDGES = int(rng.integers(1, 9)), int(rng.integers(1, 9))
        found = sorted(group.rows for group in duplicates(measures))
    finally:
        module._BLOCK, module._MOST_EDGES = sizes
    assert found == naive(measures)


def test_no_videos_and_videos_without_measures_have_no_copies():
    assert duplicates([]) == []
    assert duplicates([Measures("a", reason="damaged"), Measures("b", reason="damaged")]) == []
