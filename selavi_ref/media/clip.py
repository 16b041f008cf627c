"""Decoding of one clip, exact to the frame and the sample, or of a whole video at a low frame rate and size."""

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

_SEEK_LEADS = (
    PREROLL,
    3.0,
    15.0,
    math.inf,
)  # seconds before the clip to seek to, each tried if the one before was too late
_NO_SKIP_SECONDS = 0.3  # seconds before a clip from which on all frames are decoded, not only reference frames
_SKIPPABLE = ("h264", "hevc")  # codecs whose non-reference frames, and no others, FFmpeg can skip
_LONGEST_JUMP = 60.0  # seconds that frames may be beyond the end of a file by its header; more is a damaged clock
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
        Start of the clip, seconds after the first frame of its video.
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
    crops: SquareCrops | None = None,
    antialias: bool = True,
    want_video: bool = True,
    want_audio: bool = True,
) -> Clip:
    """
    Decode one clip, exact to the frame and the sample.

    Frame t is the one displayed at `start` + t / `fps`: the last whose time is not later (within a millisecond).
    Sample i is the audio at `start` + i / `sample_rate`. A clip that would run past the end of the file (of the
    shorter of video and audio) is moved back; if it is longer than the file, it starts at 0, the last frame is
    repeated and the audio padded with zeros.

    Parameters
    ----------
    path
        A video file in any container that FFmpeg knows.
    start
        Seconds after the first frame.
    seconds
        Length of the audio, seconds.
    fps
        Frames per second of the clip.
    frames
        Number T of frames.
    size
        Pixels of the short side; the aspect ratio is kept.
    sample_rate
        Samples per second, mono.
    audio_shift
        Seconds by which the audio starts after the video (before it, if negative), within the audio track.
    crops
        Square crops to return; the whole frames by default.
    antialias
        Whether frames are smoothed when they are scaled down; False: as the published SeLaVi program scales them.
    want_video, want_audio
        Whether to decode the video and the audio; what is left out costs nothing.

    Returns
    -------
    Clip
        Samples are empty without audio, frames without video.

    Raises
    ------
    MediaError
        If the file cannot be read, or is damaged within the clip; the message names the file and the reason.
    InputError
        If an argument is out of range, or PyAV is not installed.
    """
    _check_positive(seconds=seconds, fps=fps, frames=frames, size=size, sample_rate=sample_rate)
    if not (math.isfinite(start) and math.isfinite(audio_shift)):
        raise InputError(
            f"a clip cannot start at {start} s, its sound {audio_shift} s later", option="start", value=start
        )
    request = _Request(start, seconds, fps, frames, audio_shift)
    skip = True
    leads = list(_SEEK_LEADS)
    while leads:
        with open_media(path) as media:
            video_start, audio_start = _clip_starts(media, request, want_video, want_audio)
            picker = (
                _make_picker(media, video_start, fps, frames, size, crops, antialias=antialias) if want_video else None
            )
            track = (
                AudioTrack(audio_start, audio_start + seconds, sample_rate)
                if want_audio and media.audio is not None
                else None
            )
            seek_time = min(video_start, audio_start) - max(leads[0], media.settling)
            media.seek(seek_time)
            skipped = _decode(media, picker, track, skip_before=video_start - _NO_SKIP_SECONDS if skip else -math.inf)
            if seek_time > 0 and _seeked_too_late(media, picker, track, (video_start, audio_start)):
                leads.pop(0)
                continue
            if picker is not None:
                picker.finish(math.inf)
                if skipped > picker.first_kept_time:  # the frame on display at the beginning was not decoded
                    skip = False
                    continue
            _check_complete(media, picker, track, (video_start + (frames - 1) / fps, audio_start + seconds))
            return Clip(
                picker.stack() if picker is not None else empty_frames(size, crops),
                track.segment(audio_start, round(seconds * sample_rate))
                if track is not None
                else np.empty(0, np.float32),
                video_start,
            )
    raise AssertionError("the last lead decodes from the beginning")


class _Request(NamedTuple):
    start: float  # seconds
    seconds: float  # of audio
    fps: float
    frames: int
    audio_shift: float


def _clip_starts(media: Media, request: _Request, want_video: bool, want_audio: bool) -> tuple[float, float]:
    """Return the start of video and audio of a clip, seconds, moved back where they would run past their ends."""
    has_video, has_audio = want_video and media.video is not None, want_audio and media.audio is not None
    latest_video = media.end(media.video) - request.frames / request.fps if has_video else math.inf
    latest_audio = media.end(media.audio) - request.seconds if has_audio else math.inf
    video_start = max(0.0, min(request.start, latest_video, latest_audio))
    return video_start, max(0.0, min(video_start + request.audio_shift, latest_audio))


