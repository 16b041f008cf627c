"""Labels with what a user has said of them, written for others: CSV, JSON and Parquet."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.ensemble.label_table import as_cell
from selavi_ref.errors import InputError
from selavi_ref.runs.atomic import replacing

MARKS = ("", "moved", "wrong")
FORMAT = "selavi-ref labels 1"
_ABOUT = {
    "path": "the video; where a name is not UTF-8, U+FFFD stands for what is not, and path_bytes has the name itself",
    "path_bytes": "the name of a video as bytes, where it is not UTF-8 (in JSON: base64)",
    "label": "cluster of the video, after what the user has moved and merged",
    "name": "what the user calls the cluster",
    "confidence": "posterior of the label as learnt, or of the cluster that it was joined into, 0 to 1",
    "runner_up": "second most probable cluster",
    "modalities": "what the label as learnt rests on",
    "mark": "moved: the user chose the label; wrong: the user says that it is wrong",
    "learnt": "cluster of the video as learnt",
    "class": "true class, if known",
    "reason": "why there is no label",
    "head_N": "label by head N, in its own numbering",
}


@dataclass(frozen=True)
class FinalLabels:
    """
    Labels of N videos with what the user has said of them.

    Parameters
    ----------
    paths : list of str
        The videos; bytes that are not UTF-8 as surrogates (surrogateescape).
    cluster : array
        Cluster of each video after what the user has moved and merged, int32, shape (N,); -1 without label.
    name : list of str
        What the user calls that cluster; "" if it has no name.
    learnt, runner_up : array
        Most and second most probable cluster, int32, shape (N,); -1 if there is none. The former as learnt, the latter
        among joined clusters.
    confidence : array
        Posterior of `learnt`, or of the cluster that it was joined into, float32, shape (N,).
    modalities : list of str
        What the label as learnt rests on: ``"video+audio"``, ``"video"``, ``"audio"`` or ``""``.
    reasons : list of str
        Why there is no label; "" where there is one.
    mark : list of str
        ``"moved"``: the user chose the label; ``"wrong"``: the user says that it is wrong; or ``""``.
    classes : list of str
        True class of each video; "" if unknown.
    heads : array
        Label by each head in its own numbering, int32, shape (N, H); -1 if there is none.
    source : str
        How the labels as learnt came about, in words.

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
        for what in {part.name for part in fields(self)} - {"paths", "heads", "source"}:
            if len(getattr(self, what)) != N:
                raise InputError(f"labels to be exported: {N} paths, but {len(getattr(self, what))} of {what}")
        if self.heads.shape[:1] != (N,) or self.heads.ndim != 2:
            raise InputError(f"labels to be exported: heads have shape {self.heads.shape}, not ({N}, H)")
        if unknown := set(self.mark) - set(MARKS):
            raise InputError(f"labels to be exported: no such mark: {', '.join(map(repr, sorted(unknown)))}")

    @property
    def columns(self) -> list[str]:
        """Names of the columns of a table of these labels; ``class`` only if one is known."""
        known = ["class"] if any(self.classes) else []
        front = ["path", "label", "name", "confidence", "runner_up", "modalities", "mark", "learnt"]
        return [*front, *known, "reason", *(f"head_{h}" for h in range(self.heads.shape[1]))]

    def rows(self) -> Iterator[list[Any]]:
        """Yield the values of each video in the order of `columns`; None for what there is not."""
        known = any(self.classes)
        for i, path in enumerate(self.paths):
            sure = self.learnt[i] >= 0 and np.isfinite(self.confidence[i])
            yield [
                path,
                _number(self.cluster[i]),
                whole_text(self.name[i]) or None,
                round(float(self.confidence[i]), 6) if sure else None,
                _number(self.runner_up[i]),
                self.modalities[i] or None,
                self.mark[i] or None,
                _number(self.learnt[i]),
                *([self.classes[i] or None] if known else []),
                self.reasons[i] or None,
                *map(_number, self.heads[i]),
            ]


def write_csv(finished: FinalLabels, path: str | os.PathLike[str]) -> None:
    """
    Write labels as CSV, which `selavi_ref.ensemble.label_table.read_csv` reads; the file is replaced atomically.

    Paths stand there exactly as they are, byte for byte (surrogateescape), and so do classes, which are parts of them.
    A name or reason that begins as a formula (with ``= + - @``, a tab or a return) gets an apostrophe in front, so that
    no spreadsheet program calculates it; JSON and Parquet hold names as they are.

    Raises
    ------
    SelaviError
        If the file cannot be written.
    """
    _write(path, lambda file: _put_csv(file, finished.columns, finished.rows()))


def csv_bytes(finished: FinalLabels) -> bytes:
    """Return what `write_csv` writes."""
    return _bytes(lambda file: _put_csv(file, finished.columns, finished.rows()))


