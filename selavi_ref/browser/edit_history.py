"""Edits of labels in the order in which a user made them: checked, applied, undone and redone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError, printable

FORMAT, VERSIONS = "selavi annotations", (1, 2)  # 2: with the edit "exclude"
LONGEST_NAME = 200
Entry = dict[str, Any]


@dataclass
class Edits:
    """
    The combined effect of all edits of one labelling; clusters from number K on were created by the user.

    Parameters
    ----------
    names : dict
        Cluster to name.
    merged : dict
        Cluster to the cluster that it was merged into, in one step: no target is itself merged into another.
    moved : dict
        Path of a video to the cluster that it was moved to.
    wrong : set
        Paths of videos that are marked as wrong in their cluster.
    excluded : dict
        Path of a video to clusters in which it was marked as wrong before it was given another label by learning.
    created : list
        Clusters that the user has created.
    """

    names: dict[int, str] = field(default_factory=dict)
    merged: dict[int, int] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    excluded: dict[str, set[int]] = field(default_factory=dict)
    created: list[int] = field(default_factory=list)

    def merge_targets(self, K: int) -> NDArray[np.int32]:
        """Return the cluster that each of K learnt clusters, and of the created ones, now belongs to; int32."""
        return np.array([self.merged.get(k, k) for k in range(K + len(self.created))], np.int32)

    def apply(self, paths: Sequence[str], learnt: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the cluster of each video after merging and moving, int32 (N,); -1 without label."""
        target = np.arange(-1, learnt.max(initial=-1) + 1, dtype=np.int32)
        target = np.roll(target, -1)  # index -1, the last entry, is "no label"
        for cluster, into in self.merged.items():
            if cluster < len(target) - 1:
                target[cluster] = into
        labels = target[learnt]
        if self.moved:
            for row, path in enumerate(paths):
                if path in self.moved:
                    labels[row] = self.merged.get(self.moved[path], self.moved[path])
        return labels

    def marks(self, paths: Sequence[str]) -> list[str]:
        """Return ``"wrong"``, ``"moved"`` or ``""`` for each video."""
        return ["wrong" if path in self.wrong else "moved" if path in self.moved else "" for path in paths]


class ConflictError(InputError):
    """An edit that refers to a state which another edit has changed since."""


