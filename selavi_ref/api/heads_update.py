"""Steps of `selavi update` for a run of heads on features: new files are encoded, or come as rows of a store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from selavi_ref.api.update_work import NEW_STORE, UpdateWork, read_learnt
from selavi_ref.api.video_runs import Videos, text_search
from selavi_ref.crossfit.model import row_keys
from selavi_ref.datasets import Manifest
from selavi_ref.datasets.changes import Changes
from selavi_ref.datasets.contents import write_contents
from selavi_ref.datasets.manifest import ManifestEntry
from selavi_ref.errors import InputError, printable
from selavi_ref.heads.any_run import apply, learnt_store
from selavi_ref.runs.reporter import Reporter
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore
from selavi_ref.store.merging import merge

_ENCODED, _NEW_FEATURES = "encoded.h5", "new-features.h5"


def as_rows(videos: Videos) -> Path | None:
    """Return the store of features that was given in place of videos; None if it is none."""
    is_path = isinstance(videos, (str, os.PathLike))
    return Path(os.fspath(videos)) if is_path and os.fspath(videos).lower().endswith(".h5") else None  # type: ignore[arg-type]


def check_encoders(run: Run, command: str = "update") -> None:
    """Refuse files for a run whose features were not computed by encoders of this program."""
    with FeatureStore(learnt_store(run)) as store:
        if not store.provenance.get("encoders"):
            raise InputError(
                f"{printable(run.folder)} has learnt from {printable(store.path)}, which no encoder of this program "
                "has made, so that no features of new files can be computed; write a store of them by selavi extract, "
                f"and give that: selavi {command} {printable(run.folder)} NEW.h5",
                path=store.path,
            )


def changes_of_rows(run: Run, store: FeatureStore, rows: Path) -> tuple[Manifest, Changes]:
    """Compare the rows of a store with those of a run, by their names and features; rows that it lacks stay."""
    row_of = {path: row for row, path in enumerate(store.paths)}
    with FeatureStore(rows) as new, FeatureStore(learnt_store(run)) as old:
        listed = Manifest(
            [ManifestEntry(path, name) for path, name in zip(new.paths, new.classes, strict=True)], str(rows)
        )
        common = [m for m in old.modalities if old.has(f"features/{m}") and new.has(f"features/{m}")]
        if not common:
            spaces = [f"features/{printable(m)}" for m in old.modalities if old.has(f"features/{m}")]
            raise InputError(
                f"{printable(rows)} has none of {', '.join(spaces)}, which {printable(run.folder)} has learnt from",
                path=rows,
            )
        known = [(number, row_of[path]) for number, path in enumerate(new.paths) if path in row_of]
        same = np.ones(len(known), bool)
        if known:
            numbers, before = (np.array(each) for each in zip(*known, strict=True))
            for m in common:
                same &= row_keys(new.features(m, numbers)) == row_keys(old.features(m, before))
        changed = [new.paths[number] for (number, _), is_same in zip(known, same, strict=True) if not is_same]
    added = [path for path in dict.fromkeys(listed.paths) if path not in row_of]
    rest = set(changed)
    return listed, Changes(unchanged=[path for path in store.paths if path not in rest], new=added, changed=changed)


class HeadsWork(UpdateWork):
    """The steps of an update of a run of heads whose features were computed by encoders."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        store = learnt_store(self.run)
        inside = store.parent.resolve() == self.run.folder.resolve()
        self.features_file = self.run.folder / (store.name if inside else _ENCODED)
        self.compared_by = self.staged.path(self.features_file)
        self.written = [self.features_file, self.run.features_file, self.run.labels_file]
        self.written += [self.run.learnt_file, self.run.sheet_file]
        self.written += [self.run.config_file] if not inside else []
        self.written += [self.run.contents_file] if self.changes.contents else []
        with FeatureStore(store) as learnt:
            if learnt.paths != self.store.paths:
                raise InputError(
                    f"{printable(store)} has other rows than {printable(self.run.features_file)}, which was made of "
                    "it; restore it",
                    path=store,
                )

    @property
    def new_features(self) -> Path:
        """Path of the store to which the features of new files are written."""
        return self.staged.path(_NEW_FEATURES)

    def extract(self, manifest: Manifest, out: Path, device: str, workers: int | None, reporter: Reporter) -> None:
        """Encode new files by the encoders of the run, and write the log-probabilities of its heads."""
        if not self.new_features.exists():  # encoded before the process was killed
            text_search().encode_files(
                learnt_store(self.run), manifest, self.new_features, device=device, workers=workers, reporter=reporter
            )
        apply(self.run, self.new_features, out, reporter)

    def merge(
        self, names: Iterable[str], sources: Sequence[int], rows: Sequence[int], classes: Sequence[str], has_new: bool
    ) -> None:
        """Write the run's store, and that of its features, anew."""
        names = list(names)
        super().merge(names, sources, rows, classes, has_new)
        with ExitStack() as stack:
            stores = [stack.enter_context(FeatureStore(learnt_store(self.run)))]
            if has_new:
                stores.append(stack.enter_context(FeatureStore(self.new_features)))
            merge(self.staged.path(self.features_file), stores, sources, rows, names, classes)
        if self.run.config_file in self.written:
            config = self.run.config | {"store": os.path.abspath(self.features_file)}
            Run(self.staged.folder).rewrite_config(config)
        kept = {self.renamed.get(name, name) for name in read_learnt(self.run)["added"]}
        known = {self.renamed.get(path, path) for path in self.store.paths}
        self.recorded = {"added": [name for name in names if name in kept or name not in known]}

    def write_lists(self, added: Manifest, dropped: set[str]) -> None:
        """Write what is known of the contents of the files."""
        if self.changes.contents:
            write_contents(self.changes.contents, self.staged.path(self.run.contents_file), self.run.folder)


class RowsWork(HeadsWork):
    """The steps of an update of a run of heads by a store of further features."""

    def __init__(self, rows: Path, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.rows = rows

    @property
    def new_features(self) -> Path:
        """The store that was given."""
        return self.rows

    def extract_new(self, device: str, workers: int | None, reporter: Reporter) -> Manifest:
        """Write the log-probabilities of the heads for all rows of the store."""
        self.staged.discard()
        apply(self.run, self.rows, self.staged.path(NEW_STORE), reporter)
        return Manifest(list(self.listed.values()))
