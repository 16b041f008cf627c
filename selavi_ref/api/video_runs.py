"""Access to the code that trains on videos, which is registered in the entry point group ``selavi.video_runs``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

from selavi_ref.datasets import Manifest
from selavi_ref.datasets.manifest import ManifestEntry
from selavi_ref.datasets.scan import list_videos
from selavi_ref.errors import FilePath, InputError, SelaviError
from selavi_ref.install_hints import missing_package

_GROUP = "selavi.video_runs"

Videos = FilePath | Sequence[FilePath] | Manifest


def video_runs() -> Any:
    """
    Return the module that trains on videos: `backbones.runs.video_runs`, or another one with the same functions.

    Raises
    ------
    SelaviError
        If none is registered, or it needs a package that is not installed.
    """
    for point in entry_points(group=_GROUP):
        try:
            return point.load()
        except ModuleNotFoundError as error:
            raise SelaviError(missing_package(error.name, "train")) from error
    raise SelaviError(
        "no installed package trains on videos; install selavi-ref again, or its checkout: pip install -e ."
    )


def as_manifest(videos: Videos) -> Manifest:
    """
    Return the listed videos, without opening them.

    Parameters
    ----------
    videos : path, sequence of paths, or Manifest
        A folder of videos at any depth, a list file, one video, or the paths of videos.

    Raises
    ------
    InputError
        If the folder, list or file is missing, or there is no video.
    """
    if isinstance(videos, Manifest):
        return videos
    if isinstance(videos, (str, os.PathLike)):
        return list_videos(videos)
    entries = [ManifestEntry(os.fspath(path)) for path in videos]
    if not entries:
        raise InputError("the list of videos is empty", option="videos", value=videos)
    return Manifest(entries, "the list of videos")
