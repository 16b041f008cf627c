"""Thumbnails and previews of a collection, made when they are first asked for and kept in a folder."""

from __future__ import annotations

import hashlib
import os
import queue
import stat
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from selavi_ref.browser.previews import preview
from selavi_ref.browser.thumbnail_strip import NoVideoError, placeholder, strip
from selavi_ref.datasets.manifest import VIDEO_EXTENSIONS
from selavi_ref.errors import FilePath, InputError, MediaError, SelaviError, printable
from selavi_ref.media.decoder import Decoder
from selavi_ref.runs.atomic import replacing

LIMIT = 30.0  # seconds that one thumbnail or preview may take
_FORMAT = 1  # raised when thumbnails or previews are made differently, so that those of old are not taken for new ones
_LINE = 8  # requests that may wait for a decoder at once; each keeps a thread of the server
_REMEMBERED = 20000  # failures
_AHEAD = 4  # thumbnails for each thread that are handed out before their turn


class BusyError(SelaviError):
    """Too many thumbnails and previews are waited for; another time there will be room."""


class _Kind(NamedTuple):
    make: Callable[[FilePath], bytes]
    ending: str


class _Failure(NamedTuple):
    word: str
    why: str


_KINDS = {"thumbnail": _Kind(strip, ".webp"), "preview": _Kind(preview, ".mp4")}


