"""Thumbnails and previews of a collection, created on demand and cached in a folder."""

from __future__ import annotations

import hashlib
import os
import queue
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from selavi_ref.browser.previews import preview
from selavi_ref.browser.thumbnail_strip import NoPictureError, placeholder, strip
from selavi_ref.datasets.video_files import file_type
from selavi_ref.errors import FilePath, InputError, MediaError, SelaviError, printable
from selavi_ref.media.decoder import Decoder, parallel_map
from selavi_ref.media.segments import file_of
from selavi_ref.runs.atomic import replacing

LIMIT = 30.0  # seconds that one thumbnail or preview may take
_FORMAT = 1  # raise when thumbnails or previews change, so that older ones are not used
_MAX_WAITING = 8  # requests that may wait for a decoder at once; each keeps a thread of the server
_MAX_FAILURES = 20000  # failures
_AHEAD = 4  # thumbnails per thread that are computed before they are needed


class BusyError(SelaviError):
    """Too many requests wait for thumbnails and previews; retry later."""


class _Kind(NamedTuple):
    make: Callable[[FilePath], bytes]
    ending: str


class _Failure(NamedTuple):
    text: str
    why: str


_KINDS = {"thumbnail": _Kind(strip, ".webp"), "preview": _Kind(preview, ".mp4")}


