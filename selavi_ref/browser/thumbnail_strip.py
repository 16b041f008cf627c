"""Animated thumbnails: frames from the middle of a video side by side in one small WebP image, and placeholders."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.datasets.video_files import file_type
from selavi_ref.errors import FilePath, MediaError
from selavi_ref.media.container import Media, media_error, open_media
from selavi_ref.media.frames import FramePicker
from selavi_ref.media.orientation import orientation
from selavi_ref.media.segments import file_of
from selavi_ref.media.sound_picture import spectrogram
from selavi_ref.media.still import load_picture, still_frames

FRAMES, FPS, HEIGHT = 12, 4.0, 128  # of a strip: frames, frames per second, pixels
WIDTHS = (64, 256)  # least and largest width of a frame of a strip, pixels; wider frames are cropped
QUALITY, EFFORT = 30, 2  # of WebP; more effort saves a twelfth of the bytes for twice the time
_MAX_DECODED = (
    100e6  # pixels decoded at most between a key frame and the middle; beyond, the strip starts at the key frame
)
_FIRST_PACKETS = 64  # packets of other streams, at most, before the first of the video
SKIPPABLE = ("h264", "hevc")  # codecs whose non-reference frames, and no others, FFmpeg can skip
_SKIP_FPS = 12.0  # frame rate of a video from which on such frames are skipped
_SMOOTHED = 2 * HEIGHT  # pixels of the short side up to which the deblocking filter is used
_BACKGROUND, _TEXT_COLOUR = (118, 118, 122), (250, 250, 250)  # readable on a white and on a black page


class NoPictureError(MediaError):
    """A media file without video, perhaps with audio."""


def strip(path: FilePath) -> bytes:
    """
    Return the strip of a video: `FRAMES` frames from its middle, `FPS` per second, side by side as WebP.

    All frames are `HEIGHT` pixels high and of the same width, that of the upright frame with square pixels, within
    `WIDTHS`. The last frame of a shorter video is repeated. To be called in the process of a `Decoder`.

    Parameters
    ----------
    path
        A video file; a picture; or a sound file, whose log-mel energies are drawn, with a line that moves over them.

    Raises
    ------
    NoPictureError
        If it is a video file without video.
    MediaError
        If it cannot be read, or no frame can be decoded.
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.concatenate(_strip_frames(path), axis=1)).save(file, "WEBP", quality=QUALITY, method=EFFORT)
    return file.getvalue()


