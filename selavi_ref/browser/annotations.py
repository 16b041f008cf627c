"""What people say of clusters and videos that they have looked at: names, joined clusters, moved and wrong videos."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError, SelaviError, printable
from selavi_ref.runs.atomic import replacing
from selavi_ref.runs.run import Run

FORMAT, VERSION = "selavi annotations", 1
LONGEST_NAME = 200
Entry = dict[str, Any]


@dataclass
class Edits:
    """
    What was said of one labelling; cluster numbers from K on are clusters that people have made.

    Parameters
    ----------
    names : dict
        Cluster to name.
    merged : dict
        Cluster to the cluster that it was joined into, in one step: the target is joined into no other.
    moved : dict
        Path of a video to the cluster that it was moved to.
    wrong : set
        Paths of videos that are marked as wrong where they are.
    made : list
        Clusters that people have made.
    """

    names: dict[int, str] = field(default_factory=dict)
    merged: dict[int, int] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    made: list[int] = field(default_factory=list)

    def joined(self, K: int) -> NDArray[np.int32]:
        """Return the cluster that each of K learnt clusters, and of those made, now belongs to; int32."""
        return np.array([self.merged.get(k, k) for k in range(K + len(self.made))], np.int32)

    def placed(self, paths: Sequence[str], learnt: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the cluster, int32 (N,), in which each video now is; -1 without label."""
        target = np.arange(-1, learnt.max(initial=-1) + 1, dtype=np.int32)  # at -1, the last place, no label
        target = np.roll(target, -1)
        for cluster, into in self.merged.items():
            if cluster < len(target) - 1:
                target[cluster] = into
        placed = target[learnt]
        if self.moved:
            for row, path in enumerate(paths):
                if path in self.moved:
                    placed[row] = self.merged.get(self.moved[path], self.moved[path])
        return placed

    def marks(self, paths: Sequence[str]) -> list[str]:
        """Return ``"wrong"``, ``"moved"`` or ``""`` for each video."""
        return ["wrong" if path in self.wrong else "moved" if path in self.moved else "" for path in paths]


class ConflictError(InputError):
    """An edit that was meant for what was there before another one."""


