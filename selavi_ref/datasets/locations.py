"""Where listed videos are: which folder their relative paths start from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from selavi_ref.errors import FilePath
from selavi_ref.media.segments import file_of

_PATHS_TO_TRY = 100


class Located(NamedTuple):
    """
    Absolute paths of listed videos.

    Parameters
    ----------
    files
        Absolute path of each video.
    base
        The folder from which relative paths start; None for the current folder.
    """

    files: list[str]
    base: str | None


def locate(paths: Sequence[str], beside: FilePath) -> Located:
    """
    Return where listed videos are.

    Relative paths start from the current folder, from the folder of the list (`beside`), or from one above it: all from
    the first of these below which any of the first hundred exists.
    """
    relative = [file_of(path) for path in islice((p for p in paths if not os.path.isabs(p)), _PATHS_TO_TRY)]
    base = None
    if relative and not any(map(os.path.exists, relative)):
        folder, last = os.path.abspath(beside), ""
        while folder != last:
            if any(os.path.exists(os.path.join(folder, path)) for path in relative):
                base = folder
                break
            folder, last = os.path.dirname(folder), folder
    return Located([os.path.abspath(os.path.join(base or "", path)) for path in paths], base)
