"""Lists of the videos of published data sets, from the annotation files that they are distributed with."""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from selavi_ref.datasets.manifest import Manifest, ManifestEntry, find_videos
from selavi_ref.datasets.video_files import VideoFiles
from selavi_ref.errors import FilePath, InputError, printable, reason

LAYOUTS = ("vggsound", "kinetics", "kinetics-sound", "ave", "ucf101", "hmdb51")
SILENT_LAYOUTS = frozenset({"ucf101", "hmdb51"})  # mostly without audio: their videos need video only


@dataclass(frozen=True)
class _Annotated:
    """One video of a list: possible stems of its file, the likeliest first, and its path if it is missing."""

    stems: list[str]
    missing_path: str
    class_name: str
    split: str


@dataclass(frozen=True)
class _ListFormat:
    """Reader, usual names and splits of the lists of a data set; N in a name stands for the number of a fold."""

    read: Callable[[str], Iterator[_Annotated]]
    usual: str
    names: str
    splits: tuple[str, ...] = ("train", "val", "test")
    folds: int = 1


def list_layout(
    videos: FilePath, layout: str, *, annotations: FilePath | None = None, split: str | None = None, fold: int = 1
) -> Manifest:
    """
    List the videos of a published data set with their classes and splits, without opening them.

    Each annotated video appears once: splits in the order train, val, test, and in the order of the lists within each.
    Its file may be at any depth of the folder, with any extension of a video. If several files have its name, the one
    in a folder with the name of its class is used, else the first. A video without file is kept, as skipped. A video
    that is annotated twice (some of AVE have two classes), or whose file another one has taken, keeps its first class
    and split, whether or not `split` is given. Files that no list names are omitted.

    Parameters
    ----------
    videos
        The folder with the video files.
    layout
        One of `LAYOUTS`. The test split of ``kinetics`` may have no classes; ``kinetics-sound`` is its 32 sounding
        classes; without annotation files, folders with the names of classes, also in folders of splits. Videos of
        ``ave`` that only ``Annotations.txt`` names have no split. ``ucf101`` is checked with the ``classInd.txt``
        beside its lists. Unused videos of a fold of ``hmdb51`` are omitted.
    annotations
        The folder of the annotation files, or the only one of them to read; by default they are searched in
        `videos`, in its parent, and in subfolders of both with usual names.
    split
        List only ``train``, ``val`` or ``test``; by default all splits.
    fold
        Which of the three divisions of ``ucf101`` and ``hmdb51``.

    Raises
    ------
    InputError
        If there is no such folder, layout, split or fold, no list, an empty one, or a line that cannot be parsed.
    """
    if layout not in _FORMATS:
        known = ", ".join(LAYOUTS)
        raise InputError(f"unknown layout {printable(layout)}; expected {known}", option="layout", value=layout)
    list_format = _FORMATS[layout]
    if split is not None and split not in list_format.splits:
        known = ", ".join(list_format.splits)
        raise InputError(f"{layout} has no split {printable(split)}; expected {known}", option="split", value=split)
    if not 1 <= fold <= list_format.folds:
        folds = "1" if list_format.folds == 1 else f"1 to {list_format.folds}"
        raise InputError(f"{layout} has no fold {fold}; expected {folds}", option="fold", value=fold)
    if not os.path.isdir(videos):
        raise InputError(
            f"{printable(videos)} is not a folder; expected the one with the videos of {layout}", path=videos
        )
    root = os.path.abspath(videos)
    if layout == "kinetics-sound" and annotations is None and (entries := _sounding_folders(root, split)):
        return Manifest(entries, root)
    lists = _find_lists(layout, root, annotations, fold)
    annotated = [video for path in lists for video in list_format.read(path)]
    annotated.sort(key=lambda video: (*list_format.splits, "").index(video.split))
    entries = [entry for entry in _match(annotated, root) if split in (None, entry.split)]
    if not entries:
        source, which = ", ".join(map(printable, lists[:3])), "" if split is None else f" of the split {split}"
        text = f"no video{which} in {source}; expected the annotations of {layout}"
        raise InputError(text, option="annotations", path=lists[0])
    return Manifest(entries, root)


