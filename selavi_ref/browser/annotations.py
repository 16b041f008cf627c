"""The annotations file: a user's edits of labels (names, merged clusters, moved and wrong videos), saved at once."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from selavi_ref.browser.edit_history import FORMAT, VERSIONS, EditHistory, Entry
from selavi_ref.errors import InputError, SelaviError, printable, reason
from selavi_ref.runs.atomic import replacing
from selavi_ref.runs.run import Run


class Annotations:
    """
    The edits of a run or a table of labels, in a file that lists them in order.

    Every edit is in the file when `apply` returns, and the file is replaced atomically; several programs may edit at
    the same time. A missing file means no edits.

    Parameters
    ----------
    file : path
        The file, such as ``annotations.json`` in a run.
    clusters : mapping
        Number of learnt clusters of each labelling: ``"consensus"``, and the name of each head.
    names : mapping, optional
        Names that clusters of a labelling have before any edit.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        clusters: Mapping[str, int],
        names: Mapping[str, Mapping[int, str]] | None = None,
    ):
        self.file = Path(file)
        self.clusters = dict(clusters)
        self.names = names or {}
        self._lock = threading.Lock()

    def read(self) -> EditHistory:
        """
        Return all edits so far.

        Raises
        ------
        InputError
            If the file cannot be read, is no annotations file, or belongs to labels with another number of clusters.
        """
        entries, undone, revision, learnt = _read(self.file, self.clusters)
        redone = EditHistory(self.clusters, self.names, [*entries, *reversed(undone)], [], revision)
        redone.replay(str(self.file))  # so that undone edits are checked, too
        history = EditHistory(self.clusters, self.names, entries, undone, revision, learnt)
        history.replay(str(self.file))
        return history

    def apply(self, entry: Mapping[str, Any]) -> EditHistory:
        """
        Apply one edit and save it.

        Parameters
        ----------
        entry : mapping
            ``op`` and its fields: ``rename`` (labelling, cluster, name; "" for none), ``merge`` (labelling, clusters,
            into), ``move`` (labelling, videos, to; ``"new"`` with a name), ``wrong`` (labelling, videos, wrong),
            ``undo`` or ``redo``. Videos are paths. An optional ``revision`` is the one that the user saw; with another
            current revision, edits whose meaning would change are refused: undo, redo, and clusters created by users.

        Raises
        ------
        InputError
            If the edit does not fit; nothing is changed then. A `ConflictError` if another edit came first.
        SelaviError
            If the file cannot be written.
        """
        with self._lock, _locked(self.file):
            history = self.read()
            history.apply(dict(entry))
            self._write(history)
        return history

    def rename_videos(self, paths: Mapping[str, str]) -> None:
        """
        Give videos new paths in all edits, undone ones included, since their files were moved.

        Parameters
        ----------
        paths : mapping of str to str
            Old path -> new path.

        Raises
        ------
        InputError
            As in `read`.
        SelaviError
            If the file cannot be written.
        """
        with self._lock, _locked(self.file):
            history = self.read()
            named = [entry for entry in (*history.entries, *history.undone) if "videos" in entry]
            if not any(path in paths for entry in named for path in entry["videos"]):
                return
            for entry in named:
                entry["videos"] = [paths.get(path, path) for path in entry["videos"]]
            history.revision += 1
            self._write(history)

    def name_unnamed(self, labelling: str, names: Mapping[int, str]) -> dict[int, str]:
        """
        Name clusters, but none that has a name or is merged into another by now, and return those that were named.

        Raises
        ------
        InputError
            If there is no such labelling or cluster.
        SelaviError
            If the file cannot be written.
        """
        with self._lock, _locked(self.file):
            history = self.read()
            edits = history.edits_of(labelling)
            given = {k: name for k, name in names.items() if k not in edits.names and k not in edits.merged}
            for cluster, name in given.items():
                history.apply({"op": "rename", "labelling": labelling, "cluster": cluster, "name": name})
            if given:
                self._write(history)
        return given

    def follow_learning(self, learnt: str, K: int, moved_on: Mapping[str, int], lost_names: Sequence[int]) -> None:
        """
        Let the edits follow labels that were learnt with them; see `EditHistory.follow_learning`.

        Raises
        ------
        InputError
            As in `read`.
        SelaviError
            If the file cannot be written.
        """
        with self._lock, _locked(self.file):
            if not self.file.exists():
                return
            history = self.read()
            history.follow_learning(learnt, K, moved_on, lost_names)
            self._write(history)

    def _write(self, history: EditHistory) -> None:
        with replacing(self.file, "w", encoding="utf-8") as file:
            json.dump(history.to_json(), file, ensure_ascii=True, indent=1)


def annotations_of(run: Run) -> Annotations:
    """
    Return the annotations of a run.

    Raises
    ------
    InputError
        If its settings cannot be read.
    """
    config = run.config
    heads = [str(head) for head in range(int(config.get("heads", 0)))]
    return Annotations(run.annotations_file, dict.fromkeys(["consensus", *heads], int(config.get("clusters", 0))))


def annotations_beside(source: str | os.PathLike[str]) -> Path:
    """Return the annotations file of a table of labels or a store that belongs to no run."""
    path = Path(source)
    return path.with_name(f"{path.stem}.annotations.json")


def _read(file: Path, clusters: Mapping[str, int]) -> tuple[list[Entry], list[Entry], int, str]:
    """Return entries, undone entries, the revision, and the last learning that an annotations file has followed."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [], [], 0, ""
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{printable(file)} cannot be read: {reason(error)}; restore it from a copy, or move it away, which takes "
            "all edits away",
            path=file,
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{printable(file)} holds no annotations of selavi", path=file)
    if data.get("version") not in VERSIONS:
        raise InputError(
            f"{printable(file)} is of version {data.get('version')}; this program reads {VERSIONS[-1]}", path=file
        )
    if data.get("clusters") != dict(clusters):
        raise InputError(
            f"{printable(file)} belongs to other labels: it was made for {_counts(data.get('clusters'))} clusters, and "
            f"there are {_counts(clusters)}; move it away to begin anew",
            path=file,
        )
    lists = [data.get(name) for name in ("entries", "undone")]
    if not all(isinstance(part, list) and all(isinstance(entry, dict) for entry in part) for part in lists):
        raise InputError(f"{printable(file)} is damaged: entries and undone must be lists of edits", path=file)
    revision = data.get("revision")
    entries, undone = ([*part] for part in lists)  # type: ignore[misc]
    return entries, undone, revision if type(revision) is int else 0, str(data.get("learnt", ""))


def _counts(clusters: Any) -> str:
    if not isinstance(clusters, Mapping):
        return "unknown"
    return ", ".join(f"{number} ({name})" for name, number in clusters.items())


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Keep other programs from editing at the same time, where the file system supports locks."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    try:
        lock = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SelaviError(f"{printable(file)} cannot be written: {error.strerror}", path=file) from error
    try:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