class EditHistory:
    """
    The list of edits of all labellings, with undo and redo.

    Parameters
    ----------
    clusters : mapping
        Number of learnt clusters of each labelling.
    names : mapping
        Names before any edit.
    entries, undone : list
        Edits in effect, and undone edits, the most recently undone one last.
    revision : int
        Grows with every edit.
    learnt : str
        The learning that these edits have followed, see `follow_learning`.
    """

    def __init__(
        self,
        clusters: Mapping[str, int],
        names: Mapping[str, Mapping[int, str]],
        entries: list[Entry],
        undone: list[Entry],
        revision: int,
        learnt: str = "",
    ):
        self.clusters = dict(clusters)
        self.names = names
        self.entries = entries
        self.undone = undone
        self.revision = revision
        self.learnt = learnt
        self.edits = self._without_edits()

    @property
    def undo(self) -> str | None:
        """Description of the edit that undo would revert."""
        return _describe(self.entries[-1]) if self.entries else None

    @property
    def redo(self) -> str | None:
        """Description of the edit that redo would repeat."""
        return _describe(self.undone[-1]) if self.undone else None

    def edits_of(self, labelling: str) -> Edits:
        """Return the edits of a labelling, ``"consensus"`` or the name of a head."""
        return self.edits.get(labelling, Edits())

    def replay(self, source: str) -> None:
        """Recompute the combined effect of all entries; an InputError names the `source` of one that does not fit."""
        self.edits = self._without_edits()
        for number, entry in enumerate(self.entries):
            try:
                self._apply(entry)
            except (InputError, KeyError, TypeError) as error:
                message = f"{printable(source)}: entry {number} does not fit: {error}"
                raise InputError(message, path=source, row=number) from error

    def apply(self, entry: Entry) -> None:
        """Apply an edit, undo or redo, or raise InputError and change nothing."""
        op, seen = entry.get("op"), entry.get("revision", self.revision)
        if seen != self.revision and (op in ("undo", "redo") or self._refers_to_created(entry)):
            raise ConflictError("the clusters have been edited elsewhere in the meantime; look at them again")
        if op in ("undo", "redo"):
            source, target = (self.entries, self.undone) if op == "undo" else (self.undone, self.entries)
            if not source:
                raise InputError(f"there is nothing to {op}", option="op", value=op)
            target.append(source.pop())
            self.replay("annotations")
            self.revision += 1
            return
        entry = {**self._checked(entry), "at": datetime.now(UTC).isoformat(timespec="seconds")}
        self._apply(entry)
        self.entries.append(entry)
        self.undone.clear()
        self.revision += 1

    def follow_learning(
        self, learnt: str, K: int, moved_on: Mapping[str, int], lost_names: Sequence[int], labelling: str = "consensus"
    ) -> None:
        """
        Let the edits follow labels that were learnt with them as constraints; nothing happens a second time.

        Clusters that people have created are learnt ones now, with the same numbers. Edits that were undone before
        cannot be repeated any more.

        Parameters
        ----------
        learnt : str
            Name of the learning.
        K : int
            Number of learnt clusters now.
        moved_on : mapping of str to int
            Path of each video that was marked as wrong and has another label now -> the cluster that it was wrong in.
        lost_names : sequence of int
            Clusters whose name no longer fits.
        labelling : str
            The labelling that was learnt; in others, clusters that people have created get new numbers.
        """
        if self.learnt == learnt:
            return
        before, entries, created = dict(self.clusters), [], 0
        for entry in self.entries:
            entry = dict(entry)
            if entry["labelling"] != labelling:
                entries.append(_shifted(entry, before[entry["labelling"]], K - before[entry["labelling"]]))
                continue
            if entry["op"] == "wrong":
                entry["videos"] = [path for path in entry["videos"] if path not in moved_on]
            if entry["op"] == "move" and entry["to"] == "new":
                entry["to"] = before[labelling] + created
                created += 1
                name = entry.pop("name", "")
                entries.append(entry)
                if name:
                    rename = {"op": "rename", "labelling": labelling, "cluster": entry["to"], "name": name}
                    entries.append(rename | {"at": entry.get("at", "")})
            elif entry.get("videos", True):
                entries.append(entry)
        now = {"labelling": labelling, "at": datetime.now(UTC).isoformat(timespec="seconds")}
        for cluster in sorted(set(moved_on.values())):
            videos = [path for path, wrong_in in moved_on.items() if wrong_in == cluster]
            entries.append({"op": "exclude", "videos": videos, "cluster": cluster, **now})
        self.clusters = dict.fromkeys(before, K)
        self.entries, self.undone, self.learnt = entries, [], learnt
        self.replay("annotations")
        names = self.edits_of(labelling).names
        self.entries += [{"op": "rename", "cluster": k, "name": "", **now} for k in lost_names if k in names]
        self.replay("annotations")
        self.revision += 1

    def to_json(self) -> dict[str, Any]:
        """Return the content of the annotations file."""
        excluding = any(entry.get("op") == "exclude" for entry in (*self.entries, *self.undone))
        return {
            "format": FORMAT,
            "version": VERSIONS[excluding],
            "revision": self.revision,
            "clusters": self.clusters,
            "entries": self.entries,
            "undone": self.undone,
        } | ({"learnt": self.learnt} if self.learnt else {})

    def _without_edits(self) -> dict[str, Edits]:
        return {name: Edits(names=dict(self.names.get(name, {}))) for name in self.clusters}

    def _checked(self, entry: Entry) -> Entry:
        """Return the valid fields of an edit, without any others."""
        op, labelling = entry.get("op"), entry.get("labelling", "consensus")
        if not isinstance(labelling, str) or labelling not in self.clusters:
            known = ", ".join(self.clusters)
            raise InputError(
                f"there is no labelling {labelling!r}; there are {known}", option="labelling", value=labelling
            )
        checked: Entry = {"op": op, "labelling": labelling}
        if op == "rename":
            return checked | {"cluster": self._cluster(labelling, entry.get("cluster")), "name": _name(entry)}
        if op == "merge":
            return checked | self._checked_merge(labelling, entry)
        if op == "move":
            checked["videos"] = _videos(entry)
            if entry.get("to") == "new":
                return checked | {"to": "new", "name": _name(entry)}
            return checked | {"to": self._cluster(labelling, entry.get("to"))}
        if op == "exclude":
            return checked | {"videos": _videos(entry), "cluster": self._known(labelling, entry.get("cluster"))}
        if op == "wrong":
            if not isinstance(entry.get("wrong"), bool):
                raise InputError("wrong needs true or false", option="wrong")
            return checked | {"videos": _videos(entry), "wrong": entry["wrong"]}
        known = "rename, merge, move, wrong, undo, redo"
        raise InputError(f"there is no edit {op!r}; there are {known}", option="op", value=op)

    def _checked_merge(self, labelling: str, entry: Entry) -> Entry:
        clusters = [self._cluster(labelling, cluster) for cluster in _as_list(entry.get("clusters"))]
        if not clusters:
            raise InputError("merge needs clusters", option="clusters")
        into = self._cluster(labelling, entry.get("into"))
        if into in clusters:
            raise InputError(f"cluster {into} cannot be merged with itself", option="into", value=into)
        return {"clusters": list(dict.fromkeys(clusters)), "into": into}

    def _refers_to_created(self, entry: Entry) -> bool:
        """Tell whether an edit names a cluster that the user created, whose number may have meant another one."""
        least = min(self.clusters.values())
        named = [entry.get("cluster"), entry.get("into"), entry.get("to"), *_as_list(entry.get("clusters"))]
        return any(_is_int(cluster) and cluster >= least for cluster in named)

    def _cluster(self, labelling: str, cluster: Any) -> int:
        edits = self.edits[labelling]
        self._known(labelling, cluster)
        if cluster in edits.merged:
            message = f"cluster {cluster} was merged into cluster {edits.merged[cluster]}"
            raise InputError(message, option="cluster", value=cluster)
        return int(cluster)

    def _known(self, labelling: str, cluster: Any) -> int:
        edits = self.edits[labelling]
        count = self.clusters[labelling] + len(edits.created)
        if not _is_int(cluster) or not 0 <= cluster < count:
            message = f"there is no cluster {cluster!r}; they are numbered 0 to {count - 1}"
            raise InputError(message, option="cluster", value=cluster)
        return cluster

    def _apply(self, entry: Entry) -> None:
        entry = self._checked(entry)
        edits = self.edits[entry["labelling"]]
        match entry["op"]:
            case "rename":
                _set_name(edits.names, entry["cluster"], entry["name"])
            case "merge":
                _merge(edits, entry["clusters"], entry["into"])
            case "move":
                to = entry["to"]
                if to == "new":
                    to = self.clusters[entry["labelling"]] + len(edits.created)
                    edits.created.append(to)
                    _set_name(edits.names, to, entry["name"])
                edits.moved.update(dict.fromkeys(entry["videos"], to))
                edits.wrong.difference_update(entry["videos"])
            case "exclude":
                for path in entry["videos"]:
                    edits.excluded.setdefault(path, set()).add(entry["cluster"])
            case "wrong":
                change = edits.wrong.update if entry["wrong"] else edits.wrong.difference_update
                change(entry["videos"])


