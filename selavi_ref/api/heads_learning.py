"""Further learning of a run of heads on features that were added, with corrections of people."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from selavi_ref.api.learning import Learning, complete_learning, notes_for_edits
from selavi_ref.api.predictions import label_features
from selavi_ref.api.update_work import read_learnt
from selavi_ref.browser.annotations import annotations_of
from selavi_ref.browser.corrections import constraints_of, summary_of
from selavi_ref.browser.edit_history import Edits
from selavi_ref.crossfit import CrossfitSettings, refine_crossfit
from selavi_ref.crossfit.checkpoint import save_model
from selavi_ref.diagnostics.newcomers import fit_of_new, n_new_clusters
from selavi_ref.ensemble.fates import fates
from selavi_ref.ensemble.label_table import write_csv
from selavi_ref.ensemble.labels import Labels, label_store
from selavi_ref.errors import InputError, printable
from selavi_ref.heads.any_run import learnt_store
from selavi_ref.heads.crossfit_run import CrossfitRunSettings, StoredFeatures, is_crossfit, write_log_prob
from selavi_ref.report.contact_sheet import contact_sheet
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.provenance import Provenance
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.runs.staged import StagedFiles
from selavi_ref.selflabel.kmeans import kmeans
from selavi_ref.store import FeatureStore

_KIND = 8  # videos that a new cluster starts from, at least on average


def check_can_learn(run: Run, epochs: int | None) -> None:
    """Refuse what does not go with further learning of heads."""
    if epochs is not None:
        raise InputError(
            f"{printable(run.folder)} has heads on features, which are found anew in a few rounds, not epochs; leave "
            "--epochs out",
            option="epochs",
            value=epochs,
        )
    if not is_crossfit(run):
        raise InputError(
            f"{printable(run.folder)} is a run of heads of version 0.1.0, which cannot learn on; start another one by "
            "selavi train-heads",
            path=run.folder,
        )


def learn_on_with_heads(run: Run, new_clusters: int | str, reporter: Reporter = SILENT) -> Learning | None:
    """
    Find the labels of a run of heads anew, from those that it has, on old and added features together.

    The last rounds of its search are done again, with the corrections of people as constraints, so that clusters keep
    their numbers. The run's files are replaced at the end, all together; a second call after a stop starts anew.

    Parameters
    ----------
    run : Run
        A finished run of cross-fitted heads whose lock is held.
    new_clusters : int or "auto"
        Clusters to add.
    reporter : Reporter
        Receives progress.

    Returns
    -------
    Learning or None
        None if nothing was added, changed or corrected since the run has learnt.
    """
    edits: Edits = annotations_of(run).read().edits_of("consensus")
    recorded = read_learnt(run)
    with FeatureStore(run.features_file) as store:
        labels = label_store(store)
    new = np.isin(labels.paths, recorded["added"])
    summary = summary_of(edits, labels.paths, labels.label)
    nothing = summary_of(Edits(), (), np.zeros(0, np.int32))
    started = _new_kinds(run, labels, new, new_clusters)
    if not (new.any() or recorded["changed"] or started or recorded.get("corrections", nothing) != summary):
        return None
    settings = CrossfitRunSettings.from_dict(run.config)
    first = settings.clusters + len(edits.created)
    K = first + len(started)
    shown = edits.apply(labels.paths, labels.label)
    start = np.maximum(shown, 0).astype(np.int32)
    for cluster, rows in enumerate(started, first):
        start[rows] = cluster
    groups = np.hstack([labels.groups, np.arange(settings.clusters, K, dtype=np.int32)[None]]).astype(np.int32)
    constraints = constraints_of(edits, labels.paths, labels.label, groups, K)
    corrected = None if constraints is None else constraints.of_result()
    staged = StagedFiles(run, run.learning_folder)
    staged.discard()
    continued = Run(staged.path(run.config_file).parent)
    settings = replace(_with_clusters(settings, K), store=os.path.abspath(learnt_store(run)))
    search = CrossfitSettings()
    with FeatureStore(settings.store) as store, reporter.bar(search.final_rounds, "learning", "round") as bar:
        model = refine_crossfit(
            {modality: StoredFeatures(store, modality) for modality in settings.modalities},
            K,
            start,
            constraints=corrected,
            marginal=settings.sizes.draw(K, store.n_videos, np.random.default_rng(settings.seed)),
            marginal_penalty=settings.sizes.marginal_penalty or None,
            settings=search,
            seed=settings.seed,
            on_round=lambda _: bar.update(1),
        )
    checkpoints = Checkpoints(continued.checkpoint_folder, suffix=".npz")
    continued.checkpoint_folder.mkdir()
    save_model(checkpoints.next_path(search.total_rounds), model)
    made_by = Provenance(run=str(run.folder.absolute()))
    write_log_prob(model, settings.store, continued.features_file, made_by, reporter, corrected)
    continued.rewrite_config(run.config | asdict(settings))
    after_learning = label_features(continued.features_file)[0]
    write_csv(after_learning, continued.labels_file)
    contact_sheet(continued.labels_file, continued.sheet_file)
    write_text(continued.learnt_file, json.dumps({"added": [], "corrections": summary}))
    certain = ~new | np.isin(labels.paths, list(edits.moved))  # labels of others prove nothing of a cluster
    before = np.where(certain, shown, -1).astype(np.int32)
    merged = np.append(edits.merge_targets(settings.clusters - K + first), np.arange(first, K))
    after = np.where(after_learning.label >= 0, merged[after_learning.label], -1).astype(np.int32)
    found = fates(before, after, K)
    plan = json.dumps([labels.paths, recorded, summary, K])
    name = hashlib.blake2b(plan.encode(errors="surrogateescape"), digest_size=8).hexdigest()
    note = {"learnt": name, "K": K, "renamed": {}}
    staged.commit(
        [getattr(run, name) for name in _FILES],
        note={**note, **notes_for_edits(edits, labels.paths, shown, after, found)},
    )
    complete_learning(run)
    n_corrected = 0 if constraints is None else len(constraints.rows)
    return Learning(len(labels.paths), n_corrected, search.final_rounds, len(started), found, after_learning, "rounds")


_FILES = ("features_file", "labels_file", "checkpoint_folder", "config_file", "learnt_file", "sheet_file")


def _new_kinds(run: Run, labels: Labels, new: NDArray[np.bool_], new_clusters: int | str) -> list[NDArray[np.intp]]:
    """Return for each cluster to add the videos that it starts from: of added ones, those that fit no cluster."""
    if new_clusters == 0 or (new_clusters == "auto" and not new.any()):
        return []
    with FeatureStore(run.features_file) as store, FeatureStore(learnt_store(run)) as features:
        misfits = fit_of_new(store, labels, new, features).misfits & new
        n = n_new_clusters(features, misfits) if new_clusters == "auto" else int(new_clusters)
        rows = np.flatnonzero(misfits)
        if n and len(rows) < n * _KIND:  # a number that was asked for
            among = np.flatnonzero((new if new.any() else np.ones(len(new), bool)) & (labels.label >= 0))
            rows = np.sort(among[np.argsort(labels.confidence[among], kind="stable")[: n * _KIND]])
        if len(rows) < n:
            raise InputError(
                f"--new-clusters {n}: there are {len(rows)} videos to start them from", option="new_clusters", value=n
            )
        if n == 0:
            return []
        spaces = [features.features(m, rows) for m in features.modalities if features.has(f"features/{m}")]
    lengths = [np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12) for values in spaces]
    joined = np.concatenate([values / length for values, length in zip(spaces, lengths, strict=True)], 1)
    kinds = kmeans(np.nan_to_num(joined), n)
    return [rows[kinds == kind] for kind in range(n)]


def _with_clusters(settings: CrossfitRunSettings, K: int) -> CrossfitRunSettings:
    """Return settings for more clusters; of given sizes, further ones are as large as the mean."""
    sizes = settings.sizes
    if sizes.given:
        given = [*sizes.given, *[float(np.mean(sizes.given))] * (K - len(sizes.given))]
        sizes = replace(sizes, given=tuple(given))
    return replace(settings, clusters=K, sizes=sizes)
