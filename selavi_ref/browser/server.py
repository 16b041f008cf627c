"""The Flask application of the page, served to this machine only."""

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

from selavi_ref.browser.collection import Collection, video_file
from selavi_ref.browser.edit_history import ConflictError
from selavi_ref.browser.final_labels import final_labels
from selavi_ref.browser.look_next import look_next_in
from selavi_ref.browser.map_process import MapMaker
from selavi_ref.browser.page import BUILT, render_page
from selavi_ref.browser.payloads import (
    annotations_payload,
    collection_payload,
    details_of,
    encoded,
    labelling_payload,
    proposals_payload,
)
from selavi_ref.browser.search import LARGEST_FILE, LimitedRequest, Search, add_search
from selavi_ref.browser.thumbnails import BusyError, ThumbnailCache
from selavi_ref.errors import InputError, SelaviError
from selavi_ref.report.export import csv_bytes, json_bytes, parquet_bytes
from selavi_ref.report.links import write_links

_LOCAL = {"127.0.0.1", "localhost", "::1"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PIECE = 4 << 20  # bytes of a video per response to an open-ended range request
_THREADS = 16
_NEXT = 24  # videos that a person is asked to look at
_TABLES = {
    "csv": (csv_bytes, "text/csv"),
    "json": (json_bytes, "application/json"),
    "parquet": (parquet_bytes, "application/vnd.apache.parquet"),
}


def make_app(
    collection: Collection, thumbnails: ThumbnailCache, map_maker: MapMaker, search: Search | None = None
) -> Flask:
    """
    Return the application that serves a collection; with `search`, videos are found by a text or by a file.

    It accepts requests to names of this machine only, from its own page only (`Host`, `Origin` and `Sec-Fetch-Site`
    are checked); edits need the token of the page. Files are addressed by row numbers of videos, never by paths.
    """
    app = Flask(__name__, static_folder=str(BUILT), static_url_path="/static")
    app.url_map.merge_slashes = False
    app.request_class = LimitedRequest
    token = secrets.token_urlsafe(24)
    rows = collection.rows

    _protect(app, token)
    _explain(app, lambda: annotations_payload(collection.annotations.read(), rows))

    @app.get("/")
    def page() -> str:
        settings: dict[str, str | bool] = {
            "mode": "served",
            "token": token,
            "title": collection.title,
            "previews": True,
        }
        return render_page(settings | {"search": search is not None})

    _add_data(app, collection, thumbnails, map_maker, rows)
    _add_media(app, collection, thumbnails)
    _add_edits(app, collection, rows)
    if search is not None:
        add_search(app, search)
    return app


def serve(app: Flask, listening: Any, stopping: Callable[[], None]) -> None:
    """
    Serve an application on a listening socket, until Ctrl-C.

    Parameters
    ----------
    app : Flask
        The application.
    listening : socket
        The listening socket.
    stopping : callable
        Called at the end, to abort requests that wait for a decoder.
    """
    from waitress.server import create_server

    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # waiting thumbnails are no reason for a warning
    server = create_server(
        app,
        sockets=[listening],
        threads=_THREADS,
        ident=None,
        clear_untrusted_proxy_headers=True,
        max_request_body_size=LARGEST_FILE,
    )

    def stop(*_: object) -> None:
        logging.getLogger("waitress").setLevel(logging.CRITICAL + 1)  # requests that wait for a decoder fail
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
    """Refuse requests that do not come from the page, and forbid other pages to load responses."""

    @app.before_request
    def check_origin() -> None:
        if not _is_local(request.headers.get("Host", "")):
            abort(403, "this page is served to this machine only")
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{request.host}":
            abort(403, "pages of another origin are not allowed")
        # A link from elsewhere may open the page, but no other page may load its parts.
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and request.path != "/":
            abort(403, "pages of another origin are not allowed")
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
    """Answer errors with one line of JSON."""

    @app.errorhandler(HTTPException)
    def failed(error: HTTPException) -> tuple[dict[str, Any], int]:
        return {"error": str(error.description)}, error.code or 500

    @app.errorhandler(ConflictError)
    def conflict(error: ConflictError) -> tuple[dict[str, Any], int]:
        return {"error": str(error), "annotations": annotations()}, 409

    @app.errorhandler(SelaviError)
    def refused(error: SelaviError) -> tuple[dict[str, Any], int]:
        return {"error": str(error)}, 503 if isinstance(error, BusyError) else 400


def _is_local(host: str) -> bool:
    """Tell whether a request is addressed to this machine; the port may be that of a tunnel."""
    try:
        return urlsplit(f"http://{host}").hostname in _LOCAL
    except ValueError:
        return False


def _add_data(
    app: Flask, collection: Collection, thumbnails: ThumbnailCache, map_maker: MapMaker, rows: Mapping[str, list[int]]
) -> None:
    @cache
    def videos() -> bytes:
        return encoded(collection_payload(collection))

    @cache
    def labelling(name: str) -> bytes:
        return encoded(labelling_payload(collection, name))

    @app.get("/data/collection.json")
    def get_collection() -> Response:
        return _json_response(videos())

    @app.get("/data/labelling-<name>.json")
    def get_labelling(name: str) -> Response:
        if name not in collection.labels.titles:
            abort(404, f"there is no labelling {name!r}")
        return _json_response(labelling(name))

    @app.get("/data/annotations.json")
    def get_annotations() -> Response:
        return _json_response(encoded(annotations_payload(collection.annotations.read(), rows)))

    @app.get("/data/proposals.json")
    def get_proposals() -> Response:
        return _json_response(encoded(proposals_payload(collection.proposals())))

    @app.get("/data/map.json")
    def get_map() -> Response:
        return _json_response(encoded(map_maker.payload()))

    @app.get("/data/video/<int:row>.json")
    def get_video(row: int) -> Response:
        # A file without video may still have an audio preview; the page is told whether there is one.
        has_thumbnail = isinstance(thumbnails.thumbnail(_check_row(collection, row)), Path)
        return _json_response(
            encoded(details_of(collection, row, has_thumbnail or thumbnails.preview(row) is not None))
        )


def _add_media(app: Flask, collection: Collection, thumbnails: ThumbnailCache) -> None:
    @app.get("/media/thumbnail/<int:row>.webp")
    def get_thumbnail(row: int) -> Response:
        return _media_response(thumbnails.thumbnail(_check_row(collection, row)), "image/webp")

    @app.get("/media/preview/<int:row>.mp4")
    def get_preview(row: int) -> Response:
        preview = thumbnails.preview(_check_row(collection, row))
        if preview is None:
            abort(404, "there is nothing to play")
        return _media_response(preview, "video/mp4")

    @app.get("/media/video/<int:row>")
    def get_file(row: int) -> Response:
        file = video_file(collection.files[_check_row(collection, row)])
        if file is None:
            abort(404, "the video is missing")
        # Open-ended range requests get one piece, so that a paused player does not block a thread.
        if endless := re.fullmatch(r"bytes=(\d{1,15})-", request.headers.get("Range", "")):
            start = int(endless[1])
            request.environ["HTTP_RANGE"] = f"bytes={start}-{start + _PIECE - 1}"
        # A generated name: that of the file may hold characters that no header can.
        ending = os.path.splitext(file)[1].lower()
        kind = _KINDS.get(ending, "application/octet-stream")
        return send_file(file, kind, download_name=f"{row}{ending}", conditional=True, etag=False)


def _add_edits(app: Flask, collection: Collection, rows: Mapping[str, list[int]]) -> None:
    @app.post("/api/annotate")
    def annotate() -> Response:
        entry = _json_body()
        if "videos" in entry:
            entry["videos"] = [collection.paths[_check_row(collection, row)] for row in _row_numbers(entry["videos"])]
        return _json_response(encoded(annotations_payload(collection.annotations.apply(entry), rows)))

    @app.get("/data/next-<name>.json")
    def get_next(name: str) -> Response:
        return _json_response(encoded({"videos": look_next_in(collection, name, _NEXT)}))

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
        done = final_labels(collection, _json_body().get("labelling", "consensus"))
        made = write_links(done, collection.links_folder, files=collection.files)
        return {"folder": str(made.folder), "links": made.links, "missing": made.missing}


def _json_body() -> dict[str, Any]:
    """Return the JSON object in the body of a request."""
    try:
        body = request.get_json()
    except RecursionError:
        body = None
    if not isinstance(body, dict):
        raise InputError("an edit must be a JSON object")
    return body


def _row_numbers(values: Any) -> list[int]:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise InputError("videos must be a list of numbers")
    return values


def _check_row(collection: Collection, row: int) -> int:
    if not 0 <= row < len(collection):
        abort(404, f"there is no video {row}")
    return row


def _json_response(data: bytes) -> Response:
    return Response(data, mimetype="application/json")


def _media_response(content: Path | bytes, kind: str) -> Response:
    """Return the response for a thumbnail or preview, which the browser may cache while it is unchanged."""
    if isinstance(content, bytes):
        return Response(content, mimetype=kind)
    response = send_file(os.path.abspath(content), kind, conditional=True)
    response.headers["Cache-Control"] = "private, no-cache"
    return response


_KINDS = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm", ".ogv": "video/ogg"}
