"""Still pictures (JPEG, PNG, WebP) as videos of one frame, turned upright as their EXIF data say."""

from __future__ import annotations

import os
import warnings
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import FilePath, reason
from selavi_ref.media.container import VideoInfo, import_av, media_error
from selavi_ref.media.frames import FramePicker, SquareCrops, empty_frames

PICTURE_EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp")
_FPS = 25  # a picture counts as one frame of such a video


def is_picture(path: FilePath) -> bool:
    """Tell whether a file is a still picture, by its extension."""
    return os.fspath(path).lower().endswith(PICTURE_EXTENSIONS)


def probe_picture(path: FilePath) -> VideoInfo:
    """
    Return the properties of a picture, which is decoded for it.

    Raises
    ------
    MediaError
        If it cannot be read.
    """
    height, width = load_picture(path).shape[:2]
    return VideoInfo(os.fspath(path), 1 / _FPS, 0.0, float(_FPS), width, height, 0, has_video=True, has_audio=False)


def still_frames(
    path: FilePath,
    count: int,
    size: int,
    *,
    crops: SquareCrops | None = None,
    enlarge: bool = True,
    antialias: bool = True,
) -> NDArray[np.uint8]:
    """
    Return a picture as `count` equal frames; other parameters are those of `selavi_ref.media.frames.FramePicker`.

    Returns
    -------
    NDArray[np.uint8]
        RGB, shape (T, h, w, 3), or (P, T, s, s, 3) with P square crops.

    Raises
    ------
    MediaError
        If it cannot be read.
    """
    if not count:
        return empty_frames(size, crops)
    frame = import_av().VideoFrame.from_ndarray(load_picture(path), format="rgb24")
    frame.time_base = Fraction(1, _FPS)
    picker = FramePicker(0.0, _FPS, count, size, 1.0, crops, enlarge, antialias)
    picker.push(0.0, frame)
    picker.finish(0.0)
    return picker.stack()


def load_picture(path: FilePath) -> NDArray[np.uint8]:
    """
    Return a picture, the first of an animation, upright: uint8, RGB, shape (h, w, 3).

    Raises
    ------
    MediaError
        If it cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                return np.ascontiguousarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except OSError as error:
        unknown = "of no format that Pillow can read, or damaged" if error.errno is None else reason(error)
        raise media_error(path, unknown) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise media_error(path, "the picture is too large") from error
    except (ValueError, SyntaxError) as error:
        raise media_error(path, f"no picture could be decoded ({reason(error)})") from error
