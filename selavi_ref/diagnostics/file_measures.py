"""Measure video files: format, loudness, mean colour and fingerprints."""

from __future__ import annotations

import base64
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.diagnostics.fingerprints import FRAMES, audio_fingerprint, video_fingerprint
from selavi_ref.errors import FilePath, InputError, MediaError, SelaviError, TransientMediaError, printable, reason
from selavi_ref.media.clip import read_clip, read_video
from selavi_ref.media.container import Media, media_error, open_media
from selavi_ref.media.decoder import LIMIT, parallel_map, run_guarded
from selavi_ref.media.segments import file_of, segment_of
from selavi_ref.runs.atomic import replacing

_SHORT = 20.0  # seconds up to which a video is decoded in one go; in longer ones, the frames are sought
_HEARD = 10.0  # seconds of sound that are measured, in the middle
_SIDE = 32  # pixels of the short side at which frames are measured
_SAMPLE_RATE = 16000  # at which sound is measured
_QUIETEST = -120.0  # dB of digital silence
_OPENING = '{"path"'  # of every line of a file of measures
_AHEAD = 32  # videos per thread that are measured in advance


@dataclass(frozen=True, slots=True)
class Measures:
    """
    Properties of one video file; None or "" where unknown.

    Parameters
    ----------
    path
        The file.
    container, video_codec, audio_codec
        Names by FFmpeg, such as ``mov``, ``h264`` and ``aac``; "" without a picture or sound.
    width, height
        Pixels of the picture as shown.
    fps
        Mean frame rate.
    sample_rate
        Samples of sound per second.
    picture_seconds, sound_seconds
        Lengths.
    bytes
        Size of the file.
    loudness
        Root mean square of the ten seconds of sound in the middle, dB relative to full scale; at least -120.
    red, green, blue
        Means of two frames about the middle, 0 to 255.
    picture_print, sound_print
        See `selavi_ref.diagnostics.fingerprints`: float32, shapes (256,) and (128,), of length 1.
    reason
        Why the file could not be read; "" if it could.
    stamp
        Size and modification time of the file when it was measured.
    """

    path: str
    container: str = ""
    video_codec: str = ""
    audio_codec: str = ""
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    sample_rate: int | None = None
    picture_seconds: float | None = None
    sound_seconds: float | None = None
    bytes: int | None = None
    loudness: float | None = None
    red: float | None = None
    green: float | None = None
    blue: float | None = None
    picture_print: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    sound_print: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    reason: str = ""
    stamp: str = ""

    @property
    def seconds(self) -> float:
        """Length of the longer of picture and sound; 0.0 where neither is known."""
        return max(self.picture_seconds or 0.0, self.sound_seconds or 0.0)


_PRINTS = ("picture_print", "sound_print")
_FIELDS = tuple(item.name for item in fields(Measures))


def measure(path: FilePath, *, limit: float = LIMIT) -> Measures:
    """
    Measure one video file in a separate process, which a damaged file may crash.

    Parameters
    ----------
    path : path
        A video file in any container that FFmpeg knows.
    limit : float
        Time limit, seconds.

    Returns
    -------
    Measures
        With a `reason` and little else if the file cannot be read.

    Raises
    ------
    InputError
        If PyAV is not installed.
    """
    return _measured(os.fspath(path), limit)[0]


