"""Proposed names of clusters with their scores, and the file that holds them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selavi_ref.errors import InputError, printable, reason
from selavi_ref.runs.atomic import replacing

FORMAT, VERSION = "selavi names", 1
LONGEST = 200  # characters of a name


@dataclass(frozen=True)
class Proposal:
    """
    A proposed name of a cluster.

    Parameters
    ----------
    name : str
        The name.
    score : float or None
        Correlation of what speaks for the name with membership in the cluster, over all videos: 1 where it is found in
        exactly the cluster's videos, 0 where it says nothing about them; None if not known.
    source : str
        Where it comes from: ``"files"``, the name of an encoder, or ``"program"``.
    """

    name: str
    score: float | None
    source: str


Proposals = Mapping[int, list[Proposal]]  # cluster -> best first


@dataclass
class ProposalsFile:
    """
    The proposals of all labellings of a run, a table or a store.

    Parameters
    ----------
    path : Path
        The file, such as ``names.json`` in a run; it need not exist.
    clusters : int
        Learnt clusters K; proposals for another number of clusters are those of other labels, and are ignored.
    labellings : dict
        Proposals of each labelling.
    """

    path: Path
    clusters: int
    labellings: dict[str, dict[int, list[Proposal]]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | os.PathLike[str], clusters: int) -> ProposalsFile:
        """
        Read a file of proposals; one that does not exist holds none.

        Raises
        ------
        InputError
            If the file cannot be read, or holds something else.
        """
        file = Path(path)
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(file, clusters)
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{printable(file)} cannot be read: {reason(error)}", path=file) from error
        if not isinstance(data, dict) or (data.get("format"), data.get("version")) != (FORMAT, VERSION):
            raise InputError(f"{printable(file)} holds no proposals of selavi name; move it away", path=file)
        if data.get("clusters") != clusters:
            return cls(file, clusters)
        try:
            found = {
                labelling: {int(cluster): [_proposal(one) for one in several] for cluster, several in of.items()}
                for labelling, of in data["labellings"].items()
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{printable(file)} is damaged; remove it and run selavi name again", path=file) from error
        return cls(file, clusters, found)

    def of(self, labelling: str) -> dict[int, list[Proposal]]:
        """Return the proposals of a labelling, best first; none if there are none."""
        return self.labellings.get(labelling, {})

    def replace(self, labelling: str, source: str, proposals: Proposals) -> None:
        """Put proposals in place of all earlier ones of the same source; of equal names the better one stays."""
        kept = {
            cluster: [one for one in several if one.source != source]
            for cluster, several in self.labellings.get(labelling, {}).items()
        }
        clusters = sorted({*kept, *proposals})
        merged = {cluster: ranked([*kept.get(cluster, []), *proposals.get(cluster, [])]) for cluster in clusters}
        self.labellings[labelling] = {cluster: several for cluster, several in merged.items() if several}

    def write(self) -> None:
        """
        Write the file.

        Raises
        ------
        SelaviError
            If it cannot be written.
        """
        data = {
            "format": FORMAT,
            "version": VERSION,
            "clusters": self.clusters,
            "labellings": {name: proposals_json(proposals) for name, proposals in self.labellings.items()},
        }
        with replacing(self.path, "w", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=True, indent=1)


def ranked(proposals: Iterable[Proposal]) -> list[Proposal]:
    """Return proposals by falling score, those without score last; of equal names only the first."""
    ordered = sorted(proposals, key=lambda one: -2.0 if one.score is None else one.score, reverse=True)
    return list({one.name.casefold(): one for one in reversed(ordered)}.values())[::-1]


def proposals_json(proposals: Proposals) -> dict[str, list[dict[str, Any]]]:
    """Return proposals as JSON holds them: cluster -> objects with ``name``, ``score`` and ``source``."""
    return {
        str(cluster): [
            {"name": one.name, "score": None if one.score is None else round(one.score, 4), "source": one.source}
            for one in several
        ]
        for cluster, several in proposals.items()
    }


def clean_name(text: str) -> str:
    """Return a text as a name: one line, without control characters, of at most `LONGEST` characters."""
    printing = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printing.split())[:LONGEST].strip()


def choose_names(
    proposals: Proposals, least: float, taken: Mapping[int, str], clusters: Iterable[int]
) -> dict[int, str]:
    """
    Choose a proposal for each cluster without a name, the best scores first, no name twice.

    Parameters
    ----------
    proposals : mapping of int to list of Proposal
        Proposals of each cluster.
    least : float
        Least score of a proposal that is chosen.
    taken : mapping of int to str
        Names that clusters have already.
    clusters : iterable of int
        The clusters that there are.

    Returns
    -------
    dict of int to str
        Names of clusters that had none.
    """
    used = {name.casefold() for name in taken.values()}
    offers = sorted(
        (-one.score, cluster, one.name)
        for cluster in clusters
        if cluster not in taken
        for one in proposals.get(cluster, [])
        if one.score is not None and one.score >= least
    )
    chosen: dict[int, str] = {}
    for _, cluster, name in offers:
        if cluster not in chosen and name.casefold() not in used:
            chosen[cluster] = name
            used.add(name.casefold())
    return dict(sorted(chosen.items()))


def _proposal(data: Mapping[str, Any]) -> Proposal:
    score = data["score"]
    if not isinstance(data["name"], str) or not isinstance(data["source"], str):
        raise TypeError("a name must be a text")
    if score is not None and not math.isfinite(score):
        raise ValueError("a score must be a finite number")
    return Proposal(clean_name(data["name"]), None if score is None else float(score), data["source"])
