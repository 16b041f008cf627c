"""Time of decoding all segments of one long file, beside decoding the file once, and the memory that it takes.

Run ``python benchmarks/segments.py`` on a machine that does nothing else; ``--minutes``, ``--size 1280x720`` and
``--segment`` choose the file and the segments. All is done by one decoding process.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from backbones.data.clips import Crop, cache_format
from backbones.data.segment_clips import SequentialClips
from backbones.data.settings import ClipSettings
from selavi_ref.datasets import scan
from selavi_ref.media.video_cache import ClipCache


def write_file(path: Path, minutes: float, width: int, height: int, fps: int = 25) -> None:
    """Write a video of moving noise with sound, with key frames as far apart as x264 puts them by default."""
    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 255, (height // 8, width // 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=fps, options={"preset": "veryfast", "threads": "2"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = out.add_stream("aac", rate=48000, layout="mono")
        for second in range(round(minutes * 60)):
            for number in range(fps):
                left = (second * fps + number) * 3 % width
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pattern[:, left : left + width]), "rgb24")
                out.mux(video.encode(frame))
            sound = av.AudioFrame.from_ndarray(rng.normal(0, 0.1, (1, 48000)).astype(np.float32), "fltp", "mono")
            sound.sample_rate = 48000
            out.mux(audio.encode(sound))
        out.mux(video.encode())
        out.mux(audio.encode())


def decode_plainly(path: Path) -> float:
    """Return the seconds in which PyAV decodes every frame and sample of a file, in one thread."""
    begin = time.perf_counter()
    with av.open(str(path)) as file:
        for stream in file.streams:
            stream.codec_context.thread_count = 1
        for packet in file.demux():
            packet.decode()
    return time.perf_counter() - begin


def main() -> None:
    """Write a file, and print the times and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--segment", type=float, default=10.0)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    clip = ClipSettings()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp4"
        write_file(path, options.minutes, width, height)
        manifest = scan(path, segments=options.segment)
        lengths = [entry.info.seconds for entry in manifest if entry.info]
        decode_plainly(path)
        plain = min(decode_plainly(path) for _ in range(2))
        begin = time.perf_counter()
        source = SequentialClips(manifest.paths, clip, lengths, 1)
        for row in range(len(manifest)):
            source.clip(row, options.segment / 2, Crop(48, 48))
        in_order = time.perf_counter() - begin
        source.close()
        begin = time.perf_counter()
        ClipCache(Path(folder) / "cache", cache_format(clip)).fill(manifest.paths, [600.0] * len(manifest), 1)
        cached = time.perf_counter() - begin
    print(f"{options.minutes:g} minutes of {options.size}, {len(manifest)} segments of {options.segment:g} s")
    print(f"plain decoding: {plain:.1f} s")
    print(f"a clip of each segment, in order (label, extract): {in_order:.1f} s, {in_order / plain:.2f} of it")
    print(f"all segments into a cache: {cached:.1f} s, {cached / plain:.2f} of it")
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    here, children = (resource.getrusage(who).ru_maxrss >> 10 for who in whose)
    print(f"largest memory: {here} MiB in this process, {children} MiB in that of the decoder")


if __name__ == "__main__":
    main()