class ThumbnailCache:
    """
    The thumbnails and previews of videos; any number of threads may ask for them.

    They are decoded in processes of their own, each for at most `limit` seconds; a file that crashes a decoder or
    hangs it is given up. Nothing is kept in memory but the reasons of failures, which end with the program. Only
    regular files with the ending of a video are ever opened.

    Parameters
    ----------
    folder
        Where they are kept, under names that depend on path, size and time of change of the video; made if missing.
    paths
        The videos. Relative ones start from where the program is.
    workers
        Decoders that work at once.
    limit
        Seconds that one thumbnail or preview may take.

    Raises
    ------
    InputError
        If `workers` or `limit` is not positive.
    """

    def __init__(self, folder: FilePath, paths: Sequence[str], *, workers: int = 2, limit: float = LIMIT) -> None:
        if workers < 1 or not limit > 0:
            raise InputError(f"thumbnails need a worker and time, not workers={workers} and limit={limit}")
        self.folder, self.paths, self.workers, self.limit = Path(folder), paths, workers, limit
        self._lock = threading.Lock()
        self._making: dict[Path, Future[Path | bytes | _Failure]] = {}
        self._failures: OrderedDict[Path, _Failure] = OrderedDict()
        self._decoders = [Decoder() for _ in range(workers)]
        self._idle: queue.LifoQueue[Decoder] = queue.LifoQueue()  # the last used is the likeliest to have started
        for decoder in self._decoders:
            self._idle.put(decoder)
        self._waiting = 0
        self._stops = 0  # how often all decoders were stopped
        self._closed = False

    def thumbnail(self, i: int) -> Path | bytes:
        """
        Return the strip of a video (WebP, see `selavi_ref.browser.thumbnail_strip`): its file, or its bytes.

        Bytes are a placeholder that says in a word why there is none, or a strip that the folder did not take.

        Raises
        ------
        BusyError
            If too many are waited for.
        SelaviError
            If no decoder can be started.
        """
        found = self._find(i, "thumbnail")
        return placeholder(found.word) if isinstance(found, _Failure) else found

    def preview(self, i: int) -> Path | bytes | None:
        """
        Return the preview of a video (MP4, see `selavi_ref.browser.previews`): its file, or None if there is none.

        Bytes come in place of a file that the folder did not take. Errors are those of `thumbnail`.
        """
        found = self._find(i, "preview")
        return None if isinstance(found, _Failure) else found

    def reason(self, i: int, kind: str = "thumbnail") -> str:
        """Tell why a ``"thumbnail"`` or ``"preview"`` could not be made; "" if it could, or was not asked for yet."""
        file = self._file(i, kind)
        failure = _MISSING if file is None else self._failures.get(file)
        return failure.why if failure else ""

    def make_all(self, *, previews: bool = False, progress: Callable[[int, int], None] | None = None) -> dict[int, str]:
        """
        Make all thumbnails, and previews if asked for, that are not there yet, as many at a time as there are workers.

        Can be stopped at any time, by Ctrl-C or a kill, and goes on the next time.

        Parameters
        ----------
        previews
            Whether to make them too.
        progress
            Called after each video with the numbers of videos done and in all.

        Returns
        -------
        dict
            Why videos have no thumbnail, by their index.

        Raises
        ------
        SelaviError
            If the folder cannot be written.
        """
        failures = {}
        with closing(self._in_turn("preview" if previews else "thumbnail")) as turns:
            for i, found in turns:
                if isinstance(found, bytes):
                    raise SelaviError(f"{printable(self.folder)} cannot be written")
                if isinstance(found, _Failure):
                    failures[i] = found.why
                if progress is not None:
                    progress(i + 1, len(self.paths))
        return failures

    def close(self) -> None:
        """End the decoders; whoever waits for a picture gets a SelaviError."""
        if self._closed:
            return
        self._closed = True
        self._stop()
        idle = []
        for _ in self._decoders:
            with suppress(queue.Empty):  # whoever has it closes it
                idle.append(self._idle.get(timeout=1.0))
        for decoder in idle:
            decoder.close()
            self._idle.put(decoder)  # for those who wait for it, to hear that it is over

    def __enter__(self) -> ThumbnailCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _in_turn(self, kind: str) -> Generator[tuple[int, Path | bytes | _Failure]]:
        """Yield what there is of each video, in their order, with what goes before the kind asked for."""

        def work(i: int) -> Path | bytes | _Failure:
            thumbnail = self._find(i, "thumbnail")
            other = self._find(i, kind) if kind != "thumbnail" else thumbnail
            return other if isinstance(other, bytes) else thumbnail

        threads = 2 * self.workers  # one of two writes while the other decodes
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[tuple[int, Future[Path | bytes | _Failure]]] = deque()
            try:
                for i in range(len(self.paths)):
                    waiting.append((i, pool.submit(work, i)))
                    if len(waiting) > _AHEAD * threads:
                        first, future = waiting.popleft()
                        yield first, future.result()
                for first, future in waiting:
                    yield first, future.result()
            except BaseException:  # such as Ctrl-C: nobody waits for what is under way
                pool.shutdown(wait=False, cancel_futures=True)
                self._stop()
                raise

    def _find(self, i: int, kind: str) -> Path | bytes | _Failure:
        """Return a picture's file, or have it made: by one thread, however many ask for it."""
        file = self._file(i, kind)
        if file is None:
            return _MISSING
        if file.exists():
            return file
        with self._lock:
            if file in self._failures:
                return self._failures[file]
            under_way = self._making.get(file)
            if under_way is None:
                made = self._making[file] = Future()
        if under_way is not None:
            return under_way.result()
        try:
            found = file if file.exists() else self._make(self.paths[i], _KINDS[kind], file)
        except BaseException as error:
            made.set_exception(error)
            raise
        else:
            made.set_result(found)
            return found
        finally:
            with self._lock:
                del self._making[file]

    def _make(self, path: str, kind: _Kind, file: Path) -> Path | bytes | _Failure:
        stops = self._stops
        try:
            data = self._decode(path, kind)
        except (MediaError, RuntimeError) as error:  # a RuntimeError: a bug that this file brought to light
            if self._closed or self._stops != stops:
                raise SelaviError(f"{printable(path)}: stopped before it was read") from error
            why = str(error).splitlines()[0].removeprefix(f"{printable(path)}: ")
            failure = _Failure("no picture" if isinstance(error, NoVideoError) else "unreadable", why)
            with self._lock:
                self._failures[file] = failure
                while len(self._failures) > _REMEMBERED:
                    self._failures.popitem(last=False)
            return failure
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as out:
                out.write(data)
        except (SelaviError, OSError):  # a full disk, or another program that has just written the same
            return file if file.exists() else data
        return file

    def _decode(self, path: str, kind: _Kind) -> bytes:
        """Make a picture's bytes in the first decoder that is free."""
        with self._lock:
            if self._waiting >= _LINE:
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

    def _stop(self) -> None:
        """Have all calls under way fail."""
        self._stops += 1
        for decoder in self._decoders:
            decoder.kill()

    def _file(self, i: int, kind: str) -> Path | None:
        """Return where a picture of a video is kept; None unless that is a file that may be opened."""
        path = self.paths[i]
        if os.path.splitext(path)[1].lower() not in VIDEO_EXTENSIONS:
            return None
        try:
            full = os.path.abspath(path)
            status = os.stat(full)
        except (OSError, ValueError):  # the latter: a name that no file can have
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        known_by = f"{_FORMAT}\0{full}\0{status.st_size}\0{status.st_mtime_ns}"
        name = hashlib.sha256(known_by.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return self.folder / kind / name[:2] / f"{name}{_KINDS[kind].ending}"


_MISSING = _Failure("missing", "the file is missing")
