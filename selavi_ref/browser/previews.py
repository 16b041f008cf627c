"""Previews: some seconds from the middle of a video, small, upright and with sound, in a file that browsers play."""

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
from selavi_ref.media.container import Media, import_av, media_error, media_errors, open_media
from selavi_ref.media.frames import TOLERANCE
from selavi_ref.media.orientation import Orientation, orientation
from selavi_ref.media.still import is_picture, load_picture

SECONDS, SHORT_SIDE, FPS, SAMPLE_RATE = 10.0, 240, 30, 48000  # upper limits, except for the sample rate
_LONG_SIDE, _NARROWEST = 640, 16  # pixels
_TICKS = 90000  # of the video time base, per second
_NO_SKIP_SECONDS = 0.3  # seconds before the start from which on all frames are decoded
_MAX_STILL = 0.5  # seconds that the last frame may last before it is written again at the end
_SMOOTHED = 2 * SHORT_SIDE  # pixels of the short side up to which the deblocking filter is used
_AUDIO_BIT_RATE = 64000  # per second
_NAMED_COLOURS = (1, 5, 6, 9)  # colour spaces written to the file: BT.709, BT.601 twice, BT.2020
# The first encoder that this build of FFmpeg has is used; the last ones play in some browsers only.
_VIDEO_CODECS = {
    "libx264": {"preset": "superfast", "crf": "27", "threads": "1"},
    "libopenh264": {},
    "h264_videotoolbox": {},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "36", "b": "0"},
    "mpeg4": {"q": "6"},
}
_AUDIO_CODECS = {"aac": {"aac_coder": "fast"}, "libfdk_aac": {}, "libmp3lame": {}}


def preview(path: FilePath) -> bytes:
    """
    Return the preview of a video: an MP4 file of at most `SECONDS` around its middle.

    Video is H.264, upright, with square pixels, its short side at most `SHORT_SIDE` pixels, at most `FPS` frames per
    second; audio is mono AAC. Either may be missing. Playing can start before the whole file is loaded. To be called in
    the process of a `Decoder`.

    Parameters
    ----------
    path
        A video file.

    Raises
    ------
    MediaError
        If it cannot be read, or neither video nor audio can be decoded.
    """
    if is_picture(path):
        return _encode_file(path, _still(path))
    for attempt in ("middle", "beginning"):  # the beginning, for files that end before the middle by their header
        with open_media(path) as media:
            main = media.video if media.video is not None else media.audio
            if main is None:
                raise media_error(path, "it holds neither picture nor sound")
            begin = middle_of(media, main, SECONDS) if attempt == "middle" else media.start(main)
            excerpt = _read(media, begin)
            why = f" ({media.fault})" if media.fault else ""
            video_missing = media.video is not None and attempt == "middle"
        if excerpt.frames or (excerpt.samples.size and not video_missing):
            return _encode_file(path, excerpt)
    raise media_error(path, f"neither picture nor sound could be decoded{why}")


class Excerpt(NamedTuple):
    """Part of a video: small frames with their times after its start (seconds), mono samples, colour space."""

    frames: list[tuple[float, Any]]
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


