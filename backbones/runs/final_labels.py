"""Final labels of a run: cross-fitted self-labelling on what its networks have learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.data.data_source import DataSource
from backbones.data.loader import ClipSampling
from backbones.runs.extract import extract
from backbones.runs.run_settings import RunSettings
from selavi_ref.crossfit import CrossfitModel, CrossfitSettings, add_modality, fit_crossfit
from selavi_ref.crossfit.checkpoint import save_model
from selavi_ref.crossfit.model import DEFAULT_MARGINAL_PENALTY
from selavi_ref.datasets import Manifest
from selavi_ref.ensemble.labels import label_store
from selavi_ref.ensemble.matching import best_match, overlap
from selavi_ref.heads.crossfit_run import StoredFeatures
from selavi_ref.runs.processes import Exchange, SingleProcess, raise_together
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import FINAL_CLIPS, Run
from selavi_ref.store import FeatureStore, StoreWriter

_STATISTICS = "logmel"  # feature space of the statistics of sounds
_FEWEST = 16  # videos for each cluster, with picture and sound, that cross-fitting needs


def wants_final_labels(settings: RunSettings, manifest: Manifest) -> bool:
    """Return whether a run shall have final labels, and has enough videos with picture and sound for them."""
    both = sum(1 for entry in manifest if entry.info and entry.info.has_video and entry.info.has_audio)
    return settings.final_labels == "crossfit" and both >= _FEWEST * settings.clusters


def write_final_store(
    run: Run,
    manifest: Manifest,
    *,
    device: str = "auto",
    data_source: DataSource = DataSource(),  # noqa: B008
    exchange: Exchange = SingleProcess(),  # noqa: B008
    reporter: Reporter = SILENT,
) -> None:
    """
    Write the store of a run's training videos with their final labels; an interrupted call is continued.

    After many epochs the networks know their training videos by heart: their predictions repeat the pseudo-labels, the
    wrong ones too. The final labels are found anew, by cross-fitted self-labelling (`selavi_ref.crossfit`), from two
    feature spaces that do not share their mistakes: what the video network has learnt, and statistics of the sounds
    from which nothing was learnt. Heads on both, and on the features of the audio network, are then fitted to these
    labels, and give other videos theirs.

    All processes of a run call this; parameters are those of `backbones.runs.extract.extract`.
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
                _finish(run, store, reporter)
                shards = store.shard_files
            for file in (staged, *shards):
                file.unlink(missing_ok=True)


def _finish(run: Run, store: FeatureStore, reporter: Reporter) -> None:
    """Find the final labels, save the heads for other videos, and write the run's store."""
    settings, search = RunSettings.from_dict(run.config), CrossfitSettings()
    spaces = {m: StoredFeatures(store, m) for m in store.modalities if store.has(f"features/{m}")}
    chosen = {name: spaces[name] for name in ("video", _STATISTICS)}
    fewest = _FEWEST * settings.clusters
    if any(store.present(name).sum() < fewest for name in chosen):
        reporter.info(f"fewer than {fewest} videos with picture and sound: the labels are those of the heads")
        _copy(store, run.features_file, settings.clusters)
        return
    marginal, marginal_penalty = _sizes(settings, store.n_videos)
    with reporter.bar(search.total_rounds, "final labels", "round") as bar:
        model, _ = fit_crossfit(
            chosen,
            settings.clusters,
            marginal=marginal,
            marginal_penalty=marginal_penalty,
            settings=search,
            seed=settings.training.seed,
            on_round=lambda _: bar.update(1),
        )
    labels = np.concatenate([_labels(model, chosen, rows) for rows in store.blocks()])
    # The clusters keep the numbers of those of the heads that they share most videos with.
    of_heads = label_store(store, head="heads").label
    numbers = best_match(overlap(labels, of_heads, settings.clusters))
    model = model.renumbered(numbers)
    labels = np.where(labels < 0, labels, numbers[labels]).astype(np.int32)
    complete = model
    for name in spaces.keys() - chosen.keys():
        complete = add_modality(complete, name, spaces[name], labels, settings=search, seed=settings.training.seed)
    save_model(run.final_labels_file, complete.without_held_out())
    _copy(store, run.features_file, settings.clusters, model, chosen)


def _sizes(settings: RunSettings, n_videos: int) -> tuple[NDArray[np.float64] | None, float | None]:
    """Return sizes of the clusters and the penalty for missing them; sizes that nobody prescribed are a guess."""
    sizes = settings.training.sizes
    guessed = sizes.marginal_penalty > 0
    penalty = DEFAULT_MARGINAL_PENALTY if guessed else None
    if guessed and sizes.distribution in ("uniform", "gaussian"):
        return None, penalty
    return sizes.draw(settings.clusters, n_videos, np.random.default_rng(settings.training.seed)), penalty


def _labels(model: CrossfitModel, spaces: Mapping[str, StoredFeatures], rows: slice) -> NDArray[np.int32]:
    """Return the labels of some videos by held-out heads, int32, shape (n,); -1 without any feature."""
    log_posterior = model.log_posterior({name: space[rows] for name, space in spaces.items()})
    return np.where(np.isnan(log_posterior[:, 0]), -1, log_posterior.argmax(1)).astype(np.int32)


def _copy(
    store: FeatureStore,
    out: Path,
    clusters: int,
    model: CrossfitModel | None = None,
    spaces: Mapping[str, StoredFeatures] | None = None,
) -> None:
    """Write the run's store: all but the statistics of sounds, and the log-posterior of the final labels."""
    names = [name for name in store.names if name != f"features/{_STATISTICS}"]
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
                values["log_posterior"] = model.log_posterior({name: space[rows] for name, space in spaces.items()})
            has = {modality: of_all[rows] for modality, of_all in present.items()}
            writer.write(rows, values, present=has, reason=store.reasons[rows])
        writer.finish()
