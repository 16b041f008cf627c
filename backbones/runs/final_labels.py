"""Final labels of a run: cross-fitted self-labelling on what its networks have learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.data.data_source import DataSource
from backbones.data.loader import ClipSampling
from backbones.runs.extract import STATISTICS, extract
from backbones.runs.run_settings import RunSettings
from selavi_ref.crossfit import CrossfitModel, CrossfitSettings, add_modality, fit_crossfit, refine_crossfit
from selavi_ref.crossfit.checkpoint import save_model
from selavi_ref.crossfit.logistic import log_softmax
from selavi_ref.crossfit.model import DEFAULT_MARGINAL_PENALTY
from selavi_ref.datasets import Manifest
from selavi_ref.ensemble.labels import label_store
from selavi_ref.ensemble.matching import best_match, overlap
from selavi_ref.heads.crossfit_run import StoredFeatures
from selavi_ref.runs.modality_names import BOTH
from selavi_ref.runs.processes import Exchange, SingleProcess, raise_together
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import FINAL_CLIPS, Run
from selavi_ref.selflabel.constraints import Constraints, HeadConstraints
from selavi_ref.store import FeatureStore, StoreWriter

_FEWEST = 16  # videos for each cluster, with picture and sound, that cross-fitting needs


def wants_final_labels(settings: RunSettings, manifest: Manifest) -> bool:
    """Return whether a run shall have final labels, and has enough videos with picture and sound for them."""
    both = sum(1 for entry in manifest if entry.info and entry.info.has_video and entry.info.has_audio)
    on_both = settings.backbone.modalities == BOTH
    return on_both and settings.final_labels == "crossfit" and both >= _FEWEST * settings.clusters


def write_final_store(
    run: Run,
    manifest: Manifest,
    *,
    device: str = "auto",
    data_source: DataSource = DataSource(),  # noqa: B008
    exchange: Exchange = SingleProcess(),  # noqa: B008
    start: NDArray[np.int32] | None = None,
    constraints: Constraints | None = None,
    reporter: Reporter = SILENT,
) -> None:
    """
    Write the store of a run's training videos with their final labels; an interrupted call is continued.

    After many epochs the networks know their training videos by heart: their predictions repeat the pseudo-labels, the
    wrong ones too. The final labels are found anew, by cross-fitted self-labelling (`selavi_ref.crossfit`), from two
    feature spaces that do not share their mistakes: what the video network has learnt, and statistics of the sounds
    from which nothing was learnt. Heads on both, and on the features of the audio network, are then fitted to these
    labels, and give other videos theirs.

    All processes of a run call this; other parameters are those of `backbones.runs.extract.extract`.

    Parameters
    ----------
    start : array, optional
        Labels to start from, of a run that has learnt on, int32, shape (N,); -1 for those of the heads.
    constraints : Constraints, optional
        Corrections of people, which go with `start`.
    """
    staged = run.folder / "extracted.h5"
    if not staged.exists():
        extract(
            run,
            manifest,
            staged,
            sampling=ClipSampling(FINAL_CLIPS),
            device=device,
            data_source=data_source,
            exchange=exchange,
            audio_statistics=True,
            reporter=reporter,
        )
    with raise_together(exchange):
        if exchange.rank == 0:
            with FeatureStore(staged) as store:
                _finish(run, store, start, constraints, reporter)
                shards = store.shard_files
            for file in (staged, *shards):
                file.unlink(missing_ok=True)


def _finish(
    run: Run,
    store: FeatureStore,
    start: NDArray[np.int32] | None,
    constraints: Constraints | None,
    reporter: Reporter,
) -> None:
    """Find the final labels, save the heads for other videos, and write the run's store."""
    settings, search = RunSettings.from_dict(run.config), CrossfitSettings()
    spaces = {m: StoredFeatures(store, m) for m in store.modalities if store.has(f"features/{m}")}
    chosen = {name: spaces[name] for name in ("video", STATISTICS)}
    fewest = _FEWEST * settings.clusters
    if any(store.present(name).sum() < fewest for name in chosen):
        reporter.info(f"fewer than {fewest} videos with picture and sound: the labels are those of the heads")
        _copy(store, run.features_file, settings.clusters)
        return
    of_heads = label_store(store, head="heads").label
    marginal, marginal_penalty = _sizes(settings, store.n_videos)
    how: dict[str, Any] = {
        "marginal": marginal,
        "marginal_penalty": marginal_penalty,
        "settings": search,
        "seed": settings.training.seed,
    }
    corrected = None if constraints is None or start is None else constraints.of_result()
    n_rounds = search.total_rounds if start is None else search.final_rounds
    with reporter.bar(n_rounds, "final labels", "round") as bar:
        how["on_round"] = lambda _: bar.update(1)
        if start is None:
            model, _ = fit_crossfit(chosen, settings.clusters, **how)
        else:
            known = np.where(start >= 0, start, np.maximum(of_heads, 0)).astype(np.int32)
            model = refine_crossfit(chosen, settings.clusters, known, constraints=corrected, **how)
    labels = np.concatenate([_log_posterior(model, chosen, corrected, rows).argmax(1) for rows in store.blocks()])
    usable = np.logical_or.reduce([store.present(name) for name in chosen])
    labels = np.where(usable, labels, -1).astype(np.int32)
    if start is None:
        # The clusters keep the numbers of those of the heads that they share most videos with.
        numbers = best_match(overlap(labels, of_heads, settings.clusters))
        model = model.renumbered(numbers)
        labels = np.where(labels < 0, labels, numbers[labels]).astype(np.int32)
    complete = model
    for name in spaces.keys() - chosen.keys():
        complete = add_modality(complete, name, spaces[name], labels, settings=search, seed=settings.training.seed)
    save_model(run.final_labels_file, complete.without_held_out())
    _copy(store, run.features_file, settings.clusters, model, chosen, corrected)


