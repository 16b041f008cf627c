"""Sources of clips: cut out of videos that are held decoded, or decoded from the files on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from backbones.data.degradation import Degradation
from backbones.data.settings import AugmentSettings, ClipSettings
from selavi_ref.errors import MediaError, SelaviError
from selavi_ref.media import Clip, SquareCrops, VideoInfo, log_mel, probe, read_clip
from selavi_ref.media.decoder import LIMIT, parallel_map, run_guarded
from selavi_ref.media.segments import file_of, groups_by_file
from selavi_ref.media.video_cache import CachedVideo, CacheFormat, ClipCache, DecodedVideo, decode_group

_SLOW_RATE = 15.0  # frames per second below which videos are held at twice the frame rate of a clip
_AHEAD = 32  # videos per thread that are decoded ahead
_CENTRE = ((0.5, 0.5),)


@dataclass(frozen=True)
class Crop:
    """
    Square crops of the scaled frames of a clip.

    Parameters
    ----------
    side, window : int
        Pixels of the short side after scaling, and of the squares.
    positions : tuple of (float, float)
        Position of each of the P squares along the free height and width, 0 to 1.
    """

    side: int
    window: int
    positions: tuple[tuple[float, float], ...] = _CENTRE

    @classmethod
    def for_evaluation(cls, clip: ClipSettings, change: AugmentSettings, n_crops: int = 1) -> Crop:
        """Return the centre crop, or `n_crops` crops spread along the long side."""
        window = _window(clip, change)
        spread = [(crop + 0.5) / n_crops for crop in range(n_crops)] if n_crops < 3 else np.linspace(0, 1, n_crops)
        return cls(window, window, tuple((float(position), float(position)) for position in spread))

    @classmethod
    def for_training(
        cls, clip: ClipSettings, change: AugmentSettings, scale: float, down: float, across: float
    ) -> Crop:
        """Return the crop that uniform random numbers between 0 and 1 choose."""
        window = _window(clip, change)
        low, high = change.scale
        return cls(round(window * (low + (high - low) * scale)), window, ((down, across),))


def _window(clip: ClipSettings, change: AugmentSettings) -> int:
    return clip.decode_size if change.warps else clip.size


@dataclass(frozen=True)
class RawClip:
    """
    One decoded clip, before augmentation.

    Parameters
    ----------
    frames : array
        uint8, shape (P, T, R, R, 3): P crops of the same frames; T = 0 if the file has no video.
    mel : array
        Log mel energies, float32, shape (F, T'); T' = 0 if the file has no audio.
    """

    frames: NDArray[np.uint8]
    mel: NDArray[np.float32]


class ClipSource(Protocol):
    """Clips of the videos of a collection; a video is identified by its row."""

    settings: ClipSettings

    def __len__(self) -> int:
        """Return the number of videos."""

    def modalities(self, row: int) -> tuple[str, ...]:
        """Return the modalities that clips of a row are to have: ``"video"``, ``"audio"`` or both."""

    def seconds(self, row: int) -> float:
        """Return the length of the video in seconds: that of the shorter modality, where it has both."""

    def clip(self, row: int, start: float, crop: Crop, audio_shift: float = 0.0) -> RawClip:
        """
        Return the clip that begins `start` seconds into the video; its audio begins `audio_shift` seconds later.

        Raises
        ------
        MediaError
            If it cannot be decoded.
        """


BOTH = ("video", "audio")
Modalities = Sequence[tuple[str, ...]]  # of each row of a collection, those that its clips are to have


class StreamedClips:
    """
    Decodes each clip from its file on demand, in a separate process that a damaged file may crash.

    Parameters
    ----------
    paths : sequence of str
        The videos.
    settings : ClipSettings
        Length and format of a clip.
    seconds : sequence of float or None, optional
        Lengths of the videos; unknown ones are probed on first use.
    degradation : Degradation
        Degradation of the decoded clips.
    modalities : sequence of tuple, optional
        Which modalities of each video are decoded; by default those it has.
    """

    def __init__(
        self,
        paths: Sequence[str],
        settings: ClipSettings,
        seconds: Sequence[float | None] | None = None,
        degradation: Degradation | None = None,
        modalities: Modalities | None = None,
    ):
        self.paths = list(paths)
        self.settings = settings
        self.degradation = degradation or Degradation()
        self._seconds: list[float | None] = list(seconds) if seconds is not None else [None] * len(self.paths)
        self._modalities = modalities

    def __len__(self) -> int:
        return len(self.paths)

    def modalities(self, row: int) -> tuple[str, ...]:
        """Return the modalities of a row; see `ClipSource`."""
        return self._modalities[row] if self._modalities is not None else BOTH

    def seconds(self, row: int) -> float:
        """Return the length of a video in seconds; see `ClipSource`."""
        known = self._seconds[row]
        if known is None:
            info = run_guarded(probe, self.paths[row])
            known = self._seconds[row] = clip_seconds(info, self.modalities(row))
        return known

    def clip(self, row: int, start: float, crop: Crop, audio_shift: float = 0.0) -> RawClip:
        """Decode a clip; see `ClipSource`."""
        s, modalities = self.settings, self.modalities(row)
        wanted = {"want_video": "video" in modalities, "want_audio": "audio" in modalities}
        clip = self._decode(row, start, crop, audio_shift=audio_shift, **wanted)
        frames = self.degradation.degrade_frames(clip.frames)
        if not clip.samples.size:
            return RawClip(frames, np.empty((s.n_filters, 0), np.float32))
        samples = self.degradation.degrade_samples(clip.samples, seed=(row, round(clip.start * s.sample_rate)))
        return RawClip(frames, log_mel(samples, s.sample_rate, n_filters=s.n_filters))

    def _decode(self, row: int, start: float, crop: Crop, **options: Any) -> Clip:
        """Decode a clip of the format of the settings; `options` are further ones of `read_clip`."""
        s = self.settings
        return run_guarded(
            read_clip,
            self.paths[row],
            start,
            s.audio_seconds,
            crops=SquareCrops(crop.window, crop.positions),
            fps=s.fps,
            frames=s.frames,
            size=crop.side,
            sample_rate=s.sample_rate,
            antialias=s.antialias,
            **options,
        )


@dataclass
class StoredClips:
    """
    Cuts clips out of videos that are held decoded, in memory or in a cache on disk.

    Frames are held at the frame rate of a clip, or at twice that rate if it is low, so that clips can begin in between;
    a clip begins with the frame nearest to the requested time.

    Parameters
    ----------
    videos : sequence
        Each decoded video, or the reason why it cannot be decoded, which `clip` raises as a MediaError.
    settings : ClipSettings
        Length and format of a clip.
    row_modalities : sequence of tuple, optional
        Which modalities clips of each video have; by default those it has.
    """

    videos: Sequence[DecodedVideo | CachedVideo | str]
    settings: ClipSettings
    row_modalities: Modalities | None = None
    format: CacheFormat = field(init=False)

    def __post_init__(self) -> None:
        self.format = cache_format(self.settings)

    @classmethod
    def in_memory(
        cls,
        paths: Sequence[str],
        settings: ClipSettings,
        workers: int,
        progress: Callable[[int], None] | None = None,
        seconds: Sequence[float | None] | None = None,
    ) -> StoredClips:
        """Decode all videos, `workers` at a time; `progress` is called with 1 after each."""
        layout = cache_format(settings)
        lengths = seconds or [None] * len(paths)

        def decode(rows: list[int]) -> list[DecodedVideo | str]:
            limit = sum(time_limit(lengths[row]) for row in rows)
            return decode_rows([paths[row] for row in rows], layout, limit)

        jobs = groups_by_file(paths, layout.group_seconds())
        videos: list[DecodedVideo | str] = [""] * len(paths)
        for rows, decoded in parallel_map(decode, jobs, workers, _AHEAD):
            for row, video in zip(rows, decoded, strict=True):
                videos[row] = video
            if progress is not None:
                progress(len(rows))
        return cls(videos, settings)

    @classmethod
    def cached(
        cls,
        cache: ClipCache,
        paths: Sequence[str],
        settings: ClipSettings,
        workers: int,
        progress: Callable[[int], None] | None = None,
        seconds: Sequence[float | None] | None = None,
    ) -> StoredClips:
        """Open all videos from a cache, after decoding the missing ones into it, `workers` at a time."""
        lengths = seconds or [None] * len(paths)
        cache.fill(paths, [time_limit(length) for length in lengths], workers, progress)
        return cls(cache.videos(paths), settings)

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def in_memory_only(self) -> bool:
        """Whether no video is read from disk."""
        return not any(isinstance(video, CachedVideo) for video in self.videos)

    def modalities(self, row: int) -> tuple[str, ...]:
        """Return the modalities of a row; see `ClipSource`."""
        return self.row_modalities[row] if self.row_modalities is not None else BOTH

    def seconds(self, row: int) -> float:
        """Return the length of a video in seconds; see `ClipSource`."""
        video, wanted = self._video(row), self.modalities(row)
        of_each = {"video": video.n_frames / self.format.fps, "audio": video.n_steps * self.format.mel_step}
        lengths = [of_each[modality] for modality in wanted]
        return min(length for length in lengths if length) if any(lengths) else 0.0

    def clip(self, row: int, start: float, crop: Crop, audio_shift: float = 0.0) -> RawClip:
        """Cut a clip out; see `ClipSource`."""
        video, wanted = self._video(row), self.modalities(row)
        s = self.settings
        frames = np.empty((len(crop.positions), 0, crop.window, crop.window, 3), np.uint8)
        step = round(self.format.fps / s.fps)
        if video.n_frames and "video" in wanted:
            offsets = np.arange(s.frames) * step
            first = max(0, min(round(start * self.format.fps), video.n_frames - 1 - offsets[-1]))
            frames = self._crops(video.read_frames(np.minimum(first + offsets, video.n_frames - 1)), crop)
        mel = np.empty((s.n_filters, 0), np.float32)
        if video.n_steps and "audio" in wanted:
            width = n_mel_steps(s)
            begin = max(0, min(round((start + audio_shift) / self.format.mel_step), video.n_steps - width))
            mel = video.read_mel(begin, min(width, video.n_steps - begin))
            if mel.shape[1] < width:
                mel = np.pad(mel, ((0, 0), (0, width - mel.shape[1])), constant_values=float(mel.min()))
        return RawClip(frames, mel)

    def _crops(self, frames: NDArray[np.uint8], crop: Crop) -> NDArray[np.uint8]:
        """Crop held frames, and scale the crops to the size at which they would have been decoded."""
        short = min(frames.shape[1:3])
        side = max(1, min(short, round(crop.window * short / crop.side)))
        return resized(SquareCrops(side, crop.positions).cut(frames), crop.window, self.settings.antialias)

    def _video(self, row: int) -> DecodedVideo | CachedVideo:
        video = self.videos[row]
        if isinstance(video, str):
            raise MediaError(video)
        return video


def decode_rows(paths: Sequence[str], layout: CacheFormat, limit: float) -> list[DecodedVideo | str]:
    """Decode one file, or segments of one, in a separate process; a reason stands for what cannot be decoded."""
    try:
        decoded = run_guarded(decode_group, file_of(paths[0]), list(paths), layout, limit=limit)
    except MediaError as error:
        return [str(error)] * len(paths)
    return [str(one) if isinstance(one, MediaError) else one for one in decoded]


def clip_seconds(info: VideoInfo, modalities: tuple[str, ...] = BOTH) -> float:
    """Return the length of a file in seconds: that of the shortest of the given modalities that it has."""
    has = {"video": info.has_video, "audio": info.has_audio}
    lengths = {"video": info.video_seconds, "audio": info.audio_seconds}
    return min((lengths[modality] for modality in modalities if has[modality]), default=0.0)


def cache_format(settings: ClipSettings) -> CacheFormat:
    """Return the frame rate, size and audio format at which videos are held for such clips."""
    finer = 2 if settings.fps < _SLOW_RATE else 1
    return CacheFormat(
        finer * settings.fps, settings.decode_size, settings.sample_rate, settings.n_filters, settings.antialias
    )


def resized(crops: NDArray[np.uint8], size: int, antialias: bool = True) -> NDArray[np.uint8]:
    """Scale crops (P, T, S, S, 3) to (P, T, size, size, 3)."""
    if crops.shape[2] == size:
        return crops
    from torchvision.transforms.v2 import functional as transform

    planes = torch.from_numpy(crops).permute(0, 1, 4, 2, 3)
    scaled = transform.resize(planes, [size, size], antialias=antialias)
    return np.ascontiguousarray(scaled.permute(0, 1, 3, 4, 2).numpy())


def time_limit(seconds: float | None) -> float:
    """Return the time limit, in seconds, for decoding a whole video of the given length."""
    return LIMIT + 10 * (seconds or 0.0)


def n_mel_steps(settings: ClipSettings) -> int:
    """Return the number of time steps T' of a clip's log mel energies (windows of 20 ms every 10 ms)."""
    return max(1, 1 + round((settings.audio_seconds - 0.02) / 0.01 + 0.499))


def empty_shape(modality: str, settings: ClipSettings) -> tuple[int, ...]:
    """Return the shape of a batch of no decoded clips of a modality."""
    if modality == "video":
        return 0, settings.frames, settings.size, settings.size, 3
    return 0, settings.n_filters, n_mel_steps(settings)


def mel_statistics(source: ClipSource, rows: Sequence[int]) -> tuple[float, float]:
    """Return mean and standard deviation of the log mel energies of the middle clips of some videos."""
    clips = []
    crop = Crop(16, 16)  # the frames are not used
    for row in rows:
        try:
            clips.append(source.clip(row, source.seconds(row) / 2, crop).mel)
        except SelaviError:
            continue
    clips = [mel for mel in clips if mel.size]
    if not clips:
        return 0.0, 1.0
    count = sum(mel.size for mel in clips)
    mean = sum(float(mel.sum(dtype=np.float64)) for mel in clips) / count
    square = sum(float(((mel - np.float32(mean)) ** 2).sum(dtype=np.float64)) for mel in clips) / count
    return mean, max(square**0.5, 1e-3)
