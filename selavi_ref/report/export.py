"""Labels after the user's edits, written for other programs as CSV, JSON or Parquet."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.ensemble.label_table import COLUMNS, HEAD, LabelTable, column_of
from selavi_ref.errors import InputError
from selavi_ref.runs.atomic import replacing
from selavi_ref.runs.csv_file import encodable, without_surrogates

MARKS = ("", "moved", "wrong")
FORMAT = "selavi-ref labels 1"
_PATH_BYTES = "the path as bytes, where it is not UTF-8 (in JSON: base64)"


@dataclass(frozen=True)
class FinalLabels:
    """
    Labels of N videos after the user's edits.

    Parameters
    ----------
    paths : list of str
        The videos; bytes that are not UTF-8 as surrogates (surrogateescape).
    cluster : array
        Cluster of each video after all that the user has moved and joined, int32, shape (N,); -1 without a label.
    name : list of str
        The user's name of that cluster; "" if it has none.
    learnt, runner_up : array
        Most and second most probable cluster, int32, shape (N,); -1 if there is none. The former as learnt, the latter
        among joined clusters.
    confidence : array
        Posterior of `learnt`, or of the cluster that it was joined into, float32, shape (N,).
    modalities : list of str
        Modalities that the label as learnt is based on: ``"video+audio"``, ``"video"``, ``"audio"`` or ``""``.
    reasons : list of str
        Why there is no label; "" where there is one.
    mark : list of str
        ``"moved"``: the user chose the label; ``"wrong"``: the user says that it is wrong; or ``""``.
    classes : list of str
        True class of each video; "" if unknown.
    heads : array
        Label by each head in its own cluster numbers, int32, shape (N, H); -1 if it has none.
    source : str
        How the labels as learnt were found, in words.

    Raises
    ------
    InputError
        If the lengths differ, or a mark is none of `MARKS`.
    """

    paths: Sequence[str]
    cluster: NDArray[np.int32]
    name: Sequence[str]
    learnt: NDArray[np.int32]
    confidence: NDArray[np.float32]
    runner_up: NDArray[np.int32]
    modalities: Sequence[str]
    reasons: Sequence[str]
    mark: Sequence[str]
    classes: Sequence[str]
    heads: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0), np.int32))
    source: str = ""

    def __post_init__(self) -> None:
        N = len(self.paths)
        if not self.heads.size:
            object.__setattr__(self, "heads", np.zeros((N, 0), np.int32))
        for name in {part.name for part in fields(self)} - {"paths", "heads", "source"}:
            if (length := len(getattr(self, name))) != N:
                raise InputError(
                    f"labels to be exported: {N} paths, but {length} values of {name}", option=name, value=length
                )
        if self.heads.shape[:1] != (N,) or self.heads.ndim != 2:
            shape = self.heads.shape
            raise InputError(
                f"labels to be exported: heads have shape {shape}, not ({N}, H)", option="heads", value=shape
            )
        if unknown := set(self.mark) - set(MARKS):
            marks = ", ".join(map(repr, sorted(unknown)))
            raise InputError(f"labels to be exported: no such mark: {marks}", option="mark", value=unknown)

    @property
    def table(self) -> LabelTable:
        """The table of these labels; it has a column ``class`` if any class is known."""
        return LabelTable(
            {
                "path": self.paths,
                "label": self.cluster,
                "name": [without_surrogates(name) for name in self.name],
                "confidence": np.where(self.learnt >= 0, self.confidence, np.nan),
                "runner_up": self.runner_up,
                "modalities": self.modalities,
                "mark": self.mark,
                "learnt": self.learnt,
                **({"class": self.classes} if any(self.classes) else {}),
                "reason": self.reasons,
                **{f"{HEAD}{h}": labels for h, labels in enumerate(self.heads.T)},
            }
        )

    @property
    def description(self) -> dict[str, Any]:
        """What JSON and Parquet files say about themselves: format, source, columns, names and sizes of clusters."""
        sizes = Counter(int(c) for c in self.cluster if c >= 0)
        names = {int(c): without_surrogates(name) for c, name in zip(self.cluster, self.name, strict=True)}
        return {
            "format": FORMAT,
            "source": without_surrogates(self.source),
            "about": {name: column.about for name, column in COLUMNS.items()} | {"path_bytes": _PATH_BYTES},
            "clusters": {str(c): {"name": names[c] or None, "videos": sizes[c]} for c in sorted(sizes)},
        }


def write_csv(labels: FinalLabels, path: str | os.PathLike[str]) -> None:
    """
    Write labels as CSV, atomically; see `selavi_ref.ensemble.label_table.LabelTable.write`.

    Raises
    ------
    SelaviError
        If the file cannot be written.
    """
    _write_text(path, labels.table.write)


def csv_bytes(labels: FinalLabels) -> bytes:
    """Return what `write_csv` writes."""
    return _text_bytes(labels.table.write)


def write_linked_csv(labels: FinalLabels, links: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Write labels as `write_csv` does, with a last column ``link``."""
    _write_text(path, LabelTable({**labels.table.columns, "link": links}).write)