@lru_cache(maxsize=16)
def placeholder(text: str) -> bytes:
    """Return a strip of equal plain frames with a short text in the middle, as WebP."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (FRAMES * HEIGHT, HEIGHT), _BACKGROUND)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(17)
    for left in range(0, FRAMES * HEIGHT, HEIGHT):
        draw.text((left + HEIGHT // 2, HEIGHT // 2), text, _TEXT_COLOUR, font, anchor="mm")
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY, method=4)
    return file.getvalue()


def middle_of(media: Media, stream: Any, seconds: float) -> float:
    """Return the start of an interval of this length around the middle of a stream; its start if it is shorter."""
    length, start = media.seconds(stream), media.start(stream)
    middle = start + (length - seconds) / 2
    return max(start, middle) if math.isfinite(middle) else start


def packets_from(media: Media, begin: float, *streams: Any) -> tuple[float, Iterator[Any]]:
    """
    Seek to a time of a file, once.

    Parameters
    ----------
    media
        The open file.
    begin
        The time, seconds.
    streams
        Streams to read, the video first if it is one of them.

    Returns
    -------
    begin, packets
        The time, or that of the key frame before if there is too much to decode in between; and the packets from there
        on.
    """
    media.seek(begin)
    packets = media.packets(*streams)
    if media.video is None or streams[0].index != media.video.index:
        return begin, packets
    first_packets = []
    for packet in packets:
        first_packets.append(packet)
        if packet.stream.index == media.video.index and packet.pts is not None:
            begin = _affordable_start(media, float(packet.pts * packet.time_base) - media.origin, begin)
            break
        if len(first_packets) >= _FIRST_PACKETS:
            break
    return begin, chain(first_packets, packets)


def _affordable_start(media: Media, key: float, begin: float) -> float:
    """Return the time to start at, when decoding starts with the key frame at `key` (seconds)."""
    context = media.video.codec_context
    pixels = (begin - key) * float(media.video.average_rate or 25) * context.width * context.height
    return min(begin, key) if pixels > _MAX_DECODED else begin


def _strip_frames(path: FilePath) -> list[NDArray[np.uint8]]:
    """Return the frames of the strip of a video, a picture or a sound file."""
    kind = file_type(file_of(path))
    if kind == "pictures":
        height, width = load_picture(path).shape[:2]
        across = min(max(round(HEIGHT * width / height), WIDTHS[0]), WIDTHS[1])
        scale = max(HEIGHT / height, across / width)
        still = still_frames(path, 1, math.ceil(min(width, height) * scale - 1e-6))[0]
        return [_crop(still, across)] * FRAMES
    if kind != "sounds":
        return _decode_middle(path)
    drawn = spectrogram(path, FRAMES / FPS, HEIGHT, HEIGHT)
    frames = [drawn.copy() for _ in range(FRAMES)]
    for number, frame in enumerate(frames):
        left = round((number + 0.5) / FRAMES * HEIGHT)
        frame[:, left - 1 : left + 1] = _TEXT_COLOUR
    return frames


def _decode_middle(path: FilePath) -> list[NDArray[np.uint8]]:
    """Return the frames of the strip; from the start of a file that ends before the middle by its header."""
    for attempt in ("middle", "beginning"):
        with open_media(path) as media:
            if media.video is None:
                raise NoPictureError(str(media_error(path, "it holds no picture")))
            _skip_details(media)
            begin = middle_of(media, media.video, FRAMES / FPS) if attempt == "middle" else media.start(media.video)
            frames = _pick_frames(media, begin)
            if frames:
                return frames
            why = f" ({media.fault})" if media.fault else ""
    raise media_error(path, f"no picture could be decoded{why}")


def _skip_details(media: Media) -> None:
    """Make the decoder skip what is invisible in a thumbnail."""
    context = media.video.codec_context
    if context.name in SKIPPABLE and not media.untimed:  # whose frames are identified by their number
        if float(media.video.average_rate or 0) >= _SKIP_FPS:
            context.skip_frame = "NONREF"
        if min(context.width, context.height) > _SMOOTHED:
            context.options = {"skip_loop_filter": "all"}


def _pick_frames(media: Media, begin: float) -> list[NDArray[np.uint8]]:
    """Return the frames displayed from `begin` (seconds) on, cropped to the size of the strip, or none."""
    picker: FramePicker | None = None
    width = HEIGHT
    begin, packets = packets_from(media, begin, media.video)
    for frame in chain.from_iterable(map(media.frames, packets)):
        if picker is not None and media.time_of(frame) >= media.segment.end - media.offset:
            break
        if picker is None:
            width, size = _frame_size(media, frame)
            picker = FramePicker(begin, FPS, FRAMES, size, media.pixel_aspect)
        picker.push(media.time_of(frame), frame)
        if picker.done:
            break
    if picker is None:
        return []
    picker.finish(math.inf)
    return [_crop(frame, width) for frame in picker.frames]


def _frame_size(media: Media, frame: Any) -> tuple[int, int]:
    """Return the width of strip frames, and the short side to which video frames are scaled to cover them."""
    across, down = frame.width * media.pixel_aspect, float(frame.height)
    if orientation(frame).transpose:
        across, down = down, across
    width = min(max(round(HEIGHT * across / down), WIDTHS[0]), WIDTHS[1])
    return width, math.ceil(min(across, down) * max(HEIGHT / down, width / across) - 1e-6)


def _crop(frame: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Return the centre crop of the size of a strip frame; the frame may be a pixel too small by rounding."""
    short = max(0, HEIGHT - frame.shape[0]), max(0, width - frame.shape[1])
    if any(short):
        frame = np.pad(frame, ((0, short[0]), (0, short[1]), (0, 0)), "edge")
    top, left = (frame.shape[0] - HEIGHT) // 2, (frame.shape[1] - width) // 2
    return frame[top : top + HEIGHT, left : left + width]
