"""Opening media files: choice of the video and audio stream, their lengths and timestamps, one-line errors."""

from __future__ import annotations

import errno
import math
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from selavi_ref.errors import FilePath, InputError, MediaError, TransientMediaError, printable, reason
from selavi_ref.install_hints import missing_package
from selavi_ref.media.file_formats import open_options, text_options
from selavi_ref.media.orientation import orientation
from selavi_ref.media.segments import Segment, file_of, segment_of

_MAX_PIXEL_ASPECT = 8.0  # width divided by height of a pixel, or the inverse; more is damage
_FIRST_PACKETS = 64  # packets within which a healthy stream gives its first frame
_TRANSIENT_ERRNOS = {  # errors of the system that say nothing about the content of a file
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR),
    *(errno.EIO, errno.ESTALE, errno.ENOENT, errno.ETIMEDOUT),
}
_MEASURED = ("mpeg", "mpegts")  # containers of which FFmpeg reads the last packets to tell the length of a stream
_TAILS = (10.0, 120.0, math.inf)  # seconds before the end in which the last packet of a stream is looked for
_SETTLING = {"mpeg": 1.0}  # seconds after a seek in which times may be a frame off, by container


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """
    Properties of a media file, or of a segment of one; lengths in seconds, sizes in pixels.

    Parameters
    ----------
    path
        The file or segment.
    video_seconds, audio_seconds
        Length of the video and of the audio stream; 0.0 without one.
    fps
        Mean frame rate; 0.0 without video.
    width, height
        As displayed: after rotation, and with square pixels; 0 without video.
    sample_rate
        Audio samples per second; 0 without audio.
    has_video, has_audio
        Whether there is a video stream (cover art does not count) and an audio stream that can be decoded.
    """

    path: str
    video_seconds: float
    audio_seconds: float
    fps: float
    width: int
    height: int
    sample_rate: int
    has_video: bool
    has_audio: bool

    @property
    def seconds(self) -> float:
        """Length of the longer of video and audio, seconds."""
        return max(self.video_seconds, self.audio_seconds)

    def within(self, segment: Segment) -> VideoInfo:
        """Return the properties of a segment of this file."""
        video, audio = segment.limit(self.video_seconds), segment.limit(self.audio_seconds)
        return replace(self, path=segment.name, video_seconds=video, audio_seconds=audio)


def probe_container(path: FilePath) -> VideoInfo:
    """
    Read the properties of a media file from its header, and decode its first frame.

    A length that the header lacks is found by reading the packets without decoding them.

    Parameters
    ----------
    path
        A video file in any container that FFmpeg knows, or a segment of one (see `selavi_ref.media.segments`).

    Returns
    -------
    VideoInfo
        Lengths, sizes and rates.

    Raises
    ------
    MediaError
        If the file cannot be read; the message names the file and the reason.
    InputError
        If PyAV is not installed.
    """
    with open_media(path) as media:
        width, height = _display_size(media)  # (0, 0) without video, or if none can be decoded
        rate = (media.video.average_rate or media.video.guessed_rate or 0) if width else 0
        return VideoInfo(
            path=os.fspath(path),
            video_seconds=media.seconds(media.video) if width else 0.0,
            audio_seconds=media.seconds(media.audio),
            fps=float(rate),
            width=width,
            height=height,
            sample_rate=media.audio.codec_context.sample_rate if media.audio is not None else 0,
            has_video=width > 0,
            has_audio=media.audio is not None,
        )


