"""Labels of a collection in the forms of other programs, by the name of the form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.browser.collection import Collection
from selavi_ref.browser.final_labels import final_labels
from selavi_ref.errors import FilePath, InputError, SelaviError, printable
from selavi_ref.media.segments import segment_of
from selavi_ref.report.interchange.annotation_tools import write_cvat, write_fiftyone, write_label_studio
from selavi_ref.report.interchange.labelled_videos import LabelledVideos, refuse_existing, refuse_existing_folder
from selavi_ref.report.interchange.training_sets import write_coco, write_video_folder, write_webdataset
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore

# Name of a form -> the function that writes it, and the ending of its file; "" for a folder.
_WRITERS: dict[str, tuple[Callable[..., int], str]] = {
    "fiftyone": (write_fiftyone, ""),
    "label-studio": (write_label_studio, ".json"),
    "cvat": (write_cvat, ""),
    "coco": (write_coco, ".json"),
    "videofolder": (write_video_folder, ""),
    "webdataset": (write_webdataset, ""),
}
FORMS = tuple(_WRITERS)
_WITH_COPIES, _WITH_PROGRESS = ("videofolder",), ("webdataset",)


def check_export(form: str, out: FilePath, *, force: bool = False) -> None:
    """
    Refuse an export that would replace something, before any work is done.

    Raises
    ------
    InputError
        If there is no such form, or the file or folder must not be replaced.
    """
    if form not in _WRITERS:
        raise InputError(f"there is no form {form!r}; there are {', '.join(FORMS)}", option="form", value=form)
    ending = _WRITERS[form][1]
    if not ending:
        refuse_existing_folder(out, force)
        return
    if Path(out).suffix.lower() != ending:
        raise InputError(f"--to {form} {printable(out)}: the name must end in {ending}", option="out", path=out)
    refuse_existing(out, force)


def export(
    collection: Collection,
    form: str,
    out: FilePath,
    *,
    labelling: str = "consensus",
    copy: bool = False,
    force: bool = False,
    reporter: Reporter = SILENT,
) -> int:
    """
    Write the labels of a collection, with all edits, in the form of another program.

    Parameters
    ----------
    collection : Collection
        From `selavi_ref.browser.collection.open_collection`.
    form : str
        One of `FORMS`; see `selavi_ref.report.interchange`.
    out : path
        The file or folder.
    labelling : str
        ``"consensus"``, or the number of a head.
    copy : bool
        Copy the videos instead of linking them, in a ``videofolder``.
    force : bool
        Replace an existing file, or a folder that an export has made.
    reporter : Reporter
        Receives progress.

    Returns
    -------
    int
        Number of videos, or of their labels, that were written.

    Raises
    ------
    InputError
        As `check_export`; if videos are segments, which these programs take for files; or if no video exists where
        the form holds videos.
    """
    check_export(form, out, force=force)
    if any(not segment_of(path).whole for path in collection.paths):
        raise InputError(
            f"--to {form} takes whole videos, not segments; cut them by --cut FOLDER, or write a table by --out",
            option="to",
            value=form,
        )
    videos = LabelledVideos(final_labels(collection, labelling), collection.files, collection.info)
    options: dict[str, Any] = {"copy": copy} if form in _WITH_COPIES else {}
    if form in _WITH_PROGRESS:
        options["reporter"] = reporter
    return _WRITERS[form][0](videos, out, force=force, **options)


def feature_spaces(collection: Collection) -> dict[str, NDArray[np.float32]]:
    """
    Return all features of a collection's videos, by feature space, shape (N, D), NaN where a video has none.

    They are those of its networks, those that it was labelled by, and those that ``selavi name --encoder`` computed.
    """
    run = Run(collection.source)
    stores = [collection.features_file]
    if run.config_file.exists() and (learnt_from := run.config.get("store")):
        stores.append(Path(learnt_from))
    stores += sorted(collection.encoded_folder.glob("*.h5"))
    spaces: dict[str, NDArray[np.float32]] = {}
    for path in stores:
        if path is None or not path.exists():
            continue
        try:
            with FeatureStore(path) as store:
                names = [name.removeprefix("features/") for name in store.names if name.startswith("features/")]
                new = {name: store.features(name) for name in names if name not in spaces}
                order = _rows_in(store.paths, collection)
        except SelaviError:
            continue  # an interrupted extraction
        for name, features in new.items():
            spaces[name] = np.where(order[:, None] >= 0, features[order], np.nan).astype(np.float32)
    return spaces


def _rows_in(paths: list[str], collection: Collection) -> NDArray[np.int64]:
    """Return the row of each of a collection's videos in a store; -1 where it has none."""
    rows = {path: row for row, path in enumerate(paths)}
    return np.array(
        [rows.get(path, rows.get(file, -1)) for path, file in zip(collection.paths, collection.files, strict=True)],
        np.int64,
    )
