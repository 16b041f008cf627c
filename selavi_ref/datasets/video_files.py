"""The media files of a folder: which extensions count, and which folders are not entered."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from selavi_ref.media.still import PICTURE_EXTENSIONS

LINKS_MARKER = ".selavi-links"  # file in a folder of links that this program made
SITE_MARKER = "selavi-browser.json"  # file in an exported page, which holds previews
VIDEO_EXTENSIONS = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv"),
    *(".ts", ".mts", ".m2ts", ".3gp", ".3g2", ".ogv", ".vob", ".mxf", ".asf", ".f4v", ".divx", ".dv"),
    *(".m2t", ".m2v", ".m1v", ".mpe", ".mpv", ".tp", ".trp", ".mod", ".tod", ".insv", ".360", ".lrv", ".qt", ".ogm"),
    *(".gif", ".rm", ".rmvb", ".xvid", ".wtv", ".nut", ".y4m", ".ivf", ".mjpeg", ".mjpg", ".h264", ".264", ".hevc"),
    *(".265", ".amv", ".nsv", ".mk3d", ".mp4v", ".3gpp", ".vro", ".evo", ".apng", ".av1", ".obu"),
)
SOUND_EXTENSIONS = (".wav", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma")
FILE_TYPES = {"videos": VIDEO_EXTENSIONS, "sounds": SOUND_EXTENSIONS, "pictures": PICTURE_EXTENSIONS}
MODALITIES_OF_TYPES = {"videos": {"video", "audio"}, "sounds": {"audio"}, "pictures": {"video"}}
LIST_EXTENSIONS = (".csv", ".tsv", ".txt", ".lst")  # extensions of list files
_RUN_FILES = {"config.toml", "checkpoints"}  # by which the folder of a run is known
_SYSTEM_FOLDERS = frozenset(  # thumbnails and deleted files of network disks and operating systems, in lower case
    {"@eadir", "@recycle", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "recycler", "system volume information"}
    | {"lost+found", "__macosx"}
)
_SYSTEM_SUFFIXES = (".lrdata", ".lrlibrary", ".fcpcache", ".photoslibrary")  # folders of previews of picture programs


class VideoFiles:
    """
    The media files below a folder, in no particular order; iterate over it once.

    By default the videos if there are any, else the sound files, else the pictures: beside videos, other files are
    often posters, or copies of their sound.

    Hidden files and folders, folders of systems (such as ``@eaDir`` and ``$RECYCLE.BIN``) and those that this program
    has written (links, exported pages, cached previews) are skipped. Links are followed, each real folder once.

    Parameters
    ----------
    root
        The folder.
    types
        Which files to take: some of `FILE_TYPES`; None for the default.

    Attributes
    ----------
    ignored
        After the iteration: how many files were ignored, by extension, and how many folders, by reason.
    of_run
        After the iteration: whether the folder is that of a run, of which pictures are no media files to label.
    """

    def __init__(self, root: str, types: Collection[str] | None = None) -> None:
        self.root = root.rstrip(os.sep) or os.sep
        self.types = types
        self.ignored: Counter[str] = Counter()
        self.of_run = False

    def __iter__(self) -> Iterator[str]:
        found: dict[str, list[str]] = {kind: [] for kind in FILE_TYPES}
        for path in self._media_files():
            kind = file_type(path)
            if self.types is None or kind in self.types:
                found[kind].append(path)
            else:
                self.ignored[_extension(path)] += 1
        first = next((kind for kind, paths in found.items() if paths), None)
        for kind, paths in found.items():
            if self.types is None and kind != first:
                self.ignored.update(map(_extension, paths))
            else:
                yield from paths

    def _media_files(self) -> Iterator[str]:
        """Yield all media files, and count what is ignored."""
        visited: set[tuple[int, int]] = set()
        pending = [self.root]
        while pending:
            folder = pending.pop()
            try:
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) in visited:
                    continue
                visited.add((status.st_dev, status.st_ino))
                items = list(os.scandir(folder))
            except OSError:  # it may not be entered, or vanished
                self.ignored["folders that cannot be read"] += 1
                continue
            names = {item.name for item in items}
            if folder == self.root:
                self.of_run = names >= _RUN_FILES
            elif why := self._why_skipped(os.path.basename(folder), names):
                self.ignored[why] += 1
                continue
            for item in items:
                if item.name.startswith("."):
                    continue
                if _is_folder(item):
                    pending.append(item.path)
                elif self._is_media(item.name):
                    yield item.path
                else:
                    self.ignored[_extension(item.name)] += 1

    def _is_media(self, name: str) -> bool:
        """Tell whether a file is a media file; pictures in the folder of a run are the program's own."""
        kind = file_type(name)
        return bool(kind) and not (self.of_run and kind == "pictures")

    def _why_skipped(self, name: str, names: set[str]) -> str:
        """Return why a folder is not entered, by its name and those of its files; "" if it is."""
        if name.lower() in _SYSTEM_FOLDERS or name.lower().endswith(_SYSTEM_SUFFIXES):
            return "folders of the system"
        if LINKS_MARKER in names or SITE_MARKER in names or names >= _RUN_FILES:
            return "folders that selavi wrote"
        is_cache = name.endswith(".browser") or (self.of_run and name == "browser")
        return "folders that selavi wrote" if is_cache and names & {"thumbnail", "preview"} else ""


def file_type(path: str) -> str:
    """Return the type of a media file by its extension, one of `FILE_TYPES`; "" for other files."""
    name = path.lower()
    return next((kind for kind, extensions in FILE_TYPES.items() if name.endswith(extensions)), "")


def left_out_media(ignored: Mapping[str, int]) -> dict[str, int]:
    """Return how many media files were ignored, by extension."""
    return {what: count for what, count in ignored.items() if file_type(what)}


def left_out_sentence(ignored: Mapping[str, int]) -> str:
    """Return in one line which media files were ignored, and what takes them; "" for none."""
    left_out = left_out_media(ignored)
    return f"left out of the folder: {describe_ignored(left_out)}; --files all takes them, too" if left_out else ""


def describe_ignored(ignored: Mapping[str, int], most: int = 6) -> str:
    """Return a list of what was ignored, the most frequent first; "" for nothing."""
    ranked = Counter(ignored).most_common()
    parts = [f"{count:,} {what if what.isprintable() else ascii(what)}" for what, count in ranked[:most]]
    if rest := sum(count for _, count in ranked[most:]):
        parts.append(f"{rest:,} others")
    return ", ".join(parts)


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower() or "without extension"


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link to itself, or into a folder that may not be entered
        return False
