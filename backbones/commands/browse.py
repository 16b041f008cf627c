"""`selavi browse`: a web page that shows the clusters, on which they are named, merged and corrected."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import webbrowser
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import click

from backbones.commands.command import Command, Interruptible, refuse_options
from backbones.commands.messages import note, warning
from backbones.commands.output import OutPath
from backbones.commands.shared_options import truth_option, videos_option
from selavi_ref.errors import InputError, SelaviError

_LINKS = 5  # videos to look at next that are printed


@click.command(
    cls=Command,
    examples="""
    selavi browse RUN
    selavi browse labels.csv --truth classes.csv
    selavi browse RUN --no-open --port 8000
    selavi browse RUN --export page
    selavi browse RUN --videos /media/disk/VIDEOS
    """,
)
@click.argument("source", type=click.Path(), metavar="RUN|LABELS|STORE")
@click.option(
    "--export", "folder", type=OutPath(file_okay=False), help="Write the page to this folder instead of serving it."
)
@click.option("--thumbnails-only", is_flag=True, help="With --export: leave out the previews of 10 s with sound.")
@truth_option
@videos_option
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the server. [default: any free one]")
@click.option("--no-open", is_flag=True, help="Print the address of the page without opening it.")
def browse(
    source: str,
    folder: str | None,
    thumbnails_only: bool,
    truth: str | None,
    videos: str | None,
    port: int,
    no_open: bool,
) -> None:
    """
    Show the clusters of a RUN, of a table of labels, or of a store, in a web browser.

    The page is served to this machine alone, and loads nothing from elsewhere. Names, merged clusters and moved videos
    are saved at once in annotations.json of the RUN, or beside the file; selavi export writes labels with them, and
    selavi label names new videos by them. --export writes the same page as plain files, without editing, which open
    from disk or on any web host.
    """
    if folder is None:
        refuse_options(["thumbnails_only"], "goes with --export")
    else:
        refuse_options(["port", "no_open"], "cannot be used with --export, which serves nothing")
    import flask  # noqa: F401
    import PIL  # noqa: F401
    import waitress  # noqa: F401

    from selavi_ref.browser.collection import open_collection
    from selavi_ref.browser.map_process import MapMaker
    from selavi_ref.browser.thumbnails import ThumbnailCache

    collection = open_collection(source, truth=truth, videos=videos)
    collection.annotations.read()  # damaged annotations are refused before anything is shown
    with ExitStack() as stack:
        cache = _writable(collection.folder, stack)
        pictures = stack.enter_context(closing(ThumbnailCache(cache / "pictures", collection.files)))
        maps = stack.enter_context(closing(MapMaker(collection.features_file, cache)))
        if folder is not None:
            _export(collection, pictures, maps, folder, not thumbnails_only)
        else:
            _serve(collection, pictures, maps, port, no_open)


def _writable(folder: Path, stack: ExitStack) -> Path:
    """Return a folder for thumbnails and maps: this one, or a temporary one if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="selavi-browser-")))
    return folder


def _export(collection: Any, pictures: Any, maps: Any, folder: str, previews: bool) -> None:
    from backbones.commands.progress import Bars
    from selavi_ref.browser.static_site import export_site

    with Interruptible("the same command continues where it stopped"), Bars() as bars:
        page, missing = export_site(collection, pictures, maps, folder, previews=previews, progress=bars)
    note(f"wrote {click.format_filename(page)}")
    if missing:
        row, reason = next(iter(missing.items()))
        warning(
            f"{len(missing)} of {len(collection)} videos have no picture, such as "
            f"{click.format_filename(collection.paths[row])}: {reason}"
        )


def _serve(collection: Any, pictures: Any, maps: Any, port: int, no_open: bool) -> None:
    from selavi_ref.api.page_search import PageSearch
    from selavi_ref.browser.server import make_app, serve

    listening = _listening(port)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    # Labels are computed while the web browser starts.
    click.echo(f"{len(collection)} videos at {url}  (Ctrl-C to stop)")
    threading.Thread(target=_prepare, args=(collection, url), daemon=True).start()
    if not no_open:
        # A browser of the terminal would keep this program waiting.
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    serve(make_app(collection, pictures, maps, PageSearch(collection)), listening, pictures.close)


def _prepare(collection: Any, url: str) -> None:
    """Compute the labels, and print links to the videos that a person should look at first."""
    from selavi_ref.browser.look_next import look_next_in

    with suppress(SelaviError):  # the page shows it when it asks for the labels
        links = [f"{url}#/video/{row}" for row in look_next_in(collection, most=_LINKS)]
        if links:
            click.echo(f"look at these next, of whose labels least is certain (all of them: {url}#/next):")
            click.echo("\n".join(f"  {link}" for link in links))


def _listening(port: int) -> socket.socket:
    """Return a listening socket that only this machine can reach."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":
        listening.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # reuse the port of a server that has just ended
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        listening.close()
        raise InputError(f"--port {port} cannot be used: {error.strerror}", option="port") from error
    listening.listen()
    return listening
