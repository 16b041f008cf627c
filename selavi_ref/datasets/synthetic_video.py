"""Frames of the synthetic data set: eight kinds of drawn objects, each moving in its own way at a beat."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Beat:
    """
    The beats of a video: `offset` + n * `period`, seconds, for every integer n.

    Frames and audio of a video share one.
    """

    period: float
    offset: float

    def phase(self, time: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the time in periods: integers are beats."""
        return (time - self.offset) / self.period


class Stage:
    """
    Frames on which shapes are painted: (T, size, size, 3), x to the right and y down from -1 to 1.

    Parameters
    ----------
    time
        Time of each frame, seconds, shape (T,).
    size
        Pixels of either side.
    rng
        Draws background, colours, position and size of the object.
    """

    def __init__(self, time: NDArray[np.float64], size: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.time = time[:, None, None]
        axis = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
        self.x, self.y = axis[None, None, :], axis[None, :, None]
        self.pixel = 2.0 / size
        dark = bool(rng.integers(2))
        hue = rng.random()
        self.image = np.repeat(_background(self, dark, hue)[None], len(time), axis=0)
        self.colour = _colour(rng, hue + rng.uniform(0.25, 0.75), dark)
        self.accent = _colour(rng, hue + rng.uniform(0.25, 0.75), dark)
        self.shade = np.float32(0.12 if not dark else 0.95) * np.ones(3, np.float32)
        self.scale = float(rng.uniform(0.85, 1.15))
        self.mirror = float(rng.choice([-1.0, 1.0]))
        self.cx, self.cy = (float(v) for v in rng.uniform(-0.25, 0.25, 2))

    def paint(self, distance: NDArray[np.floating], colour: Array, opacity: float | NDArray[np.floating] = 1.0) -> None:
        """Paint where a signed distance, broadcast to (T, size, size), is negative, with smooth edges."""
        cover = np.clip(0.5 - distance / self.pixel, 0.0, 1.0).astype(np.float32)
        cover = np.broadcast_to(
            cover * np.float32(opacity) if np.ndim(opacity) == 0 else cover * opacity, self.image.shape[:3]
        )
        rows, columns = cover.any(axis=(0, 2)), cover.any(axis=(0, 1))
        if not rows.any():
            return
        top, bottom = np.flatnonzero(rows)[[0, -1]]
        left, right = np.flatnonzero(columns)[[0, -1]]
        window = (slice(None), slice(top, bottom + 1), slice(left, right + 1))
        self.image[window] += cover[window][..., None].astype(np.float32) * (colour - self.image[window])


def draw(kind: str, time: NDArray[np.float64], size: int, beat: Beat, rng: np.random.Generator) -> NDArray[np.uint8]:
    """
    Return the frames of a video of a kind.

    Parameters
    ----------
    kind
        A key of `SCENES`.
    time
        Time of each frame, seconds, shape (T,).
    size
        Pixels of either side.
    beat
        The beats of the video.
    rng
        Draws all that is independent of the kind: background, colours, position, size, direction, speed.

    Returns
    -------
    NDArray[np.uint8]
        RGB, shape (T, size, size, 3).
    """
    stage = Stage(time, size, rng)
    SCENES[kind](stage, beat)
    return (np.clip(stage.image, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)


def _ball(stage: Stage, beat: Beat) -> None:
    """Draw a ball that bounces on a floor, and rests on it at each beat."""
    radius = 0.24 * stage.scale
    floor = 0.8 + 0.25 * stage.cy
    height = np.abs(np.sin(np.pi * beat.phase(stage.time)))
    y = floor - radius - (1.1 - 0.3 * (stage.scale - 1)) * height
    x = stage.cx + stage.mirror * 0.3 * np.sin(1.2 * stage.time + stage.cx * 9)
    stage.paint(_box(stage.x, stage.y - floor - 0.04, 2.0, 0.04), stage.accent)
    stage.paint(_ellipse(stage.x - x, stage.y - floor - 0.04, radius * (1.2 - 0.7 * height), 0.06), stage.shade, 0.5)
    squash = 1 - 0.22 * np.exp(-((height / 0.25) ** 2))
    stage.paint(
        _ellipse(stage.x - x, stage.y - y - radius * (1 - squash), radius / squash, radius * squash), stage.colour
    )
    stage.paint(_disc(stage.x - x + 0.08, stage.y - y + 0.08, radius * 0.25), np.ones(3, np.float32), 0.7)


def _windmill(stage: Stage, beat: Beat) -> None:
    """Draw a windmill, a blade of which passes the tower every other beat."""
    blades = int(stage.rng.integers(3, 5))
    turn = stage.mirror * np.pi * beat.phase(stage.time) / blades
    x, y = stage.x - stage.cx, stage.y - stage.cy + 0.1
    reach = 0.72 * stage.scale
    tower = np.maximum(np.abs(x) - 0.1 - 0.12 * y, -y)
    stage.paint(tower, stage.accent)
    for blade in range(blades):
        u, v = _turned(x, y, turn + 2 * np.pi * blade / blades)
        stage.paint(_ellipse(u - reach * 0.54, v, reach * 0.48, reach * 0.2), stage.colour)
    stage.paint(_disc(x, y, reach * 0.17), stage.shade)


def _bird(stage: Stage, beat: Beat) -> None:
    """Draw a bird that flaps its wings once a beat while it flies to and fro."""
    lift = np.sin(2 * np.pi * beat.phase(stage.time))
    x = (stage.x - 0.5 * stage.cx - 0.35 * np.sin(1.5 * stage.time + 20 * stage.cx)) * stage.mirror
    y = stage.y - stage.cy + 0.15 * lift
    s = stage.scale
    for side in (-1, 1):
        tip = -0.62 * s * lift
        root = _stroke(x, y, side * 0.1 * s, 0.0, side * 0.62 * s, tip, 0.05 * s)
        spread = (
            np.clip(1 - side * x / (0.62 * s), 0, 1) * 0.16 * s
        )  # wings are broad at the body and pointed at the tip
        stage.paint(root - spread, stage.colour)
    stage.paint(_ellipse(x, y, 0.3 * s, 0.15 * s), stage.accent)
    stage.paint(_disc(x - 0.3 * s, y + 0.07, 0.13 * s), stage.accent)
    stage.paint(_stroke(x, y, 0.4 * s, -0.06, 0.5 * s, -0.03, 0.035), stage.shade)


def _train(stage: Stage, beat: Beat) -> None:
    """Draw a train of carriages with windows and turning wheels that rolls by and jolts at each beat."""
    phase = beat.phase(stage.time)
    jolt = 0.05 * np.exp(-6 * (phase % 1.0))
    travel = stage.mirror * (0.5 + 0.3 * stage.scale) * stage.time + 3 * stage.cx
    apart = 1.6 * stage.scale  # from one carriage to the next
    x = (stage.x - travel) % apart - apart / 2
    y = stage.y - stage.cy * 0.9 + jolt
    half, tall = 0.66 * stage.scale, 0.3 * stage.scale
    stage.paint(_box(stage.x, y - tall - 0.27, 2.0, 0.03), stage.shade, 0.8)
    stage.paint(_box(np.abs(x) - apart / 2, y - 0.6 * tall, apart / 2 - half, 0.04), stage.shade)
    stage.paint(_box(x, y, half, tall) - 0.03, stage.colour)
    for window in (-0.62, -0.21, 0.21, 0.62):
        stage.paint(_box(x - window * half, y + 0.25 * tall, 0.13 * half, 0.3 * tall), stage.shade, 0.9)
    for wheel in (-0.6, 0.6):
        wx, wy = x - wheel * half, y - tall - 0.1
        stage.paint(_disc(wx, wy, 0.15), stage.accent)
        u, v = _turned(wx, wy, stage.mirror * 2 * np.pi * phase / 2)
        stage.paint(np.minimum(_box(u, v, 0.13, 0.025), _box(u, v, 0.025, 0.13)), stage.shade)


def _bell(stage: Stage, beat: Beat) -> None:
    """Draw a bell that swings, and turns back at each beat."""
    swing = stage.mirror * 0.6 * np.cos(np.pi * beat.phase(stage.time))
    top = 0.5 * stage.cy - 0.8
    stage.paint(_box(stage.x, stage.y - top, 2.0, 0.07), stage.accent)
    x, y = _turned(stage.x - 0.6 * stage.cx, stage.y - top, swing)
    s = 1.05 * stage.scale
    clapper = 0.16 * stage.mirror * np.cos(np.pi * (beat.phase(stage.time) - 0.3))
    stage.paint(_disc(x - clapper, y - 1.12 * s, 0.11 * s), stage.accent)
    width = s * (0.2 + 0.28 * np.clip((y / s - 0.3) / 0.7, 0, 1) ** 1.6 + 0.1 * np.clip((y / s - 0.88) / 0.12, 0, 1))
    body = np.maximum(np.abs(x) - width, np.abs(y - 0.64 * s) - 0.4 * s) * 0.9
    stage.paint(np.minimum(body, _disc(x, y - 0.28 * s, 0.2 * s)), stage.colour)
    stage.paint(_box(x, y - 0.98 * s, 0.5 * s, 0.035 * s), stage.shade, 0.6)
    stage.paint(_stroke(x, y, 0.0, 0.0, 0.0, 0.12 * s, 0.05), stage.accent)


def _lamp(stage: Stage, beat: Beat) -> None:
    """Draw a lamp that is lit for the first half of every beat."""
    lit = (beat.phase(stage.time) % 1.0 < 0.5).astype(np.float32)
    x, y = stage.x - stage.cx, stage.y - stage.cy
    s = stage.scale
    angle = np.arctan2(y, x)
    radius = np.hypot(x, y)
    spokes = 8
    ray = np.abs((angle * spokes / (2 * np.pi) + stage.cx * 4) % 1.0 - 0.5) * 2 * np.pi / spokes * radius - 0.05
    rays = np.maximum(ray, np.abs(radius - 0.62 * s) - 0.14 * s)
    stage.paint(rays, stage.accent, lit)
    stage.paint(_disc(x, y, 0.36 * s), stage.accent, lit)
    stage.paint(np.abs(_disc(x, y, 0.36 * s)) - 0.05, stage.colour)
    stage.paint(_box(x, y - 0.5 * s, 0.16 * s, 0.13 * s), stage.colour)


def _rain(stage: Stage, beat: Beat) -> None:
    """Draw rain: streaks that fall all over the picture, from end to end in about two beats."""
    rng = stage.rng
    slant = 0.25 * stage.mirror * rng.random()
    reach = 2.6
    for layer in range(3):  # each layer is a lattice of streaks in which every column has its own start
        columns = 6
        pitch = 2.4 / columns
        u = stage.x - slant * stage.y + 1.2 + rng.uniform(0, pitch)
        column = np.floor(u / pitch).astype(np.int64)
        starts = rng.random(columns + 8)
        fall = reach / (2.0 * beat.period) * stage.time * (0.85 + 0.15 * layer)
        v = (stage.y - fall + starts[column % len(starts)] * reach) % reach - reach / 2
        across = (u / pitch - column - 0.5) * pitch
        stage.paint(
            _box(across, v, 0.025 * stage.scale, 0.13 * stage.scale) - 0.02, (stage.colour, stage.accent)[layer % 2]
        )


def _clock(stage: Stage, beat: Beat) -> None:
    """Draw a clock whose hand jumps at each beat."""
    phase = beat.phase(stage.time)
    step = np.floor(phase) + np.clip((phase % 1.0) / 0.15, 0, 1) - 1
    x, y = stage.x - stage.cx, stage.y - stage.cy
    s = 0.68 * stage.scale
    stage.paint(_disc(x, y, s), stage.accent, 0.35)
    stage.paint(np.abs(_disc(x, y, s)) - 0.06 * stage.scale, stage.colour)
    for mark in range(4):
        u, v = _turned(x, y, mark * np.pi / 2)
        stage.paint(_box(u - 0.78 * s, v, 0.1 * s, 0.04), stage.colour)
    u, v = _turned(x, y, stage.mirror * step * np.pi / 3 + 9 * stage.cx)
    stage.paint(_stroke(u, v, -0.12 * s, 0.0, 0.66 * s, 0.0, 0.08 * stage.scale), stage.shade)
    stage.paint(_disc(x, y, 0.12 * s), stage.colour)


SCENES: dict[str, Callable[[Stage, Beat], None]] = {
    "ball": _ball,
    "bell": _bell,
    "bird": _bird,
    "clock": _clock,
    "windmill": _windmill,
    "lamp": _lamp,
    "rain": _rain,
    "train": _train,
}


def _background(stage: Stage, dark: bool, hue: float) -> Array:
    """Paint a gradient between two related colours with large soft spots of light, shape (size, size, 3)."""
    rng = stage.rng
    low, high = (0.05, 0.5) if dark else (0.55, 1.0)
    ends = [
        np.array(
            colorsys.hsv_to_rgb(
                (hue + rng.uniform(-0.12, 0.12)) % 1, rng.uniform(0.2, 0.7) * (1 if dark else 0.6), value
            )
        )
        for value in rng.uniform(low, high, 2)
    ]
    angle = rng.uniform(0, 2 * np.pi)
    x, y = stage.x[0], stage.y[0]
    along = np.clip(0.5 + 0.6 * (x * np.cos(angle) + y * np.sin(angle)), 0, 1)[..., None]
    image = ends[0] + along * (ends[1] - ends[0])
    for _ in range(rng.integers(3, 8)):
        cx, cy = rng.uniform(-1, 1, 2)
        spot = np.clip((rng.uniform(0.2, 0.6) - np.hypot(x - cx, y - cy)) / 0.12, 0, 1)[..., None]
        image = image + spot * rng.uniform(-0.2, 0.2)
    return np.clip(image, 0, 1).astype(np.float32)


def _colour(rng: np.random.Generator, hue: float, on_dark: bool) -> Array:
    """Choose a colour that stands out from a background."""
    saturation, value = (
        (rng.uniform(0.3, 0.8), rng.uniform(0.85, 1.0)) if on_dark else (rng.uniform(0.7, 1.0), rng.uniform(0.25, 0.5))
    )
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32)


def _disc(x: NDArray, y: NDArray, radius: float) -> NDArray:
    return np.hypot(x, y) - radius


def _ellipse(x: NDArray, y: NDArray, a: float | NDArray, b: float | NDArray) -> NDArray:
    return (np.hypot(x / a, y / b) - 1) * np.minimum(a, b)


def _box(x: NDArray, y: NDArray, half_width: float, half_height: float) -> NDArray:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _stroke(
    x: NDArray, y: NDArray, x0: float, y0: float | NDArray, x1: float, y1: float | NDArray, radius: float
) -> NDArray:
    """Return the signed distance to a line from (x0, y0) to (x1, y1) with round ends."""
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
    return np.hypot(x - x0 - along * dx, y - y0 - along * dy) - radius


def _turned(x: NDArray, y: NDArray, angle: float | NDArray) -> tuple[NDArray, NDArray]:
    """Return coordinates in a frame turned by an angle, radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return x * cos + y * sin, y * cos - x * sin
