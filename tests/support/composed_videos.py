"""Composes long videos of known content: stretches of some kinds in a row, each made of short videos of one kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selavi_ref.media import read_video
from tests.support.media_files import write_video

FPS, SIDE, SAMPLE_RATE = 12, 64, 24000


@dataclass(frozen=True)
class Stretch:
    """A kind from a start to an end, seconds."""

    start: float
    end: float
    kind: str


def videos_by_kind(folder: Path) -> dict[str, list[Path]]:
    """The videos in the folders of a collection, by the names of the folders."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.mp4")):
        found.setdefault(path.parent.name, []).append(path)
    return found


def compose(
    videos: Mapping[str, Sequence[Path]], out: Path, kinds: Sequence[str], seconds: Sequence[float], seed: int = 0
) -> list[Stretch]:
    """Write a video of stretches of these kinds and lengths, and return where they really begin and end."""
    rng = np.random.default_rng(seed)
    frames, samples, stretches, start = [], [], [], 0
    for kind, length in zip(kinds, seconds, strict=True):
        wanted, done = round(length * FPS), 0
        for index in np.resize(rng.permutation(len(videos[kind])), wanted):
            clip = read_video(videos[kind][index], fps=FPS, size=SIDE, sample_rate=SAMPLE_RATE)
            count = min(wanted - done, len(clip.frames), len(clip.samples) * FPS // SAMPLE_RATE)
            top, left = ((side - SIDE) // 2 for side in clip.frames.shape[1:3])
            frames.append(clip.frames[:count, top : top + SIDE, left : left + SIDE])
            samples.append(clip.samples[: count * SAMPLE_RATE // FPS])
            done += count
            if done == wanted:
                break
        stretches.append(Stretch(start / FPS, (start + wanted) / FPS, kind))
        start += wanted
    pictures, sound = np.concatenate(frames), np.concatenate(samples)
    write_video(
        out,
        n_frames=len(pictures),
        fps=FPS,
        size=(SIDE, SIDE),
        pictures=pictures,
        sound=sound,
        sample_rate=SAMPLE_RATE,
        preset="superfast",
    )
    return stretches


def compose_at_random(
    videos: Mapping[str, Sequence[Path]], out: Path, seed: int, *, shortest: float = 5.0, longest: float = 60.0
) -> list[Stretch]:
    """Write a video of three to eight stretches of different neighbouring kinds, of `shortest` to `longest` seconds."""
    rng = np.random.default_rng(seed)
    kinds: list[str] = []
    for _ in range(rng.integers(3, 9)):
        kinds.append(str(rng.choice([kind for kind in videos if kind not in kinds[-1:]])))
    seconds = np.exp(rng.uniform(np.log(shortest), np.log(longest), len(kinds)))
    return compose(videos, out, kinds, seconds.tolist(), seed)
