"""Decoding of one clip, exact to the frame and the sample, or of a whole video at a low frame rate and size."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import FilePath, InputError
from selavi_ref.media.audio_track import AudioTrack
from selavi_ref.media.container import Media, open_media
from selavi_ref.media.decoding import (
    LONGEST_JUMP,
    SEEK_LEADS,
    Clip,
    check_complete,
    check_positive,
    decode_packets,
    make_picker,
    seeked_too_late,
)
from selavi_ref.media.frames import TOLERANCE, SquareCrops, empty_frames
from selavi_ref.media.segment_reader import read_segment
from selavi_ref.media.segments import segment_of
from selavi_ref.media.still import is_picture, still_frames

_NO_SKIP_SECONDS = 0.3  # seconds before a clip from which on all frames are decoded, not only reference frames


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
    repeated and the audio padded with zeros. A segment counts as a file: nothing outside of it is returned.

    Parameters
    ----------
    path
        A video file in any container that FFmpeg knows, or a segment of one (see `selavi_ref.media.segments`).
    start
        Seconds after the first frame, or after the start of the segment.
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
    check_positive(seconds=seconds, fps=fps, frames=frames, size=size, sample_rate=sample_rate)
    if not (math.isfinite(start) and math.isfinite(audio_shift)):
        raise InputError(
            f"a clip cannot start at {start} s, its sound {audio_shift} s later", option="start", value=start
        )
    if is_picture(path):
        count = frames if want_video else 0
        still = still_frames(path, count, size, crops=crops, antialias=antialias)
        return Clip(still, np.empty(0, np.float32), 0.0)
    request = _Request(start, seconds, fps, frames, audio_shift)
    skip = True
    leads = list(SEEK_LEADS)
    while leads:
        with open_media(path) as media:
            video_start, audio_start = _clip_starts(media, request, want_video, want_audio)
            picker = None
            if want_video and media.video is not None:
                shown = _frames_within(media, video_start, fps, frames)
                picker = make_picker(media, video_start, fps, shown, size, crops, antialias=antialias)
            track = (
                AudioTrack(audio_start, audio_start + seconds, sample_rate)
                if want_audio and media.audio is not None
                else None
            )
            seek_time = min(video_start, audio_start) - max(leads[0], media.settling)
            media.seek(seek_time)
            if track is not None:
                track.decodes_all = leads[0] > SEEK_LEADS[0] or not media.seeks(seek_time)
            skip_before = video_start - _NO_SKIP_SECONDS if skip else -math.inf
            skipped = decode_packets(media, picker, track, skip_before=skip_before)
            if media.seeks(seek_time) and seeked_too_late(media, picker, track, (video_start, audio_start)):
                leads.pop(0)
                continue
            if picker is not None:
                picker.finish(math.inf)
                if skipped > picker.first_kept_time:  # the frame on display at the beginning was not decoded
                    skip = False
                    continue
            check_complete(media, picker, track, (video_start + (frames - 1) / fps, audio_start + seconds))
            return Clip(
                _repeat_last(picker.stack(), frames) if picker is not None else empty_frames(size, crops),
                _samples_within(media, track, audio_start, round(seconds * sample_rate))
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


def _frames_within(media: Media, start: float, fps: float, frames: int) -> int:
    """Return how many frames of a clip begin within the segment: all, but in one that is shorter than the clip."""
    if media.segment.whole:
        return frames
    return min(frames, max(1, math.ceil((media.end(media.video) - start) * fps - TOLERANCE)))


def _repeat_last(frames: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Return frames (..., T, h, w, 3) with the last repeated up to `count`."""
    missing = count - frames.shape[-4]
    if missing <= 0:
        return frames
    return np.concatenate([frames, np.repeat(frames[..., -1:, :, :, :], missing, axis=-4)], axis=-4)


def _samples_within(media: Media, track: AudioTrack, start: float, count: int) -> NDArray[np.float32]:
    """Return the samples of a clip, with zeros after the end of its segment."""
    samples = track.segment(start, count)
    if not media.segment.whole:
        samples[max(0, round((media.end(media.audio) - start) * track.sample_rate)) :] = 0
    return samples


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
    path
        A video file or a segment of one; for many of one file, see `selavi_ref.media.segment_reader`.
    fps, size, sample_rate, antialias, want_video, want_audio
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
    check_positive(fps=fps, size=size, sample_rate=sample_rate)
    if is_picture(path):
        still = still_frames(path, 1 if want_video else 0, size, enlarge=enlarge, antialias=antialias)
        return Clip(still, np.empty(0, np.float32), 0.0)
    if not segment_of(path).whole:
        return read_segment(
            path,
            fps=fps,
            size=size,
            sample_rate=sample_rate,
            enlarge=enlarge,
            antialias=antialias,
            want_video=want_video,
            want_audio=want_audio,
        )
    with open_media(path) as media:
        picker = make_picker(media, 0.0, fps, None, size, None, enlarge, antialias) if want_video else None
        track = AudioTrack(0.0, math.inf, sample_rate) if want_audio and media.audio is not None else None
        if track is not None:
            track.decodes_all = True
        decode_packets(media, picker, track)
        video_end = audio_end = 0.0
        if picker is not None:
            video_end = max(media.end(media.video), picker.last_end)
            last = max(picker.last_time + LONGEST_JUMP, picker.last_end, track.end if track is not None else 0.0)
            picker.finish(min(video_end, last))
        if track is not None:
            audio_end = media.end(media.audio)
        check_complete(media, picker, track, (video_end, audio_end))
        audio_seconds = 0.0 if track is None or math.isnan(track.end) else max(0.0, min(track.end, audio_end))
        return Clip(
            picker.stack() if picker is not None else empty_frames(size),
            track.segment(0.0, round(audio_seconds * sample_rate)) if track is not None else np.empty(0, np.float32),
            0.0,
        )
