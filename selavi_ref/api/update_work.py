"""Steps of `selavi update`: what has changed, features of new files, and the files of a run that follow."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.api.video_runs import video_runs
from selavi_ref.datasets import Manifest, write_manifest
from selavi_ref.datasets.changes import Changes, find_changes
from selavi_ref.datasets.contents import Content, stamp_of, write_contents
from selavi_ref.datasets.locations import locate
from selavi_ref.datasets.manifest import ManifestEntry
from selavi_ref.datasets.run_lists import added_videos, known_contents, labelled_videos, learnt_videos
from selavi_ref.datasets.scan import scan_playable
from selavi_ref.errors import InputError, printable
from selavi_ref.media.segments import file_of, segment_of, with_file
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.cores import usable_cores
from selavi_ref.runs.provenance import Provenance
from selavi_ref.runs.reporter import Reporter
from selavi_ref.runs.run import Run, RunKind
from selavi_ref.runs.staged import StagedFiles
from selavi_ref.store import FeatureStore
from selavi_ref.store.merging import merge

NEW_STORE, _PLAN = "new.h5", "plan.json"


class UpdateWork:
    """The steps of an update of a run on videos, each of which may be repeated after the process was killed."""

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
        self.written += [run.learnt_file, run.sheet_file]
        self.outdated = store.shard_files
        self.compared_by = staged.path(run.features_file)  # the store of the features by which new videos are judged
        self.renamed: dict[str, str] = {}  # name of a row in the old store -> in the new one, where it differs
        self.recorded: dict[str, Any] = {}  # to be kept beside what was recorded before

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
        plan_file, out = self.staged.path(_PLAN), self.staged.path(NEW_STORE)
        if not plan_file.exists() or plan_file.read_text(encoding="utf-8") != plan:
            self.staged.discard()
            write_text(self.staged.path(_PLAN), plan)
        if not paths:
            return Manifest()
        manifest = self._scanned(paths, workers, reporter)
        if not out.exists():
            self.extract(manifest, out, device, workers, reporter)
        return manifest

    def extract(self, manifest: Manifest, out: Path, device: str, workers: int | None, reporter: Reporter) -> None:
        """Write the store of new videos, with the data sets of the run's."""
        runs, made_by = video_runs(), Provenance.of(self.store)
        sampling = runs.ClipSampling(made_by.clips or 1, made_by.crops or 1)
        runs.extract_videos(
            self.run, manifest, out, sampling=sampling, device=device, workers=workers, reporter=reporter
        )

    def _scanned(self, paths: Sequence[str], workers: int | None, reporter: Reporter) -> Manifest:
        """Scan new and changed videos; new ones are cut into segments, changed ones are cut as they were."""
        entries = [self.listed.get(path) or ManifestEntry(path) for path in paths]
        n_new = len(self.changes.new)
        scanned: list[ManifestEntry] = []
        for part, segments in ((entries[:n_new], self.segments), (entries[n_new:], "whole")):
            if part:
                scanned += scan_playable(Manifest(part), workers=workers, segments=segments, reporter=reporter)
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
            now = self._name_after_move(name)
            if key != now:
                self.renamed[key] = now
            place[now] = (1, number[now]) if {name, file_of(name)} & changed else (0, row)
            classes[now] = self._class(now, self.store.classes[row])
        for name, row in number.items():
            place.setdefault(name, (1, row))
        for copy, name in self._copies(place):
            place[copy] = place[name]
        sources, rows = zip(*place.values(), strict=True)
        self.merge(place, sources, rows, [classes.get(path, self._class(path, "")) for path in place], len(added) > 0)
        self.write_lists(added, dropped)
        if changed:  # until it is learnt from
            self.recorded["changed"] = sorted(changed.union(read_learnt(self.run)["changed"]))
        if self.recorded:
            write_text(self.staged.path(self.run.learnt_file), json.dumps(read_learnt(self.run) | self.recorded))
        is_new: NDArray[np.bool_] = np.array(sources) == 1
        return is_new

    def merge(
        self, names: Iterable[str], sources: Sequence[int], rows: Sequence[int], classes: Sequence[str], has_new: bool
    ) -> None:
        """Write the store of the run anew: each row is one of the old store, or of that of the new videos."""
        with ExitStack() as stack:
            stores = [self.store]
            if has_new:
                stores.append(stack.enter_context(FeatureStore(self.staged.path(NEW_STORE))))
            merge(self.staged.path(self.run.features_file), stores, sources, rows, list(names), classes)

    def write_lists(self, added: Manifest, dropped: set[str]) -> None:
        """Write the lists of the videos, and what is known of their contents."""
        scanned, contents = {entry.path: entry for entry in added}, self.changes.contents

        def now(entry: ManifestEntry) -> ManifestEntry:
            name = self._name_after_move(entry.path)
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

    def _name_after_move(self, name: str) -> str:
        """Return the name of a row; that at the new place of its file, if the update has found it moved."""
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


def read_learnt(run: Run) -> dict[str, Any]:
    """
    Return what a run has recorded of updates and of further learning.

    Names of rows that were ``"added"`` to a run of heads, and of files that have ``"changed"``, since it has learnt
    last; and, if it has learnt on, the ``"corrections"`` and ``"contents"`` that it has learnt from.
    """
    try:
        recorded = json.loads(run.learnt_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        recorded = {}
    return {"added": [], "changed": [], **recorded}


def absolute(manifest: Manifest) -> Manifest:
    """Return a manifest with absolute paths, each once."""
    entries = {os.path.abspath(entry.path): entry for entry in manifest}
    return replace(manifest, entries=[replace(entry, path=path) for path, entry in entries.items()])


def names_of(run: Run, store: FeatureStore) -> list[str]:
    """Return the name of each row with the absolute path of its file: stores of older versions have relative ones."""
    listed = [os.path.abspath(path) for path in labelled_videos(run).paths]
    return listed if len(listed) == store.n_videos else locate(store.paths, run.folder).files


def changes_of_files(
    run: Run, names: Sequence[str], listed: Manifest, workers: int | None, reporter: Reporter
) -> Changes:
    """Compare files, and return new ones as the rows that they are listed with."""
    known = known_contents(run, names)
    if run.kind is RunKind.HEADS:  # until the first update nothing is known of its files
        known = {path: content if content.stamp else Content(path, stamp_of(path)) for path, content in known.items()}
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
