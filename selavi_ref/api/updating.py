"""Bringing a run up to date with a collection that has grown: `selavi update`."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.api.learning import Learning, complete_learning, learn_on
from selavi_ref.api.predictions import label_features
from selavi_ref.api.video_runs import Videos, as_manifest, video_runs
from selavi_ref.browser.annotations import annotations_of
from selavi_ref.datasets import Manifest, scan, write_manifest
from selavi_ref.datasets.changes import Changes, find_changes
from selavi_ref.datasets.contents import write_contents
from selavi_ref.datasets.locations import locate
from selavi_ref.datasets.manifest import ManifestEntry
from selavi_ref.datasets.run_lists import added_videos, known_contents, labelled_videos, learnt_videos
from selavi_ref.datasets.segmentation import Segmentation
from selavi_ref.diagnostics.finding import Finding
from selavi_ref.diagnostics.newcomers import fit_of_new
from selavi_ref.ensemble.label_table import write_csv
from selavi_ref.ensemble.labels import Labels
from selavi_ref.errors import FilePath, InputError, printable
from selavi_ref.media.segments import file_of, segment_of, with_file
from selavi_ref.report.contact_sheet import contact_sheet
from selavi_ref.report.summaries import cut_summary
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.cores import usable_cores
from selavi_ref.runs.provenance import Provenance
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.runs.run_lock import locked
from selavi_ref.runs.staged import StagedFiles
from selavi_ref.store import FeatureStore
from selavi_ref.store.merging import merge

_NEW_STORE, _PLAN = "new.h5", "plan.json"


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
        """Return counts, paths and labels of the new videos as plain JSON values."""
        names = ("new", "changed", "moved", "copied", "gone", "overwritten")
        result: dict[str, Any] = {"counts": self.changes.counts}
        result["files"] = {name: getattr(self.changes, name) for name in names}
        if self.labels is not None:
            rows = np.flatnonzero(self.new)
            result["labels"] = {
                self.labels.paths[row]: {
                    "label": int(self.labels.label[row]) if self.labels.label[row] >= 0 else None,
                    "confidence": round(float(self.labels.confidence[row]), 4),
                    "fits": not self.misfits[row],
                }
                for row in rows.tolist()
            }
        if self.fit is not None:
            result["fit"] = {"severity": self.fit.severity, "sentence": self.fit.sentence, **self.fit.figures}
        if self.learning is not None:
            result["learning"] = self.learning.to_dict()
        return result


def update_run(
    folder: FilePath,
    videos: Videos,
    *,
    dry_run: bool = False,
    learn: bool = False,
    epochs: int | None = None,
    new_clusters: int | str = 0,
    segments: str | float = "auto",
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter = SILENT,
) -> Update:
    """
    Find what has changed in a collection, and label what is new with the networks of a run as they are.

    Labels, names and edits of all other videos stay as they are; moved videos keep theirs under their new path. What
    takes long is saved in ``update`` in the run, so that a second call continues where the first one stopped; the
    run's files are replaced at the end, all together.

    Parameters
    ----------
    folder : path
        A finished run on videos.
    videos : path, sequence of paths, or Manifest
        The collection as it is now; files of the run that lie elsewhere stay in it.
    dry_run : bool
        Only find the changes.
    learn : bool
        Then go on learning on old and new videos together, with the corrections of people as constraints; see
        `selavi_ref.api.learning.learn_on`.
    epochs, new_clusters
        Of further learning.
    segments
        How new videos are cut, see `selavi_ref.datasets.segmentation.Segmentation`.
    device, workers, reporter
        See `selavi_ref.api.video_labelling.label_videos`.

    Returns
    -------
    Update
        The changes, and labels of the new videos.

    Raises
    ------
    InputError
        If the run is not finished, has learnt from features, or the collection is missing or empty.
    RunInUseError
        If another job writes into the run.
    """
    run = Run.of_videos(folder, "write features of the new videos by selavi extract, and label them by selavi label")
    Segmentation.parse(segments)  # refused before the long work
    if new_clusters != "auto" and (not isinstance(new_clusters, int) or new_clusters < 0):
        raise InputError('new_clusters must be a number from 0 or "auto"', option="new_clusters", value=new_clusters)
    with locked(run.folder):
        done = _update(run, videos, dry_run, segments, device, workers, reporter)
        if not learn or dry_run:
            return done
        learning = learn_on(
            run,
            epochs=epochs,
            new_clusters=new_clusters,
            changed=done.changes.changed,
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
    dry_run: bool,
    segments: str | float,
    device: str,
    workers: int | None,
    reporter: Reporter,
) -> Update:
    complete_learning(run)
    staged = StagedFiles(run)
    staged.complete(lambda note: _rename(run, note))
    if not run.features_file.exists():
        go_on = f"selavi train --resume --out {printable(run.folder)}"
        raise InputError(f"{printable(run.folder)} is not finished; go on with: {go_on}", path=run.folder)
    annotations_of(run).read()  # damaged annotations are refused before the long work
    listed = _absolute(as_manifest(videos))
    with FeatureStore(run.features_file) as store:
        names = _names_of(run, store)
        changes = _changes(run, names, listed, workers, reporter)
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
            write_contents(changes.contents, run.contents_file, run.folder)
            none = np.zeros(store.n_videos, bool)
            return Update(changes, label_features(run.features_file)[0], none, none, None)
        work = _Work(run, store, names, changes, listed, staged, segments)
        added = work.extract_new(device, workers, reporter)
        new = work.write_files(added)
    labels, _ = label_features(staged.path(run.features_file))
    with FeatureStore(staged.path(run.features_file)) as store:
        fit = fit_of_new(store, labels, new) if new.any() else None
    write_csv(labels, staged.path(run.labels_file))
    staged.commit(work.written, work.outdated, {"renamed": work.renamed})
    staged.complete(lambda note: _rename(run, note))
    contact_sheet(run.labels_file, run.sheet_file)
    misfits = fit.misfits & new if fit is not None else np.zeros(len(new), bool)
    return Update(changes, labels, new, misfits, None if fit is None else fit.finding)


class _Work:
    """The steps of an update, each of which may be repeated after the process was killed."""

    def __init__(
        self,
        run: Run,
        store: FeatureStore,
        names: list[str],
        changes: Changes,
        listed: Manifest,
        staged: StagedFiles,
        segments: str | float,
    ):
        self.segments = segments
        self.run, self.store, self.names, self.changes, self.staged = run, store, names, changes, staged
        self.listed = {entry.path: entry for entry in listed}
        self.classes = {file_of(entry.path): entry.class_name for entry in listed}
        self.moved_to = {before: file for file, before in changes.moved.items()}
        self.written = [run.features_file, run.videos_file, run.added_file, run.contents_file, run.labels_file]
        self.outdated = store.shard_files
        self.renamed: dict[str, str] = {}  # name of a row in the old store -> in the new one, where it differs

    def extract_new(self, device: str, workers: int | None, reporter: Reporter) -> Manifest:
        """Extract features of new and changed files to a store of their own, and return the scanned files."""
        changed = set(self.changes.changed)
        paths = [*self.changes.new, *(name for name in self.names if file_of(name) in changed)]
        plan = json.dumps(
            {
                "segments": str(self.segments),
                "checkpoint": [path.name for path in Checkpoints(self.run.checkpoint_folder).newest_first()[:1]],
                "files": {path: self.changes.contents[file_of(path)].stamp for path in paths},
            }
        )
        plan_file, out = self.staged.path(_PLAN), self.staged.path(_NEW_STORE)
        if not plan_file.exists() or plan_file.read_text(encoding="utf-8") != plan:
            self.staged.discard()
            write_text(self.staged.path(_PLAN), plan)
        if not paths:
            return Manifest()
        manifest = self._scanned(paths, workers, reporter)
        if not out.exists():
            runs, made_by = video_runs(), Provenance.of(self.store)
            sampling = runs.ClipSampling(made_by.clips or 1, made_by.crops or 1)
            runs.extract_videos(
                self.run, manifest, out, sampling=sampling, device=device, workers=workers, reporter=reporter
            )
        return manifest

    def _scanned(self, paths: Sequence[str], workers: int | None, reporter: Reporter) -> Manifest:
        """Scan new and changed videos; new ones are cut into segments, changed ones are cut as they were."""
        entries = [self.listed.get(path) or ManifestEntry(path) for path in paths]
        n_new, scanned = len(self.changes.new), []
        with reporter.bar(len(entries), "scanning", "video") as bar:
            for part, segments in ((entries[:n_new], self.segments), (entries[n_new:], "whole")):
                found = scan(
                    Manifest(part),
                    min_seconds=0.0,
                    require="any",
                    workers=workers,
                    segments=segments,
                    progress=lambda done, total: bar.update(1),
                )
                if said := cut_summary(Manifest(part), found):
                    reporter.info(said)
                scanned += found.entries
        if len(self.listed) == len(scanned) == 1 and scanned[0].info is None:
            path = scanned[0].path  # named by itself, and no video
            raise InputError(f"{printable(path)}: {scanned[0].skipped}", path=path)
        return Manifest(scanned)

    def write_files(self, added: Manifest) -> NDArray[np.bool_]:
        """Write the run's new files beside the old ones, and return which rows of the new store are new."""
        number = {entry.path: row for row, entry in enumerate(added)}
        dropped, changed = set(self.changes.overwritten), set(self.changes.changed)
        place: dict[str, tuple[int, int]] = {}  # of each name: number of its store, and of its row there
        classes: dict[str, str] = {}
        for row, (name, key) in enumerate(zip(self.names, self.store.paths, strict=True)):
            if file_of(name) in dropped:
                self.renamed[key] = f"{key} (overwritten)"
                continue
            now = self._now(name)
            if key != now:
                self.renamed[key] = now
            place[now] = (1, number[now]) if file_of(name) in changed else (0, row)
            classes[now] = self._class(now, self.store.classes[row])
        for name, row in number.items():
            place.setdefault(name, (1, row))
        for copy, name in self._copies(place):
            place[copy] = place[name]
        sources, rows = zip(*place.values(), strict=True)
        stores = [self.store, *([FeatureStore(self.staged.path(_NEW_STORE))] if len(added) else [])]
        try:
            merge(
                self.staged.path(self.run.features_file),
                stores,
                sources,
                rows,
                list(place),
                [classes.get(path, self._class(path, "")) for path in place],
            )
        finally:
            for store in stores[1:]:
                store.close()
        self._write_lists(added, dropped)
        is_new: NDArray[np.bool_] = np.array(sources) == 1
        return is_new

    def _write_lists(self, added: Manifest, dropped: set[str]) -> None:
        """Write the lists of the videos, and what is known of their contents."""
        scanned, contents = {entry.path: entry for entry in added}, self.changes.contents

        def now(entry: ManifestEntry) -> ManifestEntry:
            name = self._now(entry.path)
            if name in scanned:
                return replace(scanned[name], split=entry.split)
            content = contents.get(file_of(name))
            stamp = entry.stamp if content is None else content.stamp
            return replace(entry, path=name, class_name=self._class(name, entry.class_name), stamp=stamp)

        learnt = [now(entry) for entry in learnt_videos(self.run) if file_of(entry.path) not in dropped]
        before = [now(entry) for entry in added_videos(self.run) if file_of(entry.path) not in dropped]
        listed = {entry.path for entry in (*learnt, *before)}
        new = [entry for entry in added if entry.path not in listed]
        known = {entry.path: entry for entry in (*learnt, *before, *new)}
        for copy, name in self._copies(known):
            stamp = contents[file_of(copy)].stamp
            new.append(replace(known[name], path=copy, class_name=self._class(copy, ""), stamp=stamp))
        for file, entries in ((self.run.videos_file, learnt), (self.run.added_file, [*before, *new])):
            write_manifest(Manifest(entries), self.staged.path(file))
        write_contents(contents, self.staged.path(self.run.contents_file), self.run.folder)

    def _now(self, name: str) -> str:
        """Return the name of a row after its file was moved."""
        file = file_of(name)
        return with_file(name, self.moved_to[file]) if file in self.moved_to else name

    def _copies(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Return for each row of a file that was copied its name, and that of the row of the original."""
        by_file: dict[str, list[str]] = defaultdict(list)
        for name in names:
            by_file[file_of(name)].append(name)
        copied = self.changes.copied.items()
        return [(with_file(name, copy), name) for copy, original in copied for name in by_file[original]]

    def _class(self, name: str, known: str) -> str:
        return self.classes.get(file_of(name), known)


def _absolute(manifest: Manifest) -> Manifest:
    """Return a manifest with absolute paths, each once."""
    entries = {os.path.abspath(entry.path): entry for entry in manifest}
    return replace(manifest, entries=[replace(entry, path=path) for path, entry in entries.items()])


def _names_of(run: Run, store: FeatureStore) -> list[str]:
    """Return the name of each row with the absolute path of its file: stores of older versions have relative ones."""
    listed = [os.path.abspath(path) for path in labelled_videos(run).paths]
    return listed if len(listed) == store.n_videos else locate(store.paths, run.folder).files


def _changes(run: Run, names: Sequence[str], listed: Manifest, workers: int | None, reporter: Reporter) -> Changes:
    """Compare files, and return new ones as the rows that they are listed with."""
    known = known_contents(run, names)
    by_file: dict[str, list[str]] = defaultdict(list)
    for name in listed.paths:
        by_file[file_of(name)].append(name)
    with reporter.bar(len({*known, *by_file}), "comparing", "file") as bar:
        found = find_changes(known, list(by_file), workers=workers or usable_cores(), progress=bar.update)
    new = [name for file in found.new for name in by_file[file] or [file]]
    # Further parts of a known file are new rows, too; the whole of a file whose parts are known is not.
    moved_to = {before: file for file, before in found.moved.items()}
    rows = {with_file(name, moved_to.get(file_of(name), file_of(name))) for name in names}
    parts = [name for file in (*found.unchanged, *found.moved) for name in by_file[file] if name not in rows]
    return replace(found, new=[*new, *(name for name in parts if not segment_of(name).whole)])


def _rename(run: Run, note: Mapping[str, Any]) -> None:
    """Let the edits of people follow the videos that were moved."""
    annotations_of(run).rename_videos(note["renamed"])
