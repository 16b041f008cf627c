"""Check how far labels can be trusted, from labels, store and files, without true classes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from selavi_ref.diagnostics import agreement, suspicion
from selavi_ref.diagnostics.duplicates import Group, duplicates
from selavi_ref.diagnostics.file_measures import Measures
from selavi_ref.diagnostics.finding import Finding, Severity, counted, listed, shown, unmeasured
from selavi_ref.diagnostics.fit import ModalityViews, far_out, misfits, modality_views
from selavi_ref.diagnostics.shortcuts import shortcuts
from selavi_ref.ensemble.labels import Labels
from selavi_ref.ensemble.matching import match_numbers
from selavi_ref.errors import InputError, printable
from selavi_ref.report.table import Cell, Table
from selavi_ref.runs.provenance import Provenance
from selavi_ref.store import FeatureStore

__all__ = ["Finding", "Report", "check"]

_WHOLE = ("sizes", "confidence", "heads", "modalities", "clips", "stability", "shortcut")  # about all labels
_EVIDENCE = ("heads", "modalities", "clips", "stability")  # at least one of these is needed to trust the labels
_COLUMNS = {"path": "video", "label": "label", "why": "why", "figure": "fit (0 to 1)"}


@dataclass(frozen=True)
class Report:
    """
    The result of a check.

    Parameters
    ----------
    findings : list of Finding
        Findings in a fixed order; the last one, ``verdict``, sums up the others.
    videos : Table
        One row for each suspicious video: ``path``, ``label``, ``why``, and as ``figure`` its fit (see
        `selavi_ref.diagnostics.fit.ModalityViews`); those with the most reasons first, then those that fit worst.
    """

    findings: list[Finding]
    videos: Table

    @property
    def verdict(self) -> Finding:
        """The finding that sums up the others."""
        return self.findings[-1]

    def table(self) -> Table:
        """Return the findings as a table: ``name``, ``severity``, ``sentence``; the figures are in its facts."""
        rows: list[Mapping[str, Cell]] = [
            {"name": each.name, "severity": each.severity, "sentence": each.sentence} for each in self.findings
        ]
        columns = {"name": "check", "severity": "verdict", "sentence": "finding"}
        return Table("How far the labels can be trusted", columns, rows, facts={"figures": self._figures()})

    def _figures(self) -> dict[str, Mapping[str, float | int | str]]:
        return {finding.name: finding.figures for finding in self.findings}


def check(
    store: FeatureStore,
    labels: Labels,
    *,
    measures: Sequence[Measures] | None = None,
    located: Sequence[str] | None = None,
    other: tuple[str, Mapping[str, int]] | None = None,
    rng: np.random.Generator,
) -> Report:
    """
    Check how far labels can be trusted, without the true classes that a store may hold.

    Parameters
    ----------
    store : FeatureStore
        The store of the labels; its features are used if it has any.
    labels : Labels
        Labels of all videos of the store, see `selavi_ref.ensemble.labels.label_store`.
    measures : sequence of Measures, optional
        Measures of the video files, in any order; a video without one counts as a file that could not be read.
    located : sequence of str, optional
        Present path of each video's file; by default the path in the store.
    other : (str, mapping of str to int), optional
        Name of a second run, such as with another seed, and its label of each path (-1 for none). Paths may be
        as in the store or absolute.
    rng : Generator
        For cross-validation and shuffled labels.

    Returns
    -------
    Report
        Findings and suspicious videos.

    Raises
    ------
    InputError
        If the labels are not of the store's videos, or it has no log-probabilities.
    """
    if labels.paths != store.paths or not store.heads:
        raise InputError(
            f"{printable(store.path)}: the labels must be of its videos, and it needs log-probabilities",
            path=store.path,
        )
    K = store.n_clusters
    view = modality_views(store, labels.groups)
    outlying = far_out(store, labels.label)
    bad = misfits(view.fit, outlying, K) & (labels.label >= 0)
    second = None if other is None else _numbers(store.paths, other[1])
    files = None if measures is None else _measures_of(located or store.paths, measures)
    groups = None if files is None else duplicates(files, labels.label)

    findings = [
        agreement.sizes(labels.label, K),
        agreement.confidence(labels),
        agreement.heads(labels, store.heads, _share_labels(store)),
        agreement.modalities(labels.label, view.labels, K),
        agreement.clips(labels.label, labels.disagreement),
        _stability(labels, other, second),
        *_shortcuts(labels, files, rng),
        suspicion.duplicates(groups, len(labels.paths), sum(bool(file.reason) for file in files or ())),
        suspicion.misfits(bad, labels.label, K, outlying is not None),
    ]
    reasons = _reasons(labels, view, bad, second, groups)
    if files is not None:
        for row, file in enumerate(files):
            if file.reason:
                reasons[row].append(f"the file could not be read: {file.reason}")
    return Report([*findings, verdict(findings)], _table(labels, view, reasons))


def verdict(findings: Sequence[Finding]) -> Finding:
    """
    Sum up findings in one sentence.

    A warning about the labels as a whole (sizes, confidence, heads, modalities, clips, stability, a shortcut) is a
    warning. Anything else that is not ok needs a look, such as duplicates and misfits, which concern single videos, and
    labels without evidence: neither modalities, clips, a second run, nor heads that were trained on different labels
    could be compared.
    """
    measured = [finding for finding in findings if finding.measured]
    missing = [finding.name for finding in findings if not finding.measured]
    if unreadable := sum(int(finding.figures.get("unreadable", 0)) for finding in measured):
        missing.append(counted(unreadable, "file"))
    against = [f.name for f in measured if f.severity == "warning" and f.name.partition(":")[0] in _WHOLE]
    looks = [f.name for f in measured if f.severity != "ok" and f.name not in against]
    has_evidence = any(f.name in _EVIDENCE and not f.figures.get("taught_alike") for f in measured)
    severity: Severity = "ok"
    if against:
        severity = "warning"
        sentence = f"the labels cannot be trusted as they are: against them stand {listed(against)}"
        sentence += f"; look also at {listed(looks)}" if looks else ""
    elif looks:
        severity = "look"
        sentence = f"the labels can be used with care: look at {listed(looks)}"
    elif not has_evidence:
        severity = "look"
        sentence = "nothing vouches for the labels: nothing could be compared with them"
    else:
        sentence = f"nothing speaks against the labels in the {len(measured)} checks that were made"
    if missing:
        sentence += f"; not checked: {listed(missing)}"
    figures = {"checks": len(measured), "warnings": len(against), "looks": len(looks), "missing": len(missing)}
    return Finding("verdict", severity, sentence, figures)


def _share_labels(store: FeatureStore) -> bool:
    """Return whether all heads learnt the same labels, those of merged over-clusters."""
    training = Provenance.of(store).settings.get("training")
    return isinstance(training, Mapping) and bool(training.get("overclustering_heads"))


def _stability(
    labels: Labels, other: tuple[str, Mapping[str, int]] | None, second: NDArray[np.int32] | None
) -> Finding:
    if other is None or second is None:
        return unmeasured("stability", "no second run was given; train again with another --seed")
    return agreement.stability(labels.label, second, other[0])


def _shortcuts(labels: Labels, files: Sequence[Measures] | None, rng: np.random.Generator) -> list[Finding]:
    if files is None:
        return suspicion.shortcut_findings(None, 0)
    readable = sum(code >= 0 and not file.reason for code, file in zip(labels.label.tolist(), files, strict=True))
    return suspicion.shortcut_findings(shortcuts(labels.label, files, rng), readable)


def _numbers(paths: Sequence[str], known: Mapping[str, int]) -> NDArray[np.int32]:
    """Return the labels of paths, -1 for none; numbers above the count of paths are replaced by consecutive ones."""
    absolute = {os.path.abspath(path): number for path, number in known.items()}
    numbers = np.array([known.get(path, absolute.get(os.path.abspath(path), -1)) for path in paths], np.int64)
    numbers[numbers < 0] = -1
    if numbers.max(initial=-1) > len(paths):
        numbers[numbers >= 0] = np.unique(numbers[numbers >= 0], return_inverse=True)[1]
    return numbers.astype(np.int32)


def _measures_of(paths: Sequence[str], measures: Sequence[Measures]) -> list[Measures]:
    known = {os.path.abspath(file.path): file for file in measures}
    missing = Measures("", reason="it was not measured")
    return [replace(known.get(os.path.abspath(path), missing), path=path) for path in paths]


def _reasons(
    labels: Labels,
    view: ModalityViews,
    bad: NDArray[np.bool_],
    second: NDArray[np.int32] | None,
    groups: Sequence[Group] | None,
) -> list[list[str]]:
    """Return for each video why it is suspicious."""
    reasons: list[list[str]] = [[] for _ in labels.paths]
    for row in np.flatnonzero(bad):
        reasons[row].append("it fits no cluster")
    differ = agreement.disagreeing(view.labels) & (labels.label >= 0)
    for row in np.flatnonzero(differ):
        says = [f"{shown(name)} says {own[row]}" for name, own in view.labels.items() if own[row] >= 0]
        reasons[row].append(", ".join(says))
    if labels.disagreement is not None:
        for row in np.flatnonzero((labels.label >= 0) & (labels.disagreement >= 0.5)):
            reasons[row].append(f"{labels.disagreement[row]:.0%} of its clips say otherwise".replace("%", " %"))
    if second is not None and (second >= 0).any():
        K = max(int(labels.label.max()), int(second.max()), 0) + 1
        matched = match_numbers(second, labels.label, K)
        for row in np.flatnonzero((labels.label >= 0) & (matched >= 0) & (matched != labels.label)):
            reasons[row].append("the second run puts it elsewhere")
    for group in groups or ():
        for member in group.rows:
            first = group.rows[1] if member == group.rows[0] else group.rows[0]
            kind = "the same file as" if group.identical else "nearly the same as"
            other = ", with another label" if labels.label[member] != labels.label[first] else ""
            reasons[member].append(f"{kind} {printable(labels.paths[first])}{other}")
    return reasons


def _table(labels: Labels, view: ModalityViews, reasons: Sequence[Sequence[str]]) -> Table:
    rows = [row for row, why in enumerate(reasons) if why]
    rows.sort(key=lambda row: (-len(reasons[row]), float(np.nan_to_num(view.fit[row], nan=2.0)), row))
    cells: list[Mapping[str, Cell]] = [
        {
            "path": labels.paths[row],
            "label": int(labels.label[row]) if labels.label[row] >= 0 else None,
            "why": "; ".join(reasons[row]),
            "figure": None if np.isnan(view.fit[row]) else round(float(view.fit[row]), 4),
        }
        for row in rows
    ]
    return Table("Suspicious videos", _COLUMNS, cells)
