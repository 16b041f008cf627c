"""Access to code that needs PyTorch, which is registered as entry points: training on videos, and encoders."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from importlib.metadata import entry_points
from typing import Any

from selavi_ref.datasets import Manifest
from selavi_ref.datasets.manifest import ManifestEntry
from selavi_ref.datasets.scan import list_videos
from selavi_ref.errors import FilePath, InputError, SelaviError
from selavi_ref.install_hints import missing_package
from selavi_ref.media.segments import parse_segment

_VIDEO_RUNS = "selavi.video_runs"
_TEXT_SEARCH = "selavi.text_search"

Videos = FilePath | Sequence[FilePath] | Manifest


def video_runs() -> Any:
    """
    Return the module that trains on videos: `backbones.runs.video_runs`, or another one with the same functions.

    Raises
    ------
    SelaviError
        If none is registered, or it needs a package that is not installed.
    """
    return _registered(_VIDEO_RUNS, "trains on videos")


def text_search() -> Any:
    """
    Return the module that encodes files and searches by texts: `backbones.encoders.text_search`, or one like it.

    Raises
    ------
    SelaviError
        If none is registered, or it needs a package that is not installed.
    """
    return _registered(_TEXT_SEARCH, "searches by texts")


def _registered(group: str, what: str) -> Any:
    for point in entry_points(group=group):
        try:
            return point.load()
        except ModuleNotFoundError as error:
            raise SelaviError(missing_package(error.name, "train")) from error
    raise SelaviError(f"no installed package {what}; install selavi-ref again, or its checkout: pip install -e .")


def as_manifest(videos: Videos, types: Collection[str] | None = None) -> Manifest:
    """
    Return the listed videos, without opening them.

    Parameters
    ----------
    videos : path, sequence of paths, or Manifest
        A folder of videos at any depth, a list file, one video, or the paths of videos.
    types : collection of str, optional
        Of a folder, the types of files to take; see `selavi_ref.datasets.find_videos`.

    Raises
    ------
    InputError
        If the folder, list or file is missing, there is no video, the times of a part are wrong, or `types` are given
        for something else than a folder.
    """
    if isinstance(videos, (str, os.PathLike)):
        return list_videos(videos, types)
    if types is not None:
        raise InputError("--files goes with a folder, not with listed videos", option="files", value=list(types))
    if isinstance(videos, Manifest):
        return videos
    entries = [ManifestEntry(parse_segment(path).name) for path in videos]
    if not entries:
        raise InputError("the list of videos is empty", option="videos", value=videos)
    return Manifest(entries, "the list of videos")
