"""Batches of clips for training and evaluation, decoded ahead by the worker processes of `torch.utils.data`."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from backbones.data.augment import DRAWS
from backbones.data.clips import ClipSource, Crop, RawClip, n_mel_steps
from backbones.data.settings import AugmentSettings, ClipSettings
from selavi_ref.errors import MediaError
from selavi_ref.media.decoder import parallel_map

T = TypeVar("T")

_CLIPS = ("frames", "mel", "draws")  # the tensors of a batch
_NAMES = {"video": "picture", "audio": "sound"}
_NO_SHARED_MEMORY = (
    "the shared memory of this system (/dev/shm) is too small for batches of clips: they are sent through pipes, which "
    "is slower; in Docker, give more by --shm-size=8g"
)
_TRIES = 20  # attempts to replace a video that cannot be decoded

if hasattr(os, "register_at_fork"):
    # A forked worker must not free what its parent has left as garbage: a filter graph of FFmpeg, say, would wait for
    # ever for its threads, which only the parent has.
    os.register_at_fork(after_in_child=gc.freeze)


@dataclass
class Batch:
    """
    Clips of one training step.

    A video with picture and sound has one view, which has both; a video with one of them has two views of it, which
    begin and are varied independently. Views are numbered: those of the B videos, then the second views.

    Parameters
    ----------
    rows : array
        Videos of the clips, int64, shape (B,).
    frames, mel : Tensor
        uint8 (V, T, R, R, 3), float32 (A, F, T'): decoded clips of the views that have picture, or sound.
    draws : Tensor
        float32 (B + S, D): random numbers of the B first and the S second views.
    failures : list of (int, str)
        Videos that could not be decoded, with the reasons; other videos replace them.
    second : array
        Which of the B videos each second view is of, int64, shape (S,).
    views : dict of str to array
        Numbers of the views that have ``"video"``, shape (V,), and ``"audio"``, shape (A,), int64.
    """

    rows: NDArray[np.int64]
    frames: Tensor
    mel: Tensor
    draws: Tensor
    failures: list[tuple[int, str]]
    second: NDArray[np.int64]
    views: dict[str, NDArray[np.int64]]

    def pin_memory(self) -> Batch:
        """Copy the clips to page-locked memory; PyTorch's loader calls this."""
        frames, mel, draws = (torch.as_tensor(vars(self)[name]).pin_memory() for name in _CLIPS)
        return replace(self, frames=frames, mel=mel, draws=draws)


_View = tuple[RawClip, NDArray[np.float32]]  # a clip, and its random numbers
_TrainingItem = tuple[int, list[_View], list[tuple[int, str]]]


class TrainingClips(Dataset[Any]):
    """
    Random clips of the videos of a collection: the data set of a `TrainingLoader`, or of any loader of PyTorch's.

    A key is a pair of a seed (a sequence of int) and a clip number n, which stands for a clip of video n modulo N; a
    video has different clips under different numbers. The random numbers of a clip depend on its key alone, neither on
    the order of keys nor on the number of worker processes.
    """

    def __init__(self, source: ClipSource, augment: AugmentSettings):
        self.source = source
        self.augment = augment

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[Sequence[int], int]) -> _TrainingItem:
        seed, number = key
        repeat, row = divmod(number, len(self.source))
        rng = np.random.default_rng([*seed, row, repeat] if repeat else [*seed, row])
        failures: list[tuple[int, str]] = []
        for _ in range(_TRIES):
            try:
                return row, self._views(row, rng), failures
            except MediaError as error:
                failures.append((row, str(error)))
                row = int(rng.integers(len(self.source)))
        return row, [], failures  # an error would leave a worker process as a traceback

    def _views(self, row: int, rng: np.random.Generator) -> list[_View]:
        """Return a view of a video with both modalities, or two views of one with a single modality."""
        views = []
        for _ in range(1 if len(self.source.modalities(row)) > 1 else 2):
            draws = rng.random(len(DRAWS), np.float32)
            views.append((random_clip(self.source, row, self.augment, draws), draws))
        return views


def random_clip(source: ClipSource, row: int, augment: AugmentSettings, draws: NDArray[np.float32]) -> RawClip:
    """Return the clip of a video that the random numbers choose; a MediaError if it lacks one of its modalities."""
    numbers = dict(zip(DRAWS, draws.tolist(), strict=True))
    free = max(0.0, source.seconds(row) - source.settings.length)
    crop = Crop.for_training(source.settings, augment, numbers["scale"], numbers["down"], numbers["across"])
    shift = augment.time_shift * (2 * numbers["time_shift"] - 1)
    clip = source.clip(row, numbers["start"] * free, crop, shift)
    has = {"video": clip.frames.shape[1] > 0, "audio": clip.mel.shape[1] > 0}
    if missing := [modality for modality in source.modalities(row) if not has[modality]]:
        raise MediaError(f"row {row} has no {_NAMES[missing[0]]}")
    return clip


