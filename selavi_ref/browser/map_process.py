"""The map of all videos, made by a process of its own while the page is used, and kept."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from selavi_ref.browser.payloads import Payload, map_payload
from selavi_ref.errors import SelaviError
from selavi_ref.report.embedding import embedding_file, saved_embedding


class MapMaker:
    """
    The map of the videos of a store, made when it is first asked for; any number of threads may ask.

    Parameters
    ----------
    store : Path or None
        The store; without one there is no map.
    folder : Path
        Where the map is kept; made if missing.
    """

    def __init__(self, store: Path | None, folder: Path):
        self._store, self._folder = store, folder
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._watcher: threading.Thread | None = None
        self._done: float | None = None
        self._payload: Payload | None = None

    def payload(self) -> Payload:
        """Return the map, as `map_payload`; or how far it is, as ``computing``; or why there is none, as ``failed``."""
        with self._lock:
            if self._payload is None and self._store is None:
                self._payload = {"failed": "a table of labels has no features, by which videos would have a place"}
            if self._payload is None and self._watcher is None and not self._take():
                self._start()
            return self._payload or {"computing": True, "done": self._done}

    def made(self, progress: Callable[[int, int], None]) -> Payload:
        """
        Return the map when it is made.

        Parameters
        ----------
        progress : callable
            Called with how much is done, of 100.

        Raises
        ------
        SelaviError
            If it cannot be made.
        """
        while "computing" in (payload := self.payload()):
            progress(round(100 * (self._done or 0)), 100)
            if self._watcher is not None:
                self._watcher.join(0.2)
        if "failed" in payload:
            raise SelaviError(f"the map cannot be made: {payload['failed']}")
        progress(100, 100)
        return payload

    def close(self) -> None:
        """End the process that makes the map, if there is one."""
        if self._process is not None:
            self._process.kill()
        if self._watcher is not None:
            self._watcher.join()

    def _take(self) -> bool:
        """Take the map that is kept, if it is that of the store as it is now."""
        assert self._store is not None
        saved = saved_embedding(self._store, self._folder)
        if saved is not None:
            self._payload = map_payload(saved.xy, saved.words)
        return saved is not None

    def _start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        program = [sys.executable, "-m", "selavi_ref.report.embedding"]
        self._process = subprocess.Popen(
            [*program, str(self._store), str(embedding_file(self._folder))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C is for the program, which then ends it
        )
        self._watcher = threading.Thread(target=self._watch, args=(self._process,), daemon=True)
        self._watcher.start()

    def _watch(self, process: subprocess.Popen[str]) -> None:
        """Follow how far the map is, and take it when it is made."""
        said = ""
        assert process.stdout is not None
        for line in process.stdout:
            try:
                self._done = float(line)
            except ValueError:
                said = line.strip() or said
        status = process.wait()
        with self._lock, suppress(SelaviError):
            if status != 0 or not self._take():
                self._payload = {"failed": said or f"the process that makes it ended with status {status}"}
