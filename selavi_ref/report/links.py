"""Labels as a tree of folders: one for each cluster, with a link to each of its videos, under names safe everywhere."""

from __future__ import annotations

import errno
import math
import os
import re
import secrets
import shutil
import stat
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from selavi_ref.datasets.video_files import LINKS_MARKER
from selavi_ref.errors import FilePath, InputError, SelaviError, printable
from selavi_ref.media.segments import file_of, segment_of
from selavi_ref.report.export import FinalLabels, write_linked_csv

INDEX = "labels.csv"
WRONG, UNLABELLED = "_wrong", "_unlabelled"
_MADE = "selavi-ref made this folder of links, and replaces it when labels are exported again.\n"
_MOST_BYTES = 255  # of a file's name
_MOST_CLUSTER_BYTES = 120  # of a cluster's: paths have a longest length too
_LONGEST_ENDING = 32  # bytes
_FORBIDDEN = frozenset('<>:"/\\|?*')
_BIDI = frozenset(map(chr, (0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))  # of direction
_DEVICES = frozenset(  # names that Windows keeps for itself, with any ending
    ["con", "prn", "aux", "nul", "conin$", "conout$", *(f"{d}{n}" for d in ("com", "lpt") for n in "0123456789¹²³")]
)
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Links:
    """
    Result of `write_links`: the folder, and how many links it has.

    Parameters
    ----------
    folder
        The tree.
    links
        How many links it has.
    missing
        How many videos are missing: their symbolic links lead nowhere, hard ones are left out.
    kind
        ``"symbolic"`` or ``"hard"``.
    """

    folder: Path
    links: int
    missing: int
    kind: str


def write_links(finished: FinalLabels, folder: FilePath, *, files: Sequence[str] | None = None) -> Links:
    """
    Make a tree of links to the videos: a folder for each cluster, named as the cluster is or ``cluster-005``.

    Links are symbolic, to absolute paths; where the system makes none, hard. A link is named as its video, made safe on
    all systems, and ``-2`` is added where a name is taken. Videos that are marked as wrong lie in ``_wrong/CLUSTER/``
    instead, so that a program that takes the folders for classes is not misled; those without label in
    ``_unlabelled``. ``labels.csv`` says in its column ``link`` where each video lies.

    The tree is put in place whole. It replaces an earlier one, but nothing else.

    Parameters
    ----------
    finished
        The labels.
    folder
        The tree; new, empty, or made by this function.
    files
        Where the videos are, if not at their paths; relative ones start from where the program is.

    Raises
    ------
    InputError
        If there is something else in the folder, or the system makes no links in it.
    SelaviError
        If the tree cannot be written.
    """
    target = Path(os.path.abspath(folder))
    files = finished.paths if files is None else files
    with _one_at_a_time:
        _check_replaceable(target)
        new = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            new = target.parent / f".{safe_name(target.name, 100)}.{secrets.token_hex(4)}.partial"
            new.mkdir()
            (new / LINKS_MARKER).write_text(_MADE, encoding="utf-8")
            kind, link = way_of_linking(new, files, target)
            places = places_of(finished)
            for parent in {os.path.dirname(place) for place in places}:
                (new / parent).mkdir(parents=True, exist_ok=True)
            done = [_linked(link, path, new / place) for path, place in zip(files, places, strict=True)]
            write_linked_csv(finished, [p if made else "" for p, made in zip(places, done, strict=True)], new / INDEX)
            put_in_place(new, target)
        except OSError as error:
            raise SelaviError(
                f"{printable(target)} cannot be written: {error.strerror or error}", path=target
            ) from error
        finally:
            if new is not None:
                shutil.rmtree(new, ignore_errors=True)
    missing = sum(not is_regular_file(path) for path in files)
    return Links(target, sum(done), missing, kind)


def places_of(finished: FinalLabels) -> list[str]:
    """Return where in the tree each video's link lies: ``FOLDER/FILE`` or ``_wrong/FOLDER/FILE``, no two alike."""
    top = Names([WRONG, UNLABELLED, INDEX, LINKS_MARKER])
    names = {int(c): name for c, name in zip(finished.cluster, finished.name, strict=True) if c >= 0}
    folders = {}
    for cluster, name in sorted(names.items(), key=lambda item: (bool(item[1].strip()), item[0])):  # nameless first
        folders[cluster] = top.take(name if name.strip() else f"cluster-{cluster:03d}", _MOST_CLUSTER_BYTES)
    taken: dict[str, Names] = {}
    places = []
    for path, cluster, mark in zip(finished.paths, finished.cluster, finished.mark, strict=True):
        folder = folders.get(int(cluster), UNLABELLED)
        if mark == "wrong" and folder != UNLABELLED:
            folder = f"{WRONG}/{folder}"
        file = taken.setdefault(folder, Names()).take(_file_name(path), ending=True)
        places.append(f"{folder}/{file}")
    return places


def _file_name(path: str) -> str:
    """Return the name of a file; of a segment, with its times before the ending."""
    segment = segment_of(path)
    name = segment.file.replace("\\", "/").rpartition("/")[2]
    if segment.whole:
        return name
    stem, ending = os.path.splitext(name)
    return f"{stem}_{segment.start:g}-{'end' if segment.end == math.inf else f'{segment.end:g}'}{ending}"


class Names:
    """
    Gives out safe names, no two of which any file system takes for the same.

    Parameters
    ----------
    taken
        Names that are given out already.
    """

    def __init__(self, taken: Sequence[str] = ()) -> None:
        self._taken = {_folded(name) for name in taken}
        self._next: Counter[str] = Counter()  # the number to try next, so that many equal names take no long search

    def take(self, wanted: str, most_bytes: int = _MOST_BYTES, *, ending: bool = False) -> str:
        """Return a safe name like the one wanted, with a number added if it is taken; `ending`: before the ending."""
        name = first = safe_name(wanted, most_bytes, ending=ending)
        family = _folded(first)
        while _folded(name) in self._taken:
            self._next[family] += 1
            name = safe_name(first, most_bytes, ending=ending, mark=f"-{self._next[family] + 1}")
        self._taken.add(_folded(name))
        return name


def safe_name(wanted: str, most_bytes: int = _MOST_BYTES, *, ending: bool = False, mark: str = "") -> str:
    """
    Return a name for a file or folder that is safe on all systems, like the one wanted.

    Separators, control characters, marks of direction and what is no text become ``_``, as does what Windows forbids;
    there is no dot or hyphen in front, no dot or space at the end, and no name of a device.

    Parameters
    ----------
    wanted
        Any text.
    most_bytes
        Longest name, in bytes of UTF-8.
    ending
        Whether it ends in a kind of file (``.mp4``), which is kept when the name is shortened.
    mark
        What to add at the end, or before the ending.
    """
    text = "".join("_" if _is_unsafe(c) else c for c in unicodedata.normalize("NFC", wanted)).strip()
    stem, suffix = os.path.splitext(text) if ending else (text, "")
    if len(suffix.encode()) > _LONGEST_ENDING:
        stem, suffix = text, ""
    suffix = _trimmed(suffix)
    room = most_bytes - len(f"_{mark}{suffix}".encode())
    stem = _trimmed(stem.encode()[:room].decode(errors="ignore")) or "unnamed"
    if stem.partition(".")[0].rstrip().casefold() in _DEVICES or stem.startswith((".", "-")):
        stem = f"_{stem}"
    return f"{stem}{mark}{suffix}"


def _is_unsafe(character: str) -> bool:
    if character in _FORBIDDEN or character in _BIDI:
        return True
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _trimmed(text: str) -> str:
    """Take dots and spaces away from the end of a text."""
    return re.sub(r"[.\s]+\Z", "", text)


def _folded(name: str) -> str:
    """Return a name without the differences that some file systems ignore: case, composition, invisible characters."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    return "".join(c for c in plain if unicodedata.category(c) != "Cf")


def is_regular_file(path: str) -> bool:
    """Return whether a path leads to a file that can be read as one."""
    try:
        return stat.S_ISREG(os.stat(file_of(path)).st_mode)
    except (OSError, ValueError):  # the latter: a name that no file can have
        return False


def way_of_linking(folder: Path, paths: Sequence[str], target: Path) -> tuple[str, Callable[[str, Path], None]]:
    """Return a kind of link that the system makes in a folder, and how."""
    probe = folder / "probe"
    for kind, link in (("symbolic", os.symlink), ("hard", os.link)):
        sample = next(filter(is_regular_file, paths), None)
        try:
            link(os.path.abspath(file_of(sample)) if sample else folder / LINKS_MARKER, probe)
        except (OSError, NotImplementedError):
            continue
        probe.unlink()
        return kind, link
    raise InputError(f"{printable(target)}: no links can be made there; choose a folder beside the videos", path=target)


def _linked(link: Callable[[str, Path], None], path: str, place: Path) -> bool:
    """Make a link; return False if the path cannot have one."""
    if not path or "\0" in path:
        return False
    try:
        link(os.path.abspath(file_of(path)), place)
    except UnicodeEncodeError:
        return False
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ENOENT, errno.EXDEV):  # a hard link to a file that is not there
            return False
        raise
    return True


def _check_replaceable(folder: Path) -> None:
    """Raise InputError unless a folder is new, empty, or a tree of links with nothing in it that would be lost."""
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise InputError(f"{printable(folder)} is there already and is no folder; name another", path=folder)
    if not any(folder.iterdir()):
        return
    if not (folder / LINKS_MARKER).is_file():
        raise InputError(
            f"{printable(folder)} is there already and was not made by an export of links; name another", path=folder
        )
    for where, _, files in os.walk(folder):
        for file in files:
            path = Path(where, file)
            ours = Path(where) == folder and file in (LINKS_MARKER, INDEX)
            status = path.lstat()
            if not ours and not stat.S_ISLNK(status.st_mode) and status.st_nlink < 2:
                raise InputError(
                    f"{printable(path)} would be lost: it is no link; take it out of the folder of links", path=path
                )


def put_in_place(new: Path, target: Path) -> None:
    """Rename a new folder to `target`, in place of what is there; if that fails, the old one is put back."""
    if not target.exists():
        os.rename(new, target)
        return
    old = new.with_suffix(".old")
    os.rename(target, old)
    try:
        os.rename(new, target)
    except OSError:
        with suppress(OSError):
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
