"""Choice of the frames displayed at given times, scaled, turned upright and converted to RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.media.container import import_av
from selavi_ref.media.orientation import Orientation, orientation

# FFmpeg converts yuv420p to gbrp by a special routine where it need not scale, which leaves the last columns of other
# widths unset.
_UNSCALED_WIDTH = 16
TOLERANCE = 1e-3  # seconds; containers with a millisecond clock round a frame's time up or down by half of that


@dataclass(frozen=True)
class SquareCrops:
    """
    Square crops of a frame.

    Parameters
    ----------
    size
        Pixels of either side; at most those of the frame's short side.
    positions
        P pairs: vertical and horizontal position of each crop, from 0 (top, left) to 1 (bottom, right).
    """

    size: int
    positions: tuple[tuple[float, float], ...] = ((0.5, 0.5),)

    def cut(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the crops of frames (..., h, w, 3): shape (P, ..., size, size, 3)."""
        height, width = frames.shape[-3:-1]
        size, cuts = self.size, []
        for y, x in self.positions:
            top, left = round(y * (height - size)), round(x * (width - size))
            cuts.append(frames[..., top : top + size, left : left + size, :])
        return np.stack(cuts)


class FramePicker:
    """
    Receives frames in the order of their times and keeps the one displayed at `start` + t / `fps`, for t = 0, 1, ...

    That is the last frame whose time is not later (within a millisecond), or the first frame of all. Only kept frames
    are converted.

    Parameters
    ----------
    start
        Time of the first frame to keep, seconds.
    fps
        Frames to keep per second.
    count
        Number T of frames to keep; None for all.
    size
        Pixels of the short side after scaling.
    pixel_aspect
        Width of a source pixel divided by its height.
    crops
        Square crops to keep; whole frames by default.
    enlarge
        Whether frames whose short side has fewer pixels than `size` are scaled up.
    antialias
        Whether frames are smoothed when they are scaled down; see `scale_bilinear`.
    """

    def __init__(
        self,
        start: float,
        fps: float,
        count: int | None,
        size: int,
        pixel_aspect: float,
        crops: SquareCrops | None = None,
        enlarge: bool = True,
        antialias: bool = True,
    ) -> None:
        self.start, self.fps, self.count, self.size = start, fps, count, size
        self.pixel_aspect, self.crops, self.enlarge, self.antialias = pixel_aspect, crops, enlarge, antialias
        self.frames: list[NDArray[np.uint8]] = []
        self.first_time = np.nan  # of the first frame received
        self.first_kept_time = np.nan  # of the first frame kept
        self.last_time = self.last_end = np.nan  # start and least end of the last frame received
        self._frame: Any = None
        self._converted: NDArray[np.uint8] | None = None
        self._tick: float | None = None  # seconds of one unit of the frames' durations
        self._shape: tuple[int, int] | None = None
        self._orientation = Orientation()
        reformatter = import_av().video.reformatter.VideoReformatter
        self._unpacker, self._scaler, self._packer = reformatter(), reformatter(), reformatter()

    @property
    def done(self) -> bool:
        """Whether all frames to keep are there."""
        return self.count is not None and len(self.frames) >= self.count

    def push(self, time: float, frame: Any) -> None:
        """Receive the next frame, displayed from `time` (seconds) on; NaN means the time of the frame before."""
        time = self.last_time if time != time else time
        if self._frame is None:
            self.first_time = time
            self._show(time, frame)
        self._keep_until(time - TOLERANCE)
        self._show(time, frame)

    def finish(self, end: float) -> None:
        """Repeat the last frame for the rest of the frames to keep, or else up to `end`, seconds."""
        if self._frame is not None:
            self._keep_until(end - TOLERANCE if self.count is None else np.inf)
            if not self.frames:
                self._keep()

    def stack(self) -> NDArray[np.uint8]:
        """Return the kept frames, shape (T, h, w, 3), or (P, T, side, side, 3) with crops."""
        if not self.frames:
            return empty_frames(self.size, self.crops)
        return np.stack(self.frames, axis=0 if self.crops is None else 1)

    def _show(self, time: float, frame: Any) -> None:
        self.last_time, self._frame, self._converted = time, frame, None
        if self._tick is None:
            self._tick = float(frame.time_base)
        self.last_end = time + (frame.duration or 0) * self._tick

    def _keep_until(self, time: float) -> None:
        while not self.done and self.start + len(self.frames) / self.fps < time:
            self._keep()

    def _keep(self) -> None:
        if not self.frames:
            self.first_kept_time = self.last_time
        if self._converted is None:
            self._converted = self._convert(self._frame)
        self.frames.append(self._converted)

    def _convert(self, frame: Any) -> NDArray[np.uint8]:
        """Scale a frame while converting it to RGB, then turn it upright."""
        # By way of planes: twice as fast as straight to rgb24, which moreover halves the colour of even widths.
        if self._shape is None:  # of the first frame: broadcasts and damaged files may change theirs on the way
            width, height = frame.width * self.pixel_aspect, frame.height
            size = self.size if self.enlarge else min(self.size, max(1, round(min(width, height))))
            self._shape = fit_size(width, height, size)
            self._orientation = orientation(frame)
        width, height = self._shape
        scaled_to = (width, height) if self.antialias else (frame.width, frame.height)
        if scaled_to == (frame.width, frame.height) and frame.width % _UNSCALED_WIDTH:
            frame = self._unpacker.reformat(frame, format="yuv444p", interpolation="BILINEAR", threads=1)
        small = self._scaler.reformat(frame, *scaled_to, "gbrp", interpolation="BILINEAR", threads=1)
        plane = self._packer.reformat(small, format="rgb24", threads=1).planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: scaled_to[1], : 3 * scaled_to[0]]
        picture = rows.reshape(scaled_to[1], scaled_to[0], 3)
        if not self.antialias:
            picture = scale_bilinear(picture, height, width)
        upright = self._orientation.apply(picture)
        return upright if self.crops is None else self.crops.cut(upright)


