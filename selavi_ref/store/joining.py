"""Joining the shards of several processes to one store."""

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from selavi_ref.errors import InputError, StoreError
from selavi_ref.store import layout
from selavi_ref.store.hdf5_errors import explain, flush_to_disk, guarded, sync_folder
from selavi_ref.store.reader import FeatureStore


def join(path: str | os.PathLike[str], shards: Sequence[str | os.PathLike[str]]) -> Path:
    """
    Join complete shards to one store.

    The store is a small index; its rows stay in the shards, which it names relative to itself, so that they can be
    moved together. A single shard is renamed.

    Parameters
    ----------
    path : path
        The store to make.
    shards : sequence of paths
        Written by `StoreWriter` with ``start`` and ``total``; in any order; together they hold every row once.

    Raises
    ------
    StoreError
        A shard is missing, incomplete or damaged; rows are missing or twice there; the shards do not belong together.
    """
    path = Path(path)
    if not shards:
        raise InputError(f"{path}: no shards to join", option="shards", path=path)
    parts = sorted((_Shard(Path(shard)) for shard in shards), key=lambda part: part.start)
    _check_together(path, parts)
    if len(parts) == 1:
        with guarded(path):
            os.replace(parts[0].path, path)
    else:
        _write_index(path, parts)
    sync_folder(path.parent)
    return path


class _Shard:
    """Metadata of one shard for the index."""

    def __init__(self, path: Path):
        self.path = path
        with FeatureStore(path) as store, guarded(path):
            file = store._file
            if "shards" in file:
                message = f"{path} is itself joined of shards; join those shards"
                raise StoreError(message, path=path, problem="foreign")
            self.start = int(file.attrs.get("start", 0))
            self.stop = self.start + store.n_videos
            self.total = int(file.attrs.get("total", self.stop))
            self.id = layout.decode(file.attrs.get("id", ""))
            self.provenance = file.attrs.get("provenance", "{}")
            self.widths = {name: (int(dataset.shape[1]), dataset.dtype) for name, dataset in store._rows.items()}
            self.has_classes = "videos/class" in file
            self.columns = {"path": store.paths, "class": store.classes, "reason": store.reasons}
            self.present = {modality: store.present(modality) for modality in store.modalities}
            known = ("features", "log_prob", "videos", "done", "shards", "disagreement", "labels", "log_posterior")
            self.whole = {name: store.get(name) for name in file if name not in known and store.has(name)}


def _check_together(path: Path, parts: list[_Shard]) -> None:
    first = parts[0]
    position = 0
    for part in parts:
        if part.total != first.total or part.widths != first.widths or part.has_classes != first.has_classes:
            message = f"{part.path} does not belong to the same store as {first.path}: other videos or data sets"
            raise StoreError(message, path=part.path, problem="foreign")
        if part.provenance != first.provenance:
            message = f"{part.path} was not made with the same settings as {first.path}"
            raise StoreError(message, path=part.path, problem="foreign", option="provenance")
        if part.start != position:
            problem = "missing from" if part.start > position else "twice in"
            low, high = sorted((part.start, position))
            message = f"{path} cannot be joined: rows {low} to {high - 1} are {problem} the shards"
            raise StoreError(message, path=path, problem="incomplete", row=low)
        position = part.stop
    if position != first.total:
        message = f"{path} cannot be joined: rows {position} to {first.total - 1} are missing from the shards"
        raise StoreError(message, path=path, problem="incomplete", row=position)


def _write_index(path: Path, parts: list[_Shard]) -> None:
    partial = layout.partial_path(path)
    with h5py.File("index", "w", driver="core", backing_store=False, libver=layout.LIBRARY_VERSIONS) as memory:
        _write_layout(memory, path, parts)
        memory.flush()
        image = memory.id.get_file_image()
    try:
        with open(partial, "wb") as file:
            file.write(image)
            file.flush()
            flush_to_disk(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise explain(path, error) from error


def _write_layout(file: Any, path: Path, parts: list[_Shard]) -> None:
    first = parts[0]
    names = [os.path.relpath(part.path.absolute(), path.absolute().parent) for part in parts]
    file.attrs.update(format=layout.FORMAT, version=layout.VERSION, complete=True, id=uuid.uuid4().hex)
    file.attrs.update(provenance=first.provenance, start=0, total=first.total)
    layout.write_texts(file, "shards/file", [layout.encode(name, "path") for name in names])
    layout.write_texts(file, "shards/id", [part.id.encode() for part in parts])
    for column in ("path", "class", "reason"):
        if column != "class" or first.has_classes:
            texts = [layout.encode(text, column) for part in parts for text in part.columns[column]]
            layout.write_texts(file, f"videos/{column}", texts)
    for modality in first.present:
        file[f"videos/has_{modality}"] = np.concatenate([part.present[modality] for part in parts])
    file["done"] = np.ones(first.total, bool)
    for name, value in first.whole.items():
        file[name] = value
    for name, (width, dtype) in first.widths.items():
        virtual = h5py.VirtualLayout((first.total, width), dtype)
        for part, shard in zip(parts, names, strict=True):
            # HDF5 reads a percent sign in a file's name as the start of a pattern, unless it is doubled.
            source = h5py.VirtualSource(shard.replace("%", "%%"), name, (part.stop - part.start, width))
            virtual[part.start : part.stop] = source
        file.create_virtual_dataset(name, virtual, fillvalue=np.nan if dtype.kind == "f" else -1)
