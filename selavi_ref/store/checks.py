"""Checks of an HDF5 file by somebody else, before anything of its content is read.

Reading one HDF5 file can read others, through links, data sets whose bytes lie in other files, and virtual data sets.
And a small file can declare data sets of any size.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from selavi_ref.errors import StoreError, printable
from selavi_ref.store.layout import is_row_dataset

_DEPTH = 3  # groups of a store in one another, at most
_LONGEST_NAME = 255
_HARMLESS_BYTES = 1 << 30  # declared size that is read whatever the file holds
_BEST_COMPRESSION = 1100  # deflate reaches 1,032
_BYTES_PER_VIDEO = 100  # of memory for its path, class and reason


def check_file(path: Path, file: Any) -> None:
    """
    Raise an error if reading an HDF5 file would read other files, or more than it holds.

    Parameters
    ----------
    path : Path
        The file, for the message.
    file : h5py.File
        The opened file.

    Raises
    ------
    StoreError
        With ``problem`` ``unsafe`` or ``damaged``.
    """
    _check_group(path, file, "", "shards" in file)


def check_is_file(path: Path) -> None:
    """Raise an error if there is something else than a file at ``path``: opening a pipe would wait for ever."""
    if path.is_dir():
        example = f", such as {printable(path / 'features.h5')}" if (path / "features.h5").is_file() else ""
        message = f"{printable(path)} is a folder; name the file of the store{example}"
        raise StoreError(message, path=path, problem="foreign")
    if path.exists() and not path.is_file():
        raise StoreError(f"{printable(path)} is not a regular file", path=path, problem="foreign")


def check_replaceable(path: Path, format_name: str) -> None:
    """Raise an error if a store would replace something else; an empty or damaged file may be replaced."""
    if not path.exists() or not path.stat().st_size:
        return
    foreign = StoreError(f"{printable(path)} is no store; name another file", path=path, problem="foreign")
    try:
        if not h5py.is_hdf5(path):
            raise foreign
        with h5py.File(path, "r", locking=False) as file:
            written_by = file.attrs.get("format")
    except (OSError, RuntimeError):  # damaged, or in use
        return
    if written_by != format_name:
        raise foreign


def check_n_videos(path: Path, n_videos: int) -> None:
    """Raise an error if the paths of so many videos do not fit into memory."""
    if n_videos * _BYTES_PER_VIDEO > _memory():
        message = f"{printable(path)} declares {n_videos:,} videos, more than fit into memory"
        raise StoreError(message, path=path, problem="damaged", dataset="videos/path")


def _check_group(path: Path, group: Any, prefix: str, is_joined: bool, depth: int = 1) -> None:
    for name in group:
        if len(name) > _LONGEST_NAME:
            message = f"{printable(path)} has a data set or group of a name of {len(name):,} characters: {name[:40]}..."
            raise StoreError(message, path=path, problem="damaged")
        full = prefix + name
        if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
            raise _unsafe(path, full, "is a link to another file")
        item = group[name]
        if isinstance(item, h5py.Dataset):
            _check_dataset(path, item, full, is_joined)
        elif isinstance(item, h5py.Group) and depth < _DEPTH:
            _check_group(path, item, full + "/", is_joined, depth + 1)


def _check_dataset(path: Path, dataset: Any, name: str, is_joined: bool) -> None:
    if dataset.external:
        raise _unsafe(path, name, "lies in another file")
    if dataset.is_virtual:
        if not (is_joined and is_row_dataset(name)):  # those of a joined store are read from its shards themselves
            raise _unsafe(path, name, "is put together from other data sets")
        return
    if dataset.shape is None:
        raise StoreError(f"{printable(path)}: {name} is empty", path=path, problem="damaged", dataset=name)
    declared = int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    largest_chunk = int(np.prod(dataset.chunks or (0,), dtype=object)) * dataset.dtype.itemsize
    is_compressed = dataset.id.get_create_plist().get_nfilters() > bool(dataset.fletcher32)
    too_large = declared > max(_HARMLESS_BYTES, stored * (_BEST_COMPRESSION if is_compressed else 1))
    if too_large or (is_compressed and largest_chunk > _HARMLESS_BYTES):
        message = (
            f"{printable(path)}: {name} declares a shape of {dataset.shape}, but the file holds {stored:,} bytes of it"
        )
        raise StoreError(message, path=path, problem="damaged", dataset=name)


def _unsafe(path: Path, name: str, fact: str) -> StoreError:
    message = f"{printable(path)} is refused: {printable(name)} {fact}, whose content it would pass on"
    return StoreError(message, path=path, problem="unsafe", dataset=name)


def _memory() -> int:
    """Return the bytes of memory of this machine, or a large number where that is not known."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 40
