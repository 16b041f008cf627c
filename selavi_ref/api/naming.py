"""Proposals of names for the clusters of a run, a table or a store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.browser.collection import Collection
from selavi_ref.browser.final_labels import final_labels
from selavi_ref.errors import FilePath, InputError, printable
from selavi_ref.naming.evidence import names_from_probabilities, names_from_words
from selavi_ref.naming.program import SOURCE, ask_program
from selavi_ref.naming.proposals import Proposal, ProposalsFile, choose_names
from selavi_ref.naming.texts import describing_words
from selavi_ref.runs.csv_file import without_surrogates
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore

_EXAMPLES = 20  # videos of a cluster that a program is told of
FILES = "files"


@dataclass(frozen=True)
class ClassProbabilities:
    """
    Probabilities of named classes for videos, by a classifier or by a model of pictures (or sounds) and texts.

    Parameters
    ----------
    source : str
        Where they come from, such as the name of an encoder.
    names : sequence of str
        The C classes.
    paths : sequence of str
        The N videos.
    log_prob : array
        Log-probabilities, float32, shape (N, C); NaN for a video that has none.
    """

    source: str
    names: Sequence[str]
    paths: Sequence[str]
    log_prob: NDArray[np.float32]


@dataclass(frozen=True)
class NamedClusters:
    """
    What `propose_names` has found.

    Parameters
    ----------
    proposals : dict of int to list of Proposal
        Proposed names of each cluster, best first, from all sources, those of earlier calls included.
    names : dict of int to str
        Names that clusters have now.
    accepted : dict of int to str
        Those of them that were given by this call.
    """

    proposals: dict[int, list[Proposal]]
    names: dict[int, str]
    accepted: dict[int, str] = field(default_factory=dict)


def class_probabilities(store: FilePath) -> list[ClassProbabilities]:
    """
    Return the class probabilities that a store holds, of each encoder that knows classes by name.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    with FeatureStore(store) as opened:
        encoders = opened.provenance.get("encoders", {})
        return [
            ClassProbabilities(
                space, encoders[space]["class_names"], opened.paths, opened.get(f"class_log_prob/{space}")
            )
            for space in encoders
            if opened.has(f"class_log_prob/{space}")
        ]


def stored_class_probabilities(run: Run) -> list[ClassProbabilities]:
    """Return the class probabilities in the store that a run has learnt from, if it has learnt from one."""
    store = run.config.get("store")
    return class_probabilities(store) if store and os.path.exists(store) else []


def propose_names(
    collection: Collection,
    *,
    files: bool = True,
    classes: Sequence[ClassProbabilities] = (),
    program: str | None = None,
    seconds: float = 60.0,
    accept: float | None = None,
    labelling: str = "consensus",
    reporter: Reporter = SILENT,
) -> NamedClusters:
    """
    Propose names for clusters, and save the proposals, which the page of ``selavi browse`` shows.

    Nothing is named unless `accept` is given, and no name that a cluster has is ever replaced. Videos that a person has
    moved count where they are now, those marked as wrong are left out.

    Parameters
    ----------
    collection : Collection
        From `selavi_ref.browser.collection.open_collection`.
    files : bool
        Propose words of file names, folders, and texts beside the videos (.txt, .json, .srt).
    classes : sequence of ClassProbabilities
        Propose the classes that are more probable in a cluster than elsewhere.
    program : str, optional
        Command line or HTTP address that is asked for the name of each cluster without one; see
        `selavi_ref.naming.program.ask_program`.
    seconds : float
        Longest time for one answer of it.
    accept : float, optional
        Name each nameless cluster by its best proposal, if the score is at least this.
    labelling : str
        ``"consensus"``, or the number of a head.
    reporter : Reporter
        Receives progress.

    Raises
    ------
    InputError
        If class probabilities are of other videos, or the program fails; what was proposed before is saved.
    """
    file = collection.proposals()
    final = final_labels(collection, labelling)
    label = np.where([mark == "wrong" for mark in final.mark], -1, final.cluster).astype(np.int32)
    if files:
        file.replace(labelling, FILES, names_from_words(describing_words(collection.files), label, FILES))
    for evidence in classes:
        log_prob = _aligned(evidence, collection)
        found = names_from_probabilities(log_prob, evidence.names, label, evidence.source)
        file.replace(labelling, evidence.source, found)
    present = sorted(set(label[label >= 0].tolist()))
    named = _names(collection, labelling)
    try:
        if program is not None:
            _ask(file, labelling, [k for k in present if k not in named], collection, label, program, seconds, reporter)
    finally:
        file.write()
    proposals = {k: file.of(labelling)[k] for k in present if k in file.of(labelling)}
    accepted = {}
    if accept is not None:
        chosen = choose_names(proposals, accept, named, present)
        accepted = collection.annotations.name_unnamed(labelling, chosen)
    return NamedClusters(proposals, _names(collection, labelling), accepted)


def _names(collection: Collection, labelling: str) -> dict[int, str]:
    return dict(collection.annotations.read().edits_of(labelling).names)


def _aligned(evidence: ClassProbabilities, collection: Collection) -> NDArray[np.float32]:
    """Return the log-probabilities in the order of a collection; NaN for videos that they lack."""
    rows = {path: row for row, path in enumerate(evidence.paths)}
    found = [rows.get(path, rows.get(file, -1)) for path, file in zip(collection.paths, collection.files, strict=True)]
    where = np.array(found, np.int64)
    if not (where >= 0).any():
        raise InputError(
            f"the class probabilities of {evidence.source} are of other videos: none of them is in "
            f"{printable(collection.source)}; make them with selavi name --encoder",
            option="classes",
        )
    aligned = np.full((len(where), len(evidence.names)), np.nan, np.float32)
    aligned[where >= 0] = evidence.log_prob[where[where >= 0]]
    return aligned


def _ask(
    file: ProposalsFile,
    labelling: str,
    clusters: Sequence[int],
    collection: Collection,
    label: NDArray[np.int32],
    program: str,
    seconds: float,
    reporter: Reporter,
) -> None:
    """Ask a program for the name of each cluster."""
    known = {k: file.of(labelling).get(k, []) for k in clusters}
    answers: dict[int, list[Proposal]] = {}
    try:
        with reporter.bar(len(clusters), "asking", "cluster") as bar:
            for cluster in clusters:
                answer = ask_program(program, _facts(cluster, collection, labelling, label, known[cluster]), seconds)
                if answer is not None:
                    answers[cluster] = [answer]
                bar.update(1)
    finally:
        file.replace(labelling, SOURCE, answers)


def _facts(
    cluster: int, collection: Collection, labelling: str, label: NDArray[np.int32], proposals: Sequence[Proposal]
) -> Mapping[str, Any]:
    """Return what a program is told of a cluster."""
    learnt = collection.labelling(labelling)
    members = label == cluster
    typical = [row for row in learnt.order if members[row]]
    rows = [*typical, *(row for row in np.flatnonzero(members).tolist() if row not in set(typical))][:_EXAMPLES]
    confidence = learnt.confidence[members]
    confidence = confidence[np.isfinite(confidence)]
    return {
        "cluster": cluster,
        "videos": int(members.sum()),
        "of": len(collection),
        "confidence": round(float(confidence.mean()), 4) if len(confidence) else None,
        "examples": [without_surrogates(collection.files[row]) for row in rows],
        "proposals": [
            {"name": one.name, "score": one.score, "source": one.source} for one in proposals if one.source != SOURCE
        ],
        "names": {str(k): name for k, name in _names(collection, labelling).items()},
    }