class Media:
    """
    An open media file, or a segment of one: its video and audio stream (or None), and its time axis.

    Time 0 is the first video frame; without video, the start of the audio; in a segment, its start, which lies `offset`
    seconds after that of the file. Lengths and ends are those within the segment. `fault` is the first error met while
    reading or decoding: such an error ends or skips a packet, and the caller judges what is missing. After `seek`,
    times are reliable from `settling` seconds on. `untimed` marks a file without timestamps of its frames: an AVI file,
    for which FFmpeg guesses them, wrongly where frames are stored in another order than displayed.
    """

    def __init__(self, path: FilePath, container: Any) -> None:
        self.path = path
        self.segment = segment_of(path)
        self.offset = self.segment.start
        self.container = container
        self.fault: str | None = None
        self.video = self._best_stream("video")
        self.audio = self._best_stream("audio", related=self.video)
        self.settling = _SETTLING.get(container.format.name, 0.0)
        self.untimed = container.format.name == "avi" and self.video is not None
        self._packet_times: deque[int | None] = deque()  # of the frames still in the decoder
        self._decoder_delay: int | None = None  # packets in the decoder when it gives its first frame
        self.origin = 0.0
        if self.video is not None:
            self.origin = (self.video.start_time or 0) * float(self.video.time_base)
        elif self.audio is not None:  # a negative start is encoder priming, which the decoder removes
            self.origin = max(self.audio.start_time or 0, 0) * float(self.audio.time_base)
        self.origin += self.offset

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel divided by its height; 1 where the file gives an implausible value."""
        aspect = float(self.video.sample_aspect_ratio or 1)
        return aspect if 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT else 1.0

    def seconds(self, stream: Any) -> float:
        """Length of a stream within the segment, seconds."""
        seconds = self._file_seconds(stream)
        if self.segment.whole or stream is None:
            return seconds
        return max(0.0, min(self._file_start(stream) + seconds, self.segment.end - self.offset) - self.start(stream))

    def _file_seconds(self, stream: Any) -> float:
        """
        Length of a stream in the file, seconds: from the header, or else from its packets.

        Where a header gives no length for a stream, FFmpeg puts that of the whole file in its place.
        """
        if stream is None:
            return 0.0
        if stream.duration and (stream.frames or self.container.format.name in _MEASURED):
            return float(stream.duration * stream.time_base)
        start = float((stream.start_time or 0) * stream.time_base)
        end = _duration_tag(stream.metadata) or self._last_packet_end(stream) or start
        return max(end - start, 0.0)

    @property
    def claimed_end(self) -> float:
        """End of the file by its header on the time axis, seconds; infinity if the header gives none."""
        if not self.container.duration:
            return math.inf
        return (self.container.duration + (self.container.start_time or 0)) / 1e6 - self.origin

    def start(self, stream: Any) -> float:
        """Start of a stream on the time axis, seconds."""
        start = self._file_start(stream)
        return start if self.segment.whole else max(0.0, start)

    def _file_start(self, stream: Any) -> float:
        return float((stream.start_time or 0) * stream.time_base) - self.origin

    def end(self, stream: Any) -> float:
        """End of a stream on the time axis, seconds."""
        return self.start(stream) + self.seconds(stream)

    def seek(self, time: float) -> None:
        """Seek to the last key frame at or before a time; stay at the beginning for times up to that of the file."""
        stream = self.video if self.video is not None else self.audio
        if self.seeks(time) and stream is not None:
            if self.untimed:
                self._decoder_delay = _count_delayed_packets(self.path, stream.index)
            try:
                self.container.seek(int((time + self.origin) / stream.time_base), stream=stream)
            except media_errors() as error:
                self.fault = self.fault or reason(error)

    def seeks(self, time: float) -> bool:
        """Tell whether a time lies after the beginning of the file, so that `seek` moves."""
        return time + self.offset > 0

    def packets(self, *streams: Any) -> Iterator[Any]:
        """Yield packets of the streams, then an empty one for each, up to the end or the first that cannot be read."""
        source = iter(self.container.demux(*streams))
        while True:
            try:
                packet = next(source)
            except StopIteration:
                return
            except media_errors() as error:
                self.fault = self.fault or reason(error)
                return
            yield packet

    def frames(self, packet: Any) -> list[Any]:
        """Decode a packet; return no frames if it cannot be decoded."""
        try:
            decoded: list[Any] = packet.decode()
        except media_errors() as error:
            self.fault = self.fault or reason(error)
            decoded = []
        if self.untimed and packet.stream.index == self.video.index:
            self._assign_times(packet, decoded)
        return decoded

    def time_of(self, frame: Any) -> float:
        """Return the time of a frame on the time axis, seconds; NaN if it has none."""
        time = frame.time
        return float("nan") if time is None else time - self.origin

    def _best_stream(self, kind: str, related: Any = None) -> Any:
        """
        Return the video or audio stream that a player would choose, or None; cover art and empty streams do not count.

        The audio stream is of the same program as the `related` video stream, where a file holds several.
        """
        streams = [
            stream
            for stream in getattr(self.container.streams, kind)
            if stream.codec_context is not None and not (kind == "video" and _is_cover(stream))
        ]
        best = self.container.streams.best(kind, related=related)
        streams.sort(key=lambda stream: stream is not best and stream != best)
        return next((stream for stream in streams if self._has_packets(stream)), None)

    def _has_packets(self, stream: Any) -> bool:
        return bool(stream.frames or _duration_tag(stream.metadata)) or self._last_packet_end(stream) is not None

    def _last_packet_end(self, stream: Any) -> float | None:
        """Return the end of the last packet of a stream, seconds, or None if it has none."""
        full = os.path.abspath(self.segment.file)
        try:
            status = os.stat(full)
        except OSError as error:
            raise TransientMediaError(str(media_error(self.path, reason(error)))) from error
        return _last_packet_end(full, stream.index, status.st_size, status.st_mtime_ns)

    def _assign_times(self, packet: Any, frames: list[Any]) -> None:
        """Set the times of frames by their order: the n-th frame gets the time of the n-th packet."""
        if not packet.size:  # the end: frames still in the decoder
            for frame in frames:
                frame.pts = self._packet_times.popleft() if self._packet_times else None
            return
        self._packet_times.append(packet.dts)
        if self._decoder_delay is None and frames:
            self._decoder_delay = len(self._packet_times) - 1
        if self._decoder_delay is not None and len(self._packet_times) > self._decoder_delay:
            time = self._packet_times.popleft()
            for frame in frames:
                frame.pts = time


@contextmanager
def open_media(path: FilePath) -> Iterator[Media]:
    """
    Open a media file, or a segment of one, for reading, with one decoding thread per stream; closed on leaving.

    Raises
    ------
    MediaError
        If the file is missing, no regular file, empty, or of an unknown format.
    InputError
        If PyAV is not installed.
    """
    av = import_av()
    with _open_container(path) as container:
        try:
            media = Media(path, container)
            for stream in (media.video, media.audio):
                if stream is not None:
                    stream.codec_context.thread_count = 1
            yield media
        except (av.FFmpegError, OverflowError) as error:  # impossible sizes and rates
            raise media_error(path, f"damaged: {reason(error)}") from error


def _open_container(path: FilePath) -> Any:
    """Open a media file with PyAV, or raise MediaError."""
    av = import_av()
    name = os.path.abspath(file_of(path))  # absolute, so that no part of a name is taken for a protocol
    try:
        status = os.stat(name)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise media_error(path, "not a regular file")
        if status.st_size == 0:
            raise media_error(path, "the file is empty")
        return av.open(name, mode="r", container_options=open_options(), **text_options(av))
    except (av.InvalidDataError, av.ArgumentError) as error:
        raise media_error(path, "of no format that FFmpeg can read, or damaged at its beginning or end") from error
    except media_errors() as error:
        kind = TransientMediaError if getattr(error, "errno", None) in _TRANSIENT_ERRNOS else MediaError
        raise kind(str(media_error(path, reason(error))), path=path) from error


def import_av() -> Any:
    """Import PyAV, or raise an InputError that says how to install it."""
    try:
        import av
    except ImportError as error:
        raise InputError(missing_package("av", "video")) from error
    return av


def media_errors() -> tuple[type[BaseException], ...]:
    """Return the exceptions by which PyAV reports a file that is missing, unreadable or damaged."""
    av = import_av()
    return av.FFmpegError, OSError, ValueError, EOFError, LookupError  # the last: streams that appear or vanish


def media_error(path: FilePath, why: str) -> MediaError:
    """Return a MediaError with a one-line message that any terminal can print, whatever the name of the file."""
    return MediaError(f"{printable(path)}: {why}", path=path)


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def _display_size(media: Media) -> tuple[int, int]:
    """Return width and height of the first frame as displayed; (0, 0) if there is none or it cannot be decoded."""
    if media.video is None:
        return 0, 0
    for n, packet in enumerate(media.packets(media.video)):
        for frame in media.frames(packet):
            width = max(1, round(frame.width * media.pixel_aspect))
            return (frame.height, width) if orientation(frame).transpose else (width, frame.height)
        if n > _FIRST_PACKETS:
            break
    return 0, 0


def _count_delayed_packets(path: FilePath, index: int) -> int:
    """Return how many packets of a stream are in the decoder when it gives its first frame."""
    with open_media(path) as media:
        for held, packet in enumerate(media.packets(media.container.streams[index])):
            if held >= _FIRST_PACKETS or media.frames(packet):
                return held
    return 0


def _duration_tag(metadata: dict[str, str]) -> float | None:
    """Return the end of a stream by the DURATION tag of a Matroska file ("00:00:02.005000000"), seconds."""
    for key, value in metadata.items():
        if key.upper().startswith("DURATION"):
            try:
                hours, minutes, seconds = value.split(":")
                return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
            except ValueError:
                return None
    return None


@lru_cache(maxsize=4096)
def _last_packet_end(path: str, index: int, *_stamp: int) -> float | None:
    """Return the end of the last packet of a stream, seconds, or None if it has none; reads as little as possible."""
    for lead in _TAILS:
        with _open_container(path) as container:  # anew, as not all can be rewound
            duration = container.duration or 0
            begin = duration - lead * 1e6
            if lead < math.inf and begin <= 0:
                continue
            end = None
            try:
                if lead < math.inf:
                    container.seek(int(begin) + (container.start_time or 0))
                for packet in container.demux(container.streams[index]):
                    if packet.pts is not None:
                        time = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                        end = time if end is None else max(end, time)
            except media_errors():  # cut off, or without an index to seek by
                pass
            if end is not None:
                return end
    return None