class _FrameCollector:
    """Receives the frames of a video in order, and keeps those of a time interval, scaled down."""

    def __init__(self, media: Media, begin: float) -> None:
        self.media, self.begin, self.end = media, begin, _end(media, begin)
        self.frames: list[tuple[float, Any]] = []
        self.done = False
        self._time = begin  # of the last frame received
        self._before: Any = None  # the last frame before the interval
        self._due = 0.0  # time of the next frame to keep, which limits the frame rate
        self._scaler, self._turner = (import_av().video.reformatter.VideoReformatter() for _ in range(2))

    def push(self, time: float, frame: Any) -> None:
        """Receive the next frame, displayed from `time` on (seconds; NaN: the time of the one before)."""
        time = self._time if math.isnan(time) else time
        self._time = time
        if time < self.begin - TOLERANCE:
            self._before = frame
        elif time >= self.end:
            self.finish()
        else:
            self._keep_frame_before(time)
            self._keep(time - self.begin, frame)

    def finish(self) -> None:
        """End the interval: the last frame lasts up to its end."""
        self.done = True
        self._keep_frame_before(self.end)
        until = min(self.end, self.media.end(self.media.video)) - self.begin - 1 / FPS
        if self.frames and until - self.frames[-1][0] > _MAX_STILL:
            self.frames.append((until, self.frames[-1][1]))

    def _keep_frame_before(self, time: float) -> None:
        if self._before is not None and not self.frames and time > self.begin + TOLERANCE:
            self._keep(0.0, self._before)
        self._before = None

    def _keep(self, time: float, frame: Any) -> None:
        time = max(time, 0.0) if self.frames else 0.0
        if time < self._due - TOLERANCE or (self.frames and time <= self.frames[-1][0]):
            return
        self._due = max(self._due + 1 / FPS, time)
        self.frames.append((time, self._shrink(frame)))

    def _shrink(self, frame: Any) -> Any:
        width, height = preview_size(frame.width * self.media.pixel_aspect, frame.height)
        turn = orientation(frame)
        if turn == Orientation():
            return self._scaler.reformat(frame, width, height, "yuv420p", interpolation="BILINEAR", threads=1)
        picture = self._scaler.reformat(frame, width, height, "rgb24", interpolation="BILINEAR", threads=1).to_ndarray()
        upright = type(frame).from_ndarray(np.ascontiguousarray(turn.apply(picture)), format="rgb24")
        return self._turner.reformat(upright, format="yuv420p", threads=1)


def preview_size(width: float, height: float) -> tuple[int, int]:
    """Return even width and height of the preview of a video of this size: never larger, except for a minimum."""
    scale = min(1.0, SHORT_SIDE / min(width, height), _LONG_SIDE / max(width, height))
    across, down = (max(_NARROWEST, 2 * round(side * scale / 2)) for side in (width, height))
    return across, down


def _read(media: Media, begin: float) -> Excerpt:
    """Decode the excerpt from `begin` (seconds) on, or from the key frame before."""
    streams = [stream for stream in (media.video, media.audio) if stream is not None]
    if media.video is not None and min(media.video.codec_context.width, media.video.codec_context.height) > _SMOOTHED:
        media.video.codec_context.options = {"skip_loop_filter": "all"}
    begin, packets = packets_from(media, begin, *streams)
    collector = _FrameCollector(media, begin) if media.video is not None else None
    track = _track(media, begin) if media.audio is not None else None
    for packet in packets:
        if collector is not None and packet.stream.index == media.video.index:
            if not collector.done:
                _skip(media, packet, begin)
                for frame in media.frames(packet):
                    collector.push(media.time_of(frame), frame)
        elif track is not None and track.needs(_packet_end(media, packet)):
            for frame in media.frames(packet):
                track.push(media.time_of(frame), frame)
        if (collector is None or collector.done) and (track is None or track.done):
            break
    if collector is not None and not collector.done:
        collector.finish()
    return Excerpt(
        collector.frames if collector is not None else [], _samples(track, begin, _end(media, begin)), _colours(media)
    )


def _track(media: Media, begin: float) -> AudioTrack:
    """Return the receiver of the excerpt's sound, and make the decoder give all samples that it decodes."""
    # FFmpeg 9 drops the first ones, whichever they are, if the beginning of the file was cut off by an edit list.
    media.audio.codec_context.flags2 |= import_av().codec.context.Flags2.skip_manual
    return AudioTrack(begin, begin + SECONDS, SAMPLE_RATE)


def _skip(media: Media, packet: Any, begin: float) -> None:
    """Make the decoder skip non-reference frames well before the start."""
    context = media.video.codec_context
    if context.name in SKIPPABLE and not media.untimed:
        early = packet.pts is not None and _packet_end(media, packet) < begin - _NO_SKIP_SECONDS
        context.skip_frame = "NONREF" if early else "DEFAULT"


