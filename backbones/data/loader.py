"""Batches of clips: decoded ahead of their use by the worker processes of `torch.utils.data`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from backbones.data.augment import DRAWS
from backbones.data.clips import ClipSource, Crop, RawClip, n_steps
from backbones.data.settings import AugmentSettings, ClipSettings
from selavi_ref.errors import MediaError

T = TypeVar("T")

_COLUMN = {name: index for index, name in enumerate(DRAWS)}
_TRIES = 20  # videos that stand in, one after the other, for one that cannot be decoded


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
    """
    Random clips of the videos of a collection: the data set of a `TrainingLoader`, or of any loader of PyTorch's.

    It is asked by pairs: a seed (whole numbers) and the number n of a clip, which is one of video n modulo N; numbers
    that differ by a multiple of N ask for different clips of the same video. The random numbers of a clip depend on
    this pair alone: neither on the order, nor on the number of worker processes, nor on what was asked before.
    """

    def __init__(self, source: ClipSource, augment: AugmentSettings):
        self.source = source
        self.augment = augment

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, asked: tuple[Sequence[int], int]) -> _Drawn:
        seed, number = asked
        again, row = divmod(number, len(self.source))
        rng = np.random.default_rng([*seed, row, again] if again else [*seed, row])
        failures: list[tuple[int, str]] = []
        for _ in range(_TRIES):
            draws = rng.random(len(DRAWS), np.float32)
            try:
                return row, random_clip(self.source, row, self.augment, draws), draws, failures
            except MediaError as error:
                failures.append((row, str(error)))
                row = int(rng.integers(len(self.source)))
        return row, None, draws, failures  # an error would leave a worker process as a traceback


def random_clip(source: ClipSource, row: int, augment: AugmentSettings, draws: NDArray[np.float32]) -> RawClip:
    """Return the clip of a video that its random numbers choose; it must have both picture and sound."""
    drawn = {name: float(draws[column]) for name, column in _COLUMN.items()}
    free = max(0.0, source.seconds(row) - source.settings.length)
    view = Crop.varied(source.settings, augment, drawn["scale"], drawn["down"], drawn["across"])
    shift = augment.time_shift * (2 * drawn["time_shift"] - 1)
    clip = source.clip(row, drawn["start"] * free, view, shift)
    if not clip.frames.shape[1] or not clip.mel.shape[1]:
        raise MediaError(f"row {row} has no {'sound' if clip.frames.shape[1] else 'picture'}")
    return clip


class _Asked(Sampler[Any]):
    """The batches that are asked for next."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[tuple[int, ...], int]]] = []

    def __iter__(self) -> Iterator[list[tuple[tuple[int, ...], int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class TrainingLoader:
    """
    Decodes random clips ahead of their use, in worker processes that are started once, or in a thread for a GPU.

    Parameters
    ----------
    source, augment : ClipSource, AugmentSettings
        Where the clips come from, and how they vary.
    workers : int
        Processes; 0 decodes in this one.
    pin : bool
        Whether batches are copied to memory that a GPU reads by itself.
    """

    def __init__(self, source: ClipSource, augment: AugmentSettings, workers: int, *, pin: bool = False):
        self._asked = _Asked()
        self._threaded = pin and workers == 0  # while a GPU has been given a step, this process has little to do
        self._loader = DataLoader(
            TrainingClips(source, augment),
            batch_sampler=self._asked,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=_collate,
            pin_memory=pin,
            generator=torch.Generator().manual_seed(0),  # the loader's own draw must not move the global generator
        )

    def batches(self, batches: Sequence[NDArray[np.int64]], seed: Sequence[int]) -> Iterator[Batch]:
        """
        Yield a batch of clips for each array of their numbers (see `TrainingClips`).

        Raises
        ------
        MediaError
            If video after video cannot be decoded.
        """
        fixed = tuple(int(part) for part in seed)
        self._asked.batches = [[(fixed, int(number)) for number in batch] for batch in batches]
        for batch in prefetch(self._pinned(torch.cuda.current_device())) if self._threaded else self._loader:
            if isinstance(batch, str):
                raise MediaError(f"{_TRIES} videos one after the other could not be decoded; the last: {batch}")
            yield batch

    def _pinned(self, gpu: int) -> Iterator[Any]:
        """Yield batches from a thread, which has to be told the GPU of its process."""
        torch.cuda.set_device(gpu)
        yield from self._loader


def prefetch(items: Iterator[T], n: int = 2) -> Iterator[T]:
    """Yield what an iterator yields, and raise what it raises; a thread takes up to ``n`` before they are asked for."""
    taken: Queue[tuple[str, Any]] = Queue(n)
    left = Event()

    def put(kind: str, value: Any = None) -> bool:
        while not left.is_set():
            with suppress(Full):
                taken.put((kind, value), timeout=0.1)
                return True
        return False

    def take() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
        except BaseException as error:
            put("error", error)
        else:
            put("end")

    thread = Thread(target=take, daemon=True)
    thread.start()
    try:
        while (got := taken.get())[0] == "item":
            yield got[1]
        if got[0] == "error":
            raise got[1]
    finally:
        left.set()
        thread.join()


def _collate(samples: list[_Drawn]) -> Batch | str:
    """Make a batch, or return the reason why there is none."""
    clips = [clip for _, clip, _, _ in samples if clip is not None]
    failures = [failure for *_, failed in samples for failure in failed]
    if len(clips) < len(samples):
        return failures[-1][1]
    return Batch(
        np.array([row for row, *_ in samples], np.int64),
        torch.from_numpy(np.concatenate([clip.frames for clip in clips])),
        torch.from_numpy(np.stack([clip.mel for clip in clips])),
        torch.from_numpy(np.stack([draws for _, _, draws, _ in samples])),
        failures,
    )


@dataclass
class EvalBatch:
    """
    Clips of some videos, as they are or randomly cut, to be looked at without learning from them.

    Parameters
    ----------
    rows : array
        int64, shape (B,).
    frames, mel : Tensor
        uint8 (B * M * P, T, R, R, 3) and float32 (B * M, F, T'): the M clips of a video in turn, and of each its P
        squares; zeros where missing.
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


@dataclass(frozen=True)
class ClipSampling:
    """
    How videos are looked at.

    Parameters
    ----------
    n_clips : int
        Clips M evenly spread over each video (one: the middle), or as many random ones with a seed.
    n_crops : int
        Squares P of each clip, spread along the long side (one: the middle); without a seed.
    seed : sequence of int, optional
        Of random clips, randomly cut.
    """

    n_clips: int = 1
    n_crops: int = 1
    seed: tuple[int, ...] | None = None


class EvaluationClips(Dataset[Any]):
    """Clips of the given rows of a collection, looked at in one way."""

    def __init__(self, source: ClipSource, rows: Sequence[int], augment: AugmentSettings, sampling: ClipSampling):
        self.source = source
        self.rows = list(rows)
        self.augment = augment
        self.sampling = sampling

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> _Seen:
        row, n_clips = self.rows[place], self.sampling.n_clips
        try:
            if self.sampling.seed is None:
                view = Crop.whole(self.source.settings, self.augment, self.sampling.n_crops)
                free = max(0.0, self.source.seconds(row) - self.source.settings.length)
                starts = [(clip + 0.5) / n_clips * free for clip in range(n_clips)]
                return row, [self.source.clip(row, start, view) for start in starts], None, ""
            rng = np.random.default_rng([*self.sampling.seed, row])
            draws = rng.random((n_clips, len(DRAWS)), np.float32)
            return row, [random_clip(self.source, row, self.augment, draw) for draw in draws], draws, ""
        except MediaError as error:
            return row, [], np.zeros((n_clips, len(DRAWS)), np.float32), str(error)


def eval_batches(
    source: ClipSource,
    rows: Sequence[int],
    augment: AugmentSettings,
    sampling: ClipSampling,
    *,
    batch_size: int,
    workers: int,
) -> Iterator[EvalBatch]:
    """Decode clips of the given videos in batches; see `ClipSampling`."""
    loader = DataLoader(
        EvaluationClips(source, rows, augment, sampling),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_Gather(source.settings, Crop.whole(source.settings, augment, sampling.n_crops), sampling),
        generator=torch.Generator().manual_seed(0),
    )
    yield from loader


@dataclass(frozen=True)
class _Gather:
    """Makes a `EvalBatch` of what `EvaluationClips` gives (a class, so that it can be sent to worker processes)."""

    settings: ClipSettings
    view: Crop
    sampling: ClipSampling

    def __call__(self, seen: list[_Seen]) -> EvalBatch:
        side, n_crops, n_clips = self.view.window, len(self.view.places), self.sampling.n_clips
        no_frames = np.zeros((n_crops, self.settings.frames, side, side, 3), np.uint8)
        no_mel = np.full((self.settings.n_filters, n_steps(self.settings)), self.settings.mel_mean, np.float32)
        missing = RawClip(no_frames[:, :0], no_mel[:, :0])
        per_video = [found or [missing] * n_clips for _, found, _, _ in seen]
        flat = [clip for found in per_video for clip in found]
        draws = [draw for _, _, draw, _ in seen if draw is not None]
        return EvalBatch(
            np.array([row for row, *_ in seen], np.int64),
            torch.from_numpy(np.concatenate([clip.frames if clip.frames.shape[1] else no_frames for clip in flat])),
            torch.from_numpy(np.stack([clip.mel if clip.mel.shape[1] else no_mel for clip in flat])),
            torch.from_numpy(np.concatenate(draws)) if self.sampling.seed is not None else None,
            {
                "video": np.array([all(clip.frames.shape[1] > 0 for clip in found) for found in per_video]),
                "audio": np.array([all(clip.mel.shape[1] > 0 for clip in found) for found in per_video]),
            },
            [reason for *_, reason in seen],
        )
