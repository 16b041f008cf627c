"""Reading videos: exactly the frames and samples of one clip, or a whole video at a low rate and size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import FilePath, InputError
from selavi_ref.media.audio_track import PREROLL, AudioTrack
from selavi_ref.media.container import Media, media_error, open_media
from selavi_ref.media.frames import TOLERANCE, FramePicker, SquareCrops, empty_frames

_LEADS = (PREROLL, 3.0, 15.0, math.inf)  # seconds before the clip to seek to, one after the other if that was too late
_UNSKIPPED = 0.3  # seconds before a clip from which on all frames are decoded, not only those that others need
_SKIPPABLE = ("h264", "hevc")  # codecs of which FFmpeg leaves out just the frames that no other needs
_LONGEST_JUMP = 60.0  # seconds between two frames of a whole video; more is a damaged clock, and would fill the memory
_HOLE = 0.5  # seconds of picture or sound that a damaged file may lack and still be read


@dataclass(frozen=True)
class Clip:
    """
    Picture and sound of the same stretch of time.

    Parameters
    ----------
    frames
        uint8, RGB, shape (T, h, w, 3), or (P, T, s, s, 3) if P squares were asked for; T = 0 without a picture.
    samples
        float32 in -1..1, mono, shape (n,); n = 0 without sound.
    start
        When the clip begins, seconds after the first picture of its video.
    """

    frames: NDArray[np.uint8]
    samples: NDArray[np.float32]
    start: float


def read_clip(
    path: FilePath,
    start: float,
    seconds: float = 1.0,
    *,
    fps: float,
    frames: int,
    size: int,
    sample_rate: int,
    audio_shift: float = 0.0,
    squares: SquareCrops | None = None,
    want_video: bool = True,
    want_audio: bool = True,
) -> Clip:
    """
    Decode exactly the frames and samples of one clip.

    Frame t is the one on display at `start` + t / `fps`: the last whose time is not later (within a millisecond).
    Sample i is the sound at `start` + i / `sample_rate`. A clip that would run past the end of the video (of the
    shorter of picture and sound) is moved back; if it is longer than the video, it starts at 0 and the last frame is
    repeated, the sound padded with zeros.

    Parameters
    ----------
    path
        A video file in any container that FFmpeg knows.
    start
        Seconds after the first picture.
    seconds
        Length of the sound, seconds.
    fps
        Frames per second of the clip.
    frames
        Number T of frames.
    size
        Pixels of the short side; the shape is kept.
    sample_rate
        Samples per second, mono.
    audio_shift
        Seconds by which the sound begins after the picture (before it, if negative), as far as there is sound.
    squares
        Which parts of the pictures to return; all of each by default.
    want_video, want_audio
        Leave one out, which costs nothing then.

    Returns
    -------
    Clip
        A video without sound has empty samples, one without picture empty frames.

    Raises
    ------
    MediaError
        If the file cannot be read, or is damaged within the clip; the message names the file and the reason.
    InputError
        If an argument is out of range, or PyAV is not installed.
    """
    _check_positive(seconds=seconds, fps=fps, frames=frames, size=size, sample_rate=sample_rate)
    if not (math.isfinite(start) and math.isfinite(audio_shift)):
        raise InputError(f"a clip cannot start at {start} s, its sound {audio_shift} s later")
    span = _Span(start, seconds, fps, frames, audio_shift)
    skip = True
    leads = list(_LEADS)
    while leads:
        with open_media(path) as media:
            begin, hear = _beginnings(media, span, want_video, want_audio)
            picture = _picker(media, begin, fps, frames, size, squares) if want_video else None
            sound = AudioTrack(hear, hear + seconds, sample_rate) if want_audio and media.audio is not None else None
            sought = min(begin, hear) - max(leads[0], media.settling)
            media.seek(sought)
            skipped = _decode(media, picture, sound, skip_before=begin - _UNSKIPPED if skip else -math.inf)
            if sought > 0 and _came_late(media, picture, sound, (begin, hear)):
                leads.pop(0)
                continue
            if picture is not None:
                picture.finish(math.inf)
                if skipped > picture.first_shown:  # the frame on display at the beginning was not decoded
                    skip = False
                    continue
            _check_whole(media, picture, sound, (begin + (frames - 1) / fps, hear + seconds))
            return Clip(
                picture.stacked() if picture is not None else empty_frames(size, squares),
                sound.stretch(hear, round(seconds * sample_rate)) if sound is not None else np.empty(0, np.float32),
                begin,
            )
    raise AssertionError("the last lead decodes from the beginning")


class _Span(NamedTuple):
    start: float  # seconds
    seconds: float  # of sound
    fps: float
    frames: int
    audio_shift: float


def _beginnings(media: Media, span: _Span, want_video: bool, want_audio: bool) -> tuple[float, float]:
    """Return when the picture and the sound of a clip begin: moved back where they would run past their ends."""
    sees, hears = want_video and media.video is not None, want_audio and media.audio is not None
    latest_sight = media.end(media.video) - span.frames / span.fps if sees else math.inf
    latest_sound = media.end(media.audio) - span.seconds if hears else math.inf
    begin = max(0.0, min(span.start, latest_sight, latest_sound))
    return begin, max(0.0, min(begin + span.audio_shift, latest_sound))


def read_video(
    path: FilePath,
    *,
    fps: float,
    size: int,
    sample_rate: int,
    enlarge: bool = True,
    want_video: bool = True,
    want_audio: bool = True,
) -> Clip:
    """
    Decode a whole video once, at a low rate and size: frames at 0, 1 / `fps`, 2 / `fps`, ... and the whole sound.

    Frames and samples cut out of it are those that `read_clip` gives for a start on the grid of the frames.

    Parameters
    ----------
    path, fps, size, sample_rate, want_video, want_audio
        As in `read_clip`.
    enlarge
        Whether pictures whose short side has fewer pixels than `size` are scaled up.

    Returns
    -------
    Clip
        As many frames as begin before the picture ends; as many samples as begin before the sound ends.

    Raises
    ------
    MediaError
        If the file cannot be read, is cut off or damaged, or if its clock jumps by more than a minute.
    InputError
        If an argument is out of range, or PyAV is not installed.
    """
    _check_positive(fps=fps, size=size, sample_rate=sample_rate)
    with open_media(path) as media:
        picture = _picker(media, 0.0, fps, None, size, None, enlarge) if want_video else None
        sound = AudioTrack(0.0, math.inf, sample_rate) if want_audio and media.audio is not None else None
        _decode(media, picture, sound)
        picture_end = sound_end = 0.0
        if picture is not None:
            picture_end = max(media.end(media.video), picture.shown_end)
            picture.finish(min(picture_end, picture.shown_time + _LONGEST_JUMP))
        if sound is not None:
            sound_end = media.end(media.audio)
        _check_whole(media, picture, sound, (picture_end, sound_end))
        heard = 0.0 if sound is None or math.isnan(sound.end) else max(0.0, min(sound.end, sound_end))
        return Clip(
            picture.stacked() if picture is not None else empty_frames(size),
            sound.stretch(0.0, round(heard * sample_rate)) if sound is not None else np.empty(0, np.float32),
            0.0,
        )


def _picker(
    media: Media,
    start: float,
    fps: float,
    count: int | None,
    size: int,
    squares: SquareCrops | None,
    enlarge: bool = True,
) -> FramePicker | None:
    if media.video is None:
        return None
    return FramePicker(start, fps, count, size, media.pixel_aspect, squares, enlarge)


def _decode(
    media: Media, picture: FramePicker | None, sound: AudioTrack | None, skip_before: float = -math.inf
) -> float:
    """
    Read packets from where the file stands until picture and sound have what they want, or to the end.

    Frames that end before `skip_before` (seconds) and that no other needs are not decoded; returned is the time of the
    latest of them, or minus infinity.
    """
    streams = [s for s, wanted in ((media.video, picture), (media.audio, sound)) if wanted is not None]
    if not streams:
        return -math.inf
    video_index = media.video.index if media.video is not None else -1
    tick = float(media.audio.time_base) if sound is not None else 0.0
    skipper = _Skipper(media, skip_before)
    for packet in media.packets(*streams):
        if picture is not None and packet.stream.index == video_index:  # stream_index is 0 in all empty packets
            if not picture.done:
                skipper.meet(packet)
                for frame in media.frames(packet):
                    time = media.time_of(frame)
                    _check_clock(media, picture.shown_time, time, picture.count is None)
                    picture.push(time, frame)
        elif sound is not None and sound.needs(_packet_end(packet, tick) - media.origin):
            for frame in media.frames(packet):
                time = media.time_of(frame)
                _check_clock(media, sound.end, time, math.isinf(sound.last))
                sound.push(time, frame)
        if (picture is None or picture.done) and (sound is None or sound.done):
            break
    return skipper.latest


class _Skipper:
    """Tells the decoder of the picture to leave out frames before a time (seconds) that no other frame needs."""

    def __init__(self, media: Media, before: float) -> None:
        self.latest = -math.inf  # time of the latest frame that may have been left out
        self._active = math.isfinite(before) and media.video is not None and media.video.codec.name in _SKIPPABLE
        self._active = self._active and not media.untimed  # whose frames are told by their number
        if self._active:
            self._context = media.video.codec_context
            self._tick, self._origin = float(media.video.time_base), media.origin
            self._before = before
            self._skipping = False

    def meet(self, packet: Any) -> None:
        """Decide for the next packet."""
        if not self._active:
            return
        time = math.inf if packet.pts is None else packet.pts * self._tick - self._origin
        skip = time + (packet.duration or 0) * self._tick < self._before
        if skip:
            self.latest = max(self.latest, time)
        if skip != self._skipping:
            self._context.skip_frame = "NONREF" if skip else "DEFAULT"
            self._skipping = skip


def _packet_end(packet: Any, tick: float) -> float:
    """When a packet's sound ends, seconds; infinity where it does not say, so that it is decoded."""
    pts, duration = packet.pts, packet.duration
    return math.inf if pts is None or not duration else (pts + duration) * tick


