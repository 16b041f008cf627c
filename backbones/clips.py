"""Clips for the learner: cut out of videos that are kept in memory, or decoded from the files as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backbones.settings import ClipSettings
from selavi_ref.errors import MediaError, SelaviError
from selavi_ref.media import log_mel, probe, read_clip, read_video

_FINER = 2  # videos in memory are kept at so many times the frame rate of a clip, so that clips can begin between
_MEL_STEP = 0.01  # seconds from one window of the log mel energies to the next


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