class Annotations:
    """
    The edits of a run or a table of labels, kept in a file as the list of what was done.

    Every edit is in the file when `apply` returns, and the file is whole at all times; several programs may edit at
    once. A file that is not there is one without edits.

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

    def read(self) -> History:
        """
        Return what was done so far.

        Raises
        ------
        InputError
            If the file cannot be read, is no such file, or belongs to labels with another number of clusters.
        """
        history = History(self.clusters, self.names, *_read(self.file, self.clusters))
        history.replay(str(self.file))
        return history

    def apply(self, entry: Mapping[str, Any]) -> History:
        """
        Carry out one edit and keep it.

        Parameters
        ----------
        entry : mapping
            ``op``, and what it needs: ``rename`` (labelling, cluster, name; "" for none), ``merge`` (labelling,
            clusters, into), ``move`` (labelling, videos, to; ``"new"`` with a name), ``wrong`` (labelling, videos,
            wrong), ``undo`` or ``redo``. Videos are paths. With the ``revision`` that whoever edits has seen, what
            would mean something else now is refused: undo and redo, and clusters that people have made.

        Raises
        ------
        InputError
            If it does not fit what is there; nothing is changed then. A `ConflictError` if another edit came before.
        SelaviError
            If it cannot be written.
        """
        with self._lock, _locked(self.file):
            history = self.read()
            history.do(dict(entry))
            with replacing(self.file, "w", encoding="utf-8") as file:
                json.dump(history.saved(), file, ensure_ascii=True, indent=1)
        return history


class History:
    """
    Edits in the order in which they were made, and what they come to.

    Parameters
    ----------
    clusters : mapping
        Number of learnt clusters of each labelling.
    names : mapping
        Names before any edit.
    entries, undone : list
        Edits that hold, and those taken back, the last one taken back last.
    revision : int
        Grows with every edit.
    """

    def __init__(
        self,
        clusters: Mapping[str, int],
        names: Mapping[str, Mapping[int, str]],
        entries: list[Entry],
        undone: list[Entry],
        revision: int,
    ):
        self.clusters = dict(clusters)
        self.names = names
        self.entries = entries
        self.undone = undone
        self.revision = revision
        self.edits = self._unedited()

    @property
    def undo(self) -> str | None:
        """What `undo` would take back, in words."""
        return _words(self.entries[-1]) if self.entries else None

    @property
    def redo(self) -> str | None:
        """What `redo` would do again, in words."""
        return _words(self.undone[-1]) if self.undone else None

    def of(self, labelling: str) -> Edits:
        """Return the edits of a labelling, ``"consensus"`` or the name of a head."""
        return self.edits.get(labelling, Edits())

    def replay(self, where: str) -> None:
        """Work out anew what all entries come to."""
        self.edits = self._unedited()
        for number, entry in enumerate(self.entries):
            try:
                self._carry_out(entry)
            except (InputError, KeyError, TypeError) as error:
                raise InputError(f"{printable(where)}: entry {number} does not fit: {error}") from error

    def do(self, entry: Entry) -> None:
        """Carry out an edit, or raise InputError and change nothing."""
        op, seen = entry.get("op"), entry.get("revision", self.revision)
        if seen != self.revision and (op in ("undo", "redo") or self._names_made(entry)):
            raise ConflictError("the clusters were edited elsewhere meanwhile; look at them again")
        if op in ("undo", "redo"):
            source, target = (self.entries, self.undone) if op == "undo" else (self.undone, self.entries)
            if not source:
                raise InputError(f"there is nothing to {op}")
            target.append(source.pop())
            self.replay("annotations")
            self.revision += 1
            return
        entry = {**self._checked(entry), "at": datetime.now(UTC).isoformat(timespec="seconds")}
        self._carry_out(entry)
        self.entries.append(entry)
        self.undone.clear()
        self.revision += 1

    def saved(self) -> dict[str, Any]:
        """Return what is kept in the file."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "revision": self.revision,
            "clusters": self.clusters,
            "entries": self.entries,
            "undone": self.undone,
        }

    def _unedited(self) -> dict[str, Edits]:
        return {name: Edits(names=dict(self.names.get(name, {}))) for name in self.clusters}

    def _checked(self, entry: Entry) -> Entry:
        """Return the parts of an edit that belong to it, each of which is sound."""
        op, labelling = entry.get("op"), entry.get("labelling", "consensus")
        if not isinstance(labelling, str) or labelling not in self.clusters:
            raise InputError(f"there is no labelling {labelling!r}; there are {', '.join(self.clusters)}")
        checked: Entry = {"op": op, "labelling": labelling}
        if op == "rename":
            return checked | {"cluster": self._cluster(labelling, entry.get("cluster")), "name": _name(entry)}
        if op == "merge":
            joined = [self._cluster(labelling, cluster) for cluster in _list_of(entry.get("clusters"))]
            if not joined:
                raise InputError("merge needs the clusters to join")
            into = self._cluster(labelling, entry.get("into"))
            if into in joined:
                raise InputError(f"cluster {into} cannot be joined with itself")
            return checked | {"clusters": list(dict.fromkeys(joined)), "into": into}
        if op == "move":
            checked["videos"] = _videos(entry)
            if entry.get("to") == "new":
                return checked | {"to": "new", "name": _name(entry)}
            return checked | {"to": self._cluster(labelling, entry.get("to"))}
        if op == "wrong":
            if not isinstance(entry.get("wrong"), bool):
                raise InputError("wrong needs true or false")
            return checked | {"videos": _videos(entry), "wrong": entry["wrong"]}
        raise InputError(f"there is no edit {op!r}; there are rename, merge, move, wrong, undo, redo")

    def _names_made(self, entry: Entry) -> bool:
        """Tell whether an edit is of a cluster that people have made, whose number may have been another's."""
        least = min(self.clusters.values())
        named = [entry.get("cluster"), entry.get("into"), entry.get("to"), *_list_of(entry.get("clusters"))]
        return any(_is_int(cluster) and cluster >= least for cluster in named)

    def _cluster(self, labelling: str, cluster: Any) -> int:
        edits = self.edits[labelling]
        count = self.clusters[labelling] + len(edits.made)
        if not _is_int(cluster) or not 0 <= cluster < count:
            raise InputError(f"there is no cluster {cluster!r}; they are numbered 0 to {count - 1}")
        if cluster in edits.merged:
            raise InputError(f"cluster {cluster} was joined into cluster {edits.merged[cluster]}")
        return cluster

    def _carry_out(self, entry: Entry) -> None:
        entry = self._checked(entry)
        edits = self.edits[entry["labelling"]]
        match entry["op"]:
            case "rename":
                _put(edits.names, entry["cluster"], entry["name"])
            case "merge":
                into = entry["into"]
                for cluster in entry["clusters"]:
                    for old, target in edits.merged.items():
                        edits.merged[old] = into if target == cluster else target
                    edits.merged[cluster] = into
                    name = edits.names.pop(cluster, "")
                    if name:
                        edits.names.setdefault(into, name)
            case "move":
                to = entry["to"]
                if to == "new":
                    to = self.clusters[entry["labelling"]] + len(edits.made)
                    edits.made.append(to)
                    _put(edits.names, to, entry["name"])
                edits.moved.update(dict.fromkeys(entry["videos"], to))
                edits.wrong.difference_update(entry["videos"])
            case "wrong":
                change = edits.wrong.update if entry["wrong"] else edits.wrong.difference_update
                change(entry["videos"])


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
    """Return the file for the edits of a table of labels or a store that belongs to no run."""
    path = Path(source)
    return path.with_name(f"{path.stem}.annotations.json")


