"""Makes small real video files in which every frame can be told by its brightness and every moment by its sound."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

STEP = 7  # brightness from one frame to the next


def level_of(index: int) -> int:
    """Brightness of frame number `index`: neighbours differ clearly; repeats after 30 frames."""
    return 20 + STEP * (index % 30)


def index_of(frame: np.ndarray) -> int:
    """Which frame (modulo 30) a decoded picture is."""
    return round((float(frame.mean()) - 20) / STEP)


def write_video(
    path: Path | str,
    *,
    n_frames: int = 60,
    fps: int = 30,
    times: Sequence[float] | None = None,
    size: tuple[int, int] = (64, 48),
    sound: np.ndarray | None = None,
    sample_rate: int = 48000,
    codec: str = "libx264",
    audio_codec: str = "aac",
    layout: str = "mono",
    audio_offset: float = 0.0,
    pix_fmt: str = "yuv420p",
    rotation: int | None = None,
    pictures: np.ndarray | None = None,
    container: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Write frames of rising brightness (at `times`, seconds, if given) and a mono `sound` (n,) or (channels, n)."""
    with av.open(str(path), "w", options=container or {}) as out:
        video = audio = None
        if n_frames:
            video = out.add_stream(codec, rate=fps, options={"g": "20", **options})
            video.width, video.height, video.pix_fmt = *size, pix_fmt
            if times is not None:
                video.codec_context.time_base = Fraction(1, 1000)
            if rotation is not None:
                video.set_display_rotation(rotation)
        if sound is not None:
            audio = out.add_stream(audio_codec, rate=sample_rate, layout=layout)
        for i in range(n_frames):
            picture = np.full((size[1], size[0], 3), level_of(i), np.uint8) if pictures is None else pictures[i]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i if times is None else round(times[i] * 1000)
            frame.time_base = Fraction(1, fps) if times is None else Fraction(1, 1000)
            out.mux(video.encode(frame))
        if video is not None:
            out.mux(video.encode())
        if audio is not None:
            _write_sound(out, audio, np.atleast_2d(sound), sample_rate, layout, audio_offset)
    return Path(path)


def _write_sound(out: Any, audio: Any, sound: np.ndarray, sample_rate: int, layout: str, offset: float) -> None:
    resampler = av.AudioResampler(
        format=audio.codec_context.format,
        layout=layout,
        rate=sample_rate,
        frame_size=audio.codec_context.frame_size or 1024,
    )
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound, np.float32), format="fltp", layout=layout)
    frame.sample_rate = sample_rate
    frame.pts, frame.time_base = round(offset * sample_rate), Fraction(1, sample_rate)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        out.mux(audio.encode(part))
    out.mux(audio.encode())


def tone(seconds: float, hertz: float, sample_rate: int = 48000) -> np.ndarray:
    """A sine of amplitude 0.5."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * sample_rate)) / sample_rate)


def bursts(seconds: float, moments: Sequence[float], sample_rate: int = 48000) -> np.ndarray:
    """Silence with a short burst of 2 kHz at each moment."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    wave = np.zeros(len(time))
    for moment in moments:
        wave += 0.8 * np.exp(-(((time - moment) / 0.002) ** 2)) * np.cos(2 * np.pi * 2000 * (time - moment))
    return wave