def scale_bilinear(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """
    Scale a frame (h, w, 3) by interpolating between four pixels, without smoothing.

    The published SeLaVi program does so; fine detail is aliased rather than lost. It is the bilinear mode of
    ``torch.nn.functional.interpolate``, rounded to whole levels.
    """
    (top, bottom, down), (left, right, across) = (
        _neighbours(*lengths) for lengths in zip((height, width), frame.shape[:2], strict=True)
    )
    upper, lower = frame[top].astype(np.float32), frame[bottom].astype(np.float32)
    rows = upper + down[:, None, None] * (lower - upper)
    scaled = rows[:, left] + across[None, :, None] * (rows[:, right] - rows[:, left])
    return np.rint(scaled).astype(np.uint8)


def _neighbours(n_out: int, n_in: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the two nearest input pixels of each output pixel along an axis, and the weight of the second."""
    positions = np.maximum((np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5, 0.0)
    first = np.minimum(positions.astype(np.int64), n_in - 1)
    return first, np.minimum(first + 1, n_in - 1), (positions - first).astype(np.float32)


def fit_size(width: float, height: float, size: int) -> tuple[int, int]:
    """Return the width and height, in whole pixels, that make the short side `size` and keep the aspect ratio."""
    scale = size / min(width, height)
    return max(size, round(width * scale)), max(size, round(height * scale))


def empty_frames(size: int, crops: SquareCrops | None = None) -> NDArray[np.uint8]:
    """Return an array of no frames, shape (0, size, size, 3), or (P, 0, side, side, 3) with crops."""
    if crops is None:
        return np.empty((0, size, size, 3), np.uint8)
    return np.empty((len(crops.positions), 0, crops.size, crops.size, 3), np.uint8)
