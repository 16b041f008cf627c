"""The synthetic data set of the demo: video files of drawn objects that move and make sounds."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.datasets.manifest import Manifest, ManifestEntry
from selavi_ref.datasets.synthetic_audio import synthesize
from selavi_ref.datasets.synthetic_video import SCENES, Beat, draw
from selavi_ref.errors import FilePath, InputError, MediaError, printable, reason
from selavi_ref.media.container import import_av, media_errors
from selavi_ref.runs.cores import usable_cores

KINDS = tuple(SCENES)

_SAMPLE_RATE = 24000
_BEATS_PER_SECOND = (1.9, 3.0)  # the same for all kinds: every clip of a second has a beat, and pace tells no kind


def make_collection(
    folder: FilePath,
    n_videos: int = 400,
    *,
    seed: int = 0,
    seconds: float = 2.0,
    size: int = 64,
    fps: float = 12.5,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """
    Create a synthetic data set: ``FOLDER/{kind}/{kind}_0000.mp4`` (H.264, AAC), eight kinds in equal numbers.

    A ball that bounces with thuds, a bell that swings and rings, a bird that flaps and chirps, a clock that ticks, a
    windmill that turns and hums, a lamp that lights up and beeps, rain, and a train that rolls and clacks. Colours,
    backgrounds, positions, sizes, directions, pace, pitch, loudness and background noise vary equally in all kinds.

    Parameters
    ----------
    folder
        Target folder; created if missing. Files of the same names are replaced.
    n_videos
        Number of videos.
    seed
        The same seed gives the same videos.
    seconds, size, fps
        Length, side in pixels (even), and frames per second of each video.
    workers
        Threads; by default as many as there are processors.
    progress
        Called after each video with the numbers of videos done and in total.

    Returns
    -------
    Manifest
        The videos, with their kinds as classes.

    Raises
    ------
    InputError
        If an argument is out of range, or PyAV is not installed.
    MediaError
        If a file cannot be written.
    """
    import_av()
    if n_videos < 1 or seconds <= 0 or fps <= 0 or size < 16 or size % 2:
        raise InputError(f"cannot make {n_videos} videos of {seconds} s, {fps} frames/s, {size} pixels (even, >= 16)")
    root = os.fspath(folder)
    for kind in KINDS:
        os.makedirs(os.path.join(root, kind), exist_ok=True)
    rate = Fraction(fps).limit_denominator(1000)

    def make(index: int) -> ManifestEntry:
        kind = KINDS[index % len(KINDS)]
        path = os.path.join(root, kind, f"{kind}_{index // len(KINDS):04d}.mp4")
        rng = np.random.default_rng([seed, index])
        period = 1 / rng.uniform(*_BEATS_PER_SECOND)
        beat = Beat(period, rng.uniform(0, period))
        frames = draw(kind, np.arange(round(seconds * fps)) / fps, size, beat, rng)
        _write(path, frames, rate, synthesize(kind, seconds, _SAMPLE_RATE, beat, rng))
        return ManifestEntry(path, kind)

    entries = []
    with ThreadPoolExecutor(workers or usable_cores()) as pool:
        for entry in pool.map(make, range(n_videos)):
            entries.append(entry)
            if progress is not None:
                progress(len(entries), n_videos)
    return Manifest(sorted(entries, key=lambda entry: entry.path), root)


def _write(path: str, frames: NDArray[np.uint8], fps: Fraction, samples: NDArray[np.float32]) -> None:
    """Write frames (T, h, w, 3) and mono samples (n,) as an MP4 file."""
    av = import_av()
    try:
        with av.open(path, "w") as out:
            # with several threads, or algorithms that it chooses by the processor, x264 is not reproducible
            exact = {"crf": "20", "preset": "superfast", "x264-params": "threads=1:cpu-independent=1"}
            video = out.add_stream("libx264", rate=fps, options=exact)
            video.height, video.width = frames.shape[1:3]
            video.pix_fmt = "yuv420p"
            audio = out.add_stream("aac", rate=_SAMPLE_RATE, layout="mono", options={"aac_coder": "fast"})
            audio.bit_rate = 96000
            _encode_frames(av, out, video, frames, fps)
            _encode_samples(av, out, audio, samples)
    except media_errors() as error:
        raise MediaError(f"{printable(path)} cannot be written: {reason(error)}", path=path) from error


def _encode_frames(av: Any, out: Any, video: Any, frames: NDArray[np.uint8], fps: Fraction) -> None:
    for index, image in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = index, 1 / fps
        out.mux(video.encode(frame))
    out.mux(video.encode())


def _encode_samples(av: Any, out: Any, audio: Any, samples: NDArray[np.float32]) -> None:
    for start in range(0, len(samples), block := 1024):  # size of an AAC packet
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + block], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = _SAMPLE_RATE, start, Fraction(1, _SAMPLE_RATE)
        out.mux(audio.encode(frame))
    out.mux(audio.encode())
