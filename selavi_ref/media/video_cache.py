"""Whole videos, decoded once at a low rate and size: kept in memory, or in a folder of HDF5 files for later runs."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import FilePath, InputError, MediaError, StoreError, TransientMediaError, printable, reason
from selavi_ref.media.cache_file import PackedVideo, Shard, ShardWriter
from selavi_ref.media.clip import read_video
from selavi_ref.media.container import media_error
from selavi_ref.media.decoder import parallel_map, run_guarded
from selavi_ref.media.mel import log_mel

_JPEG_QUALITY = 92
_SHARD_BYTES = 256 << 20  # a file of the cache is closed when it holds so many bytes: what a killed process loses
_STALE = 24 * 3600  # seconds after which a file that nobody has written to is taken for a killed process's
_AHEAD = 2  # videos per thread that are decoded before their turn


@dataclass(frozen=True)
class CacheFormat:
    """
    At which rates and sizes whole videos are kept.

    Parameters
    ----------
    fps
        Frames per second.
    size
        Pixels of the short side; pictures that have fewer keep theirs.
    sample_rate, n_filters
        Of the log mel energies (see `log_mel`), one column every `mel_step` seconds.
    """

    fps: float
    size: int
    sample_rate: int
    n_filters: int

    mel_step = 0.01

    def n_bytes(self, seconds: float, ratio: float) -> int:
        """Return the bytes of a video of so many seconds, whose long side is `ratio` times the short one (or back)."""
        pictures = seconds * self.fps * self.size**2 * max(ratio, 1 / ratio) * 3
        return int(pictures + seconds / self.mel_step * self.n_filters * 4)


class DecodedVideo:
    """
    A video in memory.

    Parameters
    ----------
    pictures
        uint8, shape (n, h, w, 3); n = 0 without a picture.
    energies
        Log mel energies, float32, shape (F, n'); n' = 0 without sound.
    """

    def __init__(self, pictures: NDArray[np.uint8], energies: NDArray[np.float32]) -> None:
        self.pictures, self.energies = pictures, energies
        self.n_frames, self.n_steps = len(pictures), energies.shape[1]

    def frames(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return frames by their numbers, which must rise: uint8, shape (T, h, w, 3)."""
        return self.pictures[numbers]

    def mel(self, begin: int, width: int) -> NDArray[np.float32]:
        """Return columns of the log mel energies, float32, shape (F, width)."""
        return self.energies[:, begin : begin + width]


def decode_video(path: FilePath, layout: CacheFormat) -> DecodedVideo:
    """
    Decode a whole video.

    Raises
    ------
    MediaError
        If it cannot be decoded; see `read_video`.
    """
    video = read_video(path, fps=layout.fps, size=layout.size, sample_rate=layout.sample_rate, enlarge=False)
    if not video.samples.size:
        return DecodedVideo(video.frames, np.empty((layout.n_filters, 0), np.float32))
    return DecodedVideo(video.frames, log_mel(video.samples, layout.sample_rate, n_filters=layout.n_filters))


def decode_packed(path: FilePath, layout: CacheFormat, jpeg: bool) -> PackedVideo:
    """Decode a whole video and pack it for a cache, its pictures as JPEG or as they are."""
    video = decode_video(path, layout)
    shape = (video.pictures.shape[1], video.pictures.shape[2])
    energies = np.ascontiguousarray(video.energies.T)
    if not jpeg:
        ends = np.arange(1, video.n_frames + 1, dtype=np.int64) * (shape[0] * shape[1] * 3)
        return PackedVideo(shape, np.ascontiguousarray(video.pictures).reshape(-1), ends, energies)
    from PIL import Image

    packed = io.BytesIO()
    ends = np.empty(video.n_frames, np.int64)
    for number, picture in enumerate(video.pictures):
        Image.fromarray(picture).save(packed, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
        ends[number] = packed.tell()
    return PackedVideo(shape, np.frombuffer(packed.getvalue(), np.uint8), ends, energies)


class ClipCache:
    """
    A folder of decoded videos that many runs, one after the other or at once, read and add to.

    Videos are known by their path, size and time of change: one that has changed is decoded anew. They lie in HDF5
    files of about 256 MiB, each written under another name and renamed when it is complete, so that a killed process
    leaves nothing half done. Videos of other rates or sizes lie in folders beside.

    Parameters
    ----------
    folder
        Made if missing.
    layout
        At which rates and sizes the videos are kept.
    jpeg
        Whether pictures are packed as JPEG (quality 92, colours at full resolution), in about a sixth of the room, or
        left as they are.

    Raises
    ------
    InputError
        If the folder cannot be made.
    StoreError
        If a file in it is damaged.
    """

    def __init__(self, folder: FilePath, layout: CacheFormat, *, jpeg: bool = True) -> None:
        self.layout, self.jpeg = layout, jpeg
        kind = "jpeg" if jpeg else "raw"
        name = f"{layout.fps:g}fps-{layout.size}px-{layout.sample_rate}Hz-{layout.n_filters}mel-{kind}"
        self.folder = Path(folder) / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--cache {printable(folder)}: cannot be made: {error.strerror}") from error
        self._passing: dict[str, str] = {}  # why videos could not be decoded this time
        self._places: dict[tuple[str, str], tuple[Shard, int]] = {}
        for file in sorted(self.folder.glob("*.h5")):
            self._enter(Shard(file, jpeg))

    def fill(
        self,
        paths: Sequence[str],
        limits: Sequence[float],
        workers: int,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """
        Decode the videos that are not here yet, `workers` at a time, each in at most its limit of seconds.

        `progress` hears of each video, those that are here already included.

        Raises
        ------
        StoreError
            If the cache cannot be written, such as when the disk is full.
        """
        missing = [row for row, path in enumerate(paths) if self._key(path) not in self._places]
        if progress is not None:
            progress(len(paths) - len(missing))
        if not missing:
            return
        self._sweep()
        writer: ShardWriter | None = None
        try:
            for row, (key, packed) in self._packed(paths, limits, missing, workers):
                if isinstance(packed, TransientMediaError):
                    self._passing[paths[row]] = str(packed)
                else:
                    writer = self._add(writer, key, packed)
                if progress is not None:
                    progress(1)
        except StoreError:
            raise
        except BaseException:  # such as Ctrl-C: what has been decoded stays
            if writer is not None:
                with suppress(StoreError):
                    self._enter(writer.finish())
            raise
        if writer is not None:
            self._enter(writer.finish())

    def videos(self, paths: Sequence[str]) -> list[CachedVideo | str]:
        """Return each video, or the reason why it cannot be decoded."""
        found: list[CachedVideo | str] = []
        for path in paths:
            place = self._places.get(self._key(path))
            if place is None:
                unknown = f"{printable(path)}: it has changed since the cache was filled"
                found.append(self._passing.get(path, unknown))
            else:
                shard, row = place
                found.append(shard.reasons[row] or CachedVideo(shard, row, path))
        return found

    def _packed(
        self, paths: Sequence[str], limits: Sequence[float], rows: Sequence[int], workers: int
    ) -> Iterator[tuple[int, tuple[tuple[str, str], PackedVideo | str | TransientMediaError]]]:
        """Yield rows with their keys and packed videos, or the lasting reasons why there are none, or passing ones."""

        def pack(row: int) -> tuple[tuple[str, str], PackedVideo | str | TransientMediaError]:
            key = self._key(paths[row])  # before decoding: a file that changes meanwhile is decoded again next time
            try:
                return key, run_guarded(decode_packed, paths[row], self.layout, self.jpeg, limit=limits[row])
            except TransientMediaError as error:
                return key, error
            except MediaError as error:
                return key, str(error)

        return parallel_map(pack, rows, workers, _AHEAD)

    def _add(self, writer: ShardWriter | None, key: tuple[str, str], packed: PackedVideo | str) -> ShardWriter | None:
        """Write a video to the current file, or a new one; return that file unless it is full now."""
        writer = writer or ShardWriter(self.folder, self.layout.n_filters, self.jpeg)
        writer.add(key, packed)
        if writer.n_bytes < _SHARD_BYTES:
            return writer
        self._enter(writer.finish())
        return None

    def _sweep(self) -> None:
        """Remove what killed processes have left behind half written."""
        for file in self.folder.glob("*.partial"):
            with suppress(OSError):
                if time.time() - file.stat().st_mtime > _STALE:
                    file.unlink()

    def _enter(self, shard: Shard) -> None:
        for row, key in enumerate(shard.keys):
            self._places[key] = (shard, row)

    @staticmethod
    def _key(path: str) -> tuple[str, str]:
        full = os.path.abspath(path)
        try:
            status = os.stat(full)
        except OSError:
            return full, ""
        return full, f"{status.st_size}-{status.st_mtime_ns}"


class CachedVideo:
    """A video in a cache; has the members of `DecodedVideo`, and reads what is asked for."""

    def __init__(self, shard: Shard, row: int, path: str) -> None:
        self._shard, self._row, self._path = shard, row, path
        self.n_frames, self.n_steps = int(shard.n_frames[row]), int(shard.n_steps[row])

    def frames(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return frames by their numbers, which must rise: uint8, shape (T, h, w, 3)."""
        height, width = self._shard.shapes[self._row]
        first, last = int(numbers[0]), int(numbers[-1])
        bounds = self._read("ends", int(self._shard.first_frame[self._row]) + first, last - first + 2)
        data = self._read("data", int(bounds[0]), int(bounds[-1] - bounds[0]))
        if not self._shard.jpeg:
            pictures = data.reshape(-1, height, width, 3)
            every = np.array_equal(numbers - first, np.arange(len(pictures)))
            return pictures if every else pictures[numbers - first]
        wanted, again = np.unique(numbers, return_inverse=True)
        return np.stack([self._picture(data, bounds, number - first) for number in wanted])[again]

    def mel(self, begin: int, width: int) -> NDArray[np.float32]:
        """Return columns of the log mel energies, float32, shape (F, width)."""
        rows: NDArray[np.float32] = self._read("energies", int(self._shard.first_step[self._row]) + begin, width)
        return np.ascontiguousarray(rows.T)

    def _picture(self, data: NDArray[np.uint8], bounds: NDArray[np.int64], index: int) -> NDArray[np.uint8]:
        from PIL import Image

        begin, end = bounds[index : index + 2] - bounds[0]
        return np.asarray(Image.open(io.BytesIO(data[begin:end].tobytes())))

    def _read(self, name: str, begin: int, count: int) -> NDArray[Any]:
        try:
            values: NDArray[Any] = self._shard.file[name][begin : begin + count]
        except (OSError, RuntimeError, KeyError, StoreError) as error:
            raise media_error(self._path, f"{self._shard.path} is damaged; delete it ({reason(error)})") from error
        return values