def _merge(edits: Edits, clusters: Sequence[int], into: int) -> None:
    """Merge clusters, and those that were merged into them before; a name goes to a cluster that has none."""
    for cluster in clusters:
        for old, target in edits.merged.items():
            edits.merged[old] = into if target == cluster else target
        edits.merged[cluster] = into
        name = edits.names.pop(cluster, "")
        if name:
            edits.names.setdefault(into, name)


def _shifted(entry: Entry, least: int, by: int) -> Entry:
    """Return an edit in which clusters from a number on have a number that is larger."""

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [moved(item) for item in value]
        return value + by if _is_int(value) and value >= least else value

    return {
        name: moved(value) if name in ("cluster", "clusters", "into", "to") else value for name, value in entry.items()
    }


def _set_name(names: dict[int, str], cluster: int, name: str) -> None:
    if name:
        names[cluster] = name
    else:
        names.pop(cluster, None)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _name(entry: Entry) -> str:
    name = entry.get("name", "")
    if not isinstance(name, str):
        raise InputError("a name must be a text", option="name", value=name)
    name = " ".join(name.split())
    if len(name) > LONGEST_NAME:
        message = f"a name has at most {LONGEST_NAME} characters, not {len(name)}"
        raise InputError(message, option="name", value=name)
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise InputError("a name must be a text that can be written as UTF-8", option="name", value=name)
    return name


def _videos(entry: Entry) -> list[str]:
    videos = entry.get("videos")
    if not isinstance(videos, list) or not videos or not all(isinstance(path, str) for path in videos):
        raise InputError(f"{entry['op']} needs a list of videos", option="videos")
    return list(dict.fromkeys(videos))


def _describe(entry: Entry) -> str:
    """Return a short description of an edit."""
    match entry["op"]:
        case "rename":
            name = entry["name"]
            return f"name cluster {entry['cluster']} {name!r}" if name else f"unname cluster {entry['cluster']}"
        case "merge":
            numbers = ", ".join(map(str, entry["clusters"]))
            return f"merge cluster{'s' * (len(entry['clusters']) > 1)} {numbers} into {entry['into']}"
        case "move":
            to = entry["to"]
            target = f"cluster {to}" if to != "new" else f"a new cluster {entry['name']!r}".replace(" ''", "")
            return f"move {_count(entry['videos'])} to {target}"
        case "exclude":
            return f"keep {_count(entry['videos'])} out of cluster {entry['cluster']}"
        case _:
            return f"mark {_count(entry['videos'])} as {'wrong' if entry['wrong'] else 'not wrong'}"


def _count(videos: Sequence[str]) -> str:
    return "a video" if len(videos) == 1 else f"{len(videos)} videos"
