"""Requests of the page for videos that are similar to a text, or to a file that was dropped on it."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from flask import Flask, Request, Response, abort, request

from selavi_ref.browser.thumbnails import BusyError
from selavi_ref.datasets.video_files import FILE_TYPES, file_type
from selavi_ref.errors import InputError, SelaviError, printable

LARGEST_EDIT = 16 << 20  # bytes
LARGEST_FILE = 1 << 30  # bytes of a file that is dropped on the page
MOST_FOUND = 500
_LONGEST_TEXT = 1000  # characters
_PIECE = 1 << 20  # bytes that are read at a time
_PATIENCE = 60.0  # seconds that a search waits for the one before
_BY_FILE = "/api/find/file"

Found = dict[str, list[tuple[int, float]]]


class Search(Protocol):
    """What finds the videos of a collection that are similar to a text or to a file; one call at a time."""

    def refusals(self) -> dict[str, str]:
        """Return why videos cannot be found by ``"text"`` or by ``"file"``; "" where they can."""

    def by_text(self, text: str, n: int) -> Found:
        """Return the row numbers of the n most similar videos and their similarities, by the name of the model."""

    def by_file(self, path: Path, n: int) -> Found:
        """Return the row numbers of the n nearest videos and their distances, by each feature space."""


class LimitedRequest(Request):
    """A request whose body may be as long as what it is for needs: a file may be longer than an edit."""

    @property  # type: ignore[misc]
    def max_content_length(self) -> int | None:  # type: ignore[override]
        """Longest body, bytes."""
        return LARGEST_FILE if self.path == _BY_FILE else LARGEST_EDIT


def add_search(app: Flask, search: Search) -> None:
    """
    Let the page find videos by a text or by a file.

    A file must have the extension of a video, sound file or picture, and at most `LARGEST_FILE` bytes. It is written to
    a temporary folder under a name of this program, and removed after the search.
    """
    lock = threading.Lock()

    @contextmanager
    def alone() -> Iterator[None]:
        if not lock.acquire(timeout=_PATIENCE):
            raise BusyError("another search takes long; try again in a moment")
        try:
            yield
        finally:
            lock.release()

    @app.get("/data/search.json")
    def get_search() -> dict[str, Any]:
        return {"refusals": search.refusals(), "largest": LARGEST_FILE, "endings": sorted(sum(FILE_TYPES.values(), ()))}

    @app.post("/api/find/text")
    def find_text() -> Response:
        body = request.get_json()
        text = body.get("text") if isinstance(body, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise InputError("there is no text to search for")
        if len(text) > _LONGEST_TEXT:
            raise InputError(f"a text has at most {_LONGEST_TEXT} characters, not {len(text)}")
        with alone():
            return _answer(search.by_text(text, MOST_FOUND))

    @app.post(_BY_FILE)
    def find_file() -> Response:
        name = request.args.get("name", "")
        if not file_type(name):
            abort(415, f"{printable(name) or 'the file'} does not end like a video, a sound file or a picture")
        with tempfile.TemporaryDirectory(prefix="selavi-dropped-") as folder:
            path = Path(folder) / f"file{os.path.splitext(name)[1].lower()}"
            _receive(path)
            with alone():
                try:
                    return _answer(search.by_file(path, MOST_FOUND))
                except SelaviError as error:
                    raise InputError(str(error).replace(str(path), printable(name))) from error


def _receive(path: Path) -> None:
    """Write the body of the request to a file, and refuse one that is too long, whatever its header says."""
    n_bytes = 0
    with open(path, "xb") as file:
        while piece := request.stream.read(_PIECE):
            n_bytes += len(piece)
            if n_bytes > LARGEST_FILE:
                abort(413, f"the file is larger than {LARGEST_FILE >> 20} MiB")
            file.write(piece)
    if not n_bytes:
        raise InputError("the file is empty")


def _answer(found: Found) -> Response:
    groups = [{"by": by, "videos": _rounded(videos)} for by, videos in found.items()]
    return Response(json.dumps({"found": groups}, allow_nan=False), mimetype="application/json")


def _rounded(videos: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    return [(row, round(value, 4)) for row, value in videos]
