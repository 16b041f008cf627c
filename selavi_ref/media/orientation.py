"""How decoded frames are turned and mirrored to be upright."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Orientation(NamedTuple):
    """How a decoded frame is turned upright: rows and columns exchanged, then flipped along either axis."""

    transpose: bool = False
    flip_vertical: bool = False
    flip_horizontal: bool = False

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the upright image of an image (h, w, 3), as a view."""
        image = image.swapaxes(0, 1) if self.transpose else image
        return image[:: -1 if self.flip_vertical else 1, :: -1 if self.flip_horizontal else 1]


def orientation(frame: Any) -> Orientation:
    """Return how a decoded frame is turned upright, by its display matrix, rounded to quarter turns."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None or len(bytes(matrix)) < 36:
        return Orientation()
    # A pixel (x, y) is displayed at (a x + c y, b x + d y), up to a shift.
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32, 5).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, d < 0, a < 0)
    return Orientation(True, b < 0, c < 0)
