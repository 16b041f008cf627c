"""Segments of files, named by one string: no way of reading one returns anything from outside of it."""

from __future__ import annotations

import math
import os
import re
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.errors import MediaError
from selavi_ref.media import decoding, probe, read_clip, read_video
from selavi_ref.media.decoder import run_guarded
from selavi_ref.media.frames import FramePicker
from selavi_ref.media.scenes import SHORTEST_SCENE, scene_bounds
from selavi_ref.media.segment_reader import read_segments
from selavi_ref.media.segments import (
    Segment,
    file_of,
    groups,
    groups_by_file,
    parse_segment,
    read_seconds,
    segment_of,
    windows,
)
from selavi_ref.media.video_cache import CacheFormat, ClipCache, decode_group, decode_video
from tests.support.media_files import index_of, write_video
from tests.support.refusal import refused

OPTIONS = {"fps": 10.0, "size": 32, "sample_rate": 8000}
LAYOUT = CacheFormat(10.0, 32, 8000, 20)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve seconds at 30 frames a second, whose sound gets louder."""
    times = np.arange(12 * 48000) / 48000
    sound = np.sin(2 * np.pi * 440 * times) * times / 24
    return str(write_video(tmp_path_factory.mktemp("videos") / "long.mp4", n_frames=360, sound=sound))


TIMES = st.integers(0, 10**7).map(lambda ms: ms / 1000)


@given(st.text(min_size=1).filter(lambda text: "\0" not in text and "#t=" not in text), TIMES, TIMES)
def test_a_name_is_read_as_it_was_written(path: str, start: float, length: float) -> None:
    for segment in (Segment(path), Segment(path, start), Segment(path, start, round(start + length + 0.001, 3))):
        assert segment_of(segment.name) == segment
        assert file_of(segment.name) == path


def test_a_name_is_a_media_fragment() -> None:
    assert segment_of("a.mp4#t=10,20.5") == Segment("a.mp4", 10.0, 20.5)
    assert segment_of("a.mp4#t=,20") == Segment("a.mp4", 0.0, 20.0)
    assert segment_of("a.mp4#t=10") == Segment("a.mp4", 10.0, math.inf)
    for text in ("a#t=1.mp4", "a.mp4#t=", "a.mp4#t=20,10", "a.mp4#t=b,c", "a.mp4"):
        assert segment_of(text).whole


def test_a_file_that_has_such_a_name_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4#t=1,2"
    assert not segment_of(path).whole
    path.touch()
    assert segment_of(path) == Segment(str(path))


@pytest.mark.parametrize(("text", "seconds"), [("83.5", 83.5), ("1:23.5", 83.5), (" 1:00:00 ", 3600.0), (".5", 0.5)])
def test_times_are_seconds_or_clock_times(text: str, seconds: float) -> None:
    assert read_seconds(text) == seconds


NO_TIMES = ["", " ", "-1", "ten", "1:2:3:4", "2020-01-01", "inf", "nan", "1:99:00", "1:60", "0:61:5", "1_0", "9" * 400]


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time_is_refused(text: str) -> None:
    with refused(option="time", value=text):
        read_seconds(text)


def clock_time(ms: int, parts: int) -> str:
    """A time as people write it: seconds, minutes and seconds, or hours, minutes and seconds."""
    seconds, rest = divmod(ms, 1000)
    if parts == 1:
        return f"{seconds}.{rest:03}"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60) if parts == 3 else (None, minutes)
    return f"{'' if hours is None else f'{hours}:'}{minutes}:{seconds:02}.{rest:03}"


@given(st.integers(0, 10**8), st.integers(1, 3))
def test_a_time_is_read_as_it_was_written(ms: int, parts: int) -> None:
    assert read_seconds(clock_time(ms, parts)) == ms / 1000


@given(st.text("0123456789:.-naif _", max_size=9))
def test_a_text_is_a_time_of_small_minutes_and_seconds_or_refused(text: str) -> None:
    parts = text.strip().split(":")
    plain = all(part.isdecimal() for part in parts[:-1]) and re.fullmatch(r"\d+\.?\d*|\.\d+", parts[-1])
    if plain and len(parts) <= 3 and all(float(p) < 60 and len(p.partition(".")[0]) < 3 for p in parts[1:]):
        seconds = sum(float(part) * 60**place for place, part in enumerate(reversed(parts)))
        assert read_seconds(text) == pytest.approx(seconds, abs=1e-3)
    else:
        with refused(option="time", value=text):
            read_seconds(text)


@given(st.integers(0, 10**8), st.integers(1, 10**6), st.integers(1, 3))
def test_a_part_is_asked_for_in_seconds_or_clock_times(start: int, length: int, parts: int) -> None:
    end = start + length
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "a.mp4")
        Path(file).touch()
        times = [clock_time(ms, parts) for ms in (start, end)]
        asked = parse_segment(f"{file}#t={','.join(times)}")
        assert asked == segment_of(asked.name) == Segment(file, start / 1000, end / 1000)
        assert parse_segment(asked.name) == asked
        with refused(option="end", value=start / 1000, path=Path(file)):
            parse_segment(f"{file}#t={','.join(reversed(times))}")


@pytest.mark.parametrize(
    ("times", "option", "value"),
    [
        *((f"{text},500", "start", text) for text in NO_TIMES if text),
        *((f"2,{text}", "end", text) for text in NO_TIMES),
        ("", "start", ""),
        (",", "end", ""),
        ("5,5", "end", 5.0),
        ("1.0001,1.0004", "end", 1.0),
        (",0", "end", 0.0),
        ("1,2,3", "end", "2,3"),
    ],
)
def test_wrong_times_of_a_part_are_refused_where_its_file_is_there(
    tmp_path: Path, times: str, option: str, value: object
) -> None:
    file = tmp_path / "a.mp4"
    name = f"{file}#t={times}"
    assert parse_segment(name) == segment_of(name)
    file.touch()
    with refused(option=option, value=value, path=file):
        parse_segment(name)
    assert segment_of(name).whole
    assert parse_segment(file) == Segment(str(file))


@given(st.floats(0.01, 1e4), st.floats(1, 600))
def test_windows_tile_the_time(seconds: float, length: float) -> None:
    found = windows(seconds, length)
    assert found[0][0] == 0
    assert found[-1][1] == pytest.approx(seconds, abs=2e-3)
    assert all(a[1] == b[0] for a, b in pairwise(found))
    lengths = np.diff(found, axis=1)[:, 0]
    assert np.allclose(lengths[:-1], length, atol=2e-3)
    assert len(found) == 1 or length / 2 - 2e-3 <= lengths[-1] <= 1.5 * length + 2e-3


NAMES = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 20), st.integers(1, 5)).map(
        lambda t: t[0] if t[1] == 0 else f"{t[0]}#t={t[1]},{t[1] + t[2]}"
    ),
    max_size=12,
)


@given(NAMES, st.integers(1, 30))
def test_groups_hold_every_row_once_and_span_little(names: list[str], longest: int) -> None:
    assert [row for group in groups(names, longest) for row in group] == list(range(len(names)))
    by_file = groups_by_file(names, longest)
    assert sorted(row for group in by_file for row in group) == list(range(len(names)))
    for group in by_file:
        parts = [segment_of(names[row]) for row in group]
        assert len({part.file for part in parts}) == 1
        assert len(parts) == 1 or max(part.end for part in parts) - parts[0].start <= longest


def test_properties_are_those_of_the_part(video: str) -> None:
    assert probe(f"{video}#t=2,5").video_seconds == pytest.approx(3.0)
    assert probe(f"{video}#t=10").audio_seconds == pytest.approx(2.0, abs=0.05)
    assert probe(f"{video}#t=100,110").seconds == 0.0


@pytest.mark.parametrize("start", [0.0, 0.5, 2.0, 100.0, -3.0])
def test_a_clip_lies_within_its_segment(video: str, start: float) -> None:
    clip = read_clip(f"{video}#t=4,7", start, 1.0, frames=10, **OPTIONS)
    begin = min(max(start, 0.0), 2.0)
    whole = read_clip(video, 4 + begin, 1.0, frames=10, **OPTIONS)
    assert clip.start == pytest.approx(begin)
    assert np.array_equal(clip.frames, whole.frames)
    assert np.allclose(clip.samples, whole.samples, atol=1e-3)


def test_a_clip_longer_than_its_segment_repeats_its_last_frame_and_is_silent_after_it(video: str) -> None:
    clip = read_clip(f"{video}#t=4,4.5", 0.0, 1.0, frames=10, **OPTIONS)
    assert [index_of(frame) for frame in clip.frames] == [0, 3, 6, 9, 12] + 5 * [12]
    assert np.abs(clip.samples[:4000]).max() > 0.1
    assert not clip.samples[4000:].any()


def test_segments_are_decoded_together_as_one_by_one(video: str) -> None:
    names = [f"{video}#t={start},{end}" for start, end in ((0, 2), (1.5, 4), (4.05, 6), (6, 6.4), (11, 50), (40, 50))]
    *together, beyond = read_segments(names, **OPTIONS)
    assert isinstance(beyond, MediaError)
    for name, part in zip(names, together, strict=False):
        alone = read_video(name, **OPTIONS)
        assert not isinstance(part, MediaError)
        assert np.array_equal(part.frames, alone.frames)
        assert part.samples == pytest.approx(alone.samples, abs=5e-3)
    whole = read_video(video, **OPTIONS)
    assert np.array_equal(
        np.concatenate([together[0].frames, read_video(f"{video}#t=2", **OPTIONS).frames]), whole.frames
    )


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_frames_that_are_not_shown_need_not_be_decoded(data, tmp_path_factory) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    n = data.draw(st.integers(3, 150))
    gaps = rng.choice([20, 33, 40, 41, 100, 700], n, p=[0.2, 0.2, 0.3, 0.2, 0.08, 0.02]) / 1000
    times = None if data.draw(st.booleans()) else (np.cumsum(gaps) - gaps[0]).tolist()
    codec = data.draw(st.sampled_from(["libx264", "libx264", "libx265"]))
    n_b, name = data.draw(st.integers(0, 8)), data.draw(st.sampled_from(["v.mp4", "v.mkv", "v.ts"]))
    pyramid, g = data.draw(st.sampled_from(["none", "strict", "normal"])), data.draw(st.integers(5, 90))
    x264 = {"bf": str(n_b), "x264-params": f"b-pyramid={pyramid}:b-adapt=0:open-gop={n_b % 2}:scenecut=0"}
    options = x264 if codec == "libx264" else {"x265-params": f"bframes={n_b}:log-level=none"}
    pictures = rng.integers(0, 255, (8, 48, 64, 3), np.uint8)[rng.integers(0, 8, n)]
    path = tmp_path_factory.mktemp("shown") / name
    write_video(path, n_frames=n, fps=25, times=times, pictures=pictures, codec=codec, g=str(g), **options)
    seconds = probe(path).video_seconds
    starts = sorted(
        data.draw(st.lists(st.floats(0, max(0.1, seconds - 0.1)).map(lambda t: round(t, 3)), min_size=2, max_size=6))
    )
    names = [f"{path}#t={start:g},{start + data.draw(st.sampled_from([0.1, 0.5, 2.0])):g}" for start in starts]
    options = OPTIONS | {"fps": data.draw(st.sampled_from([0.5, 2.0, 8.0, 24.0])), "want_audio": False}
    found = read_segments(names, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "_WHOLE_FRAMES", ())
        all_decoded = read_segments(names, **options)
    for one, other in zip(found, all_decoded, strict=True):
        assert type(one) is type(other)
        if not isinstance(one, MediaError):
            assert np.array_equal(one.frames, other.frames)


def test_fewer_frames_are_decoded_than_there_are(video: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed = []
    push = FramePicker.push
    monkeypatch.setattr(FramePicker, "push", lambda self, time, frame: (pushed.append(time), push(self, time, frame)))
    (whole,) = read_segments([f"{video}#t=0,12"], fps=2.0, size=32, sample_rate=8000)
    assert len(whole.frames) == 24
    assert len(set(pushed)) < 300  # of 360


def test_a_cache_keeps_segments_apart(video: str, tmp_path: Path) -> None:
    names = [f"{video}#t=6,9", video, f"{video}#t=0,3", f"{video}#t=3,6", f"{video}#t=90,93"]
    cache = ClipCache(tmp_path, LAYOUT, jpeg=False)
    cache.fill(names, [60.0] * 5, 2)
    for name, cached in zip(names[:4], cache.videos(names), strict=False):
        fresh = decode_video(name, LAYOUT)
        numbers = np.arange(fresh.n_frames)
        assert np.array_equal(cached.read_frames(numbers), fresh.read_frames(numbers))
        assert cached.n_steps == fresh.n_steps
    assert isinstance(cache.videos(names)[4], str)
    assert len(ClipCache(tmp_path, LAYOUT, jpeg=False).videos(names)) == 5


def test_a_group_survives_a_part_that_cannot_be_decoded(video: str) -> None:
    names = [f"{video}#t=10,11", f"{video}#t=50,60"]
    good, bad = run_guarded(decode_group, video, names, LAYOUT)
    assert good.n_frames == 10
    assert isinstance(bad, MediaError)


def coloured(path: Path, seconds: list[float], noise: float = 6.0) -> str:
    """A video of one colour after the other, each with noise and a moving stripe."""
    rng = np.random.default_rng(0)
    frames = []
    for number, length in enumerate(seconds):
        colour = np.array([(220, 40, 40), (40, 200, 60), (60, 60, 230), (200, 200, 40)][number % 4])
        for t in range(round(length * 16)):
            frame = colour + rng.normal(0, noise, (48, 64, 3))
            frame[:, (2 * t) % 60 : (2 * t) % 60 + 4] = 128
            frames.append(frame)
    pictures = np.clip(np.stack(frames), 0, 255).astype(np.uint8)
    return str(write_video(path, n_frames=len(pictures), fps=16, pictures=pictures))


def test_scenes_end_where_the_picture_changes(tmp_path: Path) -> None:
    path = coloured(tmp_path / "a.mp4", [5, 3, 6.5, 1, 4])
    found = scene_bounds(path)
    assert np.allclose([start for start, _ in found], [0, 5, 8, 14.5 + 0 * SHORTEST_SCENE], atol=0.13)
    assert found[-1][1] == pytest.approx(19.5, abs=0.1)


def test_motion_is_no_scene(tmp_path: Path) -> None:
    path = coloured(tmp_path / "a.mp4", [10], noise=20)
    assert len(scene_bounds(path)) == 1


def test_sound_has_no_scenes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", n_frames=0, sound=np.zeros(48000))
    with pytest.raises(MediaError):
        scene_bounds(path)
