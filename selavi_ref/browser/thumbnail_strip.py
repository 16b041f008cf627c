"""Moving thumbnails: some frames of a video's middle side by side in one small WebP picture, and plain placeholders."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import FilePath, MediaError
from selavi_ref.media.container import Media, media_error, open_media, quarter_turns
from selavi_ref.media.frames import FramePicker

FRAMES, FPS, HEIGHT = 12, 4.0, 128  # of a strip: frames, frames a second to show them at, pixels
WIDTHS = (64, 256)  # narrowest and widest frame of a strip, pixels; what is left over is cut off
QUALITY, EFFORT = 30, 2  # of WebP; more effort saves a twelfth of the bytes for twice the time
_LEAD = 100e6  # pixels decoded at most to come from a key frame to the middle; else what follows the key frame does
_FIRST_PACKETS = 64  # packets of other streams, at most, before the first of the picture's
SKIPPABLE = ("h264", "hevc")  # codecs of which FFmpeg leaves out just the frames that no other needs
_SPARE = 12.0  # frames a second of a video from which on such frames are left out
_SHARP = 2 * HEIGHT  # pixels of the short side above which edges of blocks need no smoothing: they are scaled away
_PAPER, _INK = (118, 118, 122), (250, 250, 250)  # seen well on a white and on a black page


class NoVideoError(MediaError):
    """A media file that holds no picture, perhaps a sound."""


def strip(path: FilePath) -> bytes:
    """
    Make the strip of a video: `FRAMES` frames of its middle, `FPS` to the second, side by side as WebP.

    All frames are `HEIGHT` pixels high and of the same width, that of the upright picture with square pixels, within
    `WIDTHS`. A video that is shorter stands still at its end. To be called in a decoder's process.

    Parameters
    ----------
    path
        A video file.

    Raises
    ------
    PicturelessError
        If it holds no picture.
    MediaError
        If it cannot be read, or no picture of it be decoded.
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.concatenate(list(_middle(path)), axis=1)).save(file, "WEBP", quality=QUALITY, method=EFFORT)
    return file.getvalue()


@lru_cache(maxsize=16)
def placeholder(word: str) -> bytes:
    """Return a strip of square frames, alike and plain, with a short word in the middle, as WebP."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (FRAMES * HEIGHT, HEIGHT), _PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(17)
    for left in range(0, FRAMES * HEIGHT, HEIGHT):
        draw.text((left + HEIGHT // 2, HEIGHT // 2), word, _INK, font, anchor="mm")
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=QUALITY, method=4)
    return file.getvalue()


def middle_of(media: Media, stream: Any, seconds: float) -> float:
    """Return when so many seconds around the middle of a stream begin, on the file's clock; its beginning if longer."""
    length, start = media.seconds(stream), media.start(stream)
    middle = start + (length - seconds) / 2
    return max(start, middle) if math.isfinite(middle) else start


def packets_from(media: Media, begin: float, *streams: Any) -> tuple[float, Iterator[Any]]:
    """
    Go to a moment of a file, once.

    Parameters
    ----------
    media
        The open file.
    begin
        The moment, seconds.
    streams
        Those wanted, the picture first if it is.

    Returns
    -------
    begin, packets
        The moment; or, where there would be too much to decode from the key frame before, the time of that. And the
        packets of the streams from there on.
    """
    media.seek(begin)
    packets = media.packets(*streams)
    if media.video is None or streams[0].index != media.video.index:
        return begin, packets
    met = []
    for packet in packets:
        met.append(packet)
        if packet.stream.index == media.video.index and packet.pts is not None:
            begin = _reachable(media, float(packet.pts * packet.time_base) - media.origin, begin)
            break
        if len(met) >= _FIRST_PACKETS:
            break
    return begin, chain(met, packets)


def _reachable(media: Media, key: float, begin: float) -> float:
    """Return the moment to begin at, when decoding starts with the key frame at `key` (seconds)."""
    context = media.video.codec_context
    pixels = (begin - key) * float(media.video.average_rate or 25) * context.width * context.height
    return min(begin, key) if pixels > _LEAD else begin


def _middle(path: FilePath) -> list[NDArray[np.uint8]]:
    """Return the frames of the strip; from the beginning of a file that ends before the middle it promises."""
    for attempt in ("middle", "beginning"):
        with open_media(path) as media:
            if media.video is None:
                raise NoVideoError(str(media_error(path, "it holds no picture")))
            _hasten(media)
            begin = middle_of(media, media.video, FRAMES / FPS) if attempt == "middle" else media.start(media.video)
            frames = _pick(media, begin)
            if frames:
                return frames
            why = f" ({media.fault})" if media.fault else ""
    raise media_error(path, f"no picture could be decoded{why}")


def _hasten(media: Media) -> None:
    """Tell the decoder to leave out what nobody sees in a thumbnail."""
    context = media.video.codec_context
    if context.name in SKIPPABLE and not media.untimed:  # whose frames are told by their number
        if float(media.video.average_rate or 0) >= _SPARE:
            context.skip_frame = "NONREF"
        if min(context.width, context.height) > _SHARP:
            context.options = {"skip_loop_filter": "all"}


def _pick(media: Media, begin: float) -> list[NDArray[np.uint8]]:
    """Return the frames on display from `begin` (seconds) on, cut to the size of a strip's; none if none come."""
    picker: FramePicker | None = None
    width = HEIGHT
    begin, packets = packets_from(media, begin, media.video)
    for frame in chain.from_iterable(map(media.frames, packets)):
        if picker is None:
            width, size = _sizes(media, frame)
            picker = FramePicker(begin, FPS, FRAMES, size, media.pixel_aspect)
        picker.push(media.time_of(frame), frame)
        if picker.done:
            break
    if picker is None:
        return []
    picker.finish(math.inf)
    return [_cut(picture, width) for picture in picker.pictures]


def _sizes(media: Media, frame: Any) -> tuple[int, int]:
    """Return the width of a strip's frames, and the short side to scale pictures to so that they cover one."""
    across, down = frame.width * media.pixel_aspect, float(frame.height)
    if quarter_turns(frame) % 2:
        across, down = down, across
    width = min(max(round(HEIGHT * across / down), WIDTHS[0]), WIDTHS[1])
    return width, math.ceil(min(across, down) * max(HEIGHT / down, width / across) - 1e-6)


def _cut(picture: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Cut the middle of a strip's frame's size out of a picture, which may be a pixel too small by rounding."""
    short = max(0, HEIGHT - picture.shape[0]), max(0, width - picture.shape[1])
    if any(short):
        picture = np.pad(picture, ((0, short[0]), (0, short[1]), (0, 0)), "edge")
    top, left = (picture.shape[0] - HEIGHT) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + HEIGHT, left : left + width]