def _sizes(settings: RunSettings, n_videos: int) -> tuple[NDArray[np.float64] | None, float | None]:
    """Return sizes of the clusters and the penalty for missing them; sizes that nobody prescribed are a guess."""
    sizes = settings.training.sizes
    guessed = sizes.marginal_penalty > 0
    penalty = DEFAULT_MARGINAL_PENALTY if guessed else None
    if guessed and sizes.distribution in ("uniform", "gaussian"):
        return None, penalty
    return sizes.draw(settings.clusters, n_videos, np.random.default_rng(settings.training.seed)), penalty


def _log_posterior(
    model: CrossfitModel, spaces: Mapping[str, StoredFeatures], corrected: HeadConstraints | None, rows: slice
) -> NDArray[np.float32]:
    """Return the log-posterior of some videos by held-out heads, float32, shape (n, K); NaN without any feature."""
    values = model.log_posterior({name: space[rows] for name, space in spaces.items()})
    return values if corrected is None else np.asarray(log_softmax(corrected.scores(rows, values, 1.0)))


def _copy(
    store: FeatureStore,
    out: Path,
    clusters: int,
    model: CrossfitModel | None = None,
    spaces: Mapping[str, StoredFeatures] | None = None,
    corrected: HeadConstraints | None = None,
) -> None:
    """Write the run's store: all but the statistics of sounds, and the log-posterior of the final labels."""
    names = [name for name in store.names if name != f"features/{STATISTICS}"]
    widths = {name: store.width(name) for name in names}
    if model is not None:
        widths["log_posterior"] = clusters
    search = {} if model is None else {"search": asdict(model.summary)}
    whole = {name: store.get(name) for name in ("alignment", "groups", "potentials") if store.has(name)}
    writer = StoreWriter(
        out,
        store.paths,
        widths,
        classes=store.classes,
        provenance=store.provenance | search,
        whole=whole,
        resume=False,
    )
    present = {modality: store.present(modality) for modality in writer.modalities}
    with writer:
        for rows in store.blocks():
            values = {name: store.get(name, rows) for name in names}
            if model is not None and spaces is not None:
                values["log_posterior"] = _log_posterior(model, spaces, corrected, rows)
            has = {modality: of_all[rows] for modality, of_all in present.items()}
            writer.write(rows, values, present=has, reason=store.reasons[rows])
        writer.finish()
