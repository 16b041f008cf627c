"""Trials of a study: runs with different settings that are trained in sequence, resumed and scored."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from backbones.data.data_source import DataSource
from backbones.data.loader import ClipSampling
from backbones.runs import train as jobs
from backbones.runs.extract import extract
from backbones.runs.presets import run_settings
from backbones.runs.run_settings import RunSettings
from selavi_ref.datasets import Manifest, read_manifest
from selavi_ref.ensemble.label_table import write_csv
from selavi_ref.ensemble.labels import label_store
from selavi_ref.errors import InputError, printable
from selavi_ref.metrics import summary
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.runs.run_lock import locked
from selavi_ref.store import FeatureStore

TEST_CLIPS = 3  # of each unseen video
_MEASURED = ("mel_mean", "mel_std", "mel_floor")  # settings that a run measures on its collection


@dataclass(frozen=True)
class Trial:
    """
    One variant of the training settings.

    Parameters
    ----------
    name : str
        Name in tables.
    options : mapping
        Options of `backbones.runs.presets.run_settings`, in addition to the shared ones.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trials:
    """
    Runs of a study, each in its own folder.

    Parameters
    ----------
    folder : Path
        Folder of the study.
    manifest : Manifest
        The usable training videos, with their classes.
    shared : mapping
        Options of `backbones.runs.presets.run_settings` of all trials, including ``clusters``.
    seeds : sequence of int
        Seeds of the runs of each trial.
    unseen : Manifest, optional
        Further videos that the trained networks label.
    device, data_source
        As in `backbones.runs.train.train`.
    """

    folder: Path
    manifest: Manifest
    shared: Mapping[str, Any]
    seeds: Sequence[int] = (0,)
    unseen: Manifest | None = None
    device: str = "auto"
    data_source: DataSource = DataSource(memory_gb=4.0)  # noqa: RUF009
    reporter: Reporter = SILENT

    def __post_init__(self) -> None:
        for what, manifest in (("the videos", self.manifest), ("the unseen videos", self.unseen)):
            if manifest is not None and len(set(manifest.classes) - {""}) < 2:
                raise InputError(
                    f"{printable(manifest.source)}: {what} of a study need at least two true classes for "
                    "scores; put them into folders by class, or give a list with a column class",
                    path=manifest.source,
                )

    def run_all(self, trials: Sequence[Trial]) -> dict[str, list[tuple[Run, dict[str, float]]]]:
        """
        Train the unfinished runs, and return the runs and scores of each trial, one for each seed.

        Scores are `selavi_ref.metrics.summary` of the consensus labels of the training videos, ``mean_head_nmi`` and
        ``best_head_nmi`` over the heads, and ``unseen_nmi`` and ``unseen_accuracy``.
        """
        planned = [(trial, seed) for trial in trials for seed in self.seeds]
        settings = [self.settings(trial, seed) for trial, seed in planned]  # fails before hours are spent
        done: dict[str, list[tuple[Run, dict[str, float]]]] = {trial.name: [] for trial in trials}
        for number, ((trial, seed), setting) in enumerate(zip(planned, settings, strict=True), 1):
            self.reporter.info(f"run {number} of {len(planned)}: {trial.name}, seed {seed}")
            name = f"{slug(trial.name)}-seed{seed}"
            with locked(self.folder / name):
                run = self._run_one(name, setting)
                done[trial.name].append((run, self._score(run)))
        return done

    def settings(self, trial: Trial, seed: int) -> RunSettings:
        """Return the settings of a trial's run; an `InputError` if they do not fit each other."""
        options = {**self.shared, **trial.options, "seed": seed, "device": self.device}
        return run_settings(len(self.manifest), **options)

    def _run_one(self, name: str, settings: RunSettings) -> Run:
        run = Run(self.folder / name)
        if run.config_file.exists():
            if not _same_settings(RunSettings.from_dict(run.config), settings):
                raise InputError(
                    f"{run.folder} is a run with other settings; give the study another --out", path=run.folder
                )
            if _paths_and_classes(read_manifest(run.videos_file)) != _paths_and_classes(self.manifest):
                raise InputError(
                    f"{run.folder} has learnt from other videos or classes; give the study another --out",
                    path=run.folder,
                )
        else:
            run = jobs.start(run.folder, self.manifest, settings)
        if not jobs.is_finished(run):
            jobs.train(run, device=self.device, data_source=self.data_source, reporter=self.reporter)
        if not run.features_file.exists():
            extract(
                run,
                read_manifest(run.videos_file),
                run.features_file,
                device=self.device,
                data_source=self.data_source,
                reporter=self.reporter,
            )
        return run

    def _score(self, run: Run) -> dict[str, float]:
        with FeatureStore(run.features_file) as store:
            labels, classes = label_store(store), store.classes
        if not run.labels_file.exists():
            write_csv(labels, run.labels_file)
        heads = [score_labels(classes, column)["nmi"] for column in labels.heads.T]
        scores = score_labels(classes, labels.label)
        scores |= {"mean_head_nmi": float(np.mean(heads)), "best_head_nmi": max(heads)}
        if self.unseen is not None:
            path = run.folder / "unseen.h5"
            if not path.exists():
                data_source = DataSource(self.data_source.workers)
                extract(
                    run,
                    self.unseen,
                    path,
                    sampling=ClipSampling(TEST_CLIPS),
                    reporter=self.reporter,
                    device=self.device,
                    data_source=data_source,
                )
            with FeatureStore(path) as store:
                if store.paths != self.unseen.paths or store.classes != self.unseen.classes:
                    raise InputError(f"{path} is of other videos or classes; give the study another --out", path=path)
                unseen = score_labels(store.classes, label_store(store).label)
            scores |= {"unseen_nmi": unseen["nmi"], "unseen_accuracy": unseen["accuracy"]}
        return scores


