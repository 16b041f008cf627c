"""What strips and previews of videos show, decoded."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
from PIL import Image

from selavi_ref.browser.thumbnail_strip import FRAMES


def frames_of(data: bytes | Path) -> np.ndarray:
    """Frames of a strip, (12, 128, width, 3)."""
    picture = np.asarray(Image.open(io.BytesIO(data) if isinstance(data, bytes) else data))
    assert picture.shape[1] % FRAMES == 0
    return np.stack(np.split(picture, FRAMES, axis=1))


def levels_of(data: bytes | Path) -> list[float]:
    return [float(frame.mean()) for frame in frames_of(data)]


def streams_of(data: bytes) -> dict[str, tuple]:
    """Width, height and times of the frames of a file's picture, and the number of samples of its sound."""
    with av.open(io.BytesIO(data)) as file:
        found = {}
        if file.streams.video:
            frames = list(file.decode(video=0))
            found["video"] = (frames[0].width, frames[0].height, [frame.time for frame in frames], frames)
    with av.open(io.BytesIO(data)) as file:
        if file.streams.audio:
            found["audio"] = (sum(frame.samples for frame in file.decode(audio=0)),)
    return found