def write_json(labels: FinalLabels, path: str | os.PathLike[str]) -> None:
    """
    Write labels as JSON: an object with ``format``, ``source``, ``about``, ``clusters`` and ``videos``, one per line.

    Missing values are null. In a path that is not UTF-8, U+FFFD replaces what is not, and ``path_bytes`` holds the path
    as base64. The file is written atomically.

    Raises
    ------
    SelaviError
        If the file cannot be written.
    """
    _write_text(path, lambda file: _dump_json(file, labels))


def json_bytes(labels: FinalLabels) -> bytes:
    """Return what `write_json` writes."""
    return _text_bytes(lambda file: _dump_json(file, labels))


def write_parquet(labels: FinalLabels, path: str | os.PathLike[str]) -> None:
    """
    Write labels as Parquet, one row per video, atomically.

    Labels are int32, probabilities float32, text dictionary-encoded; missing values are null. In a path that is not
    UTF-8, U+FFFD replaces what is not; if there is any, a binary column ``path_bytes`` holds such paths as they are.
    The metadata under the key ``selavi`` are those of `write_json`, as JSON.

    Raises
    ------
    InputError
        If pyarrow is not installed.
    SelaviError
        If the file cannot be written.
    """
    table = _arrow_table(labels)
    with replacing(path) as file:
        _dump_parquet(file, table)


def parquet_bytes(labels: FinalLabels) -> bytes:
    """Return what `write_parquet` writes."""
    file = io.BytesIO()
    _dump_parquet(file, _arrow_table(labels))
    return file.getvalue()


def _path_bytes(path: str) -> bytes | None:
    """Return a path as bytes if it is not UTF-8."""
    return None if path == without_surrogates(path) else encodable(path).encode("utf-8", "surrogateescape")


def _dump_json(file: IO[str], labels: FinalLabels) -> None:
    def dump(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    file.write("{\n")
    for key, value in labels.description.items():
        file.write(f"{dump(key)}: {dump(value)},\n")
    file.write('"videos": [')
    table = labels.table
    columns = table.written_columns
    for number, row in enumerate(table.rows()):
        record = {name: _json_value(value) for name, value in zip(columns, row, strict=True)}
        if (path := _path_bytes(columns["path"][number])) is not None:
            record["path_bytes"] = base64.b64encode(path).decode()
        file.write((",\n" if number else "\n") + dump(record))
    file.write("\n]\n}\n")


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    return without_surrogates(value) if isinstance(value, str) else value


def _arrow_table(labels: FinalLabels) -> Any:
    """Return the labels as a table of pyarrow."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise InputError("writing Parquet needs the package pyarrow: pip install pyarrow") from error

    def column(name: str, values: Any) -> Any:
        kind = column_of(name).kind
        if kind == "text":
            text = pa.array([without_surrogates(value) or None for value in values], pa.string())
            return text if name == "path" else text.dictionary_encode()
        array = np.ascontiguousarray(values)
        if kind == "cluster":
            return pa.array(array, pa.int32(), mask=array < 0)
        return pa.array(array, pa.float64() if kind == "seconds" else pa.float32(), mask=~np.isfinite(array))

    written = labels.table.written_columns
    columns = {name: column(name, values) for name, values in written.items()}
    path_bytes = [_path_bytes(path) for path in written["path"]]
    if any(path is not None for path in path_bytes):
        columns = {"path": columns["path"], "path_bytes": pa.array(path_bytes, pa.binary()), **columns}
    description = json.dumps(labels.description, ensure_ascii=False)
    return pa.table(columns).replace_schema_metadata({"selavi": description})


def _dump_parquet(file: IO[bytes], table: Any) -> None:
    import pyarrow.parquet as pq

    dictionaries = [name for name in table.column_names if name not in ("path", "path_bytes", "confidence")]
    pq.write_table(table, file, compression="zstd", use_dictionary=dictionaries)


def _write_text(path: str | os.PathLike[str], write: Callable[[IO[str]], None]) -> None:
    with replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        write(file)


def _text_bytes(write: Callable[[IO[str]], None]) -> bytes:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, "utf-8", errors="surrogateescape", newline="")
    write(file)
    file.flush()
    return raw.getvalue()


def is_own_table(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a table of labels that `write_csv`, `write_json` or `write_parquet` has written."""
    try:
        ending = os.path.splitext(os.fspath(path))[1].lower()
        if ending == ".parquet":
            import pyarrow.parquet as pq

            return b"selavi" in (pq.read_schema(path).metadata or {})
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            if ending == ".json":
                return f'"format": {json.dumps(FORMAT)}' in file.read(200)
            return set(next(csv.reader(file), [])) >= {"path", "label", "confidence", "runner_up", "modalities"}
    except (OSError, ValueError, csv.Error, ImportError):
        return False
