"""Export of the page to a folder of static files, which opens from disk or from any web host, without editing."""

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
from selavi_ref.datasets.video_files import SITE_MARKER
from selavi_ref.errors import InputError, SelaviError, printable
from selavi_ref.report.export import write_csv, write_json
from selavi_ref.runs.atomic import replacing

_PARTS = ("static", "data", "media/thumbnail", "media/preview")

Progress = Callable[[str, int, int], None]


def export_site(
    collection: Collection,
    thumbnails: ThumbnailCache,
    map_maker: MapMaker,
    folder: str | os.PathLike[str],
    *,
    previews: bool = True,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Path, dict[int, str]]:
    """
    Write the page, its data, thumbnails and previews to a folder.

    Thumbnails are cached beside the collection as well, so that an interrupted export can be continued; the page itself
    is written last.

    Parameters
    ----------
    collection, thumbnails, map_maker
        The content.
    folder : path
        New or empty, or an earlier export, which is updated.
    previews : bool
        Whether previews are written, which take most of the time and space.
    progress : callable
        Called with the name of the current step, the amount done, and the total.

    Returns
    -------
    Path
        The page.
    dict
        Why videos have no thumbnail, by row number.

    Raises
    ------
    InputError
        If the folder holds other files.
    SelaviError
        If it cannot be written.
    """
    site = _SiteFolder(_prepare(Path(folder)))
    try:
        missing = thumbnails.make_all(previews=previews, progress=lambda done, total: progress("pictures", done, total))
        with_preview = _write_thumbnails(site, thumbnails, len(collection), previews)
        _write_data(site, collection, map_maker, with_preview, progress)
        for file in sorted(BUILT.iterdir()):
            site.write(f"static/{file.name}", file.read_bytes())
        site.remove_old_files()
    except OSError as error:
        name = printable(error.filename or site.folder)
        raise SelaviError(f"{name} cannot be written: {error.strerror or error}") from error
    labels = final_labels(collection)
    write_csv(labels, site.folder / "labels.csv")
    write_json(labels, site.folder / "labels.json")
    page = render_page({"mode": "exported", "token": "", "title": collection.title, "previews": previews})
    site.write("index.html", page.encode())
    return site.folder / "index.html", missing


def _prepare(folder: Path) -> Path:
    """Create the folder, or check that it is an earlier export."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / SITE_MARKER).exists():
            raise InputError(f"--export {printable(folder)} holds other files; name a new or an empty folder")
        with replacing(folder / SITE_MARKER, "w", encoding="utf-8") as out:
            json.dump({"format": "selavi browser", "version": 1}, out)
        for part in _PARTS:
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "index.html").unlink(missing_ok=True)  # until all its parts are written
    except OSError as error:
        raise InputError(f"--export {printable(folder)} cannot be made: {error.strerror or error}") from error
    return folder


class _SiteFolder:
    """The folder of an exported page, and the list of files written to it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._written: set[Path] = set()

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        with replacing(self._new(name)) as file:
            file.write(content)

    def write_script(self, name: str, payload: Payload) -> None:
        """Write data as a script, as a page opened from disk can load nothing else."""
        self.write(f"data/{name}.js", b"selaviData(" + json.dumps(name).encode() + b"," + encoded(payload) + b");\n")

    def add_file(self, source: Path | bytes, name: str) -> None:
        """Write a file from bytes or from another file, as a hard link where possible."""
        if isinstance(source, bytes):
            self.write(name, source)
            return
        target = self._new(name)
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

    def remove_old_files(self) -> None:
        """Remove files of an earlier export that were not written again."""
        for part in _PARTS:
            for file in (self.folder / part).iterdir():
                if file not in self._written and not file.is_dir():
                    file.unlink()

    def _new(self, name: str) -> Path:
        path = self.folder / name
        self._written.add(path)
        return path


def _write_thumbnails(site: _SiteFolder, thumbnails: ThumbnailCache, N: int, previews: bool) -> set[int]:
    """Write thumbnails and optionally previews, and return the rows of videos with a preview."""
    with_preview = set()
    for row in range(N):
        site.add_file(thumbnails.thumbnail(row), f"media/thumbnail/{row}.webp")
        preview = thumbnails.preview(row) if previews else None
        if preview is not None:
            site.add_file(preview, f"media/preview/{row}.mp4")
            with_preview.add(row)
    return with_preview


def _write_data(
    site: _SiteFolder, collection: Collection, map_maker: MapMaker, with_preview: set[int], progress: Progress
) -> None:
    site.write_script("collection", collection_payload(collection))
    site.write_script("annotations", annotations_payload(collection.annotations.read(), collection.rows))
    for name in collection.labels.titles:
        site.write_script(f"labelling-{name}", labelling_payload(collection, name))
    if collection.features_file is not None:
        site.write_script("map", map_maker.wait(lambda done, total: progress("map", done, total)))
    for number, chunk in enumerate(_details(collection, with_preview)):
        site.write_script(f"videos-{number}", chunk)
        progress("details", min(len(collection), (number + 1) * CHUNK), len(collection))


def _details(collection: Collection, with_preview: set[int]) -> Iterator[Payload]:
    """Yield the details of all videos, in chunks."""
    posterior_index = collection.posterior_index
    near = None if posterior_index is None else posterior_index.all_neighbours(NEAREST)
    for start in range(0, len(collection), CHUNK):
        stop = min(start + CHUNK, len(collection))
        posteriors: dict[str, NDArray[np.float32]] = {}
        if posterior_index is not None:
            posteriors = posterior_index.posteriors(slice(start, stop))
        yield {
            str(row): video_payload(
                collection, row, posteriors, row - start, {} if near is None else near[row], row in with_preview
            )
            for row in range(start, stop)
        }