def put_linked_csv(finished: FinalLabels, links: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Write labels as `write_csv` does, with a last column ``link``."""
    rows = ([*row, link] for row, link in zip(finished.rows(), links, strict=True))
    _write(path, lambda file: _put_csv(file, [*finished.columns, "link"], rows))


def write_json(finished: FinalLabels, path: str | os.PathLike[str]) -> None:
    """
    Write labels as JSON: an object with ``format``, ``source``, ``about``, ``clusters`` and ``videos``, one to a line.

    Missing values are null. A path that is not UTF-8 has U+FFFD in place of what is not, and beside it ``path_bytes``,
    base64 of the name as it is. The file is replaced whole or not at all.

    Raises
    ------
    SelaviError
        If the file cannot be written.
    """
    _write(path, lambda file: _put_json(file, finished))


def json_bytes(finished: FinalLabels) -> bytes:
    """Return what `write_json` writes."""
    return _bytes(lambda file: _put_json(file, finished))


def write_parquet(finished: FinalLabels, path: str | os.PathLike[str]) -> None:
    """
    Write labels as Parquet, one row for each video; the file is replaced whole or not at all.

    Labels are int32, confidences float32, what repeats is a dictionary; missing values are null. A path that is not
    UTF-8 has U+FFFD in place of what is not; a binary column ``path_bytes``, there if any such path is, holds those
    names as they are. The metadata say what the file is, under the key ``selavi``, as JSON.

    Raises
    ------
    InputError
        If pyarrow is not installed.
    SelaviError
        If the file cannot be written.
    """
    table = _table(finished)
    with replacing(path) as file:
        _put_parquet(file, table)


def parquet_bytes(finished: FinalLabels) -> bytes:
    """Return what `write_parquet` writes."""
    file = io.BytesIO()
    _put_parquet(file, _table(finished))
    return file.getvalue()


def whole_text(text: str) -> str:
    """Return a text that every program takes: U+FFFD in place of surrogates."""
    return text if text.isascii() else "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)


def _number(value: Any) -> int | None:
    return int(value) if value >= 0 else None


def _path_text(path: str) -> str:
    """Return a path of which all that is not a file system's escape can be written."""
    try:
        path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return whole_text(path)
    return path


def _path_bytes(path: str) -> bytes | None:
    """Return the name of a file as bytes, if it is not UTF-8."""
    return None if path == whole_text(path) else _path_text(path).encode("utf-8", "surrogateescape")


def _put_csv(file: IO[str], columns: Sequence[str], rows: Iterator[list[Any]]) -> None:
    guarded = [columns.index("name"), columns.index("reason")]
    text = [columns.index(name) for name in ("path", "class", "reason", "link") if name in columns]
    confidence = columns.index("confidence")
    writer = csv.writer(file)
    writer.writerow(columns)
    for row in rows:
        if row[confidence] is not None:
            row[confidence] = f"{row[confidence]:.4f}"
        for column in text:
            row[column] = _path_text(row[column] or "")
        for column in guarded:
            row[column] = as_cell(row[column] or "")
        writer.writerow(row)


def _put_json(file: IO[str], finished: FinalLabels) -> None:
    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    file.write("{\n")
    for key, value in _head(finished).items():
        file.write(f"{line(key)}: {line(value)},\n")
    file.write('"videos": [')
    columns = finished.columns
    for number, row in enumerate(finished.rows()):
        record = {key: whole_text(v) if isinstance(v, str) else v for key, v in zip(columns, row, strict=True)}
        if (name := _path_bytes(row[0])) is not None:
            record["path_bytes"] = base64.b64encode(name).decode()
        file.write((",\n" if number else "\n") + line(record))
    file.write("\n]\n}\n")


def _head(finished: FinalLabels) -> dict[str, Any]:
    """Return what a file says of itself, and the clusters with their names and sizes."""
    sizes = Counter(int(c) for c in finished.cluster if c >= 0)
    names = {int(c): whole_text(name) for c, name in zip(finished.cluster, finished.name, strict=True)}
    clusters = {str(c): {"name": names[c] or None, "videos": sizes[c]} for c in sorted(sizes)}
    return {"format": FORMAT, "source": whole_text(finished.source), "about": _ABOUT, "clusters": clusters}


def _table(finished: FinalLabels) -> Any:
    """Return the labels as a table of pyarrow."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise InputError("writing Parquet needs the package pyarrow: pip install pyarrow") from error

    sure = (finished.learnt >= 0) & np.isfinite(finished.confidence)

    def numbers(values: NDArray[Any], there: NDArray[np.bool_], kind: Any) -> Any:
        return pa.array(np.ascontiguousarray(values), kind, mask=~there)

    def words(values: Sequence[str]) -> Any:
        return pa.array([whole_text(value) or None for value in values], pa.string()).dictionary_encode()

    names = [_path_bytes(path) for path in finished.paths]
    columns: dict[str, Any] = {
        "path": pa.array([whole_text(path) for path in finished.paths], pa.string()),
        **({"path_bytes": pa.array(names, pa.binary())} if any(name is not None for name in names) else {}),
        "label": numbers(finished.cluster, finished.cluster >= 0, pa.int32()),
        "name": words(finished.name),
        "confidence": numbers(finished.confidence, sure, pa.float32()),
        "runner_up": numbers(finished.runner_up, finished.runner_up >= 0, pa.int32()),
        "modalities": words(finished.modalities),
        "mark": words(finished.mark),
        "learnt": numbers(finished.learnt, finished.learnt >= 0, pa.int32()),
        **({"class": words(finished.classes)} if any(finished.classes) else {}),
        "reason": words(finished.reasons),
    }
    for h, labels in enumerate(finished.heads.T):
        columns[f"head_{h}"] = numbers(labels, labels >= 0, pa.int32())
    about = json.dumps(_head(finished), ensure_ascii=False)
    return pa.table(columns).replace_schema_metadata({"selavi": about})


def _put_parquet(file: IO[bytes], table: Any) -> None:
    import pyarrow.parquet as pq

    repeated = [name for name in table.column_names if name not in ("path", "path_bytes", "confidence")]
    pq.write_table(table, file, compression="zstd", use_dictionary=repeated)


def _write(path: str | os.PathLike[str], put: Callable[[IO[str]], None]) -> None:
    with replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        put(file)


def _bytes(put: Callable[[IO[str]], None]) -> bytes:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, "utf-8", errors="surrogateescape", newline="")
    put(file)
    file.flush()
    return raw.getvalue()
