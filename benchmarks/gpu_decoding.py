"""Section of `gpu.py` on decoding by the GPU's decoder beside the CPU."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.codec.hwaccel import HWAccel, hwdevices_available
from tables import Report

FPS = 30
BITS = 4  # a second, of each pixel: 8 Mbit/s for 1920 x 1080


def decoding(given: argparse.Namespace, report: Report) -> None:
    """Decode one file, and several at the same time."""
    width, height, n_frames = (320, 192, 30) if given.quick else (1920, 1080, 180)
    file = given.folder / "film.mp4"
    write_film(file, width, height, n_frames)
    cores = os.cpu_count() or 1
    rate = 8e-6 * file.stat().st_size * FPS / n_frames
    report.paragraph(
        f"Frames a second of a file of {n_frames / FPS:g} s of H.264, {width} x {height}, {FPS} frames a second, "
        f"{rate:.1f} Mbit/s, to YUV frames in main memory; nothing is scaled or converted. PyAV on {cores} cores, and "
        "by `HWAccel(device_type='cuda')`. The first decoding of each way does not count."
    )
    report.show("| decoded by | files at the same time | frames/s |", "|---|---|---|")
    ways: list[tuple[str, int, Callable[[], int]]] = [
        ("CPU, one thread for each file", 1, partial(decoded, file, threads=1)),
        ("CPU, all cores for each file", 1, partial(decoded, file, threads=cores)),
        ("CPU, one thread for each file", cores, partial(decoded, file, threads=1)),
        ("NVDEC", 1, partial(decoded_by_gpu, file)),
        ("NVDEC", 8, partial(decoded_by_gpu, file)),
    ]
    for name, at_once, decode in ways:
        try:
            shown = f"{frames_per_second(decode, at_once):,.0f}"
        except (OSError, RuntimeError, ValueError) as error:  # no such decoder, no driver, no such format
            shown = f"does not work: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        report.show(f"| {name} | {at_once} | {shown} |")


def write_film(path: Path, width: int, height: int, n_frames: int) -> None:
    """Write a moving pattern with grain, at the bit rate of usual films."""
    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 200, (height // 8, width // 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    grain = rng.integers(0, 40, (height + 64, width, 3), np.uint8)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        video.width, video.height, video.pix_fmt, video.bit_rate = width, height, "yuv420p", BITS * width * height
        for number in range(n_frames):
            left, top = 3 * number % width, int(rng.integers(64))
            picture = pattern[:, left : left + width] + grain[top : top + height]
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")))
        out.mux(video.encode())


def decoded(path: Path, *, threads: int) -> int:
    """Decode a file on the CPU, and return the number of its frames."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        return sum(1 for _ in file.decode(stream))


def decoded_by_gpu(path: Path) -> int:
    """Decode a file by the GPU's decoder, and return the number of its frames."""
    if "cuda" not in hwdevices_available():
        raise RuntimeError(
            f"PyAV {av.__version__} has decoders for {', '.join(hwdevices_available()) or 'no device'} only"
        )
    with av.open(str(path), hwaccel=HWAccel(device_type="cuda", allow_software_fallback=False)) as file:
        stream = file.streams.video[0]
        if not stream.codec_context.is_hwaccel:
            raise RuntimeError("PyAV decodes the file on the CPU")
        return sum(1 for _ in file.decode(stream))


def frames_per_second(decode: Callable[[], int], at_once: int) -> float:
    """Return how many frames are decoded in a second, of two files for each of those at the same time."""
    decode()
    with ThreadPoolExecutor(at_once) as pool:
        begin = time.perf_counter()
        frames = sum(pool.map(lambda _: decode(), range(2 * at_once)))
        return frames / (time.perf_counter() - begin)
