"""Scanning: what has not changed is not opened again, what was cut off is continued, and memory stays bounded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from selavi_ref.datasets import Manifest, ManifestEntry, read_manifest, scan
from selavi_ref.datasets.scan import list_videos, scan_to
from selavi_ref.errors import InputError
from tests.support.listening import Listening
from tests.support.media_files import tone, write_video
from tests.support.refusal import refused

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good videos, a silent one and a text."""
    root = tmp_path / "videos"
    root.mkdir()
    write_video(root / "a.mp4", n_frames=60, sound=tone(2.0, 440))
    write_video(root / "b.mp4", n_frames=45, sound=tone(1.5, 440))
    write_video(root / "silent.mp4", n_frames=60)
    (root / "text.mp4").write_text("no video")
    return root


def test_sounds_and_pictures_beside_the_videos_are_not_left_out_in_silence(folder: Path) -> None:
    (folder / "poster.jpg").write_bytes(b"a picture")
    (folder / "notes.txt").write_text("no media")
    heard, of_list = Listening(), Listening()
    scan(folder, reporter=heard)
    assert any("1 .jpg" in message and ".txt" not in message for message in heard.messages)
    scan(list_videos(folder), reporter=of_list)
    assert not any(".jpg" in message for message in of_list.messages)


def exchange(path: Path, content: bytes) -> None:
    """Write another content of the same length, and let the file look as old as before: who opens it will see."""
    before = path.stat()
    path.write_bytes(content[: before.st_size].ljust(before.st_size, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_only_files_that_changed_are_opened_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "list.csv"
    first = scan_to(out, list_videos(folder))
    assert [Path(path).name for path in first.usable.paths] == ["a.mp4", "b.mp4"]
    exchange(folder / "a.mp4", b"other")
    exchange(folder / "text.mp4", b"also")
    assert scan_to(out, list_videos(folder)).entries == first.entries
    (folder / "b.mp4").write_text("no video any more")
    (folder / "silent.mp4").unlink()
    write_video(folder / "new.mp4", n_frames=60, sound=tone(2.0, 440))
    again = scan_to(out, list_videos(folder))
    reasons = {Path(entry.path).name: entry.skipped for entry in again}
    assert sorted(reasons) == ["a.mp4", "b.mp4", "new.mp4", "text.mp4"]
    assert [name for name, why in reasons.items() if not why] == ["a.mp4", "new.mp4"]
    assert read_manifest(out).entries == again.entries
    os.utime(folder / "a.mp4")
    assert [Path(path).name for path in scan_to(out, list_videos(folder)).usable.paths] == ["new.mp4"]


def test_a_list_that_was_scanned_is_not_opened_again_either(folder: Path, tmp_path: Path) -> None:
    scan_to(tmp_path / "list.csv", list_videos(folder))
    exchange(folder / "a.mp4", b"other")
    assert len(scan(tmp_path / "list.csv").usable) == 2


def test_what_is_asked_of_a_video_may_change_from_scan_to_scan(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "list.csv"
    listed = list_videos(folder)
    counts = [
        len(scan_to(out, listed, **wanted).usable)
        for wanted in ({}, {"min_seconds": 1.8}, {"require": "picture"}, {"require": "any", "min_seconds": 0}, {})
    ]
    assert counts == [2, 1, 3, 3, 2]
    with refused(option="require", value="sound"):
        scan(folder, require="sound")


def test_a_file_that_took_too_long_is_given_another_chance(folder: Path, tmp_path: Path) -> None:
    hurried = scan_to(tmp_path / "list.csv", list_videos(folder), limit=1e-5)
    reasons = [entry.skipped for entry in hurried.skipped]
    assert "reading it took longer than 1e-05 s" in reasons
    assert len(scan_to(tmp_path / "list.csv", list_videos(folder)).usable) == 2


def test_a_missing_file_keeps_the_reason_that_its_list_gave(tmp_path: Path) -> None:
    entries = [ManifestEntry(str(tmp_path / "a.mp4"), skipped="not in the folder"), ManifestEntry("/b.mp4")]
    assert [e.skipped for e in scan(Manifest(entries))] == ["not in the folder", "No such file or directory"]


def test_other_files_are_not_written_over(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\na.mp4,3\n")
    for name in ("labels.csv", "none/list.csv"):
        with pytest.raises(InputError) as error:
            scan_to(tmp_path / name, list_videos(folder))
        assert error.value.path == tmp_path / name


@pytest.mark.parametrize("end", ["", "\n", '\na.mp4,"cl', "\nvideos/b.mp4,,,1.5,1.5,30"])
def test_what_a_cut_off_scan_left_is_used(folder: Path, tmp_path: Path, end: str) -> None:
    out = tmp_path / "list.csv"
    whole = scan_to(out, list_videos(folder))
    lines = out.read_text().splitlines()
    out.unlink()
    (tmp_path / "list.csv.partial").write_text("\n".join(lines[:2]) + end)
    exchange(folder / "a.mp4", b"other")
    assert scan_to(out, list_videos(folder)).entries == whole.entries
    assert not (tmp_path / "list.csv.partial").exists()


def test_a_killed_scan_goes_on_where_it_was(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    write_video(root / "0000.mp4", n_frames=60, sound=tone(2.0, 440))
    for number in range(1, 800):
        os.link(root / "0000.mp4", root / f"{number:04d}.mp4")
    command = [sys.executable, "-m", "cli", "scan", str(root), "--out", "list.csv", "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    partial = tmp_path / "list.csv.partial"
    running = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (partial.exists() and partial.stat().st_size > 20_000):
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "list.csv").exists()
    n_known = len(read_manifest(partial))
    assert 100 < n_known < 800
    exchange(root / "0000.mp4", b"other")  # all links: whoever is opened from now on is no video
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    n_usable = len(read_manifest(tmp_path / "list.csv").usable)
    assert n_known - 1 <= n_usable <= n_known
    assert f"{n_usable} of 800 videos can be used" in done.stdout


def test_files_of_any_name_are_scanned_and_known_again(tmp_path: Path) -> None:
    names = ["a b.mp4", "q\"uo,te's.mp4", "new\nline.mp4", "-option.mp4", "🎬.mp4", os.fsdecode(b"\xff\xfe.mp4")]
    root = tmp_path / "cla\nss"
    root.mkdir()
    first = write_video(tmp_path / "a.mp4", n_frames=60, sound=tone(2.0, 440))
    for name in names:
        os.link(first, root / name)
    found = scan_to(tmp_path / "list.csv", list_videos(root))
    assert len(found.usable) == len(names)
    exchange(first, b"other")
    assert scan_to(tmp_path / "list.csv", list_videos(root)).entries == found.entries
    assert scan(tmp_path / "list.csv").paths == found.paths


MEASURE = """
import sys
from selavi_ref.datasets.scan import list_videos, scan_to
manifest = scan_to(sys.argv[2], list_videos(sys.argv[1]))
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(len(manifest), peak)  # kB since the program began, unlike getrusage's, which is that of its parent at first
"""


@pytest.mark.parametrize("n_files", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.processes
def test_memory_grows_by_little_more_than_the_list_itself(tmp_path: Path, n_files: int) -> None:
    """Files with as long a path and as much to tell as real ones: at most 3 kB each."""
    peaks = {}
    few = [write_video(tmp_path / f"{n}.mp4", n_frames=2, size=(16, 16), sound=tone(0.1, 440)) for n in range(3)]
    for n in (200, n_files):
        root = tmp_path / f"{n} videos"
        for number in range(n):
            place = root / f"class {number % 50}" / f"{number:06d} a name as long as names of downloads are.mp4"
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(few[number // 50_000], place)  # file systems allow some 65,000 links of one file
        command = [sys.executable, "-c", MEASURE, str(root), str(tmp_path / f"{n}.csv")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found, peaks[n] = map(int, done.stdout.split())
        assert found == n
    assert (peaks[n_files] - peaks[200]) * 1024 / (n_files - 200) < 3000


def test_one_split_of_a_list(tmp_path: Path) -> None:
    entries = [ManifestEntry("/a.mp4", split="train"), ManifestEntry("/b.mp4", split="test")]
    assert Manifest(entries).only("test").entries == [replace(entries[1])]
