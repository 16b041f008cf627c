"""Bringing a run up to date with a collection that has grown: `selavi update`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.api.heads_learning import check_can_learn, learn_on_with_heads
from selavi_ref.api.heads_update import HeadsWork, RowsWork, as_rows, changes_of_rows, check_encoders
from selavi_ref.api.learning import Learning, complete_learning, learn_on
from selavi_ref.api.listing import list_for_run
from selavi_ref.api.predictions import label_features
from selavi_ref.api.update_work import UpdateWork, absolute, changes_of_files, names_of
from selavi_ref.api.video_runs import Videos
from selavi_ref.browser.annotations import annotations_of
from selavi_ref.datasets.changes import Changes
from selavi_ref.datasets.contents import write_contents
from selavi_ref.datasets.segmentation import Segmentation
from selavi_ref.diagnostics.finding import Finding
from selavi_ref.diagnostics.newcomers import fit_of_new
from selavi_ref.ensemble.label_table import write_csv
from selavi_ref.ensemble.labels import Labels
from selavi_ref.errors import FilePath, InputError, printable
from selavi_ref.report.contact_sheet import contact_sheet
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run, RunKind
from selavi_ref.runs.run_lock import locked
from selavi_ref.runs.staged import StagedFiles
from selavi_ref.store import FeatureStore


@dataclass(frozen=True)
class Update:
    """
    What an update found and did.

    Parameters
    ----------
    changes : Changes
        How the files differ from those that the run knew.
    labels : Labels or None
        Labels of all videos of the run afterwards, as learnt; None if nothing was written.
    new : array
        Which of these videos are new or changed, bool, shape (N,).
    misfits : array
        Which of them fit no cluster, bool, shape (N,).
    fit : Finding or None
        How well the new ones fit the clusters as they were; None without new ones.
    learning : Learning or None
        What further learning has done; None without any.
    """

    changes: Changes
    labels: Labels | None
    new: NDArray[np.bool_]
    misfits: NDArray[np.bool_]
    fit: Finding | None
    learning: Learning | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return counts, paths and labels of the new videos as plain JSON values; those without label have a reason."""
        names = ("new", "changed", "moved", "copied", "gone", "overwritten")
        result: dict[str, Any] = {"counts": self.changes.counts}
        result["files"] = {name: getattr(self.changes, name) for name in names}
        if self.labels is not None:
            rows = np.flatnonzero(self.new).tolist()
            result["labels"] = {self.labels.paths[row]: self._row(self.labels, row) for row in rows}
        if self.fit is not None:
            result["fit"] = {"severity": self.fit.severity, "sentence": self.fit.sentence, **self.fit.figures}
        if self.learning is not None:
            result["learning"] = self.learning.to_dict()
        return result

    @property
    def n_unlabelled(self) -> int:
        """How many of the new or changed videos have no label."""
        return 0 if self.labels is None else int((self.new & (self.labels.label < 0)).sum())

    def _row(self, labels: Labels, row: int) -> dict[str, Any]:
        if labels.label[row] < 0:
            return {"label": None, "confidence": 0.0, "fits": None, "reason": labels.reasons[row]}
        confidence = round(float(labels.confidence[row]), 4)
        return {"label": int(labels.label[row]), "confidence": confidence, "fits": not self.misfits[row]}


def update_run(
    folder: FilePath,
    videos: Videos,
    *,
    dry_run: bool = False,
    learn: bool = False,
    epochs: int | None = None,
    new_clusters: int | str = 0,
    types: Collection[str] | None = None,
    segments: str | float | None = None,
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter = SILENT,
) -> Update:
    """
    Find what has changed in a collection, and label what is new by the networks or heads of a run as they are.

    Labels, names and edits of all other videos stay as they are; moved videos keep theirs under their new path. What
    takes long is saved in ``update`` in the run, so that a second call continues where the first one stopped; the
    run's files are replaced at the end, all together.

    Parameters
    ----------
    folder : path
        A finished run on videos, or of heads on features that encoders have computed.
    videos : path, sequence of paths, or Manifest
        The collection as it is now; files of the run that lie elsewhere stay in it. For a run of heads also the path of
        a store (``.h5``) with the same feature spaces, whose rows are added.
    dry_run : bool
        Only find the changes.
    learn : bool
        Then go on learning on old and new videos together, with the corrections of people as constraints; see
        `selavi_ref.api.learning.learn_on`, for heads `selavi_ref.api.heads_learning.learn_on_with_heads`.
    epochs, new_clusters
        Of further learning; heads need no `epochs`.
    types
        Types of files of a folder to take, see `selavi_ref.api.listing.list_for_run`; by default those that the run
        has.
    segments
        How new videos are cut, see `selavi_ref.datasets.segmentation.Segmentation`; by default as those that the run
        has learnt from.
    device, workers, reporter
        See `selavi_ref.api.video_labelling.label_videos`.

    Returns
    -------
    Update
        The changes, and labels of the new videos.

    Raises
    ------
    InputError
        If the run is not finished, features of new files cannot be computed, or the collection is missing or empty.
    RunInUseError
        If another job writes into the run.
    """
    run = _opened(folder, videos, types)
    of_heads = run.kind is RunKind.HEADS
    cut = Segmentation.parse(run.usual_segments if segments is None else segments)
    if new_clusters != "auto" and (not isinstance(new_clusters, int) or new_clusters < 0):
        raise InputError('new_clusters must be a number from 0 or "auto"', option="new_clusters", value=new_clusters)
    if learn and of_heads:
        check_can_learn(run, epochs)
    with locked(run.folder):
        done = _update(run, videos, types, dry_run, cut.text, device, workers, reporter)
        if not learn or dry_run:
            return done
        if of_heads:
            learning = learn_on_with_heads(run, new_clusters, reporter)
        else:
            learning = learn_on(
                run,
                epochs=epochs,
                new_clusters=new_clusters,
                device=device,
                workers=workers,
                reporter=reporter,
            )
    if learning is None:
        return done
    new = {path for path, is_new in zip(done.labels.paths, done.new, strict=True) if is_new} if done.labels else set()
    is_new = np.array([path in new for path in learning.labels.paths], bool)
    none = np.zeros(len(is_new), bool)
    return replace(done, labels=learning.labels, new=is_new, misfits=none, learning=learning)


