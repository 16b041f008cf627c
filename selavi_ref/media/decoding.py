"""What decoding of clips and of segments has in common: the loop over packets, and the checks of what came of it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError
from selavi_ref.media.audio_track import PREROLL, AudioTrack
from selavi_ref.media.container import Media, media_error
from selavi_ref.media.frames import TOLERANCE, FramePicker, SquareCrops

# Seconds before the clip to seek to, each tried if the one before was too late.
SEEK_LEADS = (PREROLL, 3.0, 15.0, math.inf)
LONGEST_JUMP = 60.0  # seconds that frames may be beyond the end of a file by its header; more is a damaged clock
_SKIPPABLE = ("h264", "hevc")  # codecs whose non-reference frames, and no others, FFmpeg can skip
_WHOLE_FRAMES = ("mp4", "matroska")  # containers whose packets are frames, not fields of them
_AHEAD = 17  # packets of video before and after another, between which the frame displayed next is: codecs reorder 16
_MAX_MISSING = 0.5  # seconds of video or audio that a damaged file may lack and still be read


@dataclass(frozen=True)
class Clip:
    """
    Video frames and audio samples of the same time interval.

    Parameters
    ----------
    frames
        uint8, RGB, shape (T, h, w, 3), or (P, T, s, s, 3) with P square crops; T = 0 without video.
    samples
        float32 in -1..1, mono, shape (n,); n = 0 without audio.
    start
        Start of the clip, seconds after the first frame of its video, or after the start of its segment.
    """

    frames: NDArray[np.uint8]
    samples: NDArray[np.float32]
    start: float


def make_picker(
    media: Media,
    start: float,
    fps: float,
    count: int | None,
    size: int,
    crops: SquareCrops | None,
    enlarge: bool = True,
    antialias: bool = True,
) -> FramePicker | None:
    """Return the receiver of the frames of an open file; None without video. Parameters as in `FramePicker`."""
    if media.video is None:
        return None
    return FramePicker(start, fps, count, size, media.pixel_aspect, crops, enlarge, antialias)


class FrameReceiver(Protocol):
    """What receives the decoded frames of a file in order: a `FramePicker`, or several."""

    count: int | None
    first_time: float
    last_time: float

    @property
    def done(self) -> bool:
        """Whether all frames needed have been received."""

    def push(self, time: float, frame: Any) -> None:
        """Receive the next frame, displayed from `time` (seconds) on; NaN means the time of the frame before."""


def decode_packets(
    media: Media,
    picker: FrameReceiver | None,
    track: AudioTrack | None,
    skip_before: float = -math.inf,
    shown_at: Sequence[float] = (),
) -> float:
    """
    Decode packets from the current position until picker and track are done, or to the end.

    Non-reference frames that end before `skip_before` (seconds) are not decoded; returns the time of the latest of
    them, or minus infinity. With `shown_at`, the ascending times for which frames are wanted (seconds), those that are
    displayed at none of them are not decoded either, where the file says reliably when they are.
    """
    streams = [s for s, target in ((media.video, picker), (media.audio, track)) if target is not None]
    if not streams:
        return -math.inf
    video_index = media.video.index if media.video is not None else -1
    tick = float(media.audio.time_base) if track is not None else 0.0
    skipper = _FrameSkipper(media, skip_before)
    packets = media.packets(*streams)
    ahead = _ShownFrames(media, shown_at) if picker is not None and shown_at and skipper.is_possible else None
    for packet in packets if ahead is None else ahead.watch(packets):
        if picker is not None and packet.stream.index == video_index:  # stream_index is 0 in all empty packets
            if not picker.done:
                skipper.update(packet, ahead is not None and ahead.unused and not math.isnan(picker.first_time))
                for frame in media.frames(packet):
                    time = media.time_of(frame)
                    _check_clock(media, picker.last_time, time, picker.count is None)
                    picker.push(time, frame)
        elif track is not None and track.needs(_packet_end(packet, tick) - media.origin):
            for frame in media.frames(packet):
                time = media.time_of(frame)
                _check_clock(media, track.end, time, math.isinf(track.last))
                track.push(time, frame)
        if (picker is None or picker.done) and (track is None or track.done):
            break
    return skipper.latest


class _FrameSkipper:
    """Makes the video decoder skip non-reference frames before a time (seconds)."""

    def __init__(self, media: Media, before: float) -> None:
        self.latest = -math.inf  # time of the latest frame that may have been skipped
        self.is_possible = media.video is not None and media.video.codec.name in _SKIPPABLE
        self.is_possible = self.is_possible and not media.untimed  # whose frames are identified by their number
        if self.is_possible:
            self._context = media.video.codec_context
            self._tick, self._origin = float(media.video.time_base), media.origin
            self._before = before
            self._skipping = False

    def update(self, packet: Any, unused: bool) -> None:
        """Decide whether the frames of the next packet are skipped, as those of `unused` packets are."""
        if not self.is_possible:
            return
        time = math.inf if packet.pts is None else packet.pts * self._tick - self._origin
        skip = time + (packet.duration or 0) * self._tick < self._before
        if skip:
            self.latest = max(self.latest, time)
        skip = skip or unused
        if skip != self._skipping:
            self._context.skip_frame = "NONREF" if skip else "DEFAULT"
            self._skipping = skip


class _ShownFrames:
    """
    Looks some packets ahead, and tells of the present one whether its frame is displayed at none of the wanted times.

    A frame is displayed until the next one, which may come earlier or later in the file: codecs reorder frames. Frames
    are taken for used where that cannot be told.
    """

    def __init__(self, media: Media, shown_at: Sequence[float]) -> None:
        self.unused = False
        self._is_reliable = any(name in media.container.format.name for name in _WHOLE_FRAMES)
        self._index, self._tick = media.video.index, float(media.video.time_base)
        self._origin, self._shown_at = media.origin, shown_at

    def watch(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Yield the packets, each when those after it are known."""
        waiting: deque[Any] = deque()
        near: deque[int] = deque(maxlen=2 * _AHEAD)  # times of video packets before and after the present one
        n_ahead = 0
        for packet in packets:
            waiting.append(packet)
            if self._is_frame(packet):
                self._is_reliable &= packet.pts is not None
                near.append(packet.pts or 0)
                n_ahead += 1
            while n_ahead > _AHEAD:
                first = waiting.popleft()
                if self._is_frame(first):
                    n_ahead -= 1
                    self.unused = self._is_unused(first.pts, near)
                yield first
        self.unused = False
        yield from waiting

    def _is_frame(self, packet: Any) -> bool:
        return bool(packet.stream.index == self._index and packet.size)

    def _is_unused(self, time: int | None, near: deque[int]) -> bool:
        if not self._is_reliable or time is None or near.count(time) != 1:
            return False
        after = [other for other in near if other > time]
        if not after:
            return False
        begin, end = (each * self._tick - self._origin for each in (time, min(after)))
        first = bisect_left(self._shown_at, begin - 2 * TOLERANCE)
        return first == len(self._shown_at) or self._shown_at[first] > end + TOLERANCE