def _packet_end(media: Media, packet: Any) -> float:
    """Return the end of a packet, seconds; infinity if unknown, so that it is decoded."""
    if packet.pts is None or not packet.duration:
        return math.inf
    return float((packet.pts + packet.duration) * packet.time_base) - media.origin


def _end(media: Media, begin: float) -> float:
    """Return the end of the excerpt, seconds: that of the segment, if it ends earlier."""
    return min(begin + SECONDS, media.segment.end - media.offset)


def _samples(track: AudioTrack | None, begin: float, end: float) -> NDArray[np.float32]:
    """Return the samples from `begin` to `end` (seconds), or up to the end of the audio."""
    if track is None or math.isnan(track.end) or track.end <= begin:
        return np.empty(0, np.float32)
    return track.segment(begin, round((min(end, track.end) - begin) * SAMPLE_RATE))


def _colours(media: Media) -> tuple[int, int, int] | None:
    """Return colour space, primaries and transfer of the file, if they must be written to the preview."""
    if media.video is None:
        return None
    context = media.video.codec_context
    colours = int(context.colorspace), int(context.color_primaries), int(context.color_trc)
    return colours if colours[0] in _NAMED_COLOURS else None


def _still(path: FilePath) -> Excerpt:
    """Return a picture as an excerpt of one frame."""
    picture = load_picture(path)
    width, height = preview_size(picture.shape[1], picture.shape[0])
    frame = import_av().VideoFrame.from_ndarray(picture, format="rgb24")
    return Excerpt([(0.0, frame.reformat(width, height, "yuv420p"))], np.empty(0, np.float32), None)


def _encode_file(path: FilePath, excerpt: Excerpt) -> bytes:
    """Return an excerpt as an MP4 file."""
    av = import_av()
    with tempfile.TemporaryDirectory(prefix="selavi-") as folder:  # faststart needs a real file
        name = os.path.join(folder, "preview.mp4")
        try:
            with av.open(name, "w", options={"movflags": "faststart"}) as out:
                # both before the first packet, which writes the header
                video = [_video_stream(out, excerpt)] if excerpt.frames else []
                audio = [_audio_stream(out)] if excerpt.samples.size else []
                for stream in video:
                    _encode(out, stream, _with_times(excerpt.frames))
                for stream in audio:
                    _encode(out, stream, _audio_frames(excerpt.samples))
        except media_errors() as error:
            raise media_error(path, f"its preview cannot be encoded: {error}") from error
        with open(name, "rb") as file:
            return file.read()


def _encode(out: Any, stream: Any, frames: Iterator[Any]) -> None:
    for frame in frames:
        out.mux(stream.encode(frame))
    out.mux(stream.encode())


def _video_stream(out: Any, excerpt: Excerpt) -> Any:
    codec, options = first_codec(_VIDEO_CODECS)
    stream = out.add_stream(codec, rate=FPS, options=options)
    picture = excerpt.frames[0][1]
    stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
    stream.codec_context.time_base = Fraction(1, _TICKS)
    stream.codec_context.color_range = 1  # limited
    if excerpt.colours is not None:
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = excerpt.colours
    return stream


def _audio_stream(out: Any) -> Any:
    codec, options = first_codec(_AUDIO_CODECS)
    stream = out.add_stream(codec, rate=SAMPLE_RATE, layout="mono", options=options)
    stream.bit_rate = _AUDIO_BIT_RATE
    return stream


def _with_times(frames: list[tuple[float, Any]]) -> Iterator[Any]:
    for time, picture in frames:
        picture.pts, picture.time_base = round(time * _TICKS), Fraction(1, _TICKS)
        picture.pict_type = import_av().video.frame.PictureType.NONE  # the encoder chooses, not the source
        yield picture


def _audio_frames(samples: NDArray[np.float32]) -> Iterator[Any]:
    av = import_av()
    for start in range(0, len(samples), block := 1024):  # size of an AAC packet
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + block], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
        yield frame
