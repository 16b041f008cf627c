"""The page in a folder: plain files that open from disk, or that any web host can show; nothing in it is edited."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selavi_ref.browser.collection import Collection
from selavi_ref.browser.finishing import finished
from selavi_ref.browser.mapping import MapMaker
from selavi_ref.browser.page import BUILT, render_page
from selavi_ref.browser.payloads import (
    CHUNK,
    NEAREST,
    Payload,
    annotations_payload,
    collection_payload,
    encoded,
    labelling_payload,
    video_payload,
)
from selavi_ref.browser.pictures import Pictures
from selavi_ref.errors import InputError, SelaviError
from selavi_ref.files import replacing
from selavi_ref.media.container import printable
from selavi_ref.report.exported import write_csv, write_json

_MARK = "selavi-browser.json"  # tells a folder of ours from others

Progress = Callable[[str, int, int], None]


def export_site(
    collection: Collection,
    pictures: Pictures,
    maps: MapMaker,
    folder: str | os.PathLike[str],
    *,
    previews: bool = True,
    progress: Progress = lambda what, done, total: None,
) -> Path:
    """
    Write the page, its data and its pictures to a folder.

    Pictures are kept beside the collection as well, so that a writing that was cut off goes on where it was; the page
    itself comes last.

    Parameters
    ----------
    collection, pictures, maps
        What is shown.
    folder : path
        New or empty, or one written before, which is brought up to date.
    previews : bool
        Whether the short pieces with sound are written as well, which take most of the time and room.
    progress : callable
        Called with what is being done, how much of it is done, and how much there is.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        If the folder holds something else.
    SelaviError
        If it cannot be written.
    """
    place = _prepared(Path(folder))
    try:
        played = _write_media(collection, pictures, place, previews, progress)
        _write_data(collection, maps, place, played, progress)
        for file in sorted(BUILT.iterdir()):
            _put(place / "static" / file.name, file.read_bytes())
    except OSError as error:
        name = printable(error.filename or place)
        raise SelaviError(f"{name} cannot be written: {error.strerror or error}") from error
    done = finished(collection)
    write_csv(done, place / "labels.csv")
    write_json(done, place / "labels.json")
    page = place / "index.html"
    with replacing(page, "w", encoding="utf-8") as out:
        out.write(render_page({"mode": "exported", "token": "", "title": collection.title, "previews": previews}))
    return page


def _prepared(folder: Path) -> Path:
    """Make the folder, or make sure that it is one of ours."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / _MARK).exists():
            raise InputError(f"--export {printable(folder)} holds other files; name a new or an empty folder")
        for part in ("static", "data", "media/thumbnail", "media/preview"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "index.html").unlink(missing_ok=True)  # until all that it shows is there
    except OSError as error:
        raise InputError(f"--export {printable(folder)} cannot be made: {error.strerror or error}") from error
    with replacing(folder / _MARK, "w", encoding="utf-8") as out:
        json.dump({"format": "selavi browser", "version": 1}, out)
    return folder


def _write_media(
    collection: Collection, pictures: Pictures, place: Path, previews: bool, progress: Progress
) -> set[int]:
    """Write thumbnails and, if asked for, previews, and return which videos have one of these."""
    pictures.make_all(previews=previews, progress=lambda done, total: progress("pictures", done, total))
    played = set()
    for row in range(len(collection)):
        _keep(pictures.thumbnail(row), place / "media" / "thumbnail" / f"{row}.webp")
        preview = pictures.preview(row) if previews else None
        _keep(preview, place / "media" / "preview" / f"{row}.mp4")
        if preview is not None:
            played.add(row)
    return played


def _write_data(collection: Collection, maps: MapMaker, place: Path, played: set[int], progress: Progress) -> None:
    rows = {path: row for row, path in enumerate(collection.paths)}
    _script(place, "collection", collection_payload(collection))
    _script(place, "annotations", annotations_payload(collection.annotations.read(), rows))
    for name in collection.labellings:
        _script(place, f"labelling-{name}", labelling_payload(collection, name))
    if collection.features_file is not None:
        _script(place, "map", maps.made(lambda done, total: progress("map", done, total)))
    for number, chunk in enumerate(_details(collection, played)):
        _script(place, f"videos-{number}", chunk)
        progress("details", min(len(collection), (number + 1) * CHUNK), len(collection))


def _details(collection: Collection, played: set[int]) -> Iterator[Payload]:
    """Yield what is known of each video, in chunks."""
    opinions = collection.opinions
    near = None if opinions is None else opinions.all_neighbours(NEAREST)
    for start in range(0, len(collection), CHUNK):
        stop = min(start + CHUNK, len(collection))
        posteriors: dict[str, NDArray[np.float32]] = {}
        if opinions is not None:
            posteriors = opinions.posteriors(slice(start, stop))
        yield {
            str(row): video_payload(
                collection, row, posteriors, row - start, {} if near is None else near[row], row in played
            )
            for row in range(start, stop)
        }


def _script(place: Path, name: str, payload: Payload) -> None:
    """Write data as a script, since a page that is opened from disk may load nothing else."""
    _put(place / "data" / f"{name}.js", b"selaviData(" + json.dumps(name).encode() + b"," + encoded(payload) + b");\n")


def _keep(made: Path | bytes | None, target: Path) -> None:
    """Put a picture where the page looks for it; take an old one away if there is none now."""
    if made is None:
        target.unlink(missing_ok=True)
    elif isinstance(made, bytes):
        _put(target, made)
    else:
        _link(made, target)


def _put(target: Path, content: bytes) -> None:
    with replacing(target) as file:
        file.write(content)


def _link(source: Path, target: Path) -> None:
    """Give a picture that is kept a second name, or copy it where that cannot be."""
    with suppress(OSError):
        if target.samefile(source):
            return
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
    os.replace(partial, target)
