"""Batches of clips for the learner: random ones to learn from, evenly spread ones to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from backbones.augment import DRAWS
from backbones.clips import ClipSource, RawClip, n_steps
from backbones.settings import ClipSettings
from selavi_ref.errors import MediaError

_START, _ACROSS = DRAWS.index("start"), DRAWS.index("across")


@dataclass
class Batch:
    """
    Clips of one training step.

    Parameters
    ----------
    rows : array
        int64, shape (B,): the videos they are of.
    frames, mel, draws : Tensor
        uint8 (B, T, R, R, 3), float32 (B, F, T'), float32 (B, D): decoded clips and their random numbers.
    failures : list of (int, str)
        Videos that could not be decoded, with the reason; others stand in for them.
    """

    rows: NDArray[np.int64]
    frames: Tensor
    mel: Tensor
    draws: Tensor
    failures: list[tuple[int, str]]

    def pin_memory(self) -> Batch:
        """Move the clips to memory that a GPU can read by itself; the loader calls this."""
        pinned = (self.frames.pin_memory(), self.mel.pin_memory(), self.draws.pin_memory())
        return Batch(self.rows, *pinned, self.failures)


_Drawn = tuple[int, RawClip | None, NDArray[np.float32], list[tuple[int, str]]]


class TrainingClips(Dataset[Any]):
    """One random clip of each video asked for; the random numbers depend on the seed, the pass and the row alone."""

    def __init__(self, source: ClipSource, seed: Sequence[int]):
        self.source = source
        self.seed = tuple(seed)

    def __getitem__(self, row: int) -> _Drawn:
        rng = np.random.default_rng([*self.seed, row])
        failures: list[tuple[int, str]] = []
        for _ in range(20):
            draws = rng.random(len(DRAWS), np.float32)
            try:
                return row, random_clip(self.source, row, draws), draws, failures
            except MediaError as error:
                failures.append((row, str(error)))
                row = int(rng.integers(len(self.source)))
        return row, None, draws, failures  # an error would leave a worker process as a traceback


def random_clip(source: ClipSource, row: int, draws: NDArray[np.float32]) -> RawClip:
    """Return the clip of a video that its random numbers choose; it must have both picture and sound."""
    free = max(0.0, source.seconds(row) - source.settings.length)
    clip = source.clip(row, float(draws[_START]) * free, float(draws[_ACROSS]))
    if not len(clip.frames) or not clip.mel.shape[1]:
        raise MediaError(f"row {row} has no {'sound' if len(clip.frames) else 'picture'}")
    return clip


def training_batches(
    source: ClipSource, batches: Sequence[NDArray[np.int64]], seed: Sequence[int], workers: int, *, pin: bool = False
) -> Iterator[Batch]:
    """
    Decode the clips of the given batches of rows, ahead of their use in `workers` processes (0: in this one).

    Raises
    ------
    MediaError
        If video after video cannot be decoded.
    """
    loader = DataLoader(
        TrainingClips(source, seed),
        batch_sampler=[batch.tolist() for batch in batches],
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin,
        generator=torch.Generator().manual_seed(0),  # the loader's own draw must not move the global generator
    )
    for batch in loader:
        if isinstance(batch, str):
            raise MediaError(f"20 videos one after the other could not be decoded; the last: {batch}")
        yield batch


def _collate(samples: list[_Drawn]) -> Batch | str:
    """Make a batch, or return the reason why there is none."""
    clips = [clip for _, clip, _, _ in samples if clip is not None]
    failures = [failure for *_, failed in samples for failure in failed]
    if len(clips) < len(samples):
        return failures[-1][1]
    return Batch(
        np.array([row for row, *_ in samples], np.int64),
        torch.from_numpy(np.stack([clip.frames for clip in clips])),
        torch.from_numpy(np.stack([clip.mel for clip in clips])),
        torch.from_numpy(np.stack([draws for _, _, draws, _ in samples])),
        failures,
    )


@dataclass
class Look:
    """
    Clips of some videos, as they are or randomly cut, to be looked at without learning from them.

    Parameters
    ----------
    rows : array
        int64, shape (B,).
    frames, mel : Tensor
        uint8 (B * M, T, R, R, 3) and float32 (B * M, F, T'), the M clips of a video in turn; zeros where missing.
    draws : Tensor or None
        Random numbers of the clips, float32 (B * M, D).
    present : dict of str to array
        For ``"video"`` and ``"audio"``: bool, shape (B,).
    reasons : list of str
        Why a video could not be decoded; "" where it could.
    """

    rows: NDArray[np.int64]
    frames: Tensor
    mel: Tensor
    draws: Tensor | None
    present: dict[str, NDArray[np.bool_]]
    reasons: list[str]


_Seen = tuple[int, list[RawClip], NDArray[np.float32] | None, str]


class EvaluationClips(Dataset[Any]):
    """Clips evenly spread over each video, M of them (one: the middle); or, with a seed, random ones."""

    def __init__(self, source: ClipSource, rows: Sequence[int], n_clips: int, seed: Sequence[int] | None = None):
        self.source = source
        self.rows = list(rows)
        self.n_clips = n_clips
        self.seed = None if seed is None else tuple(seed)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> _Seen:
        row = self.rows[place]
        try:
            if self.seed is None:
                free = max(0.0, self.source.seconds(row) - self.source.settings.length)
                starts = [(clip + 0.5) / self.n_clips * free for clip in range(self.n_clips)]
                return row, [self.source.clip(row, start, 0.5) for start in starts], None, ""
            rng = np.random.default_rng([*self.seed, row])
            draws = rng.random((self.n_clips, len(DRAWS)), np.float32)
            return row, [random_clip(self.source, row, draw) for draw in draws], draws, ""
        except MediaError as error:
            return row, [], np.zeros((self.n_clips, len(DRAWS)), np.float32), str(error)


def looks(
    source: ClipSource,
    rows: Sequence[int],
    *,
    n_clips: int,
    seed: Sequence[int] | None,
    batch_size: int,
    workers: int,
) -> Iterator[Look]:
    """Decode clips of the given videos in batches; see `EvaluationClips`."""
    settings = source.settings
    loader = DataLoader(
        EvaluationClips(source, rows, n_clips, seed),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_Gather(settings, n_clips, seed is not None),
        generator=torch.Generator().manual_seed(0),
    )
    yield from loader


@dataclass(frozen=True)
class _Gather:
    """Makes a `Look` of what `EvaluationClips` gives (a class, so that it can be sent to worker processes)."""

    settings: ClipSettings
    n_clips: int
    random: bool

    def __call__(self, seen: list[_Seen]) -> Look:
        clips = [clip for _, found, _, _ in seen for clip in found]
        side = next((clip.frames.shape[1] for clip in clips if len(clip.frames)), self.settings.size)
        no_frames = np.zeros((self.settings.frames, side, side, 3), np.uint8)
        no_mel = np.full((self.settings.n_filters, n_steps(self.settings)), self.settings.mel_mean, np.float32)
        missing = RawClip(no_frames[:0], no_mel[:, :0])
        per_video = [found or [missing] * self.n_clips for _, found, _, _ in seen]
        flat = [clip for found in per_video for clip in found]
        draws = [draw for _, _, draw, _ in seen if draw is not None]
        return Look(
            np.array([row for row, *_ in seen], np.int64),
            torch.from_numpy(np.stack([clip.frames if len(clip.frames) else no_frames for clip in flat])),
            torch.from_numpy(np.stack([clip.mel if clip.mel.shape[1] else no_mel for clip in flat])),
            torch.from_numpy(np.concatenate(draws)) if self.random else None,
            {
                "video": np.array([all(len(clip.frames) > 0 for clip in found) for found in per_video]),
                "audio": np.array([all(clip.mel.shape[1] > 0 for clip in found) for found in per_video]),
            },
            [reason for *_, reason in seen],
        )
