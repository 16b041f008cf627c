"""Labels for programs in which people look at videos and correct labels: FiftyOne, Label Studio, CVAT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from selavi_ref.errors import FilePath
from selavi_ref.report.interchange.labelled_videos import LabelledVideos, refuse_existing, replacing_folder
from selavi_ref.report.links import Names
from selavi_ref.runs.atomic import replacing
from selavi_ref.runs.csv_file import without_surrogates

_NO_FRAMES = "frames/none.json"
_COLOURS = (
    "#4e79a7",
    "#f28e2b",
    "#59a14f",
    "#e15759",
    "#76b7b2",
    "#edc948",
    "#b07aa1",
    "#ff9da7",
    "#9c755f",
    "#86bcb6",
)


def write_fiftyone(videos: LabelledVideos, out: FilePath, *, force: bool = False) -> int:
    """
    Write a folder that FiftyOne imports as ``fiftyone.types.FiftyOneDataset``, and return the number of samples.

    Each video is a sample with the fields ``label`` (a Classification with confidence), ``cluster``, ``learnt``,
    ``runner_up`` and, where it is known, ``ground_truth``; those that a person has moved or marked as wrong have this
    as a tag, as have those without a label. The layout is that of samples without frames, which every version of
    FiftyOne reads; videos stay where they are.

    Parameters
    ----------
    videos : LabelledVideos
        The videos.
    out : path
        The folder.
    force : bool
        Replace a folder that an export has made.

    Raises
    ------
    InputError
        If the folder must not be replaced.
    """
    labels = videos.labels
    names = list(videos.classes.values())
    fields = {"label": "Classification", "ground_truth": "Classification"}
    samples = []
    for row, file in enumerate(videos.files):
        name = videos.class_of(row)
        mark = labels.mark[row] if name else "unlabelled"
        sample: dict[str, Any] = {
            "filepath": without_surrogates(file),
            "tags": [mark] if mark else [],
            "metadata": None,
            "cluster": int(labels.cluster[row]),
            "learnt": int(labels.learnt[row]),
            "runner_up": int(labels.runner_up[row]),
            "label": _classification(name, videos.confidence_of(row)),
            "frames": _NO_FRAMES,
        }
        if any(labels.classes):
            sample["ground_truth"] = _classification(without_surrogates(labels.classes[row]), None)
        samples.append(sample)
    info = {"classes": names, "source": without_surrogates(labels.source), "label_fields": fields}
    with replacing_folder(out, force) as folder:
        (folder / "frames").mkdir()
        _dump(folder / "metadata.json", {"media_type": "video", "info": info})
        _dump(folder / "samples.json", {"samples": samples})
        _dump(folder / _NO_FRAMES, {"frames": {}})
    return len(samples)


def _classification(name: str, confidence: float | None) -> dict[str, Any] | None:
    if not name:
        return None
    return {"_cls": "Classification", "tags": [], "label": name, "confidence": confidence}


def write_label_studio(videos: LabelledVideos, out: FilePath, *, force: bool = False) -> int:
    """
    Write tasks for Label Studio as JSON, and beside it the labelling interface (.xml); return the number of tasks.

    Each task has the label as a prediction with its confidence. Videos are addressed as Label Studio's local files,
    ``/data/local-files/?d=PATH`` with PATH relative to the root of the file system.

    Parameters
    ----------
    videos, force
        See `write_fiftyone`.
    out : path
        The tasks; a file ending in .json.

    Raises
    ------
    InputError
        If one of the files exists.
    """
    interface = Path(out).with_suffix(".xml")
    for path in (out, interface):
        refuse_existing(path, force)
    tasks = []
    for row, file in enumerate(videos.files):
        name, confidence = videos.class_of(row), videos.confidence_of(row)
        address = quote(file.lstrip("/"), safe="/", errors="surrogateescape")
        task: dict[str, Any] = {
            "data": {
                "video": f"/data/local-files/?d={address}",
                "path": without_surrogates(videos.labels.paths[row]),
                "cluster": int(videos.labels.cluster[row]),
                "mark": videos.labels.mark[row],
            }
        }
        if name:
            result = {"from_name": "label", "to_name": "video", "type": "choices", "value": {"choices": [name]}}
            prediction: dict[str, Any] = {"model_version": "selavi-ref", "result": [result]}
            task["predictions"] = [prediction | ({} if confidence is None else {"score": confidence})]
        tasks.append(task)
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Video", name="video", value="$video")
    choices = ElementTree.SubElement(view, "Choices", name="label", toName="video", choice="single", showInline="true")
    for name in videos.classes.values():
        ElementTree.SubElement(choices, "Choice", value=_xml_text(name))
    with replacing(out, "w", encoding="utf-8") as file_:
        json.dump(tasks, file_, indent=1)
    with replacing(interface) as file_:
        ElementTree.ElementTree(view).write(file_, encoding="utf-8")
    return len(tasks)


def write_cvat(videos: LabelledVideos, out: FilePath, *, force: bool = False) -> int:
    """
    Write a folder for CVAT: its labels, and for each video with a label the annotations of a task; return their number.

    ``labels.json`` are CVAT's labels of the type tag; ``annotations/NAME.xml`` (CVAT for images 1.1) tags the first
    frame of one video; ``tasks.csv`` says which annotations belong to which video.

    Parameters
    ----------
    videos, out, force
        See `write_fiftyone`.

    Raises
    ------
    InputError
        If the folder must not be replaced.
    """
    from selavi_ref.runs.csv_file import write_rows

    colours = {name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(videos.classes.values())}
    names, rows = Names(), []
    with replacing_folder(out, force) as folder:
        (folder / "annotations").mkdir()
        _dump(
            folder / "labels.json",
            [{"name": name, "color": colour, "type": "tag", "attributes": []} for name, colour in colours.items()],
        )
        for row, file in enumerate(videos.files):
            name = videos.class_of(row)
            if not name or videos.labels.mark[row] == "wrong":
                continue
            annotation = f"annotations/{names.take(f'{Path(file).name}.xml', ending=True)}"
            _cvat_task(videos, row, name).write(folder / annotation, encoding="utf-8", xml_declaration=True)
            rows.append([file, annotation, name])
        with open(folder / "tasks.csv", "w", encoding="utf-8", errors="surrogateescape", newline="") as table:
            write_rows(table, ["path", "annotations", "label"], rows, ("path", "annotations"))
    return len(rows)


def _cvat_task(videos: LabelledVideos, row: int, name: str) -> ElementTree.ElementTree[ElementTree.Element]:
    """Return the annotations of one video: its first frame has a tag."""
    info = videos.info_of(row)
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    size = {} if info is None else {"width": str(info.width), "height": str(info.height)}
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    ElementTree.SubElement(task, "name").text = _xml_text(without_surrogates(Path(videos.files[row]).name))
    ElementTree.SubElement(task, "mode").text = "annotation"
    label = ElementTree.SubElement(ElementTree.SubElement(task, "labels"), "label")
    ElementTree.SubElement(label, "name").text = _xml_text(name)
    ElementTree.SubElement(label, "type").text = "tag"
    if size:
        original = ElementTree.SubElement(task, "original_size")
        for side, pixels in size.items():
            ElementTree.SubElement(original, side).text = pixels
    image = ElementTree.SubElement(root, "image", {"id": "0", "name": "frame_000000", **size})
    ElementTree.SubElement(image, "tag", {"label": _xml_text(name), "source": "auto"})
    return ElementTree.ElementTree(root)


def _xml_text(text: str) -> str:
    """Return a text without the characters that XML cannot hold."""
    return "".join(c for c in text if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff"))


def _dump(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
