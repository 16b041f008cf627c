"""Further learning of a run on videos that were added, with corrections of people: `selavi update --learn`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.api.predictions import label_features
from selavi_ref.api.update_work import read_learnt
from selavi_ref.api.video_runs import video_runs
from selavi_ref.browser.annotations import annotations_of
from selavi_ref.browser.corrections import constraints_of, summary_of
from selavi_ref.browser.edit_history import Edits
from selavi_ref.datasets import Manifest, write_manifest
from selavi_ref.datasets.run_lists import added_videos, known_contents, labelled_videos, skipped_videos
from selavi_ref.diagnostics.newcomers import fit_of_new, n_new_clusters
from selavi_ref.ensemble.fates import Fate, fates
from selavi_ref.ensemble.label_table import write_csv
from selavi_ref.ensemble.labels import Labels, label_store
from selavi_ref.errors import InputError
from selavi_ref.media.segments import file_of
from selavi_ref.report.contact_sheet import contact_sheet
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.runs.staged import StagedFiles
from selavi_ref.store import FeatureStore

_PLAN = "plan.json"


@dataclass(frozen=True)
class Learning:
    """
    What further learning has done.

    Parameters
    ----------
    n_videos : int
        Videos learnt from.
    n_corrected : int
        How many of them have a label that people have restricted.
    epochs : int
        Epochs learnt for.
    new_clusters : int
        Clusters that were added for kinds of videos that were not there.
    fates : list of Fate
        What has become of each cluster.
    labels : Labels
        Labels of all videos afterwards, as learnt.
    unit : str
        What `epochs` counts: ``"epochs"``, or ``"rounds"`` of a search for heads on features.
    """

    n_videos: int
    n_corrected: int
    epochs: int
    new_clusters: int
    fates: list[Fate]
    labels: Labels
    unit: str = "epochs"

    def to_dict(self) -> dict[str, Any]:
        """Return all but the labels as plain JSON values."""
        names = ("n_videos", "n_corrected", "epochs", "new_clusters")
        return {name: getattr(self, name) for name in names} | {"clusters": [asdict(fate) for fate in self.fates]}


def complete_learning(run: Run) -> None:
    """Finish the replacement of a run's files by those of a learning, if the process was killed in between."""
    StagedFiles(run, run.learning_folder).complete(lambda note: _follow(run, note))


def learn_on(
    run: Run,
    *,
    epochs: int | None = None,
    new_clusters: int | str = 0,
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter = SILENT,
) -> Learning | None:
    """
    Go on learning on all videos of a run, old and added, with the corrections of people as constraints.

    The run's files are replaced at the end, all together; a second call continues where the first one stopped. Files
    that do not exist any more leave the run; their edits stay.

    Parameters
    ----------
    run : Run
        A finished run whose lock is held.
    epochs : int, optional
        By default 15 % of those that the run has learnt for, at least 5.
    new_clusters : int or "auto"
        Clusters to add; ``"auto"``: as many as there are kinds among added videos that fit no cluster, see
        `selavi_ref.diagnostics.newcomers.n_new_clusters`.
    device, workers, reporter
        See `selavi_ref.api.video_labelling.label_videos`.

    Returns
    -------
    Learning or None
        None if nothing was added, changed or corrected since the run has learnt.
    """
    work = _Learning(run, workers, reporter)
    added = work.count_new(new_clusters)
    if not work.is_due(added):
        work.staged.discard()
        return None
    return work.learn(epochs or video_runs().default_epochs(run), added, device)