def read_video(
    path: FilePath,
    *,
    fps: float,
    size: int,
    sample_rate: int,
    enlarge: bool = True,
    antialias: bool = True,
    want_video: bool = True,
    want_audio: bool = True,
) -> Clip:
    """
    Decode a whole video once, at a low rate and size: frames at 0, 1 / `fps`, 2 / `fps`, ... and all of the audio.

    Its parts equal what `read_clip` returns for a start that is a multiple of 1 / `fps`.

    Parameters
    ----------
    path, fps, size, sample_rate, antialias, want_video, want_audio
        As in `read_clip`.
    enlarge
        Whether frames whose short side has fewer pixels than `size` are scaled up.

    Returns
    -------
    Clip
        As many frames as begin before the video ends; as many samples as begin before the audio ends.

    Raises
    ------
    MediaError
        If the file cannot be read, is cut off or damaged, or if its clock jumps far beyond its end.
    InputError
        If an argument is out of range, or PyAV is not installed.
    """
    _check_positive(fps=fps, size=size, sample_rate=sample_rate)
    with open_media(path) as media:
        picker = _make_picker(media, 0.0, fps, None, size, None, enlarge, antialias) if want_video else None
        track = AudioTrack(0.0, math.inf, sample_rate) if want_audio and media.audio is not None else None
        _decode(media, picker, track)
        video_end = audio_end = 0.0
        if picker is not None:
            video_end = max(media.end(media.video), picker.last_end)
            last = max(picker.last_time + _LONGEST_JUMP, picker.last_end, track.end if track is not None else 0.0)
            picker.finish(min(video_end, last))
        if track is not None:
            audio_end = media.end(media.audio)
        _check_complete(media, picker, track, (video_end, audio_end))
        audio_seconds = 0.0 if track is None or math.isnan(track.end) else max(0.0, min(track.end, audio_end))
        return Clip(
            picker.stack() if picker is not None else empty_frames(size),
            track.segment(0.0, round(audio_seconds * sample_rate)) if track is not None else np.empty(0, np.float32),
            0.0,
        )


def _make_picker(
    media: Media,
    start: float,
    fps: float,
    count: int | None,
    size: int,
    crops: SquareCrops | None,
    enlarge: bool = True,
    antialias: bool = True,
) -> FramePicker | None:
    if media.video is None:
        return None
    return FramePicker(start, fps, count, size, media.pixel_aspect, crops, enlarge, antialias)


def _decode(
    media: Media, picker: FramePicker | None, track: AudioTrack | None, skip_before: float = -math.inf
) -> float:
    """
    Decode packets from the current position until picker and track are done, or to the end.

    Non-reference frames that end before `skip_before` (seconds) are not decoded; returns the time of the latest of
    them, or minus infinity.
    """
    streams = [s for s, target in ((media.video, picker), (media.audio, track)) if target is not None]
    if not streams:
        return -math.inf
    video_index = media.video.index if media.video is not None else -1
    tick = float(media.audio.time_base) if track is not None else 0.0
    skipper = _FrameSkipper(media, skip_before)
    for packet in media.packets(*streams):
        if picker is not None and packet.stream.index == video_index:  # stream_index is 0 in all empty packets
            if not picker.done:
                skipper.update(packet)
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
        self._active = math.isfinite(before) and media.video is not None and media.video.codec.name in _SKIPPABLE
        self._active = self._active and not media.untimed  # whose frames are identified by their number
        if self._active:
            self._context = media.video.codec_context
            self._tick, self._origin = float(media.video.time_base), media.origin
            self._before = before
            self._skipping = False

    def update(self, packet: Any) -> None:
        """Decide whether the frames of the next packet are skipped."""
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
    """Return the end of an audio packet, seconds; infinity if unknown, so that it is decoded."""
    pts, duration = packet.pts, packet.duration
    return math.inf if pts is None or not duration else (pts + duration) * tick


def _seeked_too_late(
    media: Media, picker: FramePicker | None, track: AudioTrack | None, starts: tuple[float, float]
) -> bool:
    """Tell whether decoding began after the start of video or audio, because the key frame found lies too late."""
    if picker is not None and not picker.first_time <= starts[0] + TOLERANCE:
        return True
    if track is None:
        return False
    return not track.begin <= max(starts[1], media.start(media.audio)) + TOLERANCE


def _check_complete(
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
    if whole and jump > _LONGEST_JUMP and time > media.claimed_end + _LONGEST_JUMP:
        raise media_error(media.path, f"its clock jumps to {time:.0f} s")


def _check_positive(**settings: float) -> None:
    for name, value in settings.items():
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} must be positive, not {value}", option=name, value=value)
