"""Opening media files: which streams are the picture and the sound, how long they last, and errors told in one line."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from selavi_ref.errors import FilePath, InputError, MediaError, TransientMediaError, printable, reason

_ODDEST_PIXEL = 8.0  # ratio of the sides of pixels; more is damage
_FIRST_PACKETS = 64  # packets among which a healthy picture has shown its first frame
_PASSING = {  # reasons of the system's why a file cannot be opened that say nothing of what it holds
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR),
    *(errno.EIO, errno.ESTALE, errno.ENOENT, errno.ETIMEDOUT),
}
_SETTLING = {"mpeg": 1.0}  # seconds after a jump into a container of this kind in which times may be a frame off


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """
    What a media file holds; lengths in seconds, sizes in pixels.

    Parameters
    ----------
    path
        The file.
    video_seconds, audio_seconds
        Length of the picture and of the sound; 0.0 where there is none.
    fps
        Mean frame rate; 0.0 without a picture.
    width, height
        As shown: after rotation, and with pixels made square; 0 without a picture.
    sample_rate
        Samples of sound per second; 0 without sound.
    has_video, has_audio
        Whether there is a picture (cover art is none), and a sound, that can be decoded.
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
        """Length of the longer of picture and sound, seconds."""
        return max(self.video_seconds, self.audio_seconds)


def probe(path: FilePath) -> VideoInfo:
    """
    Read from a media file's header what it holds, and decode its first frame.

    A length that the header lacks is found by reading the packets without decoding them.

    Parameters
    ----------
    path
        A video file in any container that FFmpeg knows.

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
        width, height = _shown_size(media)  # (0, 0) without a picture, or if none can be decoded
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
    An open media file: its picture and sound streams (or None), and its clock.

    Time 0 is when the first picture is shown; without a picture, when the sound begins. `fault` keeps the first error
    met while reading or decoding: such an error ends or skips a packet, and the caller judges what is missing. After
    `seek`, times can be trusted from `settling` seconds on. `untimed` tells that the file holds no times of its
    pictures: an AVI file, for which FFmpeg guesses them, wrongly where pictures are stored in another order than shown.
    """

    def __init__(self, path: FilePath, container: Any) -> None:
        self.path = path
        self.container = container
        self.video = _best_stream(container, "video")
        self.audio = _best_stream(container, "audio")
        self.fault: str | None = None
        self.settling = _SETTLING.get(container.format.name, 0.0)
        self.untimed = container.format.name == "avi" and self.video is not None
        self._due: deque[int | None] = deque()  # when the pictures are due that the decoder holds, or none for them
        self._held: int | None = None  # packets that the decoder holds when it gives out the first picture
        self.origin = 0.0
        if self.video is not None:
            self.origin = (self.video.start_time or 0) * float(self.video.time_base)
        elif self.audio is not None:  # a negative start is the encoder's priming, which the decoder removes
            self.origin = max(self.audio.start_time or 0, 0) * float(self.audio.time_base)

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel divided by its height; 1 where the file says what no camera does."""
        aspect = float(self.video.sample_aspect_ratio or 1)
        return aspect if 1 / _ODDEST_PIXEL <= aspect <= _ODDEST_PIXEL else 1.0

    def seconds(self, stream: Any) -> float:
        """Length of a stream from its first to its last moment, seconds: the header's, or else that of its packets."""
        if stream is None:
            return 0.0
        if stream.duration:
            return float(stream.duration * stream.time_base)
        start = float((stream.start_time or 0) * stream.time_base)
        if tag := _tagged_end(stream.metadata):
            return max(tag - start, 0.0)
        if self.container.duration:
            return self.container.duration / 1e6 + (self.container.start_time or 0) / 1e6 - start
        return _packet_seconds(self.path, stream.index)

    def start(self, stream: Any) -> float:
        """When a stream begins on the file's clock, seconds."""
        return float((stream.start_time or 0) * stream.time_base) - self.origin

    def end(self, stream: Any) -> float:
        """When a stream ends on the file's clock, seconds."""
        return self.start(stream) + self.seconds(stream)

    def seek(self, time: float) -> None:
        """Go to the last key frame at or before a time; stay at the beginning if that is not before it."""
        stream = self.video if self.video is not None else self.audio
        if time > 0 and stream is not None:
            if self.untimed:
                self._held = _packets_held(self.path, stream.index)
            try:
                self.container.seek(int((time + self.origin) / stream.time_base), stream=stream)
            except media_errors() as error:
                self.fault = self.fault or reason(error)

    def packets(self, *streams: Any) -> Iterator[Any]:
        """Packets of the streams, then one empty packet for each, up to the end or to the first that cannot be read."""
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
        """Decode a packet; one that cannot be decoded has no frames."""
        try:
            decoded: list[Any] = packet.decode()
        except media_errors() as error:
            self.fault = self.fault or reason(error)
            decoded = []
        if self.untimed and packet.stream.index == self.video.index:
            self._date(packet, decoded)
        return decoded

    def time_of(self, frame: Any) -> float:
        """When a frame is shown or heard on the file's clock, seconds; NaN if it does not say."""
        time = frame.time
        return float("nan") if time is None else time - self.origin

    def _date(self, packet: Any, frames: list[Any]) -> None:
        """Set the times of pictures by their order: the n-th is due when the n-th packet is, whichever that holds."""
        if not packet.size:  # the end: what the decoder still holds
            for frame in frames:
                frame.pts = self._due.popleft() if self._due else None
            return
        self._due.append(packet.dts)
        if self._held is None and frames:
            self._held = len(self._due) - 1
        if self._held is not None and len(self._due) > self._held:
            due = self._due.popleft()
            for frame in frames:
                frame.pts = due


