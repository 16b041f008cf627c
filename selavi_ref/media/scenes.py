"""Cuts between scenes: where the colours of the picture change all at once, found in one pass over a file."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import FilePath
from selavi_ref.media.container import media_error, open_media
from selavi_ref.media.frames import FramePicker

SHORTEST_SCENE = 2.0  # seconds
_FPS = 8.0  # frames per second that are compared
_SIDE = 36  # pixels of their short side
_BINS = 4  # of each colour, of a block's histogram
_BLOCKS = 2  # of the picture, along each side: the same colours in other places are another scene
_LEAST = 0.35  # part of the pixels whose colour must change at a cut
_RATIO = 3.0  # times the median of the changes around it
_AROUND = 16  # changes before and after
_BATCH = 256  # frames


def scene_bounds(path: FilePath) -> list[tuple[float, float]]:
    """
    Return start and end of each scene of a video, seconds; the first starts at 0, the last ends with the video.

    Eight frames a second are compared by colour histograms of a quarter of the picture each. A cut lies where they
    change by more than a third, and by three times the median of the changes around it, so that neither motion nor a
    flickering picture is cut. Scenes of less than `SHORTEST_SCENE` are joined to the one before. Memory is bounded.

    Parameters
    ----------
    path
        A video file.

    Raises
    ------
    MediaError
        If the file cannot be read, or no picture can be decoded.
    """
    changes: list[float] = []
    before: NDArray[np.float32] | None = None
    with open_media(path) as media:
        if media.video is None:
            raise media_error(path, "it holds no picture")
        seconds = max(media.seconds(media.video), media.seconds(media.audio))
        picker = FramePicker(0.0, _FPS, None, _SIDE, media.pixel_aspect, enlarge=False)
        for packet in media.packets(media.video):
            for frame in media.frames(packet):
                picker.push(media.time_of(frame), frame)
            if len(picker.frames) >= _BATCH:
                before = _add_changes(changes, before, picker.frames)
                picker.start += len(picker.frames) / _FPS
                picker.frames.clear()
        picker.finish(min(picker.last_end, seconds + 1))
        _add_changes(changes, before, picker.frames)
        if not changes and not picker.frames:
            raise media_error(path, "no picture could be decoded")
    cuts = find_cuts(np.array(changes), round(SHORTEST_SCENE * _FPS)) / _FPS
    starts = [0.0, *(float(cut) for cut in cuts if cut <= seconds - SHORTEST_SCENE)]
    return list(zip(starts, [*starts[1:], math.ceil(seconds * 1000) / 1000], strict=True))


def find_cuts(changes: NDArray[np.float64], shortest: int) -> NDArray[np.int64]:
    """
    Return the numbers of the frames that begin a scene, except the first.

    Parameters
    ----------
    changes
        Part of the pixels whose colour changes from frame t to frame t + 1, shape (T - 1,).
    shortest
        Frames of the shortest scene.
    """
    cuts: list[int] = []
    recent: deque[float] = deque(changes[: _AROUND + 1], maxlen=2 * _AROUND + 1)
    for t, change in enumerate(changes):
        if t and t + _AROUND < len(changes):
            recent.append(changes[t + _AROUND])
        if change < _LEAST or change < _RATIO * float(np.median(recent)):
            continue
        frame = t + 1
        if frame - (cuts[-1] if cuts else 0) >= shortest:
            cuts.append(frame)
    return np.array(cuts, np.int64)


def _add_changes(
    changes: list[float], before: NDArray[np.float32] | None, frames: list[NDArray[np.uint8]]
) -> NDArray[np.float32] | None:
    """Add the changes from each frame to the next, and return the histograms of the last frame."""
    for frame in frames:
        histogram = _histogram(frame)
        if before is not None:
            changes.append(float(np.abs(histogram - before).sum()) / 2)
        before = histogram
    return before


def _histogram(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the colour histograms of the blocks of a frame (h, w, 3), which sum to 1."""
    height, width = frame.shape[:2]
    levels = (frame.astype(np.int64) * _BINS) >> 8
    colour = (levels[..., 0] * _BINS + levels[..., 1]) * _BINS + levels[..., 2]
    down = np.arange(height) * _BLOCKS // height
    across = np.arange(width) * _BLOCKS // width
    block = down[:, None] * _BLOCKS + across[None, :]
    counts = np.bincount((block * _BINS**3 + colour).ravel(), minlength=_BLOCKS**2 * _BINS**3)
    return (counts / colour.size).astype(np.float32)
