"""Labelled videos as data sets for training: like COCO, a VideoFolder of Hugging Face's, and shards of WebDataset."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from selavi_ref.errors import FilePath, InputError, printable
from selavi_ref.report.interchange.labelled_videos import LabelledVideos, refuse_existing, replacing_folder
from selavi_ref.report.links import way_of_linking
from selavi_ref.runs.atomic import replacing
from selavi_ref.runs.csv_file import without_surrogates, write_rows
from selavi_ref.runs.reporter import SILENT, Reporter

SHARD_BYTES = 1 << 30


def write_coco(videos: LabelledVideos, out: FilePath, *, force: bool = False) -> int:
    """
    Write labels as JSON in the manner of COCO: ``videos``, ``categories`` (clusters), ``annotations``.

    ``images`` lists the same files for programs that know pictures only (such as pycocotools and Datumaro): their names
    are relative to the common folder of all files, ``info.folder``. Numbers of categories are those of the clusters
    plus 1, as COCO's begin at 1. All videos are listed; those that have no label, or are marked as wrong, have no
    annotation. ``score`` is the confidence.

    Parameters
    ----------
    videos : LabelledVideos
        The videos.
    out : path
        The file.
    force : bool
        Replace an existing one.

    Returns
    -------
    int
        Number of annotations.

    Raises
    ------
    InputError
        If the file exists.
    """
    refuse_existing(out, force)
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row, file in enumerate(videos.files):
        entry: dict[str, Any] = {"id": row + 1, "file_name": without_surrogates(file)}
        if (info := videos.info_of(row)) is not None:
            entry |= {"width": info.width, "height": info.height, "seconds": info.seconds, "fps": info.fps}
            entry["length"] = round(info.video_seconds * info.fps)
        listed.append(entry)
        if videos.class_of(row) and videos.labels.mark[row] != "wrong":
            annotation: dict[str, Any] = {"id": len(annotations) + 1, "video_id": row + 1, "image_id": row + 1}
            annotation["category_id"] = int(videos.labels.cluster[row]) + 1
            score = videos.confidence_of(row)  # none of a video that a person has moved
            annotations.append(annotation | ({} if score is None else {"score": score}))
    files = [os.path.abspath(file) for file in videos.files]
    common = os.path.commonpath(map(os.path.dirname, files)) if files else ""
    images = [
        entry | {"file_name": without_surrogates(Path(os.path.relpath(file, common)).as_posix())}
        for entry, file in zip(listed, files, strict=True)
    ]
    content = {
        "info": {
            "description": "labels of selavi-ref",
            "folder": without_surrogates(common),
            "source": without_surrogates(videos.labels.source),
            "date_created": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "licenses": [],
        "categories": [{"id": k + 1, "name": name, "supercategory": "cluster"} for k, name in videos.classes.items()],
        "videos": listed,
        "images": images,
        "annotations": annotations,
    }
    with replacing(out, "w", encoding="utf-8") as target:
        json.dump(content, target, indent=1)
    return len(annotations)


def write_video_folder(videos: LabelledVideos, out: FilePath, *, copy: bool = False, force: bool = False) -> int:
    """
    Write a folder that Hugging Face's ``load_dataset("videofolder", data_dir=...)`` reads; return the number of videos.

    ``videos`` has links to the videos or copies of them, called by their number, for Hugging Face takes words such as
    "test" in names for splits; ``metadata.csv`` has the columns ``file_name``, ``label`` (name of the cluster),
    ``cluster``, ``confidence``, ``path`` (where the video was) and, if known, ``class``. Videos that are missing, have
    no label, or are marked as wrong are left out.

    Parameters
    ----------
    videos, force
        See `write_coco`.
    out : path
        The folder.
    copy : bool
        Copy the videos, for a folder that is to be moved or uploaded; by default they are linked.

    Raises
    ------
    InputError
        If the folder must not be replaced, there is no video, or no links can be made.
    """
    rows = _to_learn_from(videos)
    known = any(videos.labels.classes)
    with replacing_folder(out, force) as folder:
        put = _copied if copy else way_of_linking(folder, [videos.files[row] for row in rows], Path(out))[1]
        (folder / "videos").mkdir()
        with open(folder / "metadata.csv", "w", encoding="utf-8", newline="") as table:
            columns = ["file_name", "label", "cluster", "confidence", "path", *(["class"] if known else [])]
            write_rows(table, columns, _video_folder_rows(videos, rows, folder, put, known), ("path",))
    return len(rows)


def _video_folder_rows(
    videos: LabelledVideos, rows: list[int], folder: Path, put: Callable[[str, Path], None], known: bool
) -> Iterator[list[Any]]:
    """Put videos into a folder, and yield what the table says of each."""
    labels = videos.labels
    for row in rows:
        place = f"videos/{row:09d}{_ending(videos.files[row])}"
        put(os.path.abspath(videos.files[row]), folder / place)
        cells = [place, videos.class_of(row), int(labels.cluster[row]), videos.confidence_of(row)]
        cells.append(without_surrogates(labels.paths[row]))
        yield [*cells, *([without_surrogates(labels.classes[row])] if known else [])]


def write_webdataset(
    videos: LabelledVideos,
    out: FilePath,
    *,
    force: bool = False,
    shard_bytes: int = SHARD_BYTES,
    reporter: Reporter = SILENT,
) -> int:
    """
    Write shards of WebDataset, with copies of the videos and their labels; return the number of videos.

    ``shard-000000.tar`` and so on hold, for each video, ``KEY.mp4`` (or its own ending), ``KEY.cls``, the cluster
    numbered from 0 in the order of ``classes.json``, and ``KEY.json`` with name, cluster, confidence and path. Videos
    that are missing, have no label, or are marked as wrong are left out.

    Parameters
    ----------
    videos, out, force
        See `write_video_folder`.
    shard_bytes : int
        A new shard begins when one has this size.
    reporter : Reporter
        Receives progress.

    Raises
    ------
    InputError
        If the folder must not be replaced, or there is no video.
    """
    rows = _to_learn_from(videos)
    numbers = {k: number for number, k in enumerate(videos.classes)}
    shard: tarfile.TarFile | None = None
    n_shards = 0
    with replacing_folder(out, force) as folder, reporter.bar(len(rows), "writing", "video") as bar:
        try:
            for row in rows:
                if shard is None or shard.offset >= shard_bytes:
                    if shard is not None:
                        shard.close()
                    shard = tarfile.open(folder / f"shard-{n_shards:06d}.tar", "w")  # noqa: SIM115
                    n_shards += 1
                cluster = int(videos.labels.cluster[row])
                about = {
                    "name": videos.class_of(row),
                    "cluster": cluster,
                    "confidence": videos.confidence_of(row),
                    "path": without_surrogates(videos.labels.paths[row]),
                }
                key = f"{row:09d}"
                member = tarfile.TarInfo(key + _ending(videos.files[row]))
                with open(videos.files[row], "rb") as file:
                    member.size = os.fstat(file.fileno()).st_size
                    shard.addfile(member, file)
                _add(shard, f"{key}.cls", str(numbers[cluster]))
                _add(shard, f"{key}.json", json.dumps(about))
                bar.update(1)
        finally:
            if shard is not None:
                shard.close()
        (folder / "classes.json").write_text(json.dumps(list(videos.classes.values()), indent=1), encoding="utf-8")
    return len(rows)


def _to_learn_from(videos: LabelledVideos) -> list[int]:
    if not videos.usable:
        why = f", such as {printable(videos.files[0])}" if len(videos) else ""
        raise InputError(
            f"none of the {len(videos)} videos exists and has a label{why}; name the folder that they are in by "
            "--videos",
            option="videos",
        )
    return videos.usable


def _ending(file: str) -> str:
    return os.path.splitext(file)[1].lower() or ".mp4"


def _add(shard: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode()
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, BytesIO(content))


def _copied(source: str, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(error.errno, f"{error.strerror}; links need no space: leave out --copy") from error
        raise
