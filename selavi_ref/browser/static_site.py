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
from selavi_ref.browser.final_labels import final_labels
from selavi_ref.browser.map_process import MapMaker
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
from selavi_ref.browser.thumbnails import ThumbnailCache
from selavi_ref.errors import InputError, SelaviError, printable
from selavi_ref.report.export import write_csv, write_json
from selavi_ref.runs.atomic import replacing

_MARK = "selavi-browser.json"  # tells a folder of ours from others
_PARTS = ("static", "data", "media/thumbnail", "media/preview")

Progress = Callable[[str, int, int], None]


def export_site(
    collection: Collection,
    pictures: ThumbnailCache,
    maps: MapMaker,
    folder: str | os.PathLike[str],
    *,
    previews: bool = True,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Path, dict[int, str]]:
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
    dict
        Why videos have no thumbnail, by their numbers.

    Raises
    ------
    InputError
        If the folder holds something else.
    SelaviError
        If it cannot be written.
    """
    place = _Place(_prepared(Path(folder)))
    try:
        missing = pictures.make_all(previews=previews, progress=lambda done, total: progress("pictures", done, total))
        played = _write_pictures(place, pictures, len(collection), previews)
        _write_data(place, collection, maps, played, progress)
        for file in sorted(BUILT.iterdir()):
            place.put(f"static/{file.name}", file.read_bytes())
        place.clear()
    except OSError as error:
        name = printable(error.filename or place.folder)
        raise SelaviError(f"{name} cannot be written: {error.strerror or error}") from error
    done = final_labels(collection)
    write_csv(done, place.folder / "labels.csv")
    write_json(done, place.folder / "labels.json")
    page = render_page({"mode": "exported", "token": "", "title": collection.title, "previews": previews})
    place.put("index.html", page.encode())
    return place.folder / "index.html", missing


def _prepared(folder: Path) -> Path:
    """Make the folder, or make sure that it is one of ours."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / _MARK).exists():
            raise InputError(f"--export {printable(folder)} holds other files; name a new or an empty folder")
        with replacing(folder / _MARK, "w", encoding="utf-8") as out:
            json.dump({"format": "selavi browser", "version": 1}, out)
        for part in _PARTS:
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "index.html").unlink(missing_ok=True)  # until all that it shows is there
    except OSError as error:
        raise InputError(f"--export {printable(folder)} cannot be made: {error.strerror or error}") from error
    return folder


class _Place:
    """The folder of a page, which knows what was written to it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._written: set[Path] = set()

    def put(self, name: str, content: bytes) -> None:
        """Write a file."""
        with replacing(self._new(name)) as file:
            file.write(content)

    def script(self, name: str, payload: Payload) -> None:
        """Write data as a script, since a page that is opened from disk may load nothing else."""
        self.put(f"data/{name}.js", b"selaviData(" + json.dumps(name).encode() + b"," + encoded(payload) + b");\n")

    def keep(self, made: Path | bytes, name: str) -> None:
        """Put a picture where the page looks for it: as a second name of the one that is kept, if that can be."""
        if isinstance(made, bytes):
            self.put(name, made)
            return
        target = self._new(name)
        with suppress(OSError):
            if target.samefile(made):
                return
        partial = target.with_name(f"{target.name}.partial")
        partial.unlink(missing_ok=True)
        try:
            os.link(made, partial)
        except OSError:
            shutil.copyfile(made, partial)
        os.replace(partial, target)

    def clear(self) -> None:
        """Take away what an earlier page has left, which nobody means to show now."""
        for part in _PARTS:
            for file in (self.folder / part).iterdir():
                if file not in self._written and not file.is_dir():
                    file.unlink()

    def _new(self, name: str) -> Path:
        path = self.folder / name
        self._written.add(path)
        return path


def _write_pictures(place: _Place, pictures: ThumbnailCache, N: int, previews: bool) -> set[int]:
    """Write thumbnails and, if asked for, previews, and return which videos have one of these."""
    played = set()
    for row in range(N):
        place.keep(pictures.thumbnail(row), f"media/thumbnail/{row}.webp")
        preview = pictures.preview(row) if previews else None
        if preview is not None:
            place.keep(preview, f"media/preview/{row}.mp4")
            played.add(row)
    return played


def _write_data(place: _Place, collection: Collection, maps: MapMaker, played: set[int], progress: Progress) -> None:
    place.script("collection", collection_payload(collection))
    place.script("annotations", annotations_payload(collection.annotations.read(), collection.rows))
    for name in collection.labels.titles:
        place.script(f"labelling-{name}", labelling_payload(collection, name))
    if collection.features_file is not None:
        place.script("map", maps.made(lambda done, total: progress("map", done, total)))
    for number, chunk in enumerate(_details(collection, played)):
        place.script(f"videos-{number}", chunk)
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