def measure_all(
    paths: Sequence[FilePath],
    *,
    workers: int = 1,
    keep: FilePath | None = None,
    progress: Callable[[int], None] | None = None,
    limit: float = LIMIT,
) -> list[Measures]:
    """
    Measure many video files in parallel.

    Parameters
    ----------
    paths : sequence of path
        The files; each is measured once, even if listed twice.
    workers : int
        Threads, each with a process.
    keep : path, optional
        File to which each result is appended at once, as one line of JSON. A later call measures only files
        that are new or changed, or that could not be read for a temporary reason.
    progress : callable, optional
        Called with the number of videos done since the last call; those of `keep` come first.
    limit : float
        Time limit for one file, seconds.

    Returns
    -------
    list of Measures
        Measures, in the order of `paths`.

    Raises
    ------
    InputError
        If PyAV is not installed.
    SelaviError
        If `keep` cannot be written.
    """
    names = [os.fspath(path) for path in paths]
    kept = {} if keep is None else _read_kept(keep)
    results: dict[str, Measures] = {}
    for name in names:
        known = kept.get(os.path.abspath(name))
        if known is not None and known.stamp == _stamp(name):
            results[name] = replace(known, path=name)
    todo = [name for name in dict.fromkeys(names) if name not in results]
    if progress is not None:
        progress(sum(name in results for name in names))
    times = Counter(names)
    with _journal(keep) as note:
        for name, (measures, is_final) in parallel_map(lambda name: _measured(name, limit), todo, workers, _AHEAD):
            results[name] = measures
            if is_final:
                note(measures)
            if progress is not None:
                progress(times[name])
    return [results[name] for name in names]


def measure_here(path: FilePath) -> Measures:
    """
    Measure one video file in this process; see `measure`.

    Raises
    ------
    MediaError
        If it cannot be read.
    """
    with open_media(path) as media:
        header = _header(path, media)
    if not header.video_codec and not header.audio_codec:
        raise media_error(path, "it holds neither a picture nor a sound that can be decoded")
    frames, samples = _frames_and_sound(header)
    if frames.shape[1] > frames.shape[2] and (header.height or 0) < (header.width or 0):
        header = replace(header, width=header.height, height=header.width)  # rotated for display
    middle = frames[1:3].reshape(-1, 3).mean(0) if len(frames) == FRAMES else [None] * 3
    red, green, blue = (None if value is None else round(float(value), 3) for value in middle)
    return replace(
        header,
        loudness=_loudness(samples),
        red=red,
        green=green,
        blue=blue,
        picture_print=video_fingerprint(frames),
        sound_print=audio_fingerprint(samples, _SAMPLE_RATE),
    )


def _header(path: FilePath, media: Media) -> Measures:
    """Return the properties in the header of an open file."""
    video, audio = media.video, media.audio
    size: tuple[int, int] | tuple[None, None] = (None, None)
    if video is not None:
        size = max(1, round(video.codec_context.width * media.pixel_aspect)), video.codec_context.height
    return Measures(
        path=os.fspath(path),
        container=media.container.format.name.partition(",")[0],
        video_codec=_codec(video),
        audio_codec=_codec(audio),
        width=size[0],
        height=size[1],
        fps=float(video.average_rate or video.guessed_rate or 0) or None if video is not None else None,
        sample_rate=audio.codec_context.sample_rate if audio is not None else None,
        picture_seconds=media.seconds(video) if video is not None else None,
        sound_seconds=media.seconds(audio) if audio is not None else None,
    )


def _codec(stream: Any) -> str:
    if stream is None:
        return ""
    codec = stream.codec_context.codec
    return str(
        getattr(codec, "canonical_name", codec.name)
    )  # a codec may have many decoders, so not the decoder's name


