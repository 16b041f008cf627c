"""What is measured of a file: its format, loudness, colour and prints; kept at once, and safe from damaged files."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from selavi_ref.diagnostics import file_measures as module
from selavi_ref.diagnostics.file_measures import Measures, measure, measure_all, measure_here
from selavi_ref.diagnostics.fingerprints import audio_fingerprint, video_fingerprint
from selavi_ref.errors import SelaviError
from tests.support.media_files import tone, write_video
from tests.support.refusal import refused


def equal(a, b):
    prints = all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("picture_print", "sound_print"))
    return a == b and prints


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.mp4", sound=tone(2, 440))
    write_video(folder / "b.mkv", sound=0.1 * tone(2, 440), audio_codec="libmp3lame", size=(96, 64))
    write_video(folder / "silent.mp4")
    write_video(folder / "sound.mp4", n_frames=0, sound=tone(2, 440))
    write_video(folder / "turned.mp4", sound=tone(2, 440), rotation=90)
    (folder / "damaged.mp4").write_bytes((folder / "a.mp4").read_bytes()[:2000])
    odd = os.fsencode(folder) + b"/na\xffme\n, .mp4"
    with open(odd, "wb") as file:
        file.write((folder / "a.mp4").read_bytes())
    return folder


def test_format_length_loudness_and_colour_are_measured(folder):
    a, b = measure(folder / "a.mp4"), measure(folder / "b.mkv")
    assert (a.container, a.video_codec, a.audio_codec) == ("mov", "h264", "aac")
    assert (b.container, b.video_codec, b.audio_codec) == ("matroska", "h264", "mp3")
    assert (a.width, a.height, a.fps, a.sample_rate) == (64, 48, 30.0, 48000)
    assert a.picture_seconds == pytest.approx(2, abs=0.1)
    assert a.sound_seconds == pytest.approx(2, abs=0.1)
    assert a.bytes == os.path.getsize(folder / "a.mp4")
    assert a.loudness == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.5)
    assert a.loudness - b.loudness == pytest.approx(20, abs=1)
    assert a.red == pytest.approx(a.green, abs=3)
    assert 20 < a.red < 230


def test_what_a_video_lacks_is_none(folder):
    silent, sound = measure(folder / "silent.mp4"), measure(folder / "sound.mp4")
    assert (silent.audio_codec, silent.loudness, silent.sample_rate, silent.sound_print) == ("", None, None, None)
    assert (sound.video_codec, sound.width, sound.red, sound.picture_print) == ("", None, None, None)
    assert sound.loudness is not None
    assert not silent.reason
    assert not sound.reason


def test_a_turned_picture_has_the_size_that_is_shown(folder):
    assert (measure(folder / "turned.mp4").width, measure(folder / "turned.mp4").height) == (48, 64)


def test_a_file_that_cannot_be_read_has_its_reason(folder, tmp_path):
    assert measure(folder / "damaged.mp4").reason
    assert "No such file" in measure(tmp_path / "missing.mp4").reason
    assert measure(tmp_path / "missing.mp4").bytes is None


def test_a_long_video_is_measured_in_the_same_places(folder, monkeypatch):
    whole = measure_here(folder / "a.mp4")
    monkeypatch.setattr(module, "_SHORT", 0.5)
    sought = measure_here(folder / "a.mp4")
    assert sought.red == pytest.approx(whole.red, abs=3)
    assert sought.loudness == pytest.approx(whole.loudness, abs=0.5)


def test_kept_measures_are_not_measured_again_until_the_file_changes(folder, tmp_path, monkeypatch):
    video, keep = tmp_path / "v.mp4", tmp_path / "keep.jsonl"
    video.write_bytes((folder / "a.mp4").read_bytes())
    paths = [str(video), str(folder / "damaged.mp4"), str(video), str(folder / "silent.mp4")]
    done = []
    first = measure_all(paths, keep=keep, progress=done.append)
    assert sum(done) == len(paths)
    assert [bool(one.reason) for one in first] == [False, True, False, False]
    monkeypatch.setattr(module, "run_guarded", None)
    again = measure_all(paths, keep=keep, progress=done.append)
    assert all(map(equal, first, again))
    assert sum(done) == 2 * len(paths)
    monkeypatch.undo()
    video.write_bytes((folder / "b.mkv").read_bytes())
    assert measure_all(paths, keep=keep)[0].container == "matroska"


def test_a_line_that_was_cut_off_counts_for_nothing(folder, tmp_path):
    keep, paths = tmp_path / "keep.jsonl", [str(folder / "a.mp4"), str(folder / "b.mkv")]
    first = measure_all(paths, keep=keep)
    text = keep.read_text()
    for cut in (len(text) - 1, 3):
        keep.write_text(text[:cut])
        assert all(map(equal, first, measure_all(paths, keep=keep)))
        assert all(json.loads(line) for line in keep.read_text().splitlines())


def test_a_job_that_was_killed_goes_on(folder, tmp_path):
    keep = tmp_path / "keep.jsonl"
    for number in range(40):
        (tmp_path / f"{number}.mp4").write_bytes((folder / "a.mp4").read_bytes())
    paths = [str(tmp_path / f"{number}.mp4") for number in range(40)]
    code = f"from selavi_ref.diagnostics.file_measures import measure_all; measure_all({paths!r}, keep={str(keep)!r})"
    job = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    deadline = time.monotonic() + 20
    while (not keep.exists() or keep.stat().st_size < 2000) and time.monotonic() < deadline:
        time.sleep(0.002)
    job.send_signal(signal.SIGKILL)
    job.wait()
    kept = keep.read_text().count("\n")
    assert kept > 0
    done = []
    assert not any(one.reason for one in measure_all(paths, keep=keep, progress=done.append))
    assert done[0] >= kept - 1
    assert sum(done) == 40


def test_odd_names_survive(folder, tmp_path):
    odd = os.fsdecode(os.fsencode(folder) + b"/na\xffme\n, .mp4")
    keep = os.fsdecode(os.fsencode(tmp_path) + b"/ke\xffep")
    first = measure_all([odd], keep=keep)
    assert not first[0].reason
    assert measure_all([odd], keep=keep) == first
    assert first[0].path == odd


def test_a_file_of_something_else_is_not_written_over(folder, tmp_path):
    keep = tmp_path / "notes.txt"
    keep.write_text("my notes\nof last year\n")
    with refused(path=tmp_path / "notes.txt"):
        measure_all([str(folder / "a.mp4")], keep=keep)
    assert keep.read_text() == "my notes\nof last year\n"
    with refused(SelaviError, path=tmp_path / "no/folder"):
        measure_all([str(folder / "a.mp4")], keep=tmp_path / "no" / "folder")


def test_measures_of_a_crash_are_not_saved(folder, tmp_path):
    keep, path = tmp_path / "keep.jsonl", str(folder / "a.mp4")
    assert "longer than" in measure_all([path], keep=keep, limit=1e-4)[0].reason
    assert not measure_all([path], keep=keep)[0].reason


def test_nothing_to_measure_is_no_error(tmp_path):
    assert measure_all([]) == []
    assert measure_all([], keep=tmp_path / "keep") == []


def test_plain_and_silent_things_have_no_print():
    rng = np.random.default_rng(0)
    assert video_fingerprint(np.full((4, 32, 40, 3), 90, np.uint8)) is None
    assert video_fingerprint(np.empty((0, 32, 32, 3), np.uint8)) is None
    assert audio_fingerprint(np.zeros(16000, np.float32), 16000) is None
    assert audio_fingerprint(rng.normal(0, 1e-5, 16000).astype(np.float32), 16000) is None
    assert audio_fingerprint(np.ones(3, np.float32), 16000) is None


@pytest.mark.parametrize("seconds", [0.1, 0.13, 1.0, 10.0])
def test_prints_have_no_mean_and_length_one(seconds):
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 255, (4, 33, 57, 3)).astype(np.uint8)
    samples = rng.normal(0, 0.1, round(16000 * seconds)).astype(np.float32)
    for one, size in ((video_fingerprint(frames), 256), (audio_fingerprint(samples, 16000), 128)):
        assert one.shape == (size,)
        assert one.dtype == np.float32
        assert abs(one.mean()) < 1e-3
        assert np.linalg.norm(one) == pytest.approx(1, abs=1e-2)


def test_louder_and_brighter_copies_have_the_same_print():
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 120, (4, 32, 32, 3)).astype(np.uint8)
    samples = rng.normal(0, 0.05, 16000).astype(np.float32) * np.linspace(0, 1, 16000, dtype=np.float32)
    assert video_fingerprint(frames) @ video_fingerprint(frames + 60) > 0.999
    assert audio_fingerprint(samples, 16000) @ audio_fingerprint(3 * samples, 16000) > 0.999


def test_measures_can_be_compared_without_their_prints():
    one = Measures("a", picture_print=np.ones(256, np.float32))
    assert one == replace(one, picture_print=None)
    assert one.seconds == 0
