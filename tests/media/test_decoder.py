"""Decoding in a separate process: a crash or a hang there fails one call, and never the program."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from selavi_ref.errors import MediaError, SelaviError
from selavi_ref.media import Decoder, SquareCrops, decoder, probe, read_clip
from selavi_ref.media.decoder import DecoderError, parallel_map, run_guarded
from selavi_ref.media.shared_memory import SharedMemory
from tests.support import broken_decoders
from tests.support.media_files import tone, write_video
from tests.support.refusal import refused

CLIP = {"fps": 30, "frames": 5, "size": 24, "crops": SquareCrops(20, ((0, 0), (0.5, 1))), "sample_rate": 8000}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("decoder") / "a.mp4", sound=tone(2.0, 440))


@pytest.fixture
def own() -> Decoder:
    with Decoder() as made:
        yield made


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(happened, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not happened() and time.monotonic() < end:
        time.sleep(0.02)
    return happened()


def test_it_gives_what_the_call_gives_here(own: Decoder, video: Path) -> None:
    assert own.call(probe, video) == probe(video)
    there, here = own.call(read_clip, video, 0.5, 1.0, **CLIP), read_clip(video, 0.5, 1.0, **CLIP)
    np.testing.assert_array_equal(there.frames, here.frames)
    np.testing.assert_array_equal(there.samples, here.samples)


def test_relative_paths_start_from_where_the_program_is(
    own: Decoder, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.call(probe, video)
    monkeypatch.chdir(video.parent)
    assert own.call(probe, "a.mp4").path == "a.mp4"
    monkeypatch.chdir(tmp_path)
    with refused(MediaError, path=Path("a.mp4")):
        own.call(probe, "a.mp4")


def test_one_process_serves_many_calls(own: Decoder) -> None:
    numbers = {own.call(broken_decoders.process_number, "a.mp4") for _ in range(5)}
    assert len(numbers) == 1
    assert os.getpid() not in numbers


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (broken_decoders.crash, r"the decoder crashed on it \(SIGSEGV\)"),
        (broken_decoders.hang, r"reading it took longer than 0\.3 s"),
        (broken_decoders.leave, "the decoder ended on it with status 3"),
        (broken_decoders.swallow, "reading it takes more than 8 GiB of memory"),
    ],
    ids=["crash", "hang", "leave", "swallow"],
)
def test_a_failure_is_an_error_with_the_file_in_one_line_and_the_next_call_works(
    own: Decoder, video: Path, call, why: str
) -> None:
    with pytest.raises(DecoderError, match=rf"^'bad\\n\.mp4': {why}$"):
        own.call(call, "bad\n.mp4", limit=0.3)
    assert own.call(probe, video).has_video


def test_a_process_that_does_not_hear_its_alarm_is_killed(own: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_GRACE", 0.3)
    before = own.call(broken_decoders.process_number, "a.mp4")
    with refused(DecoderError, path=Path("a.mp4")):
        own.call(broken_decoders.hang, "a.mp4", limit=0.2, deaf=True)
    assert not is_running(before)


def test_errors_of_a_call_are_raised_here(own: Decoder, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with refused(MediaError, path=tmp_path / "text.mp4"):
        own.call(probe, tmp_path / "text.mp4")
    with pytest.raises(RuntimeError, match="KeyError: 'a bug'"):
        own.call(broken_decoders.stumble, "a.mp4")


def test_threads_have_decoders_of_their_own_which_end_with_them(video: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        numbers = set(pool.map(lambda _: run_guarded(broken_decoders.process_number, video), range(30)))
    assert 1 <= len(numbers) <= 3
    gc.collect()
    assert wait_until(lambda: not any(map(is_running, numbers)))


def test_a_decoder_that_is_garbage_closes_nothing_twice(tmp_path: Path) -> None:
    # The garbage collector takes the ends of the pipes before the decoder: their numbers may be other files by then.
    made = Decoder()
    made.call(broken_decoders.echo, "a.mp4", 1)
    ends = [made._requests, made._answers]
    for end in ends:
        end.__del__()
    with open(tmp_path / "other", "wb") as other:  # would get the number of a pipe that is closed already
        assert other.fileno() not in [end.fileno() for end in ends]
        made.close()
        other.write(b"whole")
    assert (tmp_path / "other").read_bytes() == b"whole"


def process_numbers(count: int = 1) -> list[int]:
    return [
        number
        for _, number in parallel_map(lambda _: run_guarded(broken_decoders.process_number, "a"), range(count), 1, 1)
    ]


def test_processes_are_kept_for_the_next_call_unless_they_have_ended() -> None:
    (first,) = set(process_numbers(3))
    assert set(process_numbers(2)) == {first}
    os.kill(first, signal.SIGKILL)
    assert wait_until(lambda: not is_running(first))
    assert first not in process_numbers()


def test_a_process_that_holds_much_memory_is_not_kept() -> None:
    (first,) = process_numbers()
    zeros = [zeros for _, zeros in parallel_map(lambda n: run_guarded(np.zeros, n, np.uint8), [100 << 20], 1, 1)]
    assert zeros[0].nbytes == 100 << 20
    assert wait_until(lambda: not is_running(first))


def test_what_is_under_way_is_given_up_when_nobody_waits_for_it() -> None:
    def work(seconds: float) -> float:
        return (
            run_guarded(broken_decoders.echo, "a.mp4", seconds)
            if seconds < 1
            else run_guarded(broken_decoders.hang, "a.mp4")
        )

    kept = process_numbers()
    results = parallel_map(work, [0.0, 0.1, 60.0, 60.0, 60.0], 2, 1)
    assert next(results) == (0.0, 0.0)
    begin = time.monotonic()
    results.close()
    assert time.monotonic() - begin < 30  # hanging calls take a minute
    assert not any(map(is_running, kept))
    assert not set(process_numbers()) & set(kept)


@pytest.mark.parametrize("slow", ["start", "work"])
def test_a_process_that_starts_while_it_is_given_up_does_not_work_on(
    slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, start = threading.local(), decoder._start_process

    def start_slowly(files: tuple[int, ...]) -> subprocess.Popen[bytes]:
        time.sleep(1.0 if getattr(wanted, "slow", False) else 0.0)
        return start(files)

    def work(item: int) -> int:
        if item == 0:
            return run_guarded(broken_decoders.echo, "a.mp4", item)
        wanted.slow = slow == "start"
        time.sleep(1.0 if slow == "work" else 0.0)
        return run_guarded(broken_decoders.hang, "a.mp4")

    monkeypatch.setattr(decoder, "_start_process", start_slowly)
    decoder._idle.close()
    results = parallel_map(work, range(4), 2, 1)
    assert next(results) == (0, 0)
    begin = time.monotonic()
    results.close()
    assert time.monotonic() - begin < 30  # hanging calls take a minute


def test_a_killed_decoder_starts_anew_and_a_retired_one_never(own: Decoder) -> None:
    first = own.call(broken_decoders.process_number, "a.mp4")
    own.kill()
    assert wait_until(lambda: not is_running(first))
    with refused(DecoderError):
        own.call(broken_decoders.echo, "a.mp4", 1)
    assert own.call(broken_decoders.process_number, "a.mp4") != first
    own.retire()
    for _ in range(2):
        with refused(SelaviError):
            own.call(broken_decoders.echo, "a.mp4", 1)


def test_a_decoder_that_cannot_be_started_is_an_error_and_starts_later(
    own: Decoder, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as changed:
        changed.setattr(sys, "executable", "/no/such/python")
        for _ in range(2):
            with refused(SelaviError):
                own.call(probe, video)
    assert own.call(probe, video).has_video


def test_a_forked_process_has_a_decoder_of_its_own(video: Path) -> None:
    here = [run_guarded(broken_decoders.process_number, video), *process_numbers()]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        there = [run_guarded(broken_decoders.process_number, video), *process_numbers()]
        os.write(writing, " ".join(map(str, there)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    there = [int(number) for number in os.read(reading, 40).split()]
    assert len({*here, *there}) == 4
    assert [run_guarded(broken_decoders.process_number, video), *process_numbers()] == here
    assert wait_until(lambda: not any(map(is_running, there)))


@pytest.mark.parametrize(
    "calls", ["[(0, run_guarded(number, 'a'))]", "parallel_map(lambda _: run_guarded(number, 'a'), [0], 1, 1)"]
)
@pytest.mark.parametrize("is_killed", [True, False])
def test_it_ends_with_the_program(calls: str, is_killed: bool) -> None:
    program = (
        "import sys, time; sys.path[:0] = sys.argv[1].split(':');"
        "from tests.support.broken_decoders import process_number as number;"
        "from selavi_ref.media.decoder import parallel_map, run_guarded;"
        f"print(*dict({calls}).values(), flush=True); time.sleep({60 * is_killed})"
    )
    running = subprocess.Popen([sys.executable, "-c", program, ":".join(sys.path)], stdout=subprocess.PIPE)
    assert running.stdout is not None
    number = int(running.stdout.readline())
    if is_killed:
        assert is_running(number)
        running.kill()
    running.wait()
    assert wait_until(lambda: not is_running(number))


arrays = hnp.arrays(
    st.sampled_from([np.uint8, np.float32, np.int64]), hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=50)
)


@given(st.lists(st.lists(arrays, max_size=4), min_size=1, max_size=5))
def test_arrays_of_any_size_pass_through_shared_memory(messages: list[list[np.ndarray]]) -> None:
    here = SharedMemory()
    there = SharedMemory(os.dup(here.file))
    for message in messages:
        received = here.take(*there.put(("text", message)))
        assert received[0] == "text"
        for got, sent in zip(received[1], message, strict=True):
            np.testing.assert_array_equal(got, sent)
            assert got.dtype == sent.dtype
            assert got.flags.writeable
    here.close()
    there.close()