def _packet_end(packet: Any, tick: float) -> float:
    """Return the end of an audio packet, seconds; infinity if unknown, so that it is decoded."""
    pts, duration = packet.pts, packet.duration
    return math.inf if pts is None or not duration else (pts + duration) * tick


def seeked_too_late(
    media: Media, picker: FrameReceiver | None, track: AudioTrack | None, starts: tuple[float, float]
) -> bool:
    """Tell whether decoding began after the start of video or audio, because the key frame found lies too late."""
    if picker is not None and not picker.first_time <= starts[0] + TOLERANCE:
        return True
    if track is None:
        return False
    return not track.begin <= max(starts[1], media.start(media.audio)) + TOLERANCE


def check_complete(
    media: Media, picker: FramePicker | None, track: AudioTrack | None, ends: tuple[float, float]
) -> None:
    """Raise MediaError if decoding failed before the ends that video and audio must reach, seconds."""
    if picker is None and track is None:
        if media.video is None and media.audio is None:
            raise media_error(media.path, "it holds neither a picture nor a sound that can be decoded")
        return
    why = f" ({media.fault})" if media.fault else ""
    if picker is not None and not picker.frames:
        raise media_error(media.path, f"no picture could be decoded{why}")
    missing = []
    if picker is not None and not min(ends[0], media.end(media.video)) - picker.last_end <= _MAX_MISSING:
        missing.append("picture")
    if track is not None and not min(ends[1], media.end(media.audio)) - track.end <= _MAX_MISSING:
        missing.append("sound")
    # Without a fault, one stream alone may just end early; if both do, the file is cut off.
    if missing and (media.fault or len(missing) == 2):
        raise media_error(
            media.path, f"{' and '.join(missing)} cannot be decoded up to {max(ends):.2f} s{why or ' (cut off)'}"
        )


def _check_clock(media: Media, before: float, time: float, whole: bool) -> None:
    """Raise MediaError if time jumps forward as no camera's does; the memory of a single clip is bounded anyway."""
    jump = time - (0.0 if math.isnan(before) else before)
    if whole and jump > LONGEST_JUMP and time > media.claimed_end + LONGEST_JUMP:
        raise media_error(media.path, f"its clock jumps to {time:.0f} s")


def check_positive(**settings: float) -> None:
    """Raise InputError unless each setting is a positive number."""
    for name, value in settings.items():
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} must be positive, not {value}", option=name, value=value)