def _sounding_folders(root: str, split: str | None) -> list[ManifestEntry]:
    """Return the videos in folders with the names of the sounding classes, unless there are annotation files."""
    with suppress(InputError):
        _find_lists("kinetics-sound", root, None, 1)
        return []
    with suppress(InputError):
        class_names = {_plain(name) for name in _SOUND_CLASSES.split(",")}
        return [
            entry
            for entry in find_videos(root)
            if _plain(entry.class_name) in class_names and split in (None, entry.split)
        ]
    return []


def _find_lists(layout: str, root: str, annotations: FilePath | None, fold: int) -> list[str]:
    """Return the annotation files in the first folder that has any, or the given file."""
    list_format = _FORMATS[layout]
    usual = list_format.usual.replace("N.", f"{fold}.")
    names = re.compile(list_format.names.replace("N", str(fold)), re.IGNORECASE)
    folders = [root, os.path.dirname(os.path.abspath(root))]
    if annotations is not None:
        folders = [os.fspath(annotations)]
        if os.path.isfile(folders[0]):
            if list_format.folds > 1 and not names.fullmatch(os.path.basename(folders[0])):
                raise InputError(
                    f"{printable(folders[0])} is no list of fold {fold} of {layout}; expected {usual}", path=folders[0]
                )
            return folders
    for folder in (os.path.join(parent, below) for parent in folders for below in ("", *_FOLDERS)):
        with suppress(OSError):  # most of these folders do not exist
            lists = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if names.fullmatch(name)]
            if lists:
                return _check_one_version(lists) if layout.startswith("kinetics") else lists
    raise InputError(
        f"no annotations of {layout}: looked for {usual} in {' and '.join(map(printable, folders))}, and in folders "
        f"there called {', '.join(_FOLDERS)}; name the file or its folder by --annotations",
        option="annotations",
        path=folders[0],
    )


def _check_one_version(lists: list[str]) -> list[str]:
    """Refuse a folder with lists of several versions, such as Kinetics-400 and Kinetics-600."""
    if len(set(map(_split_of, lists))) < len(lists):
        several = f"{printable(os.path.dirname(lists[0]))} holds {', '.join(map(os.path.basename, lists))}"
        text = f"{several}; expected one list of each split: name one, or a folder of them, by --annotations"
        raise InputError(text, option="annotations", path=os.path.dirname(lists[0]))
    return lists


def _match(annotated: Iterable[_Annotated], root: str) -> Iterator[ManifestEntry]:
    """Yield an entry with the file of each annotated video, once per file."""
    root = root.rstrip(os.sep) or os.sep
    files: defaultdict[str, list[str]] = defaultdict(list)
    for path in VideoFiles(root):
        files[_stem(path)].append(path)
    taken: set[str] = set()
    for video in annotated:
        missing_path = os.path.join(root, video.missing_path)
        path = _best_file(video, files)
        if missing_path not in taken and path not in taken:
            taken.update(filter(None, (missing_path, path)))
            skipped = "" if path else "not in the folder"
            yield ManifestEntry(path or missing_path, video.class_name, split=video.split, skipped=skipped)


def _best_file(video: _Annotated, files: dict[str, list[str]]) -> str:
    """Return the file of a video, preferably in a folder with the name of its class; "" if there is none."""
    folder = _plain(video.class_name)
    for stem in video.stems:
        if stem in files:
            return min(files[stem], key=lambda path: (_plain(os.path.basename(os.path.dirname(path))) != folder, path))
    return ""


