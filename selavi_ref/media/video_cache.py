"""Whole videos, decoded once at a low frame rate and size, in memory or in a folder of HDF5 files for later runs."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import FilePath, InputError, MediaError, StoreError, TransientMediaError, printable
from selavi_ref.media.cache_file import PackedVideo, Shard, ShardWriter, read_error
from selavi_ref.media.clip import Clip, read_video
from selavi_ref.media.container import media_error
from selavi_ref.media.decoder import parallel_map, run_guarded
from selavi_ref.media.mel import log_mel
from selavi_ref.media.segment_reader import read_segments
from selavi_ref.media.segments import file_of, groups_by_file

_JPEG_QUALITY = 92
_SHARD_BYTES = 256 << 20  # size at which a file of the cache is completed: a killed process loses at most this
_STALE = 24 * 3600  # seconds without a write after which a partial file is taken for that of a killed process
_AHEAD = 2  # videos per thread that are decoded before their turn
_LONGEST_GROUP = (
    120.0  # seconds of one file that are decoded at once: a seek costs at most some ten seconds of decoding
)
_GROUP_BYTES = 64e6


@dataclass(frozen=True)
class CacheFormat:
    """
    Rates and sizes of cached videos.

    Parameters
    ----------
    fps
        Frames per second.
    size
        Pixels of the short side; smaller frames are not enlarged.
    sample_rate, n_filters
        Of the log mel energies (see `log_mel`), one column every `mel_step` seconds.
    antialias
        Whether frames are smoothed when they are scaled down.
    """

    fps: float
    size: int
    sample_rate: int
    n_filters: int
    antialias: bool = True

    mel_step = 0.01

    @property
    def name(self) -> str:
        """Name of the folder of such videos, without their encoding."""
        scaling = "" if self.antialias else "-bilinear"
        return f"{self.fps:g}fps-{self.size}px{scaling}-{self.sample_rate}Hz-{self.n_filters}mel"

    def group_seconds(self, ratio: float = 16 / 9) -> float:
        """Return how many seconds of one file are decoded at once, so that they take little memory."""
        return min(_LONGEST_GROUP, _GROUP_BYTES / self.n_bytes(1.0, ratio))

    def n_bytes(self, seconds: float, ratio: float) -> int:
        """Return the bytes of a video of this length, whose aspect ratio is `ratio` or its inverse."""
        frames = seconds * self.fps * self.size**2 * max(ratio, 1 / ratio) * 3
        return int(frames + seconds / self.mel_step * self.n_filters * 4)


class DecodedVideo:
    """
    A video in memory.

    Parameters
    ----------
    frames
        uint8, shape (n, h, w, 3); n = 0 without video.
    energies
        Log mel energies, float32, shape (F, n'); n' = 0 without audio.
    """

    def __init__(self, frames: NDArray[np.uint8], energies: NDArray[np.float32]) -> None:
        self.frames, self.energies = frames, energies
        self.n_frames, self.n_steps = len(frames), energies.shape[1]

    def read_frames(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return frames by their numbers, in ascending order: uint8, shape (T, h, w, 3)."""
        return self.frames[numbers]

    def read_mel(self, begin: int, width: int) -> NDArray[np.float32]:
        """Return columns of the log mel energies, float32, shape (F, width)."""
        return self.energies[:, begin : begin + width]


def decode_video(path: FilePath, cache_format: CacheFormat) -> DecodedVideo:
    """
    Decode a whole video, or a segment.

    Raises
    ------
    MediaError
        If it cannot be decoded; see `read_video`.
    """
    video = read_video(
        path,
        fps=cache_format.fps,
        size=cache_format.size,
        sample_rate=cache_format.sample_rate,
        enlarge=False,
        antialias=cache_format.antialias,
    )
    return _with_energies(video, cache_format)


def decode_group(path: FilePath, names: Sequence[str], cache_format: CacheFormat) -> list[DecodedVideo | MediaError]:
    """Decode a whole video, or segments of one file in one pass; each that cannot be decoded is an error instead."""
    if len(names) == 1:
        try:
            return [decode_video(names[0], cache_format)]
        except MediaError as error:
            return [error]
    parts = read_segments(
        names,
        fps=cache_format.fps,
        size=cache_format.size,
        sample_rate=cache_format.sample_rate,
        enlarge=False,
        antialias=cache_format.antialias,
    )
    return [part if isinstance(part, MediaError) else _with_energies(part, cache_format) for part in parts]


def _with_energies(video: Clip, cache_format: CacheFormat) -> DecodedVideo:
    if not video.samples.size:
        return DecodedVideo(video.frames, np.empty((cache_format.n_filters, 0), np.float32))
    return DecodedVideo(
        video.frames, log_mel(video.samples, cache_format.sample_rate, n_filters=cache_format.n_filters)
    )


def decode_packed(
    path: FilePath, names: Sequence[str], cache_format: CacheFormat, jpeg: bool
) -> list[PackedVideo | MediaError]:
    """Decode a group as `decode_group` does, and pack it for a cache, its frames as JPEG or uncompressed."""
    videos = decode_group(path, names, cache_format)
    return [video if isinstance(video, MediaError) else _packed(video, jpeg) for video in videos]


def _packed(video: DecodedVideo, jpeg: bool) -> PackedVideo:
    shape = (video.frames.shape[1], video.frames.shape[2])
    energies = np.ascontiguousarray(video.energies.T)
    if not jpeg:
        ends = np.arange(1, video.n_frames + 1, dtype=np.int64) * (shape[0] * shape[1] * 3)
        return PackedVideo(shape, np.ascontiguousarray(video.frames).reshape(-1), ends, energies)
    from PIL import Image

    packed = io.BytesIO()
    ends = np.empty(video.n_frames, np.int64)
    for number, frame in enumerate(video.frames):
        Image.fromarray(frame).save(packed, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
        ends[number] = packed.tell()
    return PackedVideo(shape, np.frombuffer(packed.getvalue(), np.uint8), ends, energies)


class ClipCache:
    """
    A folder of decoded videos, shared by any number of runs, also at the same time.

    Videos are identified by path (segments by their names), size and time of change: a changed file is decoded again.
    They are stored in HDF5
    files of about 256 MiB, each written under a temporary name and renamed when complete, so that a killed process
    leaves no incomplete file. Videos of other rates or sizes have folders of their own.

    Parameters
    ----------
    folder
        Created if missing.
    cache_format
        Rates and sizes of the videos.
    jpeg
        Whether frames are stored as JPEG (quality 92, full colour resolution), in about a sixth of the space, or
        uncompressed.

    Raises
    ------
    InputError
        If the folder cannot be created.
    StoreError
        If a file in it is damaged.
    """

    def __init__(self, folder: FilePath, cache_format: CacheFormat, *, jpeg: bool = True) -> None:
        self.cache_format, self.jpeg = cache_format, jpeg
        self.folder = Path(folder) / f"{cache_format.name}-{'jpeg' if jpeg else 'raw'}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"--cache {printable(folder)}: cannot be made: {error.strerror}", option="cache", path=folder
            ) from error
        self._transient: dict[str, str] = {}  # reasons that may not hold the next time
        self._locations: dict[tuple[str, str], tuple[Shard, int]] = {}
        for file in sorted(self.folder.glob("*.h5")):
            self._add_shard(Shard(file, jpeg))

    def fill(
        self,
        paths: Sequence[str],
        limits: Sequence[float],
        workers: int,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """
        Decode the videos that are not in the cache, `workers` at a time, each within its limit of seconds.

        `progress` is called with the number of videos done since the last call, cached ones included.

        Raises
        ------
        StoreError
            If the cache cannot be written, such as when the disk is full.
        """
        missing = [row for row, path in enumerate(paths) if self._key(path) not in self._locations]
        if progress is not None:
            progress(len(paths) - len(missing))
        if not missing:
            return
        self._remove_stale()
        writer: ShardWriter | None = None
        try:
            with closing(self._packed(paths, limits, missing, workers)) as all_packed:
                for row, key, packed in all_packed:
                    if isinstance(packed, TransientMediaError):
                        self._transient[paths[row]] = str(packed)
                    else:
                        writer = self._add(writer, key, packed)
                    if progress is not None:
                        progress(1)
        except StoreError:
            raise
        except BaseException:  # such as Ctrl-C: keep what has been decoded
            if writer is not None:
                with suppress(StoreError):
                    self._add_shard(writer.finish())
            raise
        if writer is not None:
            self._add_shard(writer.finish())

    def videos(self, paths: Sequence[str]) -> list[CachedVideo | str]:
        """Return each video, or the reason why it cannot be decoded."""
        videos: list[CachedVideo | str] = []
        for path in paths:
            location = self._locations.get(self._key(path))
            if location is None:
                unknown = f"{printable(path)}: it has changed since the cache was filled"
                videos.append(self._transient.get(path, unknown))
            else:
                shard, row = location
                videos.append(shard.reasons[row] or CachedVideo(shard, row, path))
        return videos

    def _packed(
        self, paths: Sequence[str], limits: Sequence[float], rows: Sequence[int], workers: int
    ) -> Generator[tuple[int, tuple[str, str], PackedVideo | str | TransientMediaError]]:
        """Yield rows with their keys and packed videos, permanent reasons why there are none, or transient errors."""

        def pack(group: list[int]) -> list[tuple[tuple[str, str], PackedVideo | str | TransientMediaError]]:
            names = [paths[row] for row in group]
            # before decoding, so that a file that changes meanwhile is decoded again next time
            keys = [self._key(name) for name in names]
            limit = sum(limits[row] for row in group)
            packed: list[PackedVideo | MediaError]
            try:
                packed = run_guarded(decode_packed, file_of(names[0]), names, self.cache_format, self.jpeg, limit=limit)
            except MediaError as error:
                packed = [error] * len(names)
            return [
                (key, str(one) if isinstance(one, MediaError) and not isinstance(one, TransientMediaError) else one)
                for key, one in zip(keys, packed, strict=True)
            ]

        numbers = groups_by_file([paths[row] for row in rows], self.cache_format.group_seconds())
        jobs = [[rows[number] for number in group] for group in numbers]
        with closing(parallel_map(pack, jobs, workers, _AHEAD)) as groups:
            for group, results in groups:
                for row, (key, result) in zip(group, results, strict=True):
                    yield row, key, result

    def _add(self, writer: ShardWriter | None, key: tuple[str, str], packed: PackedVideo | str) -> ShardWriter | None:
        """Write a video to the current file, or a new one; return the file, or None if it is full."""
        writer = writer or ShardWriter(self.folder, self.cache_format.n_filters, self.jpeg)
        writer.add(key, packed)
        if writer.n_bytes < _SHARD_BYTES:
            return writer
        self._add_shard(writer.finish())
        return None

    def _remove_stale(self) -> None:
        """Remove partial files that killed processes left behind."""
        for file in self.folder.glob("*.partial"):
            with suppress(OSError):
                if time.time() - file.stat().st_mtime > _STALE:
                    file.unlink()

    def _add_shard(self, shard: Shard) -> None:
        for row, key in enumerate(shard.keys):
            self._locations[key] = (shard, row)

    @staticmethod
    def _key(path: str) -> tuple[str, str]:
        full = os.path.abspath(path)
        try:
            status = os.stat(file_of(full))
        except OSError:
            return full, ""
        return full, f"{status.st_size}-{status.st_mtime_ns}"


class CachedVideo:
    """A video in a cache, read on demand, with the methods of `DecodedVideo`."""

    def __init__(self, shard: Shard, row: int, path: str) -> None:
        self._shard, self._row, self._path = shard, row, path
        self.n_frames, self.n_steps = int(shard.n_frames[row]), int(shard.n_steps[row])

    def read_frames(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return frames by their numbers, in ascending order: uint8, shape (T, h, w, 3)."""
        height, width = self._shard.shapes[self._row]
        first, last = int(numbers[0]), int(numbers[-1])
        bounds = self._read("ends", int(self._shard.first_frame[self._row]) + first, last - first + 2)
        data = self._read("data", int(bounds[0]), int(bounds[-1] - bounds[0]))
        if not self._shard.jpeg:
            frames = data.reshape(-1, height, width, 3)
            contiguous = np.array_equal(numbers - first, np.arange(len(frames)))
            return frames if contiguous else frames[numbers - first]
        distinct, inverse = np.unique(numbers, return_inverse=True)
        return np.stack([self._decode_jpeg(data, bounds, number - first) for number in distinct])[inverse]

    def read_mel(self, begin: int, width: int) -> NDArray[np.float32]:
        """Return columns of the log mel energies, float32, shape (F, width)."""
        rows: NDArray[np.float32] = self._read("energies", int(self._shard.first_step[self._row]) + begin, width)
        return np.ascontiguousarray(rows.T)

    def _decode_jpeg(self, data: NDArray[np.uint8], bounds: NDArray[np.int64], index: int) -> NDArray[np.uint8]:
        from PIL import Image

        begin, end = bounds[index : index + 2] - bounds[0]
        return np.asarray(Image.open(io.BytesIO(data[begin:end].tobytes())))

    def _read(self, name: str, begin: int, count: int) -> NDArray[Any]:
        try:
            values: NDArray[Any] = self._shard.file[name][begin : begin + count]
        except (OSError, RuntimeError, KeyError, StoreError) as error:
            raise media_error(self._path, str(read_error(self._shard.path, error))) from error
        return values