def _came_late(
    media: Media, picture: FramePicker | None, sound: AudioTrack | None, begins: tuple[float, float]
) -> bool:
    """Tell whether decoding began after picture or sound do, because the key frame sought lies too late."""
    if picture is not None and not picture.first_time <= begins[0] + TOLERANCE:
        return True
    if sound is None:
        return False
    return not sound.begin <= max(begins[1], media.start(media.audio)) + TOLERANCE


def _check_whole(
    media: Media, picture: FramePicker | None, sound: AudioTrack | None, ends: tuple[float, float]
) -> None:
    """Raise MediaError if decoding failed before the moments that picture and sound must reach, seconds."""
    if picture is None and sound is None:
        if media.video is None and media.audio is None:
            raise media_error(media.path, "it holds neither a picture nor a sound that can be decoded")
        return
    why = f" ({media.fault})" if media.fault else ""
    if picture is not None and not picture.pictures:
        raise media_error(media.path, f"no picture could be decoded{why}")
    missing = []
    if picture is not None and not min(ends[0], media.end(media.video)) - picture.shown_end <= _HOLE:
        missing.append("picture")
    if sound is not None and not min(ends[1], media.end(media.audio)) - sound.end <= _HOLE:
        missing.append("sound")
    # Without a fault, one of them alone may just stand still; if both end early, the file is cut off.
    if missing and (media.fault or len(missing) == 2):
        raise media_error(
            media.path, f"{' and '.join(missing)} cannot be decoded up to {max(ends):.2f} s{why or ' (cut off)'}"
        )


def _check_clock(media: Media, before: float, time: float, whole: bool) -> None:
    """Raise MediaError if the time jumps forward in a way that no camera's does; a single clip is bounded anyway."""
    if whole and time - (0.0 if math.isnan(before) else before) > _LONGEST_JUMP:
        raise media_error(media.path, f"its clock jumps to {time:.0f} s")


def _check_positive(**settings: float) -> None:
    for name, value in settings.items():
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} must be positive, not {value}")