class _BatchQueue(Sampler[Any]):
    """The keys of the next batches, as PyTorch's batch sampler."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[tuple[int, ...], int]]] = []

    def __iter__(self) -> Iterator[list[tuple[tuple[int, ...], int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class TrainingLoader:
    """
    Decodes random clips ahead, in worker processes that are started once, or in a thread for a GPU.

    Parameters
    ----------
    source, augment : ClipSource, AugmentSettings
        The clips, and their augmentation.
    workers : int
        Number of worker processes; 0 decodes in this process.
    pin : bool
        Whether batches are copied to page-locked memory, for faster transfers to a GPU.
    """

    def __init__(self, source: ClipSource, augment: AugmentSettings, workers: int, *, pin: bool = False):
        self._queue = _BatchQueue()
        self._threaded = pin and workers == 0  # while a GPU has been given a step, this process has little to do
        self._loader = DataLoader(
            TrainingClips(source, augment),
            batch_sampler=self._queue,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=_collate,
            pin_memory=pin,
            generator=torch.Generator().manual_seed(0),  # the loader's own draw must not move the global generator
        )

    def batches(self, batches: Sequence[NDArray[np.int64]], seed: Sequence[int]) -> Iterator[Batch]:
        """
        Yield a batch for each array of clip numbers (see `TrainingClips`).

        Raises
        ------
        MediaError
            If `_TRIES` videos in succession cannot be decoded.
        """
        seed_key = tuple(int(part) for part in seed)
        self._queue.batches = [[(seed_key, int(number)) for number in batch] for batch in batches]
        for batch in prefetch(self._pinned(torch.cuda.current_device())) if self._threaded else self._loader:
            if isinstance(batch, str):
                raise MediaError(f"{_TRIES} videos one after the other could not be decoded; the last: {batch}")
            yield _received(batch)

    def _pinned(self, gpu: int) -> Iterator[Any]:
        """Yield batches in a thread, after selecting the GPU of this process for it."""
        torch.cuda.set_device(gpu)
        yield from self._loader


def prefetch(items: Iterator[T], n: int = 2) -> Iterator[T]:
    """Yield the items of an iterator, of which a thread prepares up to ``n`` ahead; its exceptions are raised here."""
    end = object()
    with closing(parallel_map(lambda _: next(items, end), count(), 1, n)) as results:
        for _, item in results:
            if item is end:
                return
            yield cast(T, item)


def _collate(samples: list[_TrainingItem]) -> Batch | str:
    """Return a batch, or the reason why there is none."""
    failures = [failure for *_, failed in samples for failure in failed]
    if not all(views for _, views, _ in samples):
        return failures[-1][1]
    second = [place for place, (_, views, _) in enumerate(samples) if len(views) > 1]
    views = [views[0] for _, views, _ in samples] + [samples[place][1][1] for place in second]
    frames = {number: clip.frames for number, (clip, _) in enumerate(views) if clip.frames.shape[1]}
    mel = {number: clip.mel for number, (clip, _) in enumerate(views) if clip.mel.shape[1]}
    return _sendable(
        Batch(
            np.array([row for row, *_ in samples], np.int64),
            torch.from_numpy(np.concatenate(list(frames.values()))) if frames else torch.empty(0, dtype=torch.uint8),
            torch.from_numpy(np.stack(list(mel.values()))) if mel else torch.empty(0),
            torch.from_numpy(np.stack([draws for _, draws in views])),
            failures,
            np.array(second, np.int64),
            {"video": np.array(list(frames), np.int64), "audio": np.array(list(mel), np.int64)},
        )
    )


def _sendable(batch: Any) -> Any:
    """
    Put the tensors of a batch of a worker process into shared memory, or make them arrays if it is full.

    Otherwise the worker's queue would do the first, lose the batch where it fails, and let the training wait for ever.
    Arrays are sent through a pipe, which takes longer.
    """
    if get_worker_info() is None:
        return batch
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    try:
        for value in tensors.values():
            value.share_memory_()
    except RuntimeError:
        return replace(batch, **{name: value.numpy() for name, value in tensors.items()})
    return batch


def _received(batch: Any) -> Any:
    """Return a batch with tensors in place of arrays, and warn if it had any."""
    arrays = {name: vars(batch)[name] for name in _CLIPS if isinstance(vars(batch)[name], np.ndarray)}
    if not arrays:
        return batch
    warnings.warn(_NO_SHARED_MEMORY, stacklevel=2)
    return replace(batch, **{name: torch.from_numpy(array) for name, array in arrays.items()})


@dataclass
class EvalBatch:
    """
    Clips of some videos for evaluation, centred or random.

    Parameters
    ----------
    rows : array
        int64, shape (B,).
    frames, mel : Tensor
        uint8 (B * M * P, T, R, R, 3) and float32 (B * M, F, T'): M clips per video and P crops per clip, videos first;
        zeros where missing.
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


_EvalItem = tuple[int, list[RawClip], NDArray[np.float32] | None, str]


@dataclass(frozen=True)
class ClipSampling:
    """
    Which clips of a video are evaluated.

    Parameters
    ----------
    n_clips : int
        Clips M per video: evenly spread (a single one in the middle), or random with a seed.
    n_crops : int
        Crops P per clip, spread along the long side (a single one in the centre); only without a seed.
    seed : sequence of int, optional
        Seed of random clips with random crops.
    from_start : bool
        Without a seed: clip m of M begins at m / M of the time in which a clip can begin, not at (m + 1/2) / M.
    """

    n_clips: int = 1
    n_crops: int = 1
    seed: tuple[int, ...] | None = None
    from_start: bool = False


class EvaluationClips(Dataset[Any]):
    """Data set of the evaluated clips of given rows of a collection."""

    def __init__(self, source: ClipSource, rows: Sequence[int], augment: AugmentSettings, sampling: ClipSampling):
        self.source = source
        self.rows = list(rows)
        self.augment = augment
        self.sampling = sampling

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> _EvalItem:
        row, n_clips = self.rows[index], self.sampling.n_clips
        try:
            if self.sampling.seed is None:
                crop = Crop.for_evaluation(self.source.settings, self.augment, self.sampling.n_crops)
                free = max(0.0, self.source.seconds(row) - self.source.settings.length)
                offset = 0.0 if self.sampling.from_start else 0.5
                starts = [(clip + offset) / n_clips * free for clip in range(n_clips)]
                return row, [self.source.clip(row, start, crop) for start in starts], None, ""
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
    """Yield batches of the clips of given videos; see `ClipSampling`."""
    crop = Crop.for_evaluation(source.settings, augment, sampling.n_crops)
    loader = DataLoader(
        EvaluationClips(source, rows, augment, sampling),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_EvalCollate(source.settings, crop, sampling),
        generator=torch.Generator().manual_seed(0),
    )
    yield from map(_received, loader)


@dataclass(frozen=True)
class _EvalCollate:
    """Collates items of `EvaluationClips` to an `EvalBatch` (a class, so that it can be pickled for workers)."""

    settings: ClipSettings
    crop: Crop
    sampling: ClipSampling

    def __call__(self, items: list[_EvalItem]) -> EvalBatch:
        side, n_crops, n_clips = self.crop.window, len(self.crop.positions), self.sampling.n_clips
        no_frames = np.zeros((n_crops, self.settings.frames, side, side, 3), np.uint8)
        no_mel = np.full((self.settings.n_filters, n_mel_steps(self.settings)), self.settings.mel_mean, np.float32)
        missing = RawClip(no_frames[:, :0], no_mel[:, :0])
        per_video = [clips or [missing] * n_clips for _, clips, _, _ in items]
        flat = [clip for clips in per_video for clip in clips]
        draws = [draw for _, _, draw, _ in items if draw is not None]
        batch = EvalBatch(
            np.array([row for row, *_ in items], np.int64),
            torch.from_numpy(np.concatenate([clip.frames if clip.frames.shape[1] else no_frames for clip in flat])),
            torch.from_numpy(np.stack([clip.mel if clip.mel.shape[1] else no_mel for clip in flat])),
            torch.from_numpy(np.concatenate(draws)) if self.sampling.seed is not None else None,
            {
                "video": np.array([all(clip.frames.shape[1] > 0 for clip in clips) for clips in per_video]),
                "audio": np.array([all(clip.mel.shape[1] > 0 for clip in clips) for clips in per_video]),
            },
            [reason for *_, reason in items],
        )
        return cast(EvalBatch, _sendable(batch))
