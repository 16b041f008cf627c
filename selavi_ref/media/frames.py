"""Out of the frames as they are decoded, those on display at the wanted times: scaled, turned upright, as RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.media.container import import_av, quarter_turns

TOLERANCE = 1e-3  # seconds; containers with a millisecond clock round a frame's time up or down by half of that


@dataclass(frozen=True)
class SquareCrops:
    """
    Parts of a picture.

    Parameters
    ----------
    side
        Pixels; at most the picture's short side.
    places
        P pairs: where along the height and the width that is left free each square lies, 0 to 1.
    """

    side: int
    places: tuple[tuple[float, float], ...] = ((0.5, 0.5),)

    def cut(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut the squares out of pictures (..., h, w, 3): shape (P, ..., side, side, 3)."""
        height, width = pictures.shape[-3:-1]
        side, cuts = self.side, []
        for down, across in self.places:
            top, left = round(down * (height - side)), round(across * (width - side))
            cuts.append(pictures[..., top : top + side, left : left + side, :])
        return np.stack(cuts)


class FramePicker:
    """
    Takes frames in the order of their times and keeps, for t = 0, 1, ..., the one on display at `start` + t / `fps`.

    That is the last frame whose time is not later (within a millisecond), or the first frame of all. Only frames that
    are kept are converted.

    Parameters
    ----------
    start
        Time of the first wanted frame, seconds.
    fps
        Wanted frames per second.
    count
        Number T of wanted frames; None for as many as there turn out to be.
    size
        Pixels of the short side after scaling.
    pixel_aspect
        Width of a source pixel divided by its height.
    squares
        What to keep of the pictures; all of each by default.
    enlarge
        Whether pictures whose short side has fewer pixels than `size` are scaled up.
    """

    def __init__(
        self,
        start: float,
        fps: float,
        count: int | None,
        size: int,
        pixel_aspect: float,
        squares: SquareCrops | None = None,
        enlarge: bool = True,
    ) -> None:
        self.start, self.fps, self.count, self.size = start, fps, count, size
        self.pixel_aspect, self.squares, self.enlarge = pixel_aspect, squares, enlarge
        self.pictures: list[NDArray[np.uint8]] = []
        self.first_time = np.nan  # of the first frame that came
        self.first_shown = np.nan  # time of the frame kept first
        self.shown_time = self.shown_end = np.nan  # of the last frame that came: since when, and until when at least
        self._shown: Any = None
        self._converted: NDArray[np.uint8] | None = None
        self._tick: float | None = None  # seconds of one unit of the frames' durations
        self._shape: tuple[int, int] | None = None
        self._turns = 0
        self._scaler, self._packer = (import_av().video.reformatter.VideoReformatter() for _ in range(2))

    @property
    def done(self) -> bool:
        """Whether all wanted frames are there."""
        return self.count is not None and len(self.pictures) >= self.count

    def push(self, time: float, frame: Any) -> None:
        """Take the next frame, shown from `time` (seconds) on; NaN is taken for that of the frame before."""
        time = self.shown_time if time != time else time
        if self._shown is None:
            self.first_time = time
            self._show(time, frame)
        self._emit_until(time - TOLERANCE)
        self._show(time, frame)

    def finish(self, end: float) -> None:
        """After the last frame: it stays on display for the rest of the wanted frames, or else up to `end`, seconds."""
        if self._shown is not None:
            self._emit_until(end - TOLERANCE if self.count is None else np.inf)
            if not self.pictures:
                self._emit()

    def stacked(self) -> NDArray[np.uint8]:
        """Return the kept frames, shape (T, h, w, 3), or (P, T, side, side, 3) of squares."""
        if not self.pictures:
            return empty_frames(self.size, self.squares)
        return np.stack(self.pictures, axis=0 if self.squares is None else 1)

    def _show(self, time: float, frame: Any) -> None:
        self.shown_time, self._shown, self._converted = time, frame, None
        if self._tick is None:
            self._tick = float(frame.time_base)
        self.shown_end = time + (frame.duration or 0) * self._tick

    def _emit_until(self, time: float) -> None:
        while not self.done and self.start + len(self.pictures) / self.fps < time:
            self._emit()

    def _emit(self) -> None:
        if not self.pictures:
            self.first_shown = self.shown_time
        if self._converted is None:
            self._converted = self._convert(self._shown)
        self.pictures.append(self._converted)

    def _convert(self, frame: Any) -> NDArray[np.uint8]:
        """Scale a frame while converting it to RGB, then turn the small picture upright."""
        # By way of planes: twice as fast as straight to rgb24, which moreover halves the colour of even widths.
        if self._shape is None:  # that of the first frame: broadcasts and damaged files may change theirs on the way
            width, height = frame.width * self.pixel_aspect, frame.height
            size = self.size if self.enlarge else min(self.size, max(1, round(min(width, height))))
            self._shape = fitted(width, height, size)
            self._turns = quarter_turns(frame)
        width, height = self._shape
        small = self._scaler.reformat(frame, width, height, "gbrp", interpolation="BILINEAR", threads=1)
        plane = self._packer.reformat(small, format="rgb24", threads=1).planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, : 3 * width]
        picture = rows.reshape(height, width, 3)
        upright = np.rot90(picture, self._turns) if self._turns else picture
        return upright if self.squares is None else self.squares.cut(upright)


def fitted(width: float, height: float, size: int) -> tuple[int, int]:
    """Return whole width and height of a picture whose short side becomes `size` and whose shape is kept."""
    scale = size / min(width, height)
    return max(size, round(width * scale)), max(size, round(height * scale))


def empty_frames(size: int, squares: SquareCrops | None = None) -> NDArray[np.uint8]:
    """Return no pictures at all, shape (0, size, size, 3), or (P, 0, side, side, 3) of squares."""
    if squares is None:
        return np.empty((0, size, size, 3), np.uint8)
    return np.empty((len(squares.places), 0, squares.side, squares.side, 3), np.uint8)
