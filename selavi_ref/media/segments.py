"""Segments: parts of a file, named by one string that stands wherever the path of a whole file may stand."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from selavi_ref.errors import FilePath, InputError, printable

_MARK = "#t="
_DIGITS = 3  # decimals of a second
_WHOLE = "[0-9]{1,12}"  # seconds, minutes or hours
_NAME = re.compile(rf"(?s)(.+)#t=({_WHOLE}(?:\.[0-9]+)?)?(?:,({_WHOLE}(?:\.[0-9]+)?))?")
_SECONDS = rf"{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+"
_CLOCK = re.compile(rf"(?:({_WHOLE}):(?:([0-5]?[0-9]):)?(?=[0-5]?[0-9](?![0-9])|\.))?({_SECONDS})")


@dataclass(frozen=True, slots=True)
class Segment:
    """
    A file, or a part of it.

    Parameters
    ----------
    file
        Path of the file.
    start, end
        Of the part, seconds after the first frame of the file; 0 and infinity for the whole file.
    """

    file: str
    start: float = 0.0
    end: float = math.inf

    @property
    def whole(self) -> bool:
        """Whether this is the whole file."""
        return self.start == 0 and self.end == math.inf

    @property
    def name(self) -> str:
        """The string that stands for it: the path, or a W3C media fragment such as ``talk.mp4#t=10,20``."""
        if self.whole:
            return self.file
        end = "" if self.end == math.inf else f",{_written(self.end)}"
        return f"{self.file}{_MARK}{_written(self.start)}{end}"

    def limit(self, seconds: float) -> float:
        """Return how much of a stream, which has a length in seconds, lies within the segment, in seconds."""
        return max(0.0, min(seconds, self.end) - self.start)


def segment_of(name: FilePath) -> Segment:
    """
    Return the segment that a string stands for: ``PATH#t=START,END``, ``PATH#t=START``, or the path of a whole file.

    A file that really has such a name is a whole file.
    """
    text = os.fspath(name)
    if _MARK not in text:
        return Segment(text)
    match = _NAME.fullmatch(text)
    if match is None or (match[2] is None and match[3] is None) or os.path.lexists(text):
        return Segment(text)
    start, end = round(float(match[2] or 0), _DIGITS), round(float(match[3] or math.inf), _DIGITS)
    return Segment(match[1], start, end) if start < end else Segment(text)


def parse_segment(name: FilePath) -> Segment:
    """
    Return the segment that a person asks for: as `segment_of`, but its times must be right, and may be clock times.

    Raises
    ------
    InputError
        If a file exists by the name before ``#t=``, and what follows is no range of times; `option` is ``"start"`` or
        ``"end"``.
    """
    segment, text = segment_of(name), os.fspath(name)
    file = path_before_times(text)
    if not segment.whole or file == text or os.path.lexists(text) or not os.path.lexists(file):
        return segment
    start, comma, end = text[len(file) + len(_MARK) :].partition(",")
    try:
        return Segment(file, *read_times(start if start or not comma else None, end if comma else None))
    except InputError as error:
        raise InputError(f"{printable(text)}: {error}", path=file, option=error.option, value=error.value) from error


def path_before_times(name: str) -> str:
    """Return a name without its time range: ``a.mp4`` for ``a.mp4#t=1,2``, also if the times are wrong."""
    return name.rpartition(_MARK)[0] or name


def file_of(name: FilePath) -> str:
    """Return the path of the file that a name of a file or of a segment refers to."""
    return segment_of(name).file


def with_file(name: FilePath, file: str) -> str:
    """Return the name of the same segment of another file."""
    return replace(segment_of(name), file=file).name


def read_seconds(text: str) -> float:
    """
    Return a time in seconds from ``83.5``, ``1:23.5`` or ``0:01:23.5``, rounded to a millisecond.

    Raises
    ------
    InputError
        If it is no time.
    """
    return round(exact_seconds(text), _DIGITS)


def exact_seconds(text: str) -> float:
    """Return a time as `read_seconds` does, not rounded."""
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{text!r:.60} is no time; write seconds, such as 83.5, or 1:23.5", option="time", value=text)
    *larger, seconds = (part for part in match.groups() if part is not None)
    return float(sum(60 ** (len(larger) - place) * int(part) for place, part in enumerate(larger))) + float(seconds)


def read_times(start: str | None, end: str | None) -> tuple[float, float]:
    """
    Return start and end of a segment in seconds.

    Parameters
    ----------
    start, end
        As `read_seconds` takes them; None for those of the file.

    Raises
    ------
    InputError
        If one is no time, or the end is not after the start; `option` is ``"start"`` or ``"end"``.
    """
    times = {"start": 0.0, "end": math.inf}
    for name, text in (("start", start), ("end", end)):
        try:
            times[name] = times[name] if text is None else read_seconds(text)
        except InputError as error:
            raise InputError(f"{name} {error}", option=name, value=text) from error
    if not times["start"] < times["end"]:
        raise InputError(
            f"end {_written(times['end'])} must be after start {_written(times['start'])}",
            option="end",
            value=times["end"],
        )
    return times["start"], times["end"]


def windows(seconds: float, length: float) -> list[tuple[float, float]]:
    """
    Cut a time into windows of one length; the last has from half of it to one and a half times of it.

    Parameters
    ----------
    seconds
        The time to cut.
    length
        Of a window, seconds.

    Returns
    -------
    list of (float, float)
        Start and end of each window, at least one.
    """
    count = max(1, math.ceil(seconds / length - 0.5))
    bounds = [round(number * length, _DIGITS) for number in range(count)]
    return list(zip(bounds, [*bounds[1:], round(max(seconds, bounds[-1] + 0.001), _DIGITS)], strict=True))


def groups(names: Sequence[str], longest: float) -> Iterator[list[int]]:
    """
    Group neighbouring rows that are decoded together: parts of one file, one after the other, with hardly a gap.

    Parameters
    ----------
    names
        Segments or whole files.
    longest
        Seconds of its file that a group may span; a single segment may be longer.

    Yields
    ------
    list of int
        Rows of a group, ascending; a whole file is a group by itself.
    """
    group: list[int] = []
    span = last = Segment("")
    for row, name in enumerate(names):
        segment = segment_of(name)
        end = max(span.end, segment.end)
        joins = (
            segment.file == span.file
            and not (segment.whole or span.whole)
            and last.start <= segment.start <= span.end + _gap(last)
            and end - span.start <= longest
        )
        if group and not joins:
            yield group
            group = []
        span = Segment(span.file, span.start, end) if group else segment
        group.append(row)
        last = segment
    if group:
        yield group


def groups_by_file(names: Sequence[str], longest: float) -> list[list[int]]:
    """Group rows as `groups` does, after putting the segments of each file side by side, in order of time."""
    files: dict[str, list[tuple[float, int]]] = {}
    for row, name in enumerate(names):
        segment = segment_of(name)
        files.setdefault(segment.file, []).append((segment.start, row))
    ordered = [row for rows in files.values() for _, row in sorted(rows)]
    return [[ordered[n] for n in group] for group in groups([names[row] for row in ordered], longest)]


def _gap(segment: Segment) -> float:
    """Return the longest gap before the next segment that is decoded instead of skipped by seeking, seconds."""
    return min(10.0, segment.end - segment.start)


def _written(seconds: float) -> str:
    text = f"{seconds:.{_DIGITS}f}"
    return text.rstrip("0").rstrip(".")
