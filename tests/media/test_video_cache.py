"""A cache of decoded videos: the same clips as from memory, for changed files anew, never half written."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selavi_ref.errors import InputError, MediaError, StoreError
from selavi_ref.media import video_cache as cache_module
from selavi_ref.media.cache_file import read_error
from selavi_ref.media.video_cache import CacheFormat, ClipCache, DecodedVideo, decode_packed, decode_video
from tests.support.media_files import tone, write_video
from tests.support.refusal import refused

ROOT = Path(__file__).parent.parent.parent
LAYOUT = CacheFormat(fps=10, size=32, sample_rate=8000, n_filters=20)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Wide, tall, silent, without picture, and broken."""
    root = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    smooth = np.repeat(np.repeat(rng.integers(0, 255, (60, 6, 8, 3), np.uint8), 8, 1), 8, 2)
    (root / "broken.mp4").write_text("no video")
    made = [
        write_video(root / "wide.mp4", sound=tone(2.0, 440), pictures=smooth),
        write_video(root / "tall.mp4", n_frames=40, size=(32, 80), sound=tone(1.5, 900)),
        write_video(root / "silent.mp4", n_frames=20),
        write_video(root / "deaf.mp4", n_frames=0, sound=tone(2.0, 440)),
        root / "broken.mp4",
    ]
    return [str(path) for path in made]


def filled(folder: Path, videos: list[str], *, jpeg: bool = False, workers: int = 2) -> ClipCache:
    cache = ClipCache(folder, LAYOUT, jpeg=jpeg)
    cache.fill(videos, [30.0] * len(videos), workers)
    return cache


@pytest.fixture(scope="module")
def raw(videos: list[str], tmp_path_factory: pytest.TempPathFactory) -> ClipCache:
    return filled(tmp_path_factory.mktemp("raw"), videos)


@pytest.fixture(scope="module")
def kept(videos: list[str]) -> list[DecodedVideo]:
    return [decode_video(path, LAYOUT) for path in videos[:4]]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_part_is_that_of_the_video_in_memory(videos, raw, kept, data) -> None:
    row = data.draw(st.integers(0, 3))
    cached, whole = raw.videos(videos)[row], kept[row]
    assert (cached.n_frames, cached.n_steps) == (whole.n_frames, whole.n_steps)
    if whole.n_frames:
        numbers = np.sort(data.draw(st.lists(st.integers(0, whole.n_frames - 1), min_size=1, max_size=8)))
        np.testing.assert_array_equal(cached.read_frames(numbers), whole.read_frames(numbers))
    if whole.n_steps:
        begin = data.draw(st.integers(0, whole.n_steps - 1))
        width = data.draw(st.integers(1, whole.n_steps - begin))
        np.testing.assert_array_equal(cached.read_mel(begin, width), whole.read_mel(begin, width))


def test_jpeg_frames_are_similar_and_smaller(videos, kept, tmp_path: Path) -> None:
    packed = filled(tmp_path, videos, jpeg=True)
    numbers = np.array([0, 3, 3, 9])
    got, wanted = packed.videos(videos)[0].read_frames(numbers), kept[0].read_frames(numbers)
    assert got.shape == wanted.shape
    assert np.abs(got.astype(int) - wanted).mean() < 5
    np.testing.assert_array_equal(packed.videos(videos)[0].read_mel(5, 40), kept[0].read_mel(5, 40))
    large = CacheFormat(10, 160, 8000, 20)
    sizes = [decode_packed(videos[0], [videos[0]], large, jpeg)[0].data.nbytes for jpeg in (True, False)]
    assert sizes[0] < 0.2 * sizes[1]


def test_a_video_that_cannot_be_decoded_has_its_reason(videos, raw) -> None:
    assert raw.videos(videos)[4].endswith(
        "broken.mp4: of no format that FFmpeg can read, or damaged at its beginning or end"
    )