def _update(
    run: Run,
    videos: Videos,
    types: Collection[str] | None,
    dry_run: bool,
    segments: str,
    device: str,
    workers: int | None,
    reporter: Reporter,
) -> Update:
    complete_learning(run)
    staged = StagedFiles(run)
    staged.complete(lambda note: _rename(run, note))
    run.refuse_unfinished()
    annotations_of(run).read()  # damaged annotations are refused before the long work
    rows = as_rows(videos) if run.kind is RunKind.HEADS else None
    with FeatureStore(run.features_file) as store:
        if rows is not None:
            names = store.paths
            listed, changes = changes_of_rows(run, store, rows)
        else:
            names = names_of(run, store)
            listed = absolute(list_for_run(run, videos, types, names=names))
            changes = changes_of_files(run, names, listed, workers, reporter)
        if not len(changes.unchanged) + len(changes.moved) + len(changes.changed):
            raise InputError(
                f"{printable(run.folder)} and {listed.source} have no video in common, and none of the run's is at its "
                "place; is this the folder of another run?",
                path=listed.source,
            )
        if dry_run:
            return Update(changes, None, np.zeros(0, bool), np.zeros(0, bool), None)
        if not changes.any:
            staged.discard()
            if rows is None:
                write_contents(changes.contents, run.contents_file, run.folder)
            none = np.zeros(store.n_videos, bool)
            return Update(changes, label_features(run.features_file)[0], none, none, None)
        work = _work(rows, run, store, names, changes, listed, staged, segments)
        added = work.extract_new(device, workers, reporter)
        new = work.write_files(added)
    labels, _ = label_features(staged.path(run.features_file))
    with FeatureStore(staged.path(run.features_file)) as store, FeatureStore(work.compared_by) as features:
        fit = fit_of_new(store, labels, new, features) if new.any() else None
    write_csv(labels, staged.path(run.labels_file))
    contact_sheet(staged.path(run.labels_file), staged.path(run.sheet_file))
    staged.commit(work.written, work.outdated, {"renamed": work.renamed})
    staged.complete(lambda note: _rename(run, note))
    misfits = fit.misfits & new if fit is not None else np.zeros(len(new), bool)
    return Update(changes, labels, new, misfits, None if fit is None else fit.finding)


def _opened(folder: FilePath, videos: Videos, types: Collection[str] | None) -> Run:
    """Open a run that can be updated by such videos."""
    run = Run.open(folder)
    if run.kind is not RunKind.HEADS:
        run = Run.of_videos(folder)
        if (rows := as_rows(videos)) is not None:
            raise InputError(
                f"{printable(rows)}: {printable(run.folder)} has learnt from videos; name a folder, a list or a video",
                path=rows,
            )
    elif (rows := as_rows(videos)) is None:
        check_encoders(run)
    elif types is not None:
        raise InputError(f"--files goes with a folder, and {printable(rows)} is none", option="files", path=rows)
    return run


def _work(rows: Path | None, run: Run, *arguments: Any) -> UpdateWork:
    """Return the object that updates this kind of run: of networks, or of heads on features."""
    if rows is not None:
        return RowsWork(rows, run, *arguments)
    return (HeadsWork if run.kind is RunKind.HEADS else UpdateWork)(run, *arguments)


def _rename(run: Run, note: Mapping[str, Any]) -> None:
    """Let the edits of people follow the videos that were moved."""
    annotations_of(run).rename_videos(note["renamed"])
