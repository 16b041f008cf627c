"""Parts of animated GIF and PNG files, whose pictures are encoded again, as each is stored as a change of the last."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.media.container import Media, import_av, media_error
from selavi_ref.media.frames import TOLERANCE

_PIXELS = {"gif": "pal8", "apng": "rgba"}  # by the name of the format, which is that of the codec, too
_OPTIONS: dict[str, dict[str, str]] = {"gif": {}, "apng": {"plays": "0"}}  # repeated for ever
_TICKS = {"gif": 100, "apng": 1000}  # of the time base, per second
_COLOURS = 256  # of a picture of a GIF file, with the transparent one


def is_animation(media: Media) -> bool:
    """Tell whether an open file is an animated GIF or PNG."""
    return media.video is not None and media.container.format.name in _PIXELS


def cut_animation(media: Media, target: str) -> None:
    """
    Write a segment of an animated GIF or PNG as a file of its own, from the picture that is shown at its start on.

    No picture is changed, except in a GIF where one has more than 256 colours, which are reduced. A whole file is
    copied.

    Parameters
    ----------
    media
        The open file.
    target
        The file to write, of the same format.

    Raises
    ------
    MediaError
        If it has no picture that can be decoded, or ends before the segment.
    """
    if media.segment.whole:
        shutil.copyfile(media.path, target)
        return
    name = media.container.format.name
    ticks, packets, last = _TICKS[name], [], 1
    with import_av().open(target, "w", format=name, options=_OPTIONS[name]) as out:
        stream = out.add_stream(name, rate=ticks)
        stream.width, stream.height = media.video.codec_context.width, media.video.codec_context.height
        stream.pix_fmt = _PIXELS[name]
        stream.codec_context.time_base = Fraction(1, ticks)
        for begin, end, frame in _shown(media, ticks):
            picture = _encodable(frame.to_ndarray(format="rgba"), name)
            picture.pts, picture.time_base = begin, Fraction(1, ticks)
            packets += stream.encode(picture)
            last = end - begin
        # Written with the header, that is with the first packet.
        out.container_options["final_delay"] = str(last) if name == "gif" else f"{last}/{ticks}"
        out.mux([*packets, *stream.encode()])


def _shown(media: Media, ticks: int) -> Iterator[tuple[int, int, Any]]:
    """Yield start and end, in ticks after the start of the segment, and the frame of each picture of a segment."""
    end = media.end(media.video)
    begin, held = 0, None
    for frame in chain.from_iterable(map(media.frames, media.packets(media.video))):
        time = media.time_of(frame)
        if time >= end - TOLERANCE:
            break
        tick = round(time * ticks)
        if held is not None and tick > begin:
            yield begin, tick, held
            begin = tick
        held = frame
    if held is None or end <= TOLERANCE:
        why = media.fault or "it ends before"
        raise media_error(media.segment.name, f"it has no picture in this part ({why})")
    yield begin, max(begin + 1, round(end * ticks)), held


def _encodable(picture: NDArray[np.uint8], name: str) -> Any:
    """Return a picture (h, w, 4) as a frame for the encoder of a format."""
    if name != "gif":
        return import_av().VideoFrame.from_ndarray(picture, format="rgba")
    colours, index = np.unique(picture.view(np.uint32), return_inverse=True)
    if len(colours) > _COLOURS:
        picture = _with_fewer_colours(picture)
        colours, index = np.unique(picture.view(np.uint32), return_inverse=True)
    palette = np.zeros((_COLOURS, 4), np.uint8)
    palette[: len(colours)] = colours.view(np.uint8).reshape(-1, 4)[:, [3, 0, 1, 2]]  # alpha first
    indices = index.reshape(picture.shape[:2]).astype(np.uint8)
    return import_av().VideoFrame.from_ndarray((indices, palette), format="pal8")


def _with_fewer_colours(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture (h, w, 4) of at most 256 colours, all of them opaque or the transparent one."""
    from PIL import Image

    opaque = picture[..., 3:] > 0
    colours = Image.fromarray(picture[..., :3]).quantize(_COLOURS - 1).convert("RGB")
    reduced = np.concatenate([np.asarray(colours), np.full_like(picture[..., 3:], 255)], axis=2)
    result: NDArray[np.uint8] = np.ascontiguousarray(np.where(opaque, reduced, np.uint8(0)))
    return result
