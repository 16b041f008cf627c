"""Compare reading clips from files, from caches and from memory, and count batches per second.

Run ``python -m pip install -e ".[all,bench]" && python benchmarks/batches.py`` on a machine that does nothing else; it
needs ``ffmpeg`` on the PATH to make its files. Writes what it prints to ``benchmarks/results/batches.md``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from loading import CHANGE, CLIP, ONE_THREAD, collections, seconds_of
from tables import parsed, processor, show

from backbones.data.clips import ClipSource, Crop, StoredClips, StreamedClips, cache_format
from backbones.data.loader import TrainingLoader
from selavi_ref.media import probe
from selavi_ref.media.video_cache import ClipCache, DecodedVideo


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clips", type=int, default=192, help="of each collection")
    options.add_argument("--small", type=Path, help="folder of small files; by default 64 made by the package")
    given = parsed(options, "batches.md")
    given.clips = 3 if given.quick else given.clips
    torch.set_num_threads(1)
    names = ("selavi-ref", "av", "h5py", "numpy", "pillow", "torch", "torchvision")
    lines = show(
        "# Cached clips, and batches of clips\n",
        f"{date.today()}, {processor()}, {os.cpu_count()} cores, Python {sys.version.split()[0]},",
        f"{', '.join(f'{name} {version(name)}' for name in names)}.",
        f"Load of the machine at the start: {os.getloadavg()[0]:.1f}.\n",
    )
    with tempfile.TemporaryDirectory() as folder:
        given.folder = Path(folder)
        lines += [*cached(given), "", *loaded(given)]
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def cached(given: argparse.Namespace) -> list[str]:
    """Compare clips from files with clips of videos that were decoded before."""
    lines = show(
        "## Caches\n",
        "Milliseconds per clip, median and mean, of the same random clips in turn, in one thread: from their files,",
        "from a cache (in the page cache), and from memory; and time and size of filling the cache or memory,",
        "per second of video.\n",
        "| collection | from | ms: median; mean | faster than from files (means) | to fill, ms | holds, kB |",
        "|---|---|---|---|---|---|",
    )
    for name, starts in collections(given):
        paths = sorted({path for path, _ in starts})
        seconds = sum(probe(path).seconds for path in paths)
        folder = Path(tempfile.mkdtemp(dir=given.folder))
        ways: dict[str, ClipSource] = {"files": StreamedClips(paths, CLIP, [0.0] * len(paths))}
        costs = {"files": "| "}
        for way in ("JPEG cache", "raw cache", "memory"):
            begin = time.perf_counter()
            if way == "memory":
                ways[way] = kept = StoredClips.in_memory(paths, CLIP, 1)
                size = sum(
                    video.frames.nbytes + video.energies.nbytes
                    for video in kept.videos
                    if isinstance(video, DecodedVideo)
                )
            else:
                cache = ClipCache(folder, cache_format(CLIP), jpeg=way == "JPEG cache")
                ways[way] = StoredClips.cached(cache, paths, CLIP, 1)
                size = sum(file.stat().st_size for file in cache.folder.iterdir())
            costs[way] = f"{1e3 * (time.perf_counter() - begin) / seconds:.0f} | {size / seconds / 1e3:,.0f}"
        times: dict[str, list[float]] = {way: [] for way in ways}
        for turn, (path, start) in enumerate([starts[0], *starts]):
            for way, source in ways.items():
                view = Crop.for_training(CLIP, CHANGE, *np.random.default_rng(turn).random(3))
                times[way].append(seconds_of(source.clip, paths.index(path), start, view))
        slow = np.mean(times["files"][1:])
        for way, taken in times.items():
            figures = (
                f"{1e3 * np.median(taken[1:]):.1f}; {1e3 * np.mean(taken[1:]):.1f} | {slow / np.mean(taken[1:]):.1f} x"
            )
            lines += show(f"| {name} | {way} | {figures} | {costs[way]} |")
    return lines


def loaded(given: argparse.Namespace) -> list[str]:
    """Count the clips that a loader makes with more and more processes."""
    lines = show(
        f"## Batches of 16, on {os.cpu_count()} cores\n",
        "Clips per second of a `TrainingLoader`, its processes running already; 0 decodes when a batch is asked for.\n",
        "| collection | from | 0 processes | 1 | 2 |",
        "|---|---|---|---|---|",
    )
    for name, starts in collections(given):
        paths = sorted({path for path, _ in starts})
        lengths = [probe(path).seconds for path in paths]
        cache = ClipCache(given.folder / f"cache {len(paths)}", cache_format(CLIP))
        for way in ("files", "JPEG cache"):
            rates = []
            for workers in (0, 1, 2):
                files = StreamedClips(paths, CLIP, lengths)
                source = files if way == "files" else StoredClips.cached(cache, paths, CLIP, 2)
                loader = TrainingLoader(source, CHANGE, workers)
                numbers = np.split(np.arange(max(16, given.clips // 16 * 16)), max(1, given.clips // 16))
                list(loader.batches(numbers[:2], (0,)))
                taken = seconds_of(lambda: list(loader.batches(numbers, (1,))))  # noqa: B023
                rates.append(f"{sum(map(len, numbers)) / taken:.1f}")
            lines += show(f"| {name} | {way} | {' | '.join(rates)} |")
    return lines


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    main()
