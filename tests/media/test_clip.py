from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from selavi_ref.errors import InputError, MediaError
from selavi_ref.media import probe, read_clip, read_video
from tests.support.media_files import bursts, index_of, tone, write_video
from tests.support.refusal import refused

SETTINGS = {"fps": 30, "frames": 30, "size": 48, "sample_rate": 24000}


def indices(frames: np.ndarray) -> list[int]:
    return [index_of(frame) for frame in frames]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds at 30 frames a second, with B frames, a key frame every 20 frames, and bursts at known moments."""
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    return write_video(path, n_frames=90, sound=bursts(3.0, [0.5, 1.25, 2.0, 2.75]))


@pytest.mark.parametrize("start", [0.0, 1 / 30, 0.5, 19 / 30, 20 / 30, 1.0, 40 / 30, 1.9, 2.0])
def test_frames_are_exactly_those_on_display(plain: Path, start: float) -> None:
    clip = read_clip(plain, start, 1.0, **SETTINGS)
    first = round(start * 30)
    assert clip.frames.shape == (30, 48, 64, 3)
    assert clip.frames.dtype == np.uint8
    assert indices(clip.frames) == [(first + t) % 30 for t in range(30)]
    assert clip.start == pytest.approx(start)


def test_between_two_frames_the_earlier_one_is_on_display(plain: Path) -> None:
    clip = read_clip(plain, 10.9 / 30, 0.5, fps=7.5, frames=4, size=48, sample_rate=24000)
    assert indices(clip.frames) == [10, 14, 18, 22]


def test_a_slow_source_repeats_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "slow.mp4", n_frames=20, fps=10)
    assert indices(read_clip(path, 0.5, fps=30, frames=9, size=48, sample_rate=8000).frames) == [
        5,
        5,
        5,
        6,
        6,
        6,
        7,
        7,
        7,
    ]


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_variable_frame_rates_keep_their_times(tmp_path: Path, ending: str) -> None:
    times = [0.0, 0.1, 0.15, 0.2, 0.7, 0.75, 1.3, 1.31, 1.9, 2.0]
    path = write_video(tmp_path / f"vfr.{ending}", n_frames=10, times=times, bf="0")
    clip = read_clip(path, 0.05, fps=10, frames=16, size=48, sample_rate=8000)
    wanted = clip.start + np.arange(16) / 10
    assert indices(clip.frames) == [int(np.searchsorted(times, t + 1e-3, "right")) - 1 for t in wanted]


@pytest.mark.parametrize("moment", [0.5, 1.25, 2.0, 2.75])
@pytest.mark.parametrize("start", [0.0, 0.31, 1.0, 1.7])
def test_sound_is_exact_to_the_sample(plain: Path, start: float, moment: float) -> None:
    clip = read_clip(plain, start, 1.2, **SETTINGS)
    assert clip.samples.shape == (28800,)
    assert clip.samples.dtype == np.float32
    if clip.start + 0.02 < moment < clip.start + 1.18:
        near = clip.samples[(where := round((moment - clip.start) * 24000)) - 200 : where + 201]
        energy = near**2 / (near**2).sum()
        assert (np.arange(-200, 201) * energy).sum() == pytest.approx(0, abs=1.0)
        assert near.max() == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(("ending", "codec", "audio_codec", "rate"), [
    ("mp4", "libx264", "aac", 44100),
    ("mkv", "libx264", "aac", 44100),
    ("webm", "libvpx", "libopus", 48000),
    ("avi", "mjpeg", "pcm_s16le", 44100),
    ("mov", "libx264", "pcm_s16le", 22050),
    ("mpg", "mpeg2video", "mp2", 44100),
    ("ts", "libx264", "aac", 48000),
    ("flv", "libx264", "aac", 44100),
])  # fmt: skip
def test_picture_and_sound_stay_aligned_in_any_container(
    tmp_path: Path, ending: str, codec: str, audio_codec: str, rate: int
) -> None:
    """The burst must come out where it was put, and within one frame of its picture."""
    sound = bursts(3.0, [1.5], rate)
    pictures = np.full((75, 48, 64, 3), 30, np.uint8)
    pictures[37:] = 220  # from 1.48 s on
    path = write_video(
        tmp_path / f"a.{ending}", n_frames=75, fps=25, codec=codec, audio_codec=audio_codec, sound=sound,
        sample_rate=rate, pictures=pictures, pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p",
    )  # fmt: skip
    for start in (0.0, 0.9, 1.2):
        clip = read_clip(path, start, 1.0, fps=25, frames=25, size=48, sample_rate=16000)
        if clip.start <= 1.45 < clip.start + 0.9:
            bright = clip.start + int(np.argmax(clip.frames.mean(axis=(1, 2, 3)) > 128)) / 25
            heard = clip.start + float(np.argmax(np.abs(clip.samples))) / 16000
            late = 0.04 if ending == "avi" else 0  # PyAV's AVI writer puts an empty picture after the first
            assert bright == pytest.approx(1.48 + late, abs=0.041), start
            assert heard == pytest.approx(1.5, abs=0.02), start


def test_a_sound_that_begins_late_is_silent_before(tmp_path: Path) -> None:
    path = write_video(tmp_path / "late.mkv", sound=tone(1.5, 440), audio_offset=0.5, audio_codec="pcm_s16le")
    samples = read_clip(path, 0.0, 1.0, **SETTINGS).samples
    assert np.abs(samples[:11900]).max() < 0.01
    assert np.sqrt(np.mean(samples[12100:] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("wanted", [16000, 24000, 48000])
def test_a_tone_keeps_pitch_and_loudness_at_any_rate(tmp_path: Path, rate: int, wanted: int) -> None:
    path = write_video(tmp_path / "tone.mov", sound=tone(2.0, 1000, rate), sample_rate=rate, audio_codec="pcm_s16le")
    clip = read_clip(path, 0.25, 1.0, fps=10, frames=2, size=16, sample_rate=wanted)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * (clip.start + np.arange(wanted) / wanted))
    np.testing.assert_allclose(clip.samples, expected, atol=2e-3)


def test_mono_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    left, right = tone(2.0, 500), 0.2 * tone(2.0, 1500)
    path = write_video(
        tmp_path / "stereo.mov", sound=np.stack([left, right]), layout="stereo", audio_codec="pcm_s16le"
    )  # fmt: skip
    samples = read_clip(path, 0.0, 1.0, fps=10, frames=1, size=16, sample_rate=48000).samples
    np.testing.assert_allclose(samples, ((left + right) / 2)[:48000], atol=2e-3)


def test_a_clip_past_the_end_is_moved_back(plain: Path) -> None:
    clip = read_clip(plain, 2.9, 1.0, **SETTINGS)
    assert clip.start == pytest.approx(2.0, abs=1e-3)
    assert indices(clip.frames) == [(60 + t) % 30 for t in range(30)]


def test_a_clip_longer_than_the_video_repeats_the_last_frame_and_ends_in_silence(tmp_path: Path) -> None:
    path = write_video(tmp_path / "short.mp4", n_frames=10, sound=tone(1 / 3, 440))
    clip = read_clip(path, 0.2, 1.0, **SETTINGS)
    assert clip.start == 0
    assert indices(clip.frames) == [*range(10), *[9] * 20]
    assert clip.samples.shape == (24000,)
    assert np.abs(clip.samples[12000:]).max() < 1e-3


def test_a_negative_start_is_moved_to_the_beginning(plain: Path) -> None:
    assert read_clip(plain, -3.0, 1.0, **SETTINGS).start == 0


def test_clips_cut_out_of_the_whole_are_the_clips_read_alone(plain: Path) -> None:
    whole = read_video(plain, fps=10, size=32, sample_rate=16000)
    assert len(whole.frames) == 30
    assert len(whole.samples) == 48000
    for first in (0, 7, 15, 20):
        clip = read_clip(plain, first / 10, 1.0, fps=10, frames=10, size=32, sample_rate=16000)
        np.testing.assert_array_equal(clip.frames, whole.frames[first : first + 10])
        np.testing.assert_allclose(clip.samples, whole.samples[first * 1600 : first * 1600 + 16000], atol=1e-5)


def test_a_shorter_side_becomes_size_and_the_shape_is_kept(tmp_path: Path) -> None:
    wide = write_video(tmp_path / "wide.mp4", n_frames=5, size=(102, 50))
    tall = write_video(tmp_path / "tall.mp4", n_frames=5, size=(34, 90))
    assert read_clip(wide, 0, 0.1, fps=30, frames=2, size=25, sample_rate=8000).frames.shape == (2, 25, 51, 3)
    assert read_clip(tall, 0, 0.1, fps=30, frames=2, size=17, sample_rate=8000).frames.shape == (2, 45, 17, 3)


@pytest.mark.parametrize(("pix_fmt", "size"), [("yuv444p", (37, 23)), ("yuv422p", (38, 23)), ("yuv420p10le", (64, 48))])
def test_odd_sizes_and_other_pixel_formats(tmp_path: Path, pix_fmt: str, size: tuple[int, int]) -> None:
    path = write_video(tmp_path / "odd.mp4", n_frames=10, size=size, pix_fmt=pix_fmt)
    clip = read_clip(path, 0.1, 0.1, fps=30, frames=3, size=20, sample_rate=8000)
    assert min(clip.frames.shape[1:3]) == 20
    assert indices(clip.frames) == [3, 4, 5]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_videos_are_turned_upright(tmp_path: Path, rotation: int) -> None:
    """The top left corner of the stored picture is bright; turning it anticlockwise moves it."""
    pictures = np.full((5, 48, 64, 3), 20, np.uint8)
    pictures[:, :24, :32] = 220
    path = write_video(tmp_path / "turned.mp4", n_frames=5, pictures=pictures, rotation=rotation)
    frames = read_clip(path, 0, 0.1, fps=30, frames=1, size=48, sample_rate=8000).frames
    expected = np.rot90(pictures[0], rotation // 90)
    assert frames[0].shape == expected.shape
    np.testing.assert_allclose(frames[0, ..., 0].astype(float)[::8, ::8], expected[::8, ::8, 0], atol=40)
    info = probe(path)
    assert (info.width, info.height) == (expected.shape[1], expected.shape[0])


def test_a_clip_of_one_modality(plain: Path, tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", n_frames=40)
    deaf = write_video(tmp_path / "deaf.mp4", n_frames=0, sound=tone(2.0, 440))
    assert read_clip(silent, 0, 1.0, **SETTINGS).samples.shape == (0,)
    assert read_clip(deaf, 0, 1.0, **SETTINGS).frames.shape == (0, 48, 48, 3)
    assert read_clip(deaf, 0.5, 1.0, **SETTINGS).samples.shape == (24000,)
    assert read_clip(plain, 0, 1.0, **SETTINGS, want_audio=False).samples.shape == (0,)
    assert read_clip(plain, 0, 1.0, **SETTINGS, want_video=False).frames.shape == (0, 48, 48, 3)
    assert read_video(silent, fps=10, size=16, sample_rate=8000).samples.shape == (0,)
    assert read_video(deaf, fps=10, size=16, sample_rate=8000).frames.shape == (0, 16, 16, 3)


def test_arguments_out_of_range_are_input_errors(plain: Path) -> None:
    with pytest.raises(InputError) as error:
        read_clip(plain, 0, 1.0, **{**SETTINGS, "fps": 0})
    assert (error.value.option, error.value.value) == ("fps", 0)
    with pytest.raises(InputError) as error:
        read_clip(plain, float("nan"), 1.0, **SETTINGS)
    assert error.value.option == "start"


@pytest.mark.parametrize(
    "content", [b"", b"WEBVTT\n\n1\n00:00.000 --> 00:01.000\nhello\n", b"just text\n" * 50, bytes(4096)]
)
def test_what_is_no_video_is_reported_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fake.mp4"
    path.write_bytes(content)
    for read in (
        lambda: read_clip(path, 0, 1.0, **SETTINGS),
        lambda: read_video(path, fps=10, size=16, sample_rate=8000),
    ):
        with refused(MediaError, path=tmp_path / "fake.mp4") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_missing_files_folders_and_pipes_are_reported(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for name in ("missing.mp4", "pipe.mp4", "."):
        with pytest.raises(MediaError):
            probe(tmp_path / name)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_truncated_files_give_what_is_there_or_a_reason(tmp_path: Path, ending: str, share: float) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (90, 48, 64, 3), np.uint8)
    path = write_video(tmp_path / f"whole.{ending}", n_frames=90, pictures=noise, sound=tone(3.0, 440))
    whole = read_clip(path, 0.0, 0.2, fps=30, frames=3, size=48, sample_rate=24000)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    for start in (0.0, 2.0):
        try:
            clip = read_clip(path, start, 0.2, fps=30, frames=3, size=48, sample_rate=24000)
        except MediaError:
            continue
        assert clip.frames.shape == (3, 48, 64, 3)
        if start == 0.0:
            np.testing.assert_array_equal(clip.frames, whole.frames)


def test_damaged_files_neither_crash_nor_leak(tmp_path: Path) -> None:
    path = write_video(tmp_path / "good.mp4", n_frames=60, sound=tone(2.0, 440), movflags="faststart")
    content = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged.mp4"
    handles = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    n_refused = 0
    for _ in range(60):
        broken = content.copy()
        at = rng.integers(0, len(broken), rng.integers(1, 40))
        broken[at] = rng.integers(0, 256, len(at))
        damaged.write_bytes(broken.tobytes())
        try:
            assert read_clip(damaged, 0.5, 1.0, **SETTINGS).frames.shape[0] in (0, 30)
            read_video(damaged, fps=10, size=16, sample_rate=8000)
        except MediaError:
            n_refused += 1
    assert n_refused < 60
    if handles:
        assert len(os.listdir("/proc/self/fd")) <= handles + 1


@pytest.mark.parametrize(
    "name", ["with space.mp4", 'it\'s "quoted".mp4', "new\nline.mp4", "a:b%03d.mp4", b"\xff\xfe.mp4"]
)
def test_hostile_names_are_read(tmp_path: Path, name: str | bytes) -> None:
    source = write_video(tmp_path / "source.mp4", n_frames=10)
    target = tmp_path / os.fsdecode(name)
    os.rename(source, target)
    assert read_clip(target, 0, 0.1, fps=30, frames=2, size=16, sample_rate=8000).frames.shape[0] == 2
    target.write_bytes(b"")
    with pytest.raises(MediaError) as caught:
        probe(target)
    assert str(caught.value).isprintable()
    str(caught.value).encode()


def test_a_picture_that_changes_its_size_on_the_way_keeps_that_of_its_start(tmp_path: Path) -> None:
    """Two transport streams one after the other, as in a broadcast."""
    small = write_video(tmp_path / "small.ts", n_frames=30, codec="mpeg2video", size=(64, 48))
    large = write_video(tmp_path / "large.ts", n_frames=30, codec="mpeg2video", size=(96, 96))
    (tmp_path / "both.ts").write_bytes(small.read_bytes() + large.read_bytes())
    assert read_video(tmp_path / "both.ts", fps=10, size=24, sample_rate=8000).frames.shape[1:] == (24, 32, 3)