class _Learning:
    """The steps of further learning, each of which may be repeated after the process was killed."""

    def __init__(self, run: Run, workers: int | None, reporter: Reporter):
        self.run, self.workers, self.reporter = run, workers, reporter
        self.staged = StagedFiles(run, run.learning_folder)
        self.edits: Edits = annotations_of(run).read().edits_of("consensus")
        with FeatureStore(run.features_file) as store:
            self.labels = label_store(store)
            self.K, self.shards = store.n_clusters, store.shard_files
        listed = labelled_videos(run)
        if len(listed) != len(self.labels.paths):
            raise InputError(f"{run.videos_file} does not list the videos of {run.features_file}", path=run.videos_file)
        self.added = {entry.path for entry in added_videos(run)}
        self.row = {entry.path: row for row, entry in enumerate(listed)}
        # Labels as people see them, of videos that the run has learnt from: those of others prove nothing of a cluster.
        self.shown = self.edits.apply(self.labels.paths, self.labels.label)
        certain = [
            path not in self.added or self.labels.paths[row] in self.edits.moved for path, row in self.row.items()
        ]
        self.before = np.where(certain, self.shown, -1).astype(np.int32)
        there = replace(listed, entries=[entry for entry in listed if os.path.exists(file_of(entry.path))])
        scanned = video_runs().scan_learnable(run, there, workers=workers, reporter=reporter)
        self.learnable, self.others = scanned.usable, scanned.skipped
        known = set(self.row)
        self.left_out = [entry for entry in skipped_videos(run) if entry.path not in known]
        contents = known_contents(run, self.learnable.paths).values()
        self.contents = hashlib.blake2b("".join(sorted(c.quick for c in contents)).encode(), digest_size=16).hexdigest()
        self.summary = summary_of(self.edits, self.labels.paths, self.labels.label)

    def count_new(self, new_clusters: int | str) -> int:
        """Return the number of clusters to add."""
        if new_clusters != "auto":
            return int(new_clusters)
        new = np.array([path in self.added for path in self.row], bool)
        with FeatureStore(self.run.features_file) as store:
            return n_new_clusters(store, fit_of_new(store, self.labels, new).misfits & new)

    def is_due(self, added: int) -> bool:
        """Tell whether there is anything to learn that the run has not learnt yet."""
        last = read_learnt(self.run)
        nothing = summary_of(Edits(), (), np.zeros(0, np.int32))
        if added or last.get("corrections", nothing) != self.summary:
            return True
        if "contents" in last:
            return bool(last["contents"] != self.contents)
        return bool(last["changed"]) or any(path in self.added for path in self.learnable.paths)

    def learn(self, epochs: int, added: int, device: str) -> Learning:
        """Learn, and replace the run's files."""
        rows = np.array([self.row[path] for path in self.learnable.paths])
        paths = [self.labels.paths[row] for row in rows]
        K = self.K + len(self.edits.created) + added
        more = np.tile(np.arange(self.K, K, dtype=np.int32), (len(self.labels.groups), 1))
        groups = np.hstack([self.labels.groups, more]).astype(np.int32)
        constraints = constraints_of(self.edits, paths, self.labels.label[rows], groups, K)
        stamps = [(entry.path, entry.stamp) for entry in (*self.learnable, *self.others)]
        plan = json.dumps({"videos": stamps, "corrections": self.summary, "epochs": epochs, "clusters": K})
        name = hashlib.blake2b(plan.encode(), digest_size=8).hexdigest()
        plan_file = self.staged.path(_PLAN)
        if not plan_file.exists() or plan_file.read_text(encoding="utf-8") != plan:
            self.staged.discard()
            write_text(self.staged.path(_PLAN), plan)
        runs = video_runs()
        continued = runs.continue_learning(
            self.run,
            self.staged.folder,
            self.learnable,
            Manifest([*self.learnable, *self.others]),
            epochs=epochs,
            clusters=K,
            head_labels=self.labels.heads[rows],
            reference=self.before[rows],
            constraints=constraints,
            device=device,
            data_source=runs.DataSource(self.workers),
            reporter=self.reporter,
        )
        labels = label_features(continued.features_file)[0]
        write_csv(labels, continued.labels_file)
        contact_sheet(continued.labels_file, continued.sheet_file)
        write_manifest(self.others, continued.added_file)
        write_manifest(Manifest([*self.others, *self.left_out]), continued.skipped_file)
        _join_logs(self.run, continued)
        write_text(continued.learnt_file, json.dumps({"corrections": self.summary, "contents": self.contents}))
        kept_rows = [self.row[entry.path] for entry in (*self.learnable, *self.others)]
        merged = self.edits.merge_targets(self.K)
        merged = np.append(merged, np.arange(len(merged), K, dtype=np.int32))
        after = np.where(labels.label >= 0, merged[labels.label], -1).astype(np.int32)
        for row, known in enumerate(kept_rows):
            if self.labels.paths[known] in self.edits.moved:
                after[row] = merged[self.edits.moved[self.labels.paths[known]]]
        found = fates(self.before[kept_rows], after, K)
        renamed = {self.labels.paths[row]: path for row, path in zip(kept_rows, labels.paths, strict=True)}
        known_paths = [self.labels.paths[row] for row in kept_rows]
        note = {"learnt": name, "K": K, "renamed": renamed}
        note |= notes_for_edits(self.edits, known_paths, self.shown[kept_rows], after, found)
        files = [getattr(self.run, file) for file in _FILES]
        new = [file for file in files if (self.staged.folder / file.name).exists()]
        outdated = {self.run.final_labels_file} - set(new)  # of the networks as they were
        self.staged.commit(new, [*self.shards, *outdated], note)
        complete_learning(self.run)
        n_corrected = 0 if constraints is None else len(constraints.rows)
        return Learning(len(rows), n_corrected, epochs, added, found, labels)


def notes_for_edits(
    edits: Edits, paths: Sequence[str], shown: NDArray[np.int32], after: NDArray[np.int32], found: Sequence[Fate]
) -> dict[str, Any]:
    """Return which wrong videos are elsewhere now, and which names no longer fit, for `complete_learning`."""
    moved_on = {
        path: int(before)
        for path, before, label in zip(paths, shown.tolist(), after.tolist(), strict=True)
        if path in edits.wrong and before >= 0 and label != before
    }
    return {"moved_on": moved_on, "lost_names": [fate.cluster for fate in found if fate.kind in ("joined", "split")]}


_FILES = (
    "features_file",
    "videos_file",
    "skipped_file",
    "added_file",
    "labels_file",
    "sheet_file",
    "log_file",
    "checkpoint_folder",
    "learnt_file",
    "final_labels_file",
    "config_file",
)


def _join_logs(run: Run, continued: Run) -> None:
    """Write the log of the run and of its further learning as one, with steps and epochs that go on."""
    before = run.log_file.read_text(encoding="utf-8") if run.log_file.exists() else ""
    after = continued.log_file.read_text(encoding="utf-8") if continued.log_file.exists() else ""
    if before and after.startswith(before):
        return  # done before
    records = run.records
    last = {name: max((record.get(name, 0) for record in records), default=0) for name in ("step", "epoch")}
    moved = [
        record | {name: record[name] + last[name] for name in last if name in record} for record in continued.records
    ]
    write_text(continued.log_file, before + "".join(f"{json.dumps(record)}\n" for record in moved))


def _follow(run: Run, note: Mapping[str, Any]) -> None:
    """Let the edits of people follow the labels that were learnt with them."""
    try:
        followed = json.loads(run.annotations_file.read_text(encoding="utf-8")).get("learnt")
    except FileNotFoundError:
        return
    if followed != note["learnt"]:
        moved_on = {note["renamed"].get(path, path): cluster for path, cluster in note["moved_on"].items()}
        annotations_of(run).rename_videos({old: new for old, new in note["renamed"].items() if old != new})
        annotations_of(run).follow_learning(note["learnt"], note["K"], moved_on, note["lost_names"])
