"""The map of all videos, computed in a separate process while the page is used, and cached."""

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
    The map of the videos of a store, computed at the first request; thread-safe.

    Parameters
    ----------
    store : Path or None
        The store; None for no map.
    folder : Path
        Folder of the cached map; created if missing.
    """

    def __init__(self, store: Path | None, folder: Path):
        self._store, self._folder = store, folder
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._watcher: threading.Thread | None = None
        self._progress: float | None = None
        self._payload: Payload | None = None

    def payload(self) -> Payload:
        """Return the map (see `map_payload`), or its progress (``computing``), or why it failed (``failed``)."""
        with self._lock:
            if self._payload is None and self._store is None:
                self._payload = {"failed": "a table of labels has no features to compute a map from"}
            if self._payload is None and self._watcher is None and not self._load():
                self._start()
            return self._payload or {"computing": True, "done": self._progress}

    def wait(self, progress: Callable[[int, int], None]) -> Payload:
        """
        Wait for the map and return it.

        Parameters
        ----------
        progress : callable
            Called with the percentage done, and 100.

        Raises
        ------
        SelaviError
            If it cannot be computed.
        """
        while "computing" in (payload := self.payload()):
            progress(round(100 * (self._progress or 0)), 100)
            if self._watcher is not None:
                self._watcher.join(0.2)
        if "failed" in payload:
            raise SelaviError(f"the map cannot be computed: {payload['failed']}")
        progress(100, 100)
        return payload

    def close(self) -> None:
        """End the process that computes the map, if there is one."""
        if self._process is not None:
            self._process.kill()
        if self._watcher is not None:
            self._watcher.join()

    def _load(self) -> bool:
        """Load the cached map, if the store has not changed since; return whether there is one."""
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
            env={**os.environ, "PYTHONPATH": os.pathsep.join(os.fspath(place) for place in sys.path if place)},
            start_new_session=True,  # Ctrl-C goes to the program, which then ends it
        )
        self._watcher = threading.Thread(target=self._watch, args=(self._process,), daemon=True)
        self._watcher.start()

    def _watch(self, process: subprocess.Popen[str]) -> None:
        """Read the progress of the process, and load the map when it has ended."""
        message = ""
        assert process.stdout is not None
        for line in process.stdout:
            try:
                self._progress = float(line)
            except ValueError:
                message = line.strip() or message
        status = process.wait()
        with self._lock, suppress(SelaviError):
            if status != 0 or not self._load():
                self._payload = {"failed": message or f"the process that computes it ended with status {status}"}