def _read_vggsound(path: str) -> Iterator[_Annotated]:
    for number, line in _lines(path):
        cells = _cells(path, number, line)
        if number == 1 and cells[-1].lower().endswith("split"):  # some copies have a header
            continue
        if len(cells) != 4 or not cells[2] or cells[3] not in ("train", "test"):
            raise _damaged(path, number, line, "youtube id, start second, label, and train or test")
        yield _clip(path, number, cells[0], cells[1:2], cells[2], cells[3])


def _read_kinetics(path: str) -> Iterator[_Annotated]:
    lines = _lines(path)
    number, line = next(lines, (1, ""))
    header = [_plain(cell) for cell in _cells(path, number, line)]
    if "youtubeid" not in header:
        raise _damaged(path, number, line, "a header such as label,youtube_id,time_start,time_end,split")
    for number, line in lines:
        cells = _cells(path, number, line)
        if len(cells) != len(header):
            raise _damaged(path, number, line, f"{len(header)} cells as in the header")
        row = dict(zip(header, cells, strict=True))
        split = _KINETICS_SPLITS.get((row.get("split") or _split_of(path)).lower())
        if split is None:
            raise _damaged(path, number, line, f"one of the splits {', '.join(filter(None, _KINETICS_SPLITS))}")
        times = [row[column] for column in ("timestart", "timeend") if row.get(column)]
        yield _clip(path, number, row["youtubeid"], times, row.get("label", ""), split)


def _read_kinetics_sound(path: str) -> Iterator[_Annotated]:
    class_names = {_plain(name) for name in _SOUND_CLASSES.split(",")}
    return (video for video in _read_kinetics(path) if _plain(video.class_name) in class_names)


def _read_ave(path: str) -> Iterator[_Annotated]:
    for number, parts in _parse(path, r"(.+)&([^&]+)(&[^&]*){3}", "Category&VideoID&Quality&StartTime&EndTime"):
        if parts[2] != "VideoID":
            yield _clip(path, number, parts[2].strip(), [], parts[1].strip(), _split_of(path))


def _read_ucf101(path: str) -> Iterator[_Annotated]:
    index = os.path.join(os.path.dirname(path), "classInd.txt")
    classes = {}
    if os.path.exists(index):
        for _, parts in _parse(index, r"([0-9]{1,4})\s+(\S+)", "the number and the name of a class"):
            classes[_plain(parts[2])] = int(parts[1]), parts[2]
    for number, parts in _parse(path, r"([^/\s]+)/([^/\s]+)(?:\s+([0-9]{1,4}))?", "Class/video.avi and a number"):
        class_name, name, label = parts.groups()
        known, class_name = classes.get(_plain(class_name), (None, class_name))
        if classes and (known is None or (label and int(label) != known)):
            what = "has no such class" if known is None else f"gives {class_name} the number {known}"
            raise _damaged(path, number, parts[0], f"what agrees with {printable(index)}, which {what}")
        yield _Annotated([_stem(name)], f"{class_name}/{name}", class_name, _split_of(path))


def _read_hmdb51(path: str) -> Iterator[_Annotated]:
    class_name = re.sub(r"_test_split[0-9]\.txt$", "", os.path.basename(path), flags=re.IGNORECASE)
    for _, parts in _parse(path, r"([^/]+?)\s+([012])", "video.avi and 1 (train), 2 (test) or 0 (unused)"):
        split = {"1": "train", "2": "test"}.get(parts[2])
        if split is not None:
            yield _Annotated([_stem(parts[1])], f"{class_name}/{parts[1]}", class_name, split)


def _clip(path: str, number: int, name: str, times: list[str], class_name: str, split: str) -> _Annotated:
    """Return a YouTube video; its file has the seconds in its name (padded or not), or is the whole video."""
    matches = [re.fullmatch(r"([0-9]{1,9})(\.[0-9]*)?", time) for time in times]
    seconds = [int(time[1]) for time in matches if time]
    if not name or "/" in name or len(seconds) != len(times):
        raise _damaged(path, number, ",".join([name, *times]), "the id of a video, and times in seconds")
    stems = ["_".join([name, *(f"{second:0{width}d}" for second in seconds)]) for width in (6, 1)]
    return _Annotated([*stems, name], f"{stems[0]}.mp4", class_name, split)


