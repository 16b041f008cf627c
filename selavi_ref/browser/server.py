"""The page, its data and its pictures, served on this machine alone."""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, request, send_file
from werkzeug.exceptions import HTTPException

from selavi_ref.browser.annotations import ConflictError
from selavi_ref.browser.collection import Collection, video_file
from selavi_ref.browser.final_labels import final_labels
from selavi_ref.browser.map_process import MapMaker
from selavi_ref.browser.page import BUILT, render_page
from selavi_ref.browser.payloads import (
    annotations_payload,
    collection_payload,
    details_of,
    encoded,
    labelling_payload,
)
from selavi_ref.browser.thumbnails import BusyError, ThumbnailCache
from selavi_ref.errors import InputError, SelaviError
from selavi_ref.report.export import csv_bytes, json_bytes, parquet_bytes
from selavi_ref.report.links import write_links

_LOCAL = {"127.0.0.1", "localhost", "::1"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_LARGEST_EDIT = 16 << 20  # bytes
_PIECE = 4 << 20  # bytes of a video that are sent at once
_THREADS = 16
_TABLES = {
    "csv": (csv_bytes, "text/csv"),
    "json": (json_bytes, "application/json"),
    "parquet": (parquet_bytes, "application/vnd.apache.parquet"),
}


def make_app(collection: Collection, pictures: ThumbnailCache, maps: MapMaker) -> Flask:
    """
    Make the application that serves a collection.

    It answers only to names of this machine itself, and to pages that it has served (`Host`, `Origin` and
    `Sec-Fetch-Site` are checked); edits need the token that is in the page. Files are named by the numbers of videos,
    never by paths.
    """
    app = Flask(__name__, static_folder=str(BUILT), static_url_path="/static")
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = _LARGEST_EDIT
    token = secrets.token_urlsafe(24)
    rows = collection.rows

    _protect(app, token)
    _explain(app, lambda: annotations_payload(collection.annotations.read(), rows))

    @app.get("/")
    def page() -> str:
        return render_page({"mode": "served", "token": token, "title": collection.title, "previews": True})

    _add_data(app, collection, pictures, maps, rows)
    _add_media(app, collection, pictures)
    _add_edits(app, collection, rows)
    return app


def serve(app: Flask, listening: Any, stopping: Callable[[], None]) -> None:
    """
    Serve an application on a socket that listens, until Ctrl-C.

    Parameters
    ----------
    app : Flask
        The application.
    listening : socket
        Where it is served.
    stopping : callable
        Called when it is to end, to let go of requests that wait for something long.
    """
    from waitress.server import create_server

    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # thumbnails wait for each other, as they should
    server = create_server(app, sockets=[listening], threads=_THREADS, ident=None, clear_untrusted_proxy_headers=True)

    def stop(*_: object) -> None:
        logging.getLogger("waitress").setLevel(logging.CRITICAL + 1)  # whoever waited for a picture gets an error
        app.logger.setLevel(logging.CRITICAL + 1)
        stopping()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        server.run()
    finally:
        signal.signal(signal.SIGINT, before)
        server.close()


def _protect(app: Flask, token: str) -> None:
    """Refuse whoever is not the page, and have nothing but the page look at what is served."""

    @app.before_request
    def refuse_strangers() -> None:
        if not _is_local(request.headers.get("Host", "")):
            abort(403, "this page is served to this machine alone")
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{request.host}":
            abort(403, "pages of another origin may not look here")
        # A link from elsewhere may open the page, but no other page may load what belongs to it.
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and request.path != "/":
            abort(403, "pages of another origin may not look here")
        if request.method not in ("GET", "HEAD") and not secrets.compare_digest(
            request.headers.get("X-Selavi-Token", "").encode(), token.encode()
        ):
            abort(403, "the token of the page is missing; load the page again")

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def _explain(app: Flask, annotations: Callable[[], dict[str, Any]]) -> None:
    """Answer what cannot be done with one line that says why."""

    @app.errorhandler(HTTPException)
    def failed(error: HTTPException) -> tuple[dict[str, Any], int]:
        return {"error": str(error.description)}, error.code or 500

    @app.errorhandler(ConflictError)
    def overtaken(error: ConflictError) -> tuple[dict[str, Any], int]:
        return {"error": str(error), "annotations": annotations()}, 409

    @app.errorhandler(SelaviError)
    def refused(error: SelaviError) -> tuple[dict[str, Any], int]:
        return {"error": str(error)}, 503 if isinstance(error, BusyError) else 400


def _is_local(host: str) -> bool:
    """Tell whether a request names this machine as its own user does; the port may be that of a tunnel."""
    try:
        return urlsplit(f"http://{host}").hostname in _LOCAL
    except ValueError:
        return False


def _add_data(
    app: Flask, collection: Collection, pictures: ThumbnailCache, maps: MapMaker, rows: Mapping[str, list[int]]
) -> None:
    @cache
    def videos() -> bytes:
        return encoded(collection_payload(collection))

    @cache
    def labelling(name: str) -> bytes:
        return encoded(labelling_payload(collection, name))

    @app.get("/data/collection.json")
    def get_collection() -> Response:
        return _json(videos())

    @app.get("/data/labelling-<name>.json")
    def get_labelling(name: str) -> Response:
        if name not in collection.labels.titles:
            abort(404, f"there is no labelling {name!r}")
        return _json(labelling(name))

    @app.get("/data/annotations.json")
    def get_annotations() -> Response:
        return _json(encoded(annotations_payload(collection.annotations.read(), rows)))

    @app.get("/data/map.json")
    def get_map() -> Response:
        return _json(encoded(maps.payload()))

    @app.get("/data/video/<int:row>.json")
    def get_video(row: int) -> Response:
        # A file of which there is no picture may still be heard; whether it can is found out here, not by the page.
        seen = isinstance(pictures.thumbnail(_known(collection, row)), Path)
        return _json(encoded(details_of(collection, row, seen or pictures.preview(row) is not None)))


def _add_media(app: Flask, collection: Collection, pictures: ThumbnailCache) -> None:
    @app.get("/media/thumbnail/<int:row>.webp")
    def get_thumbnail(row: int) -> Response:
        return _made(pictures.thumbnail(_known(collection, row)), "image/webp")

    @app.get("/media/preview/<int:row>.mp4")
    def get_preview(row: int) -> Response:
        found = pictures.preview(_known(collection, row))
        if found is None:
            abort(404, "there is nothing to play")
        return _made(found, "video/mp4")

    @app.get("/media/video/<int:row>")
    def get_file(row: int) -> Response:
        file = video_file(collection.files[_known(collection, row)])
        if file is None:
            abort(404, "the video is missing")
        # Whoever asks for all that follows gets a piece, and asks again: a player that pauses keeps no thread waiting.
        if endless := re.fullmatch(r"bytes=(\d{1,15})-", request.headers.get("Range", "")):
            start = int(endless[1])
            request.environ["HTTP_RANGE"] = f"bytes={start}-{start + _PIECE - 1}"
        # A name of ours: that of the file may hold what no header can.
        ending = os.path.splitext(file)[1].lower()
        kind = _KINDS.get(ending, "application/octet-stream")
        return send_file(file, kind, download_name=f"{row}{ending}", conditional=True, etag=False)


def _add_edits(app: Flask, collection: Collection, rows: Mapping[str, list[int]]) -> None:
    @app.post("/api/annotate")
    def annotate() -> Response:
        entry = _told()
        if "videos" in entry:
            entry["videos"] = [collection.paths[_known(collection, row)] for row in _whole_numbers(entry["videos"])]
        return _json(encoded(annotations_payload(collection.annotations.apply(entry), rows)))

    @app.get("/api/export/labels.<ending>")
    def export(ending: str) -> Response:
        if ending not in _TABLES:
            abort(404, f"labels are exported as {', '.join(_TABLES)}")
        make, kind = _TABLES[ending]
        response = Response(make(final_labels(collection, request.args.get("labelling", "consensus"))), mimetype=kind)
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", collection.title).strip("-") or "selavi"
        response.headers["Content-Disposition"] = f'attachment; filename="{name}-labels.{ending}"'
        return response

    @app.post("/api/export/links")
    def export_links() -> dict[str, Any]:
        done = final_labels(collection, _told().get("labelling", "consensus"))
        made = write_links(done, collection.links_folder, files=collection.files)
        return {"folder": str(made.folder), "links": made.links, "missing": made.missing}


def _told() -> dict[str, Any]:
    """Return the JSON object that a request has brought."""
    try:
        told = request.get_json()
    except RecursionError:
        told = None
    if not isinstance(told, dict):
        raise InputError("an edit must be a JSON object")
    return told


def _whole_numbers(values: Any) -> list[int]:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise InputError("videos must be a list of numbers")
    return values


def _known(collection: Collection, row: int) -> int:
    if not 0 <= row < len(collection):
        abort(404, f"there is no video {row}")
    return row


def _json(data: bytes) -> Response:
    return Response(data, mimetype="application/json")


def _made(found: Path | bytes, kind: str) -> Response:
    """Serve what is made for the browser, which may keep it as long as it is the same."""
    if isinstance(found, bytes):
        return Response(found, mimetype=kind)
    response = send_file(os.path.abspath(found), kind, conditional=True)
    response.headers["Cache-Control"] = "private, no-cache"
    return response


_KINDS = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm", ".ogv": "video/ogg"}