def test_a_later_run_decodes_only_what_is_new_or_has_changed(tmp_path: Path) -> None:
    paths = [str(write_video(tmp_path / f"{n}.mp4", n_frames=30, sound=tone(1.0, 440))) for n in range(3)]
    filled(tmp_path / "cache", paths[:2])
    shards = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.h5")}
    before = os.stat(paths[0])
    Path(paths[0]).write_bytes(bytes(before.st_size))
    os.utime(paths[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    write_video(paths[1], n_frames=15, sound=tone(1.0, 440))
    seen: list[int] = []
    again = ClipCache(tmp_path / "cache", LAYOUT, jpeg=False)
    again.fill(paths, [30.0] * 3, 1, seen.append)
    assert sum(seen) == 3
    assert [video.n_frames for video in again.videos(paths)] == [10, 5, 10]
    assert all(file.stat().st_mtime_ns == then for file, then in shards.items())
    assert len(list((tmp_path / "cache").rglob("*.h5"))) == len(shards) + 1


def test_a_file_that_changes_while_it_is_decoded_is_decoded_again(tmp_path: Path, monkeypatch) -> None:
    """A download that is complete only after it was opened."""
    path = write_video(tmp_path / "a.mp4", n_frames=30, sound=tone(1.0, 440))
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    decoding = cache_module.run_guarded

    def decode_and_complete(*args, **options):
        try:
            return decoding(*args, **options)
        finally:
            path.write_bytes(whole)

    with monkeypatch.context() as changed:
        changed.setattr(cache_module, "run_guarded", decode_and_complete)
        first = filled(tmp_path / "cache", [str(path)], workers=1)
    assert isinstance(first.videos([str(path)])[0], str)
    assert filled(tmp_path / "cache", [str(path)]).videos([str(path)])[0].n_frames == 10


def test_other_rates_and_sizes_lie_beside(videos, raw, tmp_path: Path) -> None:
    ClipCache(tmp_path, LAYOUT, jpeg=True)
    ClipCache(tmp_path, CacheFormat(30, 160, 24000, 257), jpeg=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "10fps-32px-8000Hz-20mel-jpeg",
        "30fps-160px-24000Hz-257mel-raw",
    ]


FILL = """
import sys
from selavi_ref.media import video_cache as cache
cache._SHARD_BYTES = 1
made = cache.ClipCache(sys.argv[1], cache.CacheFormat(10, 32, 8000, 20), jpeg=False)
made.fill(sys.argv[2:], [30.0] * len(sys.argv[2:]), 1)
"""


def test_a_killed_process_leaves_whole_files_and_the_next_goes_on(tmp_path: Path) -> None:
    first = write_video(tmp_path / "00.mp4", n_frames=60, sound=tone(2.0, 440))
    paths = [str(first)]
    for number in range(1, 60):
        os.link(first, tmp_path / f"{number:02d}.mp4")
        paths.append(str(tmp_path / f"{number:02d}.mp4"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen([sys.executable, "-c", FILL, str(tmp_path / "cache"), *paths], env=environment)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list((tmp_path / "cache").rglob("*.h5"))) < 5:
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.wait()
    n_before = len(list((tmp_path / "cache").rglob("*.h5")))
    assert 5 <= n_before < 60
    seen: list[int] = []
    cache = ClipCache(tmp_path / "cache", LAYOUT, jpeg=False)
    cache.fill(paths, [30.0] * 60, 2, seen.append)
    assert seen[0] == n_before
    assert all(video.n_frames == 20 for video in cache.videos(paths))


def test_another_process_reads_it_while_this_one_has_it_open(videos, raw, kept) -> None:
    numbers = np.arange(5)
    raw.videos(videos)[0].read_frames(numbers)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for frames in pool.map(raw.videos(videos)[0].read_frames, [numbers] * 8):
            np.testing.assert_array_equal(frames, kept[0].read_frames(numbers))


def test_an_error_of_a_damaged_cache_names_the_file_to_delete(videos, tmp_path: Path) -> None:
    cache = filled(tmp_path, videos)
    video = cache.videos(videos)[0]
    shard = next(cache.folder.glob("*.h5"))
    content = bytearray(shard.read_bytes())
    where = content.find(video.read_frames(np.array([7])).tobytes()[:64])
    content[where : where + 8] = bytes(8)
    damaged = shard.with_name("damaged.h5")
    damaged.write_bytes(content)
    shard.unlink()
    again = ClipCache(tmp_path, LAYOUT, jpeg=False)
    with refused(MediaError):
        again.videos(videos)[0].read_frames(np.array([7]))
    damaged.with_name("cut.h5").write_bytes(content[:300])
    with refused(StoreError, path=tmp_path / "10fps-32px-8000Hz-20mel-raw/cut.h5", problem="damaged"):
        ClipCache(tmp_path, LAYOUT, jpeg=False)


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as error:
        ClipCache(tmp_path / "file" / "c", LAYOUT)
    assert (error.value.option, error.value.path) == ("cache", tmp_path / "file" / "c")


def test_only_a_file_that_is_damaged_is_to_be_deleted(tmp_path: Path) -> None:
    for number, problem in {errno.EACCES: "system", errno.EMFILE: "system", errno.ENOENT: "missing"}.items():
        error = read_error(tmp_path / "a.h5", OSError(number, os.strerror(number)))
        assert error.problem == problem
        assert "delete" not in str(error)


def test_a_full_disk_is_one_clear_line(videos, tmp_path: Path) -> None:
    """A limit on the size of files, lowered from case to case, stands in for it."""
    limits = [20000, 15000, 10000, 3000, 100]
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from selavi_ref.media import video_cache as cache; from selavi_ref.errors import StoreError\n"
        f"for limit in {limits}:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "    made = cache.ClipCache(f'{sys.argv[1]}/{limit}', cache.CacheFormat(10, 32, 8000, 20), jpeg=False)\n"
        "    try: made.fill(sys.argv[2:], [30.0] * len(sys.argv[2:]), 1)\n"
        "    except StoreError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, str(tmp_path / "cache"), *videos]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.count("cannot be written") == len(limits)
    assert (len(done.stdout.splitlines()), done.stderr) == (len(limits), "")
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
