"""Which streams of a file are used, how long they are, and how their frames are turned upright."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from selavi_ref.datasets import scan
from selavi_ref.media import probe, read_clip, read_video
from tests.support.media_files import index_of, tone, write_video

CLIP = {"fps": 10, "frames": 5, "size": 48, "sample_rate": 8000}
SILENT = [
    ("a.webm", {}, "libvpx", "libopus"),
    ("a.mkv", {}, "libx264", "aac"),
    ("live.mkv", {"live": "1"}, "libx264", "aac"),
    ("a.avi", {}, "mpeg4", "mp3"),
    ("a.mp4", {"movflags": "frag_keyframe+empty_moov"}, "libx264", "aac"),
    ("a.ts", {}, "libx264", "aac"),
    ("a.flv", {}, "libx264", "aac"),
]


def write_streams(
    path: Path, container: dict[str, str], codec: str, audio_codec: str, *, seconds: float, audio_seconds: float
) -> Path:
    """Write a video stream and an audio stream, either of which may have no packet."""
    with av.open(str(path), "w", options=container) as out:
        video = out.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = out.add_stream(audio_codec, rate=48000, layout="mono")
        for stream in (video, audio):
            stream.codec_context.open()
        packets = []
        for i in range(round(seconds * 25)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 + i % 200, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode() if seconds else []
        resampler = av.AudioResampler(audio.codec_context.format, "mono", 48000, audio.codec_context.frame_size or 1024)
        if audio_seconds:
            frame = av.AudioFrame.from_ndarray(tone(audio_seconds, 440)[None].astype(np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                packets += audio.encode(part)
            packets += audio.encode()
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    return path


@pytest.mark.parametrize(("name", "container", "codec", "audio_codec"), SILENT)
def test_an_audio_stream_without_packets_is_none(tmp_path, name, container, codec, audio_codec) -> None:
    path = write_streams(tmp_path / name, container, codec, audio_codec, seconds=4, audio_seconds=0)
    info = probe(path)
    assert (info.has_video, info.has_audio, info.audio_seconds, info.sample_rate) == (True, False, 0.0, 0)
    assert info.video_seconds == pytest.approx(4, abs=0.1)
    assert (
        read_clip(path, 1.0, **CLIP).samples.size
        == read_video(path, fps=5, size=48, sample_rate=8000).samples.size
        == 0
    )
    assert [entry.skipped for entry in scan(path, require="both")] == ["no sound"]


@pytest.mark.parametrize(("name", "container", "codec", "audio_codec"), SILENT)
def test_a_video_stream_without_packets_is_none(tmp_path, name, container, codec, audio_codec) -> None:
    path = write_streams(tmp_path / name, container, codec, audio_codec, seconds=0, audio_seconds=3)
    info = probe(path)
    assert (info.has_video, info.has_audio, info.video_seconds) == (False, True, 0.0)
    assert info.audio_seconds == pytest.approx(3, abs=0.1)
    clip = read_clip(path, 1.0, **CLIP)
    assert (len(clip.frames), len(clip.samples)) == (0, 8000)


@pytest.mark.parametrize(("name", "container", "codec", "audio_codec"), SILENT)
def test_each_stream_has_its_own_length(tmp_path, name, container, codec, audio_codec) -> None:
    path = write_streams(tmp_path / name, container, codec, audio_codec, seconds=14, audio_seconds=2)
    info = probe(path)
    assert info.video_seconds == pytest.approx(14, abs=0.1)
    assert info.audio_seconds == pytest.approx(2, abs=0.1)


MATRICES = {  # a, b, c, d: a pixel (x, y) is displayed at (a x + c y, b x + d y)
    "upright": (1, 0, 0, 1),
    "mirrored": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
    "half a turn": (-1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "clockwise": (0, 1, -1, 0),
    "anticlockwise": (0, -1, 1, 0),
    "transversed": (0, -1, -1, 0),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_display_matrix_turns_and_mirrors(tmp_path: Path, name: str) -> None:
    stored = np.zeros((3, 48, 64, 3), np.uint8)
    stored[:, :16, :16] = (255, 255, 255)  # top left
    stored[:, :16, 48:] = (120, 120, 120)  # top right
    path = write_video(tmp_path / "a.mp4", n_frames=3, pictures=stored, rotation=90)
    set_matrix(path, MATRICES[name])
    a, b, c, d = MATRICES[name]
    frame = read_clip(path, 0.0, 0.1, fps=30, frames=1, size=48, sample_rate=8000).frames[0, ..., 0].astype(int)
    assert frame.shape == ((64, 48) if b else (48, 64))
    for (x, y), level in {(-1, -1): 255, (1, -1): 120, (1, 1): 0}.items():
        shown_x, shown_y = a * x + c * y, b * x + d * y
        row = 4 if shown_y < 0 else frame.shape[0] - 5
        column = 4 if shown_x < 0 else frame.shape[1] - 5
        assert abs(frame[row, column] - level) < 25, (x, y)


def set_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Replace the display matrix in the header of the video track of an MP4 file."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16  # after version and flags, times and duration, reserved and layer
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize("first", ["quiet", "loud"])
def test_audio_is_of_the_same_program_as_the_video(tmp_path: Path, first: str) -> None:
    parts = [tmp_path / "quiet.ts", tmp_path / "loud.ts"]
    write_video(parts[0], n_frames=60, size=(128, 96), sound=np.zeros(96000))
    write_video(parts[1], n_frames=60, size=(48, 48), sound=np.stack([tone(2.0, 440)] * 2), layout="stereo")
    join_programs(parts if first == "quiet" else parts[::-1], tmp_path / "both.ts")
    clip = read_clip(tmp_path / "both.ts", 0.5, 1.0, **CLIP)
    assert (np.abs(clip.samples).max() > 0.4) == (clip.frames.shape[1:3] == (48, 48))


def join_programs(parts: list[Path], path: Path) -> None:
    """Join transport streams of one program each to one of several, each with packets of its own program."""
    import subprocess

    inputs = [argument for part in parts for argument in ("-i", str(part))]
    maps = [argument for number in range(len(parts)) for argument in ("-map", f"{number}:v", "-map", f"{number}:a")]
    programs = [
        argument
        for number in range(len(parts))
        for argument in ("-program", f"program_num={number + 1}:st={2 * number}:st={2 * number + 1}")
    ]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *inputs, *maps, "-c", "copy", *programs, str(path)], check=True)


@pytest.mark.parametrize("container", ["mp4", "mkv", "webm"])
def test_pauses_of_minutes_are_read(tmp_path: Path, container: str) -> None:
    codec = "libvpx" if container == "webm" else "libx264"
    path = tmp_path / f"a.{container}"
    write_video(path, n_frames=4, times=[0.0, 1.0, 100.0, 101.0], codec=codec)
    video = read_video(path, fps=1, size=48, sample_rate=8000)
    assert len(video.frames) >= 101
    assert [index_of(video.frames[t]) for t in (0, 1, 50, 99, 100)] == [0, 1, 1, 1, 2]


def test_a_pause_in_the_audio_is_silence(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, n_frames=100, times=[float(t) for t in range(100)], sound=tone(1.0, 440), audio_offset=90.0)
    samples = read_video(path, fps=1, size=48, sample_rate=8000).samples
    assert np.abs(samples[: 89 * 8000]).max() == 0
    assert np.abs(samples[90 * 8000 + 800 : 91 * 8000 - 800]).max() > 0.4
