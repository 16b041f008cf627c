"""Previews: some seconds of a video's middle, small, upright and with sound, in a file that every browser plays."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selavi_ref.browser.thumbnail_strip import SKIPPABLE, middle_of, packets_from
from selavi_ref.errors import FilePath
from selavi_ref.media.audio_track import AudioTrack
from selavi_ref.media.container import Media, import_av, media_error, media_errors, open_media, quarter_turns
from selavi_ref.media.frames import TOLERANCE

SECONDS, SHORT_SIDE, FPS, SAMPLE_RATE = 10.0, 240, 30, 48000  # at most, but for the rate of the sound
_LONG_SIDE, _NARROWEST = 640, 16  # pixels
_TICKS = 90000  # of the picture's clock to the second
_UNSKIPPED = 0.3  # seconds before the beginning from which on all pictures are decoded
_STANDING = 0.5  # seconds that the last picture may stand before it is written a second time, at the end
_SMOOTHED = 2 * SHORT_SIDE  # pixels of the short side up to which edges of blocks are smoothed; others are scaled away
_SOUND_BITS = 64000  # to the second
_NAMED_COLOURS = (1, 5, 6, 9)  # colour spaces that a player may be told of: BT.709, BT.601 twice, BT.2020
# The first that this build of FFmpeg has; the last ones play in some browsers only.
_PICTURE_CODECS = {
    "libx264": {"preset": "superfast", "crf": "27", "threads": "1"},
    "libopenh264": {},
    "h264_videotoolbox": {},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "36", "b": "0"},
    "mpeg4": {"q": "6"},
}
_SOUND_CODECS = {"aac": {"aac_coder": "fast"}, "libfdk_aac": {}, "libmp3lame": {}}


def preview(path: FilePath) -> bytes:
    """
    Make the preview of a video: an MP4 file of at most `SECONDS` around its middle.

    The picture is H.264, upright, with square pixels, its short side at most `SHORT_SIDE` pixels, at most `FPS` to the
    second; the sound AAC, mono. A video without one of them gives the other alone. Playing can begin before all of the
    file is there. To be called in a decoder's process.

    Parameters
    ----------
    path
        A video file.

    Raises
    ------
    MediaError
        If it cannot be read, or neither picture nor sound be decoded.
    """
    for attempt in ("middle", "beginning"):  # the beginning of a file that ends before the middle that it promises
        with open_media(path) as media:
            main = media.video if media.video is not None else media.audio
            if main is None:
                raise media_error(path, "it holds neither picture nor sound")
            begin = middle_of(media, main, SECONDS) if attempt == "middle" else media.start(main)
            part = _read(media, begin)
            why = f" ({media.fault})" if media.fault else ""
            lacks_pictures = media.video is not None and attempt == "middle"
        if part.pictures or (part.samples.size and not lacks_pictures):
            return _written(path, part)
    raise media_error(path, f"neither picture nor sound could be decoded{why}")


class Part(NamedTuple):
    """A stretch of a video: small pictures with their times after its beginning (seconds), mono sound, colour space."""

    pictures: list[tuple[float, Any]]
    samples: NDArray[np.float32]
    colours: tuple[int, int, int] | None


def first_codec(candidates: dict[str, dict[str, str]]) -> tuple[str, dict[str, str]]:
    """Return the first encoder that this build of FFmpeg has, with its options; the last if it has none."""
    av = import_av()
    name = list(candidates)[-1]
    for name in candidates:
        try:
            av.codec.Codec(name, "w")
        except media_errors():
            continue
        break
    return name, candidates[name]


class _Pictures:
    """Takes the frames of a video in their order, keeps those of a stretch of time, and makes them small."""

    def __init__(self, media: Media, begin: float) -> None:
        self.media, self.begin, self.end = media, begin, begin + SECONDS
        self.kept: list[tuple[float, Any]] = []
        self.done = False
        self._time = begin  # of the last frame that came
        self._before: Any = None  # the last frame before the beginning
        self._due = 0.0  # when the next frame is to be kept, not to have too many
        self._scaler, self._turner = (import_av().video.reformatter.VideoReformatter() for _ in range(2))

    def push(self, time: float, frame: Any) -> None:
        """Take the next frame, shown from `time` on (seconds; NaN: as the one before)."""
        time = self._time if math.isnan(time) else time
        self._time = time
        if time < self.begin - TOLERANCE:
            self._before = frame
        elif time >= self.end:
            self.finish()
        else:
            self._begin_with_the_one_before(time)
            self._keep(time - self.begin, frame)

    def finish(self) -> None:
        """No frame comes any more, or only later ones: the last stands still up to the end."""
        self.done = True
        self._begin_with_the_one_before(self.end)
        until = min(self.end, self.media.end(self.media.video)) - self.begin - 1 / FPS
        if self.kept and until - self.kept[-1][0] > _STANDING:
            self.kept.append((until, self.kept[-1][1]))

    def _begin_with_the_one_before(self, time: float) -> None:
        if self._before is not None and not self.kept and time > self.begin + TOLERANCE:
            self._keep(0.0, self._before)
        self._before = None

    def _keep(self, time: float, frame: Any) -> None:
        time = max(time, 0.0) if self.kept else 0.0
        if time < self._due - TOLERANCE or (self.kept and time <= self.kept[-1][0]):
            return
        self._due = max(self._due + 1 / FPS, time)
        self.kept.append((time, self._small(frame)))

    def _small(self, frame: Any) -> Any:
        width, height = small_size(frame.width * self.media.pixel_aspect, frame.height)
        turns = quarter_turns(frame)
        if not turns:
            return self._scaler.reformat(frame, width, height, "yuv420p", interpolation="BILINEAR", threads=1)
        picture = self._scaler.reformat(frame, width, height, "rgb24", interpolation="BILINEAR", threads=1).to_ndarray()
        upright = type(frame).from_ndarray(np.ascontiguousarray(np.rot90(picture, turns)), format="rgb24")
        return self._turner.reformat(upright, format="yuv420p", threads=1)


def small_size(width: float, height: float) -> tuple[int, int]:
    """Return even width and height of a preview of a picture of this shape: never larger, but for a narrowest side."""
    scale = min(1.0, SHORT_SIDE / min(width, height), _LONG_SIDE / max(width, height))
    across, down = (max(_NARROWEST, 2 * round(side * scale / 2)) for side in (width, height))
    return across, down


def _read(media: Media, begin: float) -> Part:
    """Decode the stretch of a video from `begin` (seconds) on, or from the key frame before."""
    streams = [stream for stream in (media.video, media.audio) if stream is not None]
    if media.video is not None and min(media.video.codec_context.width, media.video.codec_context.height) > _SMOOTHED:
        media.video.codec_context.options = {"skip_loop_filter": "all"}
    begin, packets = packets_from(media, begin, *streams)
    pictures = _Pictures(media, begin) if media.video is not None else None
    sound = AudioTrack(begin, begin + SECONDS, SAMPLE_RATE) if media.audio is not None else None
    for packet in packets:
        if pictures is not None and packet.stream.index == media.video.index:
            if not pictures.done:
                _skip(media, packet, begin)
                for frame in media.frames(packet):
                    pictures.push(media.time_of(frame), frame)
        elif sound is not None and sound.needs(_end(media, packet)):
            for frame in media.frames(packet):
                sound.push(media.time_of(frame), frame)
        if (pictures is None or pictures.done) and (sound is None or sound.done):
            break
    if pictures is not None and not pictures.done:
        pictures.finish()
    return Part(pictures.kept if pictures is not None else [], _samples(sound, begin), _colours(media))


def _skip(media: Media, packet: Any, begin: float) -> None:
    """Tell the decoder to leave out pictures well before the beginning that no other needs."""
    context = media.video.codec_context
    if context.name in SKIPPABLE and not media.untimed:
        early = packet.pts is not None and _end(media, packet) < begin - _UNSKIPPED
        context.skip_frame = "NONREF" if early else "DEFAULT"


def _end(media: Media, packet: Any) -> float:
    """When a packet ends, seconds; infinity where it does not say, so that it is decoded."""
    if packet.pts is None or not packet.duration:
        return math.inf
    return float((packet.pts + packet.duration) * packet.time_base) - media.origin


def _samples(sound: AudioTrack | None, begin: float) -> NDArray[np.float32]:
    """Return the sound from `begin` (seconds) on, as long as there is any."""
    if sound is None or math.isnan(sound.end) or sound.end <= begin:
        return np.empty(0, np.float32)
    return sound.stretch(begin, round(min(SECONDS, sound.end - begin) * SAMPLE_RATE))


def _colours(media: Media) -> tuple[int, int, int] | None:
    """Return colour space, primaries and transfer as the file names them, if a player must be told."""
    if media.video is None:
        return None
    context = media.video.codec_context
    named = int(context.colorspace), int(context.color_primaries), int(context.color_trc)
    return named if named[0] in _NAMED_COLOURS else None


def _written(path: FilePath, part: Part) -> bytes:
    """Encode a stretch of a video."""
    av = import_av()
    with tempfile.TemporaryDirectory(prefix="selavi-") as folder:  # a beginning moved to the front needs a real file
        name = os.path.join(folder, "preview.mp4")
        try:
            with av.open(name, "w", options={"movflags": "faststart"}) as out:
                # both before the first packet, with which the file begins
                video = [_video_stream(out, part)] if part.pictures else []
                audio = [_audio_stream(out)] if part.samples.size else []
                for stream in video:
                    _encode(out, stream, _stamped(part.pictures))
                for stream in audio:
                    _encode(out, stream, _sound_frames(part.samples))
        except media_errors() as error:
            raise media_error(path, f"its preview cannot be encoded: {error}") from error
        with open(name, "rb") as file:
            return file.read()


def _encode(out: Any, stream: Any, frames: Iterator[Any]) -> None:
    for frame in frames:
        out.mux(stream.encode(frame))
    out.mux(stream.encode())


def _video_stream(out: Any, part: Part) -> Any:
    codec, options = first_codec(_PICTURE_CODECS)
    stream = out.add_stream(codec, rate=FPS, options=options)
    picture = part.pictures[0][1]
    stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
    stream.codec_context.time_base = Fraction(1, _TICKS)
    stream.codec_context.color_range = 1  # of television
    if part.colours is not None:
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = part.colours
    return stream


def _audio_stream(out: Any) -> Any:
    codec, options = first_codec(_SOUND_CODECS)
    stream = out.add_stream(codec, rate=SAMPLE_RATE, layout="mono", options=options)
    stream.bit_rate = _SOUND_BITS
    return stream


def _stamped(pictures: list[tuple[float, Any]]) -> Iterator[Any]:
    for time, picture in pictures:
        picture.pts, picture.time_base = round(time * _TICKS), Fraction(1, _TICKS)
        picture.pict_type = import_av().video.frame.PictureType.NONE  # the encoder's choice, not that of the source
        yield picture


def _sound_frames(samples: NDArray[np.float32]) -> Iterator[Any]:
    av = import_av()
    for start in range(0, len(samples), block := 1024):  # what an AAC packet holds
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + block], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
        yield frame