def score_labels(classes: Sequence[str], labels: Iterable[int]) -> dict[str, float]:
    """Return `selavi_ref.metrics.summary` over the videos with both a class and a label (0 or more)."""
    pairs = [(true, int(label)) for true, label in zip(classes, labels, strict=True) if true and label >= 0]
    if not pairs:
        raise InputError("none of the videos has both a true class and a label")
    return dict(summary([true for true, _ in pairs], [label for _, label in pairs]))


def mean_and_spread(runs: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, float | None]:
    """Return the mean of each score over runs, and its standard deviation as ``NAME_sd`` (None for a single run)."""
    result: dict[str, float | None] = {}
    for name in names:
        values = [scores[name] for scores in runs if name in scores]
        result[name] = float(np.mean(values)) if values else None
        result[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return result


def long_tailed(manifest: Manifest, steepness: float, seed: int = 0) -> Manifest:
    """
    Return a long-tailed subset: of C sorted classes, class k keeps a fraction ``exp(-steepness k / (C - 1))``.

    The subset depends on `seed` alone; each class keeps at least one video. All videos of unknown class are kept.
    """
    by_class: dict[str, list[int]] = {}
    for row, name in enumerate(manifest.classes):
        by_class.setdefault(name, []).append(row)
    unknown = by_class.pop("", [])
    rng = np.random.default_rng(seed)
    rows_kept = unknown
    for k, name in enumerate(sorted(by_class)):
        rows = by_class[name]
        fraction = math.exp(-steepness * k / max(1, len(by_class) - 1))
        rows_kept += rng.permutation(rows)[: max(1, round(fraction * len(rows)))].tolist()
    return replace(manifest, entries=[manifest.entries[row] for row in sorted(rows_kept)])


def slug(name: str) -> str:
    """Return a name in a form suitable for a folder."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _paths_and_classes(manifest: Manifest) -> list[tuple[str, str]]:
    return [(os.path.abspath(entry.path), name) for entry, name in zip(manifest, manifest.classes, strict=True)]


def _same_settings(existing: RunSettings, expected: RunSettings) -> bool:
    """Return whether settings are equal, except for measured values and the name of the file of sizes."""
    clip = existing.backbone.clip
    if expected.backbone.mel_normalise == "collection":
        clip = replace(clip, **{name: getattr(expected.backbone.clip, name) for name in _MEASURED})
    training = existing.training
    if training.sizes.given:
        name = expected.training.sizes.distribution
        training = replace(training, sizes=replace(training.sizes, distribution=name))
    return replace(existing, training=training, backbone=replace(existing.backbone, clip=clip)) == expected
