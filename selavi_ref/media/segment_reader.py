"""Decoding of many segments of one file in one pass over it, at a low frame rate and size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from selavi_ref.errors import FilePath, MediaError
from selavi_ref.media.audio_track import AudioTrack
from selavi_ref.media.container import Media, media_error, open_media
from selavi_ref.media.decoding import (
    SEEK_LEADS,
    Clip,
    check_complete,
    check_positive,
    decode_packets,
    make_picker,
    seeked_too_late,
)
from selavi_ref.media.frames import TOLERANCE, FramePicker, empty_frames
from selavi_ref.media.segments import Segment, segment_of


def read_segment(path: FilePath, **options: Any) -> Clip:
    """Decode one segment; see `read_segments`, whose options these are."""
    (clip,) = read_segments([path], **options)
    if isinstance(clip, MediaError):
        raise clip
    return clip


def read_segments(
    names: Sequence[FilePath],
    *,
    fps: float,
    size: int,
    sample_rate: int,
    enlarge: bool = True,
    antialias: bool = True,
    want_video: bool = True,
    want_audio: bool = True,
) -> list[Clip | MediaError]:
    """
    Decode segments of one file, each frame of it once: frames at 0, 1 / `fps`, ... after the start of each.

    Memory is that of the results and of the whole sound from the first start to the last end.

    Parameters
    ----------
    names
        Segments of one file, in ascending order of their starts; they may overlap.
    fps, size, sample_rate, enlarge, antialias, want_video, want_audio
        As in `selavi_ref.media.clip.read_video`.

    Returns
    -------
    list
        Each segment, or why it cannot be decoded.

    Raises
    ------
    MediaError
        If the file cannot be read at all.
    InputError
        If an argument is out of range, or PyAV is not installed.
    """
    check_positive(fps=fps, size=size, sample_rate=sample_rate)
    parts = [segment_of(name) for name in names]
    first = parts[0].start
    span = Segment(parts[0].file, first, max(part.end for part in parts))
    for lead in SEEK_LEADS:
        with open_media(span.name) as media:
            pickers = _Pickers(media, parts, fps, size, enlarge, antialias) if want_video and media.video else None
            has_audio = want_audio and media.audio is not None
            track = AudioTrack(0.0, media.end(media.audio), sample_rate) if has_audio else None
            seek_time = -max(lead, media.settling)
            media.seek(seek_time)
            if track is not None:
                track.decodes_all = lead > SEEK_LEADS[0] or not media.seeks(seek_time)
            decode_packets(media, pickers, track, shown_at=pickers.shown_at if pickers is not None else ())
            if media.seeks(seek_time) and seeked_too_late(media, pickers, track, (0.0, 0.0)):
                continue
            if pickers is not None:
                pickers.finish()
            return [
                _part(
                    media, name, part, None if pickers is None else pickers.of_parts[number], track, size, sample_rate
                )
                for number, (name, part) in enumerate(zip(names, parts, strict=True))
            ]
    raise AssertionError("the last lead decodes from the beginning")


class _Pickers:
    """Receives the frames of a file in order, and hands each to the segments that it may be shown in."""

    def __init__(
        self, media: Media, parts: Sequence[Segment], fps: float, size: int, enlarge: bool, antialias: bool
    ) -> None:
        self.of_parts: list[FramePicker | None] = []
        for part in parts:
            seconds = min(part.end - parts[0].start, media.end(media.video)) - (part.start - parts[0].start)
            picker, count = None, math.ceil(seconds * fps - TOLERANCE)
            if count > 0:
                picker = make_picker(
                    media, part.start - parts[0].start, fps, count, size, None, enlarge=enlarge, antialias=antialias
                )
            self.of_parts.append(picker)
        self._waiting = [picker for picker in self.of_parts if picker is not None][::-1]
        self._active: list[FramePicker] = []
        self._before: tuple[float, Any] | None = None
        self.count: int | None = 1  # unlike None, which stands for all frames of a file
        self.first_time = self.last_time = math.nan

    @cached_property
    def shown_at(self) -> list[float]:
        """Times of the frames that are wanted, ascending, seconds."""
        pickers = [picker for picker in self.of_parts if picker is not None]
        return sorted(picker.start + number / picker.fps for picker in pickers for number in range(picker.count or 0))

    @property
    def done(self) -> bool:
        """Whether all segments have their frames."""
        return not self._waiting and not self._active

    def push(self, time: float, frame: Any) -> None:
        """Receive the next frame, displayed from `time` (seconds) on; NaN means the time of the frame before."""
        time = self.last_time if math.isnan(time) else time
        if self._before is None:
            self.first_time = time
        while self._waiting and self._waiting[-1].start <= time:
            picker = self._waiting.pop()
            if self._before is not None:
                picker.push(*self._before)
            self._active.append(picker)
        for picker in self._active:
            picker.push(time, frame)
        if any(picker.done for picker in self._active):
            self._active = [picker for picker in self._active if not picker.done]
        self.last_time, self._before = time, (time, frame)

    def finish(self) -> None:
        """Repeat the last frame in segments that lack some."""
        for picker in self._waiting:
            if self._before is not None:
                picker.push(*self._before)
        for picker in (*self._waiting, *self._active):
            picker.finish(math.inf)


def _part(
    media: Media,
    name: FilePath,
    part: Segment,
    picker: FramePicker | None,
    track: AudioTrack | None,
    size: int,
    sample_rate: int,
) -> Clip | MediaError:
    """Return one segment, or why it cannot be decoded."""
    start = part.start - media.offset
    end = part.end - media.offset
    audio_end = min(end, media.end(media.audio)) if track is not None else 0.0
    heard = track if track is not None and audio_end > start else None
    if picker is None and heard is None:
        return media_error(name, f"nothing can be decoded from {part.start:g} s on, which is after the end")
    try:
        check_complete(
            media, picker, heard, (min(end, media.end(media.video)) if picker is not None else 0.0, audio_end)
        )
    except MediaError as error:
        return media_error(name, str(error).partition(": ")[2] or str(error))
    samples = np.empty(0, np.float32)
    if heard is not None and not math.isnan(heard.end):
        seconds = max(0.0, min(heard.end, audio_end) - start)
        samples = heard.segment(start, round(seconds * sample_rate))
    return Clip(picker.stack() if picker is not None else empty_frames(size), samples, 0.0)