class ThumbnailCache:
    """
    The thumbnails and previews of videos; thread-safe.

    They are decoded in separate processes, each for at most `limit` seconds; a file that crashes or hangs a decoder is
    not tried again. Only the reasons of failures are kept in memory. Only regular files with the extension of a video,
    sound file or picture are opened.

    Parameters
    ----------
    folder
        Cache folder, created if missing; file names depend on path, size and time of change of the video.
    paths
        The videos; relative paths start from the current folder.
    workers
        Number of decoders.
    limit
        Seconds that one thumbnail or preview may take.

    Raises
    ------
    InputError
        If `workers` or `limit` is not positive.
    """

    def __init__(self, folder: FilePath, paths: Sequence[str], *, workers: int = 2, limit: float = LIMIT) -> None:
        if workers < 1 or not limit > 0:
            message = f"thumbnails need a worker and time, not workers={workers} and limit={limit}"
            raise InputError(message, option="workers" if workers < 1 else "limit")
        self.folder, self.paths, self.workers, self.limit = Path(folder), paths, workers, limit
        self._lock = threading.Lock()
        self._pending: dict[Path, Future[Path | bytes | _Failure]] = {}
        self._failures: OrderedDict[Path, _Failure] = OrderedDict()
        self._decoders = [Decoder() for _ in range(workers)]
        self._idle: queue.LifoQueue[Decoder] = queue.LifoQueue()  # the one used last has most likely started
        for decoder in self._decoders:
            self._idle.put(decoder)
        self._waiting = 0
        self._kills = 0  # how often all decoders were killed
        self._closed = False

    def thumbnail(self, i: int) -> Path | bytes:
        """
        Return the strip of a video (WebP, see `selavi_ref.browser.thumbnail_strip`): its file, or its bytes.

        Bytes are a placeholder with the reason in a word, or a strip that could not be cached.

        Raises
        ------
        BusyError
            If too many requests are waiting.
        SelaviError
            If no decoder can be started.
        """
        result = self._get(i, "thumbnail")
        return placeholder(result.text) if isinstance(result, _Failure) else result

    def preview(self, i: int) -> Path | bytes | None:
        """
        Return the preview of a video (MP4, see `selavi_ref.browser.previews`): its file, or None if there is none.

        Bytes are a preview that could not be cached. Errors are those of `thumbnail`.
        """
        result = self._get(i, "preview")
        return None if isinstance(result, _Failure) else result

    def reason(self, i: int, kind: str = "thumbnail") -> str:
        """Return why a ``"thumbnail"`` or ``"preview"`` failed; "" if it succeeded or was not requested yet."""
        file = self._file(i, kind)
        failure = _MISSING if file is None else self._failures.get(file)
        return failure.why if failure else ""

    def make_all(self, *, previews: bool = False, progress: Callable[[int, int], None] | None = None) -> dict[int, str]:
        """
        Create all missing thumbnails, and optionally previews, with all workers.

        An interrupted call can be repeated: what was created stays.

        Parameters
        ----------
        previews
            Whether to create previews, too.
        progress
            Called after each video with the numbers of videos done and in total.

        Returns
        -------
        dict
            Why videos have no thumbnail, by row number.

        Raises
        ------
        SelaviError
            If the folder cannot be written.
        """
        failures = {}
        with closing(self._get_all("preview" if previews else "thumbnail")) as turns:
            for i, result in turns:
                if isinstance(result, bytes):
                    raise SelaviError(f"{printable(self.folder)} cannot be written", path=self.folder)
                if isinstance(result, _Failure):
                    failures[i] = result.why
                if progress is not None:
                    progress(i + 1, len(self.paths))
        return failures

    def close(self) -> None:
        """End the decoders; waiting requests fail with SelaviError."""
        if self._closed:
            return
        self._closed = True
        self._kill_decoders()
        idle = []
        for _ in self._decoders:
            with suppress(queue.Empty):  # its user closes it
                idle.append(self._idle.get(timeout=1.0))
        for decoder in idle:
            decoder.close()
            self._idle.put(decoder)  # wakes up requests that wait for it

    def __enter__(self) -> ThumbnailCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _get_all(self, kind: str) -> Generator[tuple[int, Path | bytes | _Failure]]:
        """Return an iterator over the thumbnails of all videos, in order, that creates the requested kind as well."""

        def work(i: int) -> Path | bytes | _Failure:
            thumbnail = self._get(i, "thumbnail")
            other = self._get(i, kind) if kind != "thumbnail" else thumbnail
            return other if isinstance(other, bytes) else thumbnail

        threads = 2 * self.workers  # one thread writes while another decodes
        return parallel_map(work, range(len(self.paths)), threads, _AHEAD, self._kill_decoders)

    def _get(self, i: int, kind: str) -> Path | bytes | _Failure:
        """Return a cached file, or create it, in one thread only, however many request it."""
        file = self._file(i, kind)
        if file is None:
            return _MISSING
        if file.exists():
            return file
        with self._lock:
            if file in self._failures:
                return self._failures[file]
            pending = self._pending.get(file)
            if pending is None:
                future = self._pending[file] = Future()
        if pending is not None:
            return pending.result()
        try:
            result = file if file.exists() else self._make(self.paths[i], _KINDS[kind], file)
        except BaseException as error:
            future.set_exception(error)
            raise
        else:
            future.set_result(result)
            return result
        finally:
            with self._lock:
                del self._pending[file]

    def _make(self, path: str, kind: _Kind, file: Path) -> Path | bytes | _Failure:
        kills = self._kills
        try:
            data = self._decode(path, kind)
        except (MediaError, RuntimeError) as error:  # RuntimeError: a bug in the decoder process
            if self._closed or self._kills != kills:
                raise SelaviError(f"{printable(path)}: stopped before it was read", path=path) from error
            why = str(error).splitlines()[0].removeprefix(f"{printable(path)}: ")
            failure = _Failure("no picture" if isinstance(error, NoPictureError) else "unreadable", why)
            with self._lock:
                self._failures[file] = failure
                while len(self._failures) > _MAX_FAILURES:
                    self._failures.popitem(last=False)
            return failure
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as out:
                out.write(data)
        except (SelaviError, OSError):  # a full disk, or another program has just written the same file
            return file if file.exists() else data
        return file

    def _decode(self, path: str, kind: _Kind) -> bytes:
        """Create a thumbnail or preview in the first free decoder."""
        with self._lock:
            if self._waiting >= _MAX_WAITING:
                raise BusyError("too many thumbnails and previews are being made; try again in a moment")
            self._waiting += 1
        try:
            decoder = self._idle.get()
        finally:
            with self._lock:
                self._waiting -= 1
        try:
            if self._closed:
                raise SelaviError("the program is ending")
            return decoder.call(kind.make, path, limit=self.limit)
        finally:
            if self._closed:
                decoder.close()
            self._idle.put(decoder)

    def _kill_decoders(self) -> None:
        """Make all running calls fail."""
        self._kills += 1
        for decoder in self._decoders:
            decoder.kill()

    def _file(self, i: int, kind: str) -> Path | None:
        """Return the cache file of a video; None unless the video is a file that may be opened."""
        path = self.paths[i]
        file = file_of(path)
        if not file_type(file):
            return None
        try:
            full = os.path.abspath(path)
            status = os.stat(os.path.abspath(file))
        except (OSError, ValueError):  # the latter: a name that no file can have
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        key = f"{_FORMAT}\0{full}\0{status.st_size}\0{status.st_mtime_ns}"
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return self.folder / kind / name[:2] / f"{name}{_KINDS[kind].ending}"


_MISSING = _Failure("missing", "the file is missing")