def _frames_and_sound(header: Measures) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the middle frames of the four quarters of the video, and ten seconds of sound around its middle."""
    length = max(header.picture_seconds or 0.0, 1e-3)
    begin = max(0.0, ((header.sound_seconds or 0.0) - _HEARD) / 2)
    if header.seconds <= _SHORT:
        whole = read_video(header.path, fps=2 * FRAMES / length, size=_SIDE, sample_rate=_SAMPLE_RATE)
        first = round(begin * _SAMPLE_RATE)
        samples = whole.samples[first : first + round(_HEARD * _SAMPLE_RATE)]
        odd = np.minimum(np.arange(1, 2 * FRAMES, 2), len(whole.frames) - 1)
        return (whole.frames[odd] if len(whole.frames) else whole.frames), samples
    frames, samples = np.empty((0, _SIDE, _SIDE, 3), np.uint8), np.empty(0, np.float32)
    if header.video_codec:
        middles = length * np.arange(1, 2 * FRAMES, 2) / (2 * FRAMES)
        frames = np.concatenate([_frame(header.path, float(middle)) for middle in middles])
    if header.audio_codec:
        seconds = min(_HEARD, max(header.sound_seconds or 0.0, 1e-3))
        samples = _clip(header.path, begin, seconds=seconds, want_video=False).samples
    return frames, samples


def _frame(path: str, time: float) -> NDArray[np.uint8]:
    return _clip(path, time, want_audio=False).frames


def _clip(path: str, start: float, **options: Any) -> Any:
    return read_clip(path, start, fps=8.0, frames=1, size=_SIDE, sample_rate=_SAMPLE_RATE, **options)


def _loudness(samples: NDArray[np.float32]) -> float | None:
    if not len(samples):
        return None
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return round(max(_QUIETEST, 10 * math.log10(power)), 3) if power > 0 else _QUIETEST


def _stamp(path: str) -> str:
    """Return size and modification time of a file; "" if there is none."""
    try:
        status = os.stat(file_of(path))
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def _measured(path: str, limit: float) -> tuple[Measures, bool]:
    """Return the measures of a file, and whether they are final (the file was read, or is damaged)."""
    stamp = _stamp(path)  # before it is read: a file that changes meanwhile is measured again next time
    # Of whole files only: segments of one file are different videos.
    size = int(stamp.partition("-")[0]) if stamp and segment_of(path).whole else None
    try:
        return replace(run_guarded(measure_here, path, limit=limit), bytes=size, stamp=stamp), True
    except MediaError as error:
        why = str(error).removeprefix(f"{printable(path)}: ")
        return Measures(path, bytes=size, reason=why, stamp=stamp), not isinstance(error, TransientMediaError)


def _read_kept(keep: FilePath) -> dict[str, Measures]:
    """Return the measures in a file by absolute path; incomplete lines are ignored."""
    kept: dict[str, Measures] = {}
    lines = damaged = 0
    first = ""
    try:
        with open(keep, encoding="ascii", errors="replace") as file:
            for line in file:
                first = first or line
                lines += 1
                try:
                    measures = _from_line(line)
                    kept[measures.path] = measures
                except (ValueError, TypeError, KeyError):
                    damaged += 1
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{printable(keep)} cannot be read: {reason(error)}", path=keep) from error
    if damaged == lines and first[: len(_OPENING)] != _OPENING[: len(first)]:
        raise InputError(f"{printable(keep)} holds no measures of videos; name another file", path=keep)
    if damaged or lines > 2 * len(kept):
        with replacing(keep, "w", encoding="ascii") as file:
            file.writelines(_to_line(measures) for measures in kept.values())
    return kept


@contextmanager
def _journal(keep: FilePath | None) -> Iterator[Callable[[Measures], None]]:
    """Open the file of measures, and yield a function that appends to it."""
    if keep is None:
        yield lambda _: None
        return
    try:
        file = open(keep, "a", encoding="ascii")  # noqa: SIM115
    except OSError as error:
        raise SelaviError(f"{printable(keep)} cannot be written: {reason(error)}", path=keep) from error

    def note(measures: Measures) -> None:
        try:
            file.write(_to_line(replace(measures, path=os.path.abspath(measures.path))))
            file.flush()
        except OSError as error:
            raise SelaviError(f"{printable(keep)} cannot be written: {reason(error)}", path=keep) from error

    with file:
        yield note


def _to_line(measures: Measures) -> str:
    values = {name: getattr(measures, name) for name in _FIELDS}
    for name in _PRINTS:
        if values[name] is not None:
            values[name] = base64.b64encode(values[name].astype("<f2").tobytes()).decode("ascii")
    return json.dumps({name: value for name, value in values.items() if value not in (None, "")}) + "\n"


def _from_line(line: str) -> Measures:
    values = json.loads(line)
    if not line.endswith("\n") or not isinstance(values, dict) or not isinstance(values["path"], str):
        raise ValueError(line)
    for name in _PRINTS:
        if name in values:
            values[name] = np.frombuffer(base64.b64decode(values[name], validate=True), "<f2").astype(np.float32)
    return Measures(**values)