def _parse(path: str, pattern: str, expected: str) -> Iterator[tuple[int, re.Match[str]]]:
    """Yield the numbers and matches of the lines of a list, all of which must match a regular expression."""
    for number, line in _lines(path):
        parts = re.fullmatch(pattern, line)
        if parts is None:
            raise _damaged(path, number, line, expected)
        yield number, parts


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a list that are not blank, with their numbers."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            yield from ((number, line.strip()) for number, line in enumerate(file, 1) if line.strip())
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read: {reason(error)}", path=path) from error


def _cells(path: str, number: int, line: str) -> list[str]:
    """Return the cells of one line of a CSV file; an unclosed quotation does not swallow the lines that follow."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True))]
    except csv.Error as error:
        raise _damaged(path, number, line, f"cells separated by commas ({error})") from error


def _damaged(path: str, number: int, line: str, expected: str) -> InputError:
    shown = line if len(line) <= 80 else f"{line[:80]}..."
    text = f'{printable(path)}, line {number}: found "{printable(shown)}"; expected {expected}'
    return InputError(text, path=path, row=number - 1)


def _split_of(path: str) -> str:
    """Return the split in the name of a list, or ""."""
    match = re.search(r"(?<![a-z])(train|val|test)", os.path.basename(path).lower())
    return match[0] if match else ""


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _plain(name: str) -> str:
    """Return letters and digits in lower case: folders write classes with spaces or underscores, in any case."""
    return "".join(filter(str.isalnum, name.casefold()))


_SOUND_CLASSES = (
    "blowing nose, blowing out candles, bowling, chopping wood, dribbling basketball, laughing, mowing lawn, "
    "playing accordion, playing bagpipes, playing bass guitar, playing clarinet, playing drums, playing guitar, "
    "playing harmonica, playing keyboard, playing organ, playing piano, playing saxophone, playing trombone, "
    "playing trumpet, playing violin, playing xylophone, ripping paper, shoveling snow, shuffling cards, singing, "
    "stomping grapes, strumming guitar, tap dancing, tapping guitar, tapping pen, tickling"
)
_KINETICS_SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test", "": ""}
_KINETICS = _ListFormat(
    _read_kinetics,
    "train.csv, val.csv (or validate.csv) and test.csv, also as kinetics400_train.csv or the like",
    r"(kinetics[-_]?([0-9]+([-_][0-9]+)?)?[-_])?(train|val|validate|validation|test)\.csv",
)
_FORMATS = {
    "vggsound": _ListFormat(_read_vggsound, "vggsound.csv", r"vggsound\.csv", ("train", "test")),
    "kinetics": _KINETICS,
    "kinetics-sound": replace(_KINETICS, read=_read_kinetics_sound),
    "ave": _ListFormat(
        _read_ave, "trainSet.txt, valSet.txt, testSet.txt or Annotations.txt", r"((train|val|test)set|annotations)\.txt"
    ),
    "ucf101": _ListFormat(
        _read_ucf101, "trainlist0N.txt and testlist0N.txt", r"(train|test)list0N\.txt", ("train", "test"), folds=3
    ),
    "hmdb51": _ListFormat(
        _read_hmdb51, "CLASS_test_splitN.txt of each class", r".+_test_splitN\.txt", ("train", "test"), folds=3
    ),
}
_FOLDERS = (  # in which archives and common tools put annotations
    *("annotations", "data", "splits", "AVE_Dataset", "ucfTrainTestlist"),
    *("testTrainMulti_7030_splits", "test_train_splits", "kinetics400", "kinetics600", "kinetics700"),
)