@contextmanager
def open_media(path: FilePath) -> Iterator[Media]:
    """
    Open a media file for reading, with one decoding thread per stream; closed on leaving.

    Raises
    ------
    MediaError
        If the file is missing, no regular file, empty, or of no known kind.
    InputError
        If PyAV is not installed.
    """
    av = import_av()
    name = os.path.abspath(os.fspath(path))  # absolute: no part of a name is taken for a protocol
    try:
        status = os.stat(name)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise media_error(path, "not a regular file")
        if status.st_size == 0:
            raise media_error(path, "the file is empty")
        # a play list in disguise must not make us open other files or addresses
        container = av.open(name, mode="r", metadata_errors="replace", container_options={"protocol_whitelist": "file"})
    except av.InvalidDataError as error:
        raise media_error(path, "of no kind that FFmpeg can read, or damaged at its beginning or end") from error
    except media_errors() as error:
        kind = TransientMediaError if getattr(error, "errno", None) in _PASSING else MediaError
        raise kind(str(media_error(path, reason(error)))) from error
    with container:
        try:
            media = Media(path, container)
            for stream in (media.video, media.audio):
                if stream is not None:
                    stream.codec_context.thread_count = 1
            yield media
        except (av.FFmpegError, OverflowError) as error:  # sizes and rates that no picture or sound has
            raise media_error(path, f"damaged: {reason(error)}") from error


def import_av() -> Any:
    """Import PyAV; an InputError tells how to install it where it is missing."""
    try:
        import av
    except ImportError as error:
        raise InputError(
            'reading and writing videos needs the package PyAV: pip install "selavi-ref[video]"'
        ) from error
    return av


def media_errors() -> tuple[type[BaseException], ...]:
    """Return the exceptions by which PyAV reports a file that is missing, unreadable or damaged."""
    av = import_av()
    return (av.FFmpegError, OSError, ValueError, EOFError, LookupError)  # the last: streams that come and go


def media_error(path: FilePath, why: str) -> MediaError:
    """Return a MediaError in one line that any terminal can print, whatever the file is called."""
    return MediaError(f"{printable(path)}: {why}")


def _best_stream(container: Any, kind: str) -> Any:
    """Return the stream of a kind that a player would choose, or None; cover art is no picture."""
    streams = [
        stream
        for stream in getattr(container.streams, kind)
        if stream.codec_context is not None and not (kind == "video" and _is_cover(stream))
    ]
    best = container.streams.best(kind)
    return best if best in streams else next(iter(streams), None)


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def _shown_size(media: Media) -> tuple[int, int]:
    """Width and height of the first frame as shown; (0, 0) if there is no picture or it cannot be decoded."""
    if media.video is None:
        return 0, 0
    for n, packet in enumerate(media.packets(media.video)):
        for frame in media.frames(packet):
            width = max(1, round(frame.width * media.pixel_aspect))
            return (frame.height, width) if quarter_turns(frame) % 2 else (width, frame.height)
        if n > _FIRST_PACKETS:
            break
    return 0, 0


def _packets_held(path: FilePath, index: int) -> int:
    """Return how many packets of a stream the decoder holds when it gives out the first picture."""
    with open_media(path) as media:
        for held, packet in enumerate(media.packets(media.container.streams[index])):
            if held >= _FIRST_PACKETS or media.frames(packet):
                return held
    return 0


def quarter_turns(frame: Any) -> int:
    """Return how many quarter turns anticlockwise show a decoded frame the right way up: 0 to 3."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def _tagged_end(metadata: dict[str, str]) -> float | None:
    """Read the end of a stream from the DURATION tag of a Matroska file ("00:00:02.005000000"), seconds."""
    for key, value in metadata.items():
        if key.upper().startswith("DURATION"):
            try:
                hours, minutes, seconds = value.split(":")
                return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
            except ValueError:
                return None
    return None


def _packet_seconds(path: FilePath, index: int) -> float:
    """Length of a stream by its packets' times; its own opening, as not every container can be rewound."""
    first, last = float("inf"), 0.0
    with open_media(path) as media:
        stream = media.container.streams[index]
        for packet in media.packets(stream):
            if packet.pts is not None:
                first = min(first, float(packet.pts * packet.time_base))
                last = max(last, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return max(0.0, last - first)
