"""Clips for the learner: cut out of videos that are kept in memory, or decoded from the files as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from backbones.augment import DRAWS
from backbones.settings import ClipSettings
from selavi_ref.errors import MediaError, SelaviError
from selavi_ref.media import log_mel, probe, read_clip, read_video

_FINER = 2  # videos in memory are kept at so many times the frame rate of a clip, so that clips can begin between
_MEL_STEP = 0.01  # seconds from one window of the log mel energies to the next
_START, _ACROSS = DRAWS.index("start"), DRAWS.index("across")


@dataclass(frozen=True)
class RawClip:
    """
    One decoded clip, before any change.

    Parameters
    ----------
    frames : array
        uint8, shape (T, R, R, 3); T = 0 without a picture.
    mel : array
        Log mel energies, float32, shape (F, T'); T' = 0 without sound.
    """

    frames: NDArray[np.uint8]
    mel: NDArray[np.float32]


class ClipSource(Protocol):
    """Gives clips of the videos of a collection, which are known by their row."""

    settings: ClipSettings

    def __len__(self) -> int:
        """Return the number of videos."""

    def seconds(self, row: int) -> float:
        """Return the length of the video (of the shorter of picture and sound, where it has both), seconds."""

    def clip(self, row: int, start: float, across: float) -> RawClip:
        """
        Return the clip that begins `start` seconds into the video.

        Parameters
        ----------
        row, start : int, float
            Which video, and when.
        across : float
            Where along the long side the square is cut out, 0 to 1.

        Raises
        ------
        MediaError
            If it cannot be decoded.
        """


class StreamedClips:
    """Decodes each clip from its file when asked; lengths are those of the manifest, or probed on first use."""

    def __init__(self, paths: Sequence[str], settings: ClipSettings, seconds: Sequence[float | None] | None = None):
        self.paths = list(paths)
        self.settings = settings
        self._seconds: list[float | None] = list(seconds) if seconds is not None else [None] * len(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def seconds(self, row: int) -> float:
        """Return the length of a video; see `ClipSource`."""
        known = self._seconds[row]
        if known is None:
            info = probe(self.paths[row])
            both = info.has_video and info.has_audio
            known = min(info.picture_seconds, info.sound_seconds) if both else info.seconds
            self._seconds[row] = known
        return known

    def clip(self, row: int, start: float, across: float) -> RawClip:
        """Decode a clip; see `ClipSource`."""
        s = self.settings
        clip = read_clip(
            self.paths[row],
            start,
            s.seconds,
            fps=s.fps,
            frames=s.frames,
            size=s.decode_size,
            sample_rate=s.sample_rate,
        )
        return RawClip(_square(clip.frames, across), _mel(clip.samples, s))


class KeptClips:
    """
    Keeps whole videos, decoded once at twice the rate of the clips and at their size, and cuts clips out of them.

    A video that cannot be decoded raises its MediaError when a clip of it is asked for.
    """

    def __init__(self, videos: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32]] | str], settings: ClipSettings):
        self._videos = list(videos)
        self.settings = settings

    @classmethod
    def decode(
        cls,
        paths: Sequence[str],
        settings: ClipSettings,
        workers: int,
        progress: Callable[[int], None] | None = None,
    ) -> KeptClips:
        """Decode all videos with `workers` threads; `progress` hears of each video done."""

        def decode(path: str) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | str:
            try:
                video = read_video(
                    path, fps=_FINER * settings.fps, size=settings.decode_size, sample_rate=settings.sample_rate
                )
            except MediaError as error:
                return str(error)
            return video.frames, _mel(video.samples, settings)

        videos = []
        with ThreadPoolExecutor(max(1, workers)) as pool:
            for video in pool.map(decode, paths):
                videos.append(video)
                if progress is not None:
                    progress(1)
        return cls(videos, settings)

    def __len__(self) -> int:
        return len(self._videos)

    def seconds(self, row: int) -> float:
        """Return the length of a video; see `ClipSource`."""
        frames, mel = self._video(row)
        lengths = [len(frames) / (_FINER * self.settings.fps), mel.shape[1] * _MEL_STEP]
        return min(length for length in lengths if length) if any(lengths) else 0.0

    def clip(self, row: int, start: float, across: float) -> RawClip:
        """Cut a clip out, its picture beginning on the nearest kept frame; see `ClipSource`."""
        frames, mel = self._video(row)
        s = self.settings
        if len(frames):
            places = np.arange(s.frames) * _FINER
            first = max(0, min(round(start * _FINER * s.fps), len(frames) - 1 - places[-1]))
            frames = _square(frames[np.minimum(first + places, len(frames) - 1)], across)
        if mel.shape[1]:
            width = n_steps(s)
            begin = max(0, min(round(start / _MEL_STEP), mel.shape[1] - width))
            mel = mel[:, begin : begin + width]
            if mel.shape[1] < width:
                mel = np.pad(mel, ((0, 0), (0, width - mel.shape[1])), constant_values=float(mel.min()))
        return RawClip(frames, mel)

    def _video(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        video = self._videos[row]
        if isinstance(video, str):
            raise MediaError(video)
        return video

    def mel_statistics(self) -> tuple[float, float]:
        """Return mean and standard deviation of the log mel energies of all videos with sound."""
        sounds = [video[1] for video in self._videos if not isinstance(video, str) and video[1].size]
        return _moments(sounds)


def n_steps(settings: ClipSettings) -> int:
    """Return the number of time steps T' of a clip's log mel energies (windows of 20 ms every 10 ms)."""
    return max(1, 1 + round((settings.seconds - 0.02) / _MEL_STEP + 0.499))


def kept_bytes(seconds: float, ratio: float, settings: ClipSettings) -> int:
    """Return the bytes that `KeptClips` needs for a video of so many seconds and this ratio of long to short side."""
    pictures = seconds * _FINER * settings.fps * settings.decode_size**2 * max(ratio, 1 / ratio) * 3
    return int(pictures + seconds / _MEL_STEP * settings.n_filters * 4)


def mel_statistics(source: ClipSource, rows: Sequence[int]) -> tuple[float, float]:
    """Return mean and standard deviation of the log mel energies of the middle clips of some videos."""
    if isinstance(source, KeptClips):
        return source.mel_statistics()
    sounds = []
    for row in rows:
        try:
            sounds.append(source.clip(row, source.seconds(row) / 2, 0.5).mel)
        except SelaviError:
            continue
    return _moments([mel for mel in sounds if mel.size])


def _moments(sounds: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    if not sounds:
        return 0.0, 1.0
    count = sum(mel.size for mel in sounds)
    mean = sum(float(mel.sum(dtype=np.float64)) for mel in sounds) / count
    square = sum(float(((mel - np.float32(mean)) ** 2).sum(dtype=np.float64)) for mel in sounds) / count
    return mean, max(square**0.5, 1e-3)


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


def _square(frames: NDArray[np.uint8], across: float) -> NDArray[np.uint8]:
    """Cut the square of the short side out of pictures (T, h, w, 3), at a place along the long side."""
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = round(across * (height - side)), round(across * (width - side))
    return frames[:, top : top + side, left : left + side]


def _mel(samples: NDArray[np.float32], settings: ClipSettings) -> NDArray[np.float32]:
    if not samples.size:
        return np.empty((settings.n_filters, 0), np.float32)
    return log_mel(samples, settings.sample_rate, n_filters=settings.n_filters)


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
