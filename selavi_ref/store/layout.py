"""Names, types and chunks of the data sets of a store, and their encoding of text."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError

FORMAT = "selavi-feature-store"
VERSION = 1

CHUNK_BYTES = 1 << 20
_ROW_DATASETS = ("disagreement", "labels", "log_posterior")  # beside those of modalities
_TEXTS = 256  # texts that are read at a time
REASON_BYTES = 200
REASON_TYPE = h5py.string_dtype("utf-8", REASON_BYTES)
# The oldest format with checksummed metadata and attributes of any length, which any HDF5 since 2008 can read. Newer
# ones mark a file as open, so that one whose writer was killed could not be opened again.
LIBRARY_VERSIONS = ("v108", "v110")

Rows = slice | NDArray[Any] | Sequence[int] | None


def partial_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a store while it is being written."""
    path = Path(path)
    return path.with_name(path.name + ".partial")


def shard_path(path: str | os.PathLike[str], index: int, count: int) -> Path:
    """Return the path of the shard of process `index` of `count`; for one process, that of the store itself."""
    path = Path(path)
    if count == 1:
        return path
    return path.with_name(f"{path.stem}.shard-{index:0{len(str(count - 1))}d}-of-{count}{path.suffix}")


def modality_of(name: str) -> str | None:
    """Return the modality (or feature space) of a data set of features or log-probabilities, None for any other."""
    parts = name.split("/")
    return parts[1] if (parts[0], len(parts)) in (("features", 2), ("class_log_prob", 2), ("log_prob", 3)) else None


def is_row_dataset(name: str) -> bool:
    """Return whether the data set has one row for each video, in checksummed chunks."""
    return modality_of(name) is not None or name in _ROW_DATASETS


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the type in which a data set is stored."""
    types = {"labels": np.int32, "alignment": np.int32, "groups": np.int32, "potentials": np.float64}
    return np.dtype(types.get(name, np.float32))


def modality_order(modalities: Iterable[str]) -> list[str]:
    """Return modalities in order: video, audio, then any others by name."""
    first = {"video": 0, "audio": 1}
    return sorted(set(modalities), key=lambda name: (first.get(name, 2), name))


def head_order(heads: Iterable[str]) -> list[str]:
    """Return heads in order: numbered ones by number, then named ones by name."""

    def position(name: str) -> tuple[int, int, str]:
        digits = name.lstrip("0")
        return (0, len(digits), digits + name) if name.isascii() and name.isdecimal() else (1, 0, name)

    return sorted(set(heads), key=position)


def encode(text: str, kind: str) -> bytes:
    """Return UTF-8, in which bytes of a path that are not UTF-8 stay as they are (``surrogateescape``)."""
    if "\0" in text:
        raise InputError(
            f"{kind} {text!r} holds a NUL character, which no path or class name can have", option=kind, value=text
        )
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InputError(f"{kind} {text!r} is no valid Unicode text", option=kind, value=text) from None


def decode(text: bytes | str) -> str:
    """Undo `encode`; text of other programs is decoded in the same way."""
    return text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")


def clip_text(text: str, limit: int = REASON_BYTES) -> bytes:
    """Return one line of at most `limit` bytes of UTF-8, cut between characters."""
    whole = " ".join(text.replace("\0", " ").split()).encode("utf-8", "replace")
    if len(whole) <= limit:
        return whole
    return whole[: limit - 3].decode("utf-8", "ignore").encode() + "…".encode()


def write_texts(group: Any, name: str, texts: Sequence[bytes]) -> Any:
    """Write a data set of texts of any length, and return it."""
    kind = h5py.string_dtype("utf-8")
    return group.create_dataset(name, data=np.array(texts, dtype=object), dtype=kind, shape=(len(texts),))


def read_texts(dataset: Any) -> list[str]:
    """Read a data set of texts, of fixed or any length."""
    texts: list[str] = []
    total, limit = 0, dataset.file.id.get_filesize()
    is_shareable = h5py.check_vlen_dtype(dataset.dtype) is not None or dataset.dtype.kind == "O"
    for start in range(0, len(dataset), _TEXTS):
        block = dataset[start : start + _TEXTS]
        total += sum(map(len, block))
        if is_shareable and total > limit:
            raise ValueError("its texts, many of which share their bytes, are longer than the file")
        texts += map(decode, block)
    return texts


def to_json(value: Mapping[str, Any]) -> str:
    """Return the settings as JSON, equal for equal settings."""
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"the provenance of a store must be plain JSON values: {error}", option="provenance") from None


def chunk_rows(n_rows: int, row_bytes: int) -> int:
    """Return the number of rows of a chunk, of about 1 MiB."""
    return max(1, min(n_rows, CHUNK_BYTES // row_bytes))


def preallocated() -> Any:
    """
    Return creation properties that allocate and fill the space on disk at once.

    A full disk is then noticed before the work and not after hours of it, and no later write changes anything but the
    rows themselves: a killed process cannot leave the structure of the file half changed.
    """
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_ALLOC)
    return properties


def create_rows(file: Any, name: str, n_rows: int, width: int) -> Any:
    """Create a checksummed data set of shape (n_rows, width), filled with NaN or -1."""
    dtype = dtype_of(name)
    dataset = file.create_dataset(
        name,
        shape=(n_rows, width),
        dtype=dtype,
        chunks=(chunk_rows(n_rows, width * dtype.itemsize), width),
        fletcher32=True,
        fillvalue=np.nan if dtype.kind == "f" else -1,
        dcpl=preallocated(),
    )
    dataset.attrs["valid"] = True
    return dataset


def row_datasets(file: Any) -> dict[str, Any]:
    """Return the data sets of `file` that have one row for each video, by name."""
    datasets = {}
    for kind in ("features", "class_log_prob"):
        for modality in file.get(kind, ()):
            datasets[f"{kind}/{modality}"] = file[kind][modality]
    for modality in file.get("log_prob", ()):
        for head in file["log_prob"][modality]:
            datasets[f"log_prob/{modality}/{head}"] = file["log_prob"][modality][head]
    for name in _ROW_DATASETS:
        if name in file:
            datasets[name] = file[name]
    return datasets
