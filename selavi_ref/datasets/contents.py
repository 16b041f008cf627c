"""Digests of video files, by which a file is recognised under another name."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b

from selavi_ref.errors import FilePath, InputError, printable
from selavi_ref.runs.atomic import replacing

_PIECE = 1 << 16  # bytes read at the head, in the middle and at the tail of a file
_READ = 1 << 20  # bytes read at once of a whole file
_COLUMNS = ("path", "stamp", "digest")


@dataclass(frozen=True, slots=True)
class Content:
    """
    What is known of the content of one file.

    Parameters
    ----------
    path
        The file, as an absolute path.
    stamp
        Its size and time of change, as in `selavi_ref.datasets.manifest.ManifestEntry`.
    digest
        ``SIZE-QUICK`` of `quick_digest`, or ``SIZE-QUICK-WHOLE`` where another file had the same quick digest; "" if it
        was not computed.
    """

    path: str
    stamp: str
    digest: str = ""

    @property
    def quick(self) -> str:
        """The quick digest, "" if there is none."""
        return "-".join(self.digest.split("-")[:2])

    @property
    def whole(self) -> str:
        """The digest of all bytes, "" if it was not computed."""
        return [*self.digest.split("-"), "", ""][2]


def stamp_of(path: FilePath) -> str:
    """Return size and time of change of a file, "" if it cannot be found."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def quick_digest(path: FilePath) -> str:
    """
    Return the size of a file and a digest of 64 KiB at its head, in its middle and at its tail.

    Of files up to 192 KiB all bytes are read. "" if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            state = blake2b(digest_size=16)
            if size <= 3 * _PIECE:
                state.update(file.read())
            else:
                for start in (0, (size - _PIECE) // 2, size - _PIECE):
                    file.seek(start)
                    state.update(file.read(_PIECE))
    except OSError:
        return ""
    return f"{size}-{state.hexdigest()}"


def whole_digest(path: FilePath) -> str:
    """Return a digest of all bytes of a file; "" if it cannot be read."""
    state = blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            while part := file.read(_READ):
                state.update(part)
    except OSError:
        return ""
    return state.hexdigest()


def with_digests(
    contents: Sequence[Content], workers: int = 1, progress: Callable[[int], object] | None = None
) -> list[Content]:
    """
    Compute the digests that are missing; files of equal quick digests are read as a whole.

    Parameters
    ----------
    contents
        The files; one whose stamp is no longer that of the file keeps its digest as it is.
    workers
        Files that are read at the same time.
    progress
        Called after each file with 1.
    """

    def add_quick(content: Content) -> Content:
        if not content.digest and content.stamp == stamp_of(content.path):
            content = replace(content, digest=quick_digest(content.path))
        if progress is not None:
            progress(1)
        return content

    with ThreadPoolExecutor(workers) as pool:
        done = list(pool.map(add_quick, contents))
    same = defaultdict(list)
    for number, content in enumerate(done):
        if content.quick and _is_large(content):
            same[content.quick].append(number)
    for numbers in same.values():
        for number in numbers if len(numbers) > 1 else ():
            done[number] = with_whole_digest(done[number])
    return done


def with_whole_digest(content: Content) -> Content:
    """Add the digest of all bytes of a large file, if it is still the same file and was not read as a whole before."""
    if content.whole or not _is_large(content) or content.stamp != stamp_of(content.path):
        return content
    whole = whole_digest(content.path)
    return replace(content, digest=f"{content.quick}-{whole}") if whole else content


def same_content(a: Content, b: Content) -> bool:
    """
    Tell whether two files have the same content, as far as their digests say.

    Without a digest of one of them, they are the same if size and time of change are, to the nanosecond.
    """
    if not a.digest or not b.digest:
        return a.stamp == b.stamp != ""
    return a.quick == b.quick and (a.whole == b.whole or not a.whole or not b.whole)


def read_contents(path: FilePath) -> dict[str, Content]:
    """
    Read a table of `write_contents`, by path; empty if there is none.

    Raises
    ------
    InputError
        If it is no such table.
    """
    folder = os.path.dirname(os.path.abspath(os.fspath(path)))
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ())) != _COLUMNS:
                raise InputError(f"{printable(path)} is damaged; remove it, and it is made anew", path=path)
            found = [Content(os.path.join(folder, row[0]), *row[1:]) for row in rows if len(row) == len(_COLUMNS)]
    except FileNotFoundError:
        return {}
    except (OSError, csv.Error) as error:
        raise InputError(f"{printable(path)} cannot be read: {error}", path=path) from error
    return {content.path: content for content in found}


def write_contents(contents: Iterable[Content] | Mapping[str, Content], path: FilePath, folder: FilePath) -> None:
    """Write contents as CSV, atomically; paths below `folder`, where the table will lie, are relative to it."""
    listed = contents.values() if isinstance(contents, Mapping) else contents
    base = os.path.abspath(os.fspath(folder))
    below = base.rstrip(os.sep) + os.sep
    with replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for content in listed:
            cell = os.path.relpath(content.path, base) if content.path.startswith(below) else content.path
            writer.writerow((cell, content.stamp, content.digest))


def _is_large(content: Content) -> bool:
    """Tell whether a quick digest does not cover all bytes."""
    return int(content.digest.partition("-")[0] or 0) > 3 * _PIECE
