"""Time of decoding all segments of one long file, beside decoding the file once, and the memory that it takes.

``--minutes``, ``--size 1280x720`` and ``--segment`` choose the file and the segments; ``--file`` takes one of yours.
Seconds are those of the processor in one process, which what else runs on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from backbones.data.clips import cache_format
from backbones.data.settings import ClipSettings
from selavi_ref.datasets import scan
from selavi_ref.media.segments import groups_by_file
from selavi_ref.media.video_cache import CacheFormat, decode_group


def write_file(path: Path, minutes: float, width: int, height: int, grain: float, fps: int = 25) -> None:
    """Write a moving pattern with grain and sound, with key frames as far apart as x264 puts them by default."""
    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 255, (height // 8, width // 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    noise = rng.normal(0, grain, (height, width, 3)).astype(np.float32)  # as a camera's
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=fps, options={"preset": "veryfast", "threads": "2"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = out.add_stream("aac", rate=48000, layout="mono")
        for second in range(round(minutes * 60)):
            for number in range(fps):
                left = (second * fps + number) * 3 % width
                picture = np.roll(noise, number * 7919, axis=0) + pattern[:, left : left + width]
                frame = av.VideoFrame.from_ndarray(np.clip(picture, 0, 255).astype(np.uint8), "rgb24")
                out.mux(video.encode(frame))
            sound = av.AudioFrame.from_ndarray(rng.normal(0, 0.1, (1, 48000)).astype(np.float32), "fltp", "mono")
            sound.sample_rate = 48000
            out.mux(audio.encode(sound))
        out.mux(video.encode())
        out.mux(audio.encode())


def decode_plainly(path: Path) -> None:
    """Decode every frame and sample of a file by PyAV, in one thread."""
    with av.open(str(path)) as file:
        for stream in file.streams:
            stream.codec_context.thread_count = 1
        for packet in file.demux():
            packet.decode()


def decode_segments(names: list[str], layout: CacheFormat) -> None:
    """Decode all segments as `selavi label`, `extract` and a cache do, a group after the other."""
    for rows in groups_by_file(names, layout.group_seconds()):
        decode_group(names[rows[0]], [names[row] for row in rows], layout)


def seconds_of(work: Callable[[], None]) -> float:
    """Return the seconds of the processor that some work takes, the least of two times."""
    times = []
    for _ in range(2):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def main() -> None:
    """Write a file, and print the times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--segment", type=float, default=10.0)
    parser.add_argument("--grain", type=float, default=6.0, help="levels; 0: a picture that is decoded fast")
    parser.add_argument("--file", type=Path, help="take this file, and write none")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    layout = cache_format(ClipSettings())
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "long.mp4"
        if options.file is None:
            write_file(path, options.minutes, width, height, options.grain)
        listed = scan(path, segments=options.segment)
        names, minutes = listed.paths, sum(entry.info.seconds for entry in listed.usable if entry.info) / 60
        megabits = path.stat().st_size * 8e-6 / (60 * minutes)
        plain = seconds_of(lambda: decode_plainly(path))
        segments = seconds_of(lambda: decode_segments(names, layout))
    print(f"{minutes:.3g} minutes of {options.file or options.size} at {megabits:.1f} Mbit/s, {len(names)} segments")
    print(f"plain decoding: {plain:.1f} s; all segments: {segments:.1f} s, {segments / plain:.2f} of it")
    print(f"largest memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main()