def _put(names: dict[int, str], cluster: int, name: str) -> None:
    if name:
        names[cluster] = name
    else:
        names.pop(cluster, None)


def _list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _name(entry: Entry) -> str:
    name = entry.get("name", "")
    if not isinstance(name, str):
        raise InputError("a name must be a text")
    name = " ".join(name.split())
    if len(name) > LONGEST_NAME:
        raise InputError(f"a name has at most {LONGEST_NAME} characters, not {len(name)}")
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise InputError("a name must be a text that can be written as UTF-8")
    return name


def _videos(entry: Entry) -> list[str]:
    videos = entry.get("videos")
    if not isinstance(videos, list) or not videos or not all(isinstance(path, str) for path in videos):
        raise InputError(f"{entry['op']} needs the videos that are meant")
    return list(dict.fromkeys(videos))


def _words(entry: Entry) -> str:
    """Say what an edit did."""
    match entry["op"]:
        case "rename":
            name = entry["name"]
            return f"name cluster {entry['cluster']} {name!r}" if name else f"unname cluster {entry['cluster']}"
        case "merge":
            return f"merge {_listed('cluster', entry['clusters'])} into {entry['into']}"
        case "move":
            to = entry["to"]
            place = f"cluster {to}" if to != "new" else f"a new cluster {entry['name']!r}".replace(" ''", "")
            return f"move {_counted(entry['videos'])} to {place}"
        case _:
            return f"mark {_counted(entry['videos'])} as {'wrong' if entry['wrong'] else 'not wrong'}"


def _counted(videos: Sequence[str]) -> str:
    return "a video" if len(videos) == 1 else f"{len(videos)} videos"


def _listed(what: str, numbers: Sequence[int]) -> str:
    return f"{what}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _read(file: Path, clusters: Mapping[str, int]) -> tuple[list[Entry], list[Entry], int]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [], [], 0
    except (OSError, ValueError) as error:
        raise InputError(f"{printable(file)} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{printable(file)} holds no annotations of selavi")
    if data.get("version") != VERSION:
        raise InputError(f"{printable(file)} is of version {data.get('version')}; this program reads {VERSION}")
    if data.get("clusters") != dict(clusters):
        raise InputError(
            f"{printable(file)} belongs to other labels: it was made for {_counts(data.get('clusters'))} clusters, and "
            f"there are {_counts(clusters)}; move it away to begin anew"
        )
    lists = [data.get(name) for name in ("entries", "undone")]
    if not all(isinstance(part, list) and all(isinstance(entry, dict) for entry in part) for part in lists):
        raise InputError(f"{printable(file)} is damaged: entries and undone must be lists of edits")
    revision = data.get("revision")
    return [*lists[0]], [*lists[1]], revision if _is_int(revision) else 0  # type: ignore[misc]


def _counts(clusters: Any) -> str:
    if not isinstance(clusters, Mapping):
        return "unknown"
    return ", ".join(f"{number} ({name})" for name, number in clusters.items())


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Keep other programs from editing at the same time, where the file system can."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    try:
        lock = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SelaviError(f"{printable(file)} cannot be written: {error.strerror}") from error
    try:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
