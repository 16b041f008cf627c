"""Extraction: writes features and log-probabilities of any videos, by the networks of a run, to a store."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.data.clips import time_limit
from backbones.data.data_source import DataSource, n_loader_processes, open_clips
from backbones.data.degradation import Degradation
from backbones.data.loader import ClipSampling
from backbones.learner.checkpoint import read_newest
from backbones.learner.torch_backbone import TorchBackbone
from backbones.runs.run_settings import RunSettings, choose_device
from selavi_ref.crossfit import CrossfitModel
from selavi_ref.crossfit.checkpoint import load_model
from selavi_ref.datasets import Manifest, read_manifest
from selavi_ref.ensemble.consensus import HeadConsensus, find_consensus
from selavi_ref.errors import InputError, MediaError, TransientMediaError
from selavi_ref.media import read_sound_statistics
from selavi_ref.media.decoder import parallel_map, run_guarded
from selavi_ref.media.segments import file_of
from selavi_ref.media.segments import groups as neighbours
from selavi_ref.media.sound_features import N_FEATURES
from selavi_ref.runs.processes import Exchange, SingleProcess, local_rows, raise_together
from selavi_ref.runs.provenance import Provenance
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.store import StoreWriter, join, shard_path

STATISTICS = "logmel"  # feature space of the statistics of sounds
_AHEAD = 8  # files, or groups of segments, per thread whose sounds are read before their turn
_GROUP_SECONDS = 300.0  # of one file whose segments are read at once


def extract(
    run: Run,
    manifest: Manifest,
    out: str | os.PathLike[str],
    *,
    sampling: ClipSampling = ClipSampling(),  # noqa: B008
    degradation: Degradation = Degradation(),  # noqa: B008
    device: str = "auto",
    data_source: DataSource = DataSource(),  # noqa: B008
    exchange: Exchange = SingleProcess(),  # noqa: B008
    audio_statistics: bool = False,
    reporter: Reporter = SILENT,
) -> Path:
    """
    Write the store of any videos: features, and the log-probabilities of every labelling head.

    An incomplete store is continued. Every video of the manifest has a row; one that cannot be decoded has its reason.
    The store also holds the potentials of the run's last self-labelling, the consensus of its heads, and the
    pseudo-labels, if the videos are those of the training. If the run has final labels (see
    `backbones.runs.final_labels`), it holds their log-posterior.

    Parameters
    ----------
    run : Run
        A trained run.
    manifest : Manifest
        The videos.
    out : path
        The store.
    sampling : ClipSampling
        Clips of each video, and crops of each clip, over which features and log-probabilities are averaged.
    degradation : Degradation
        Degradation of the clips; with one, every clip is decoded from its file.
    device, data_source, exchange
        As in `train`; by default every clip is decoded from its file.
    audio_statistics : bool
        Write `sound_statistics` of the whole sounds, ``features/logmel``, and no final labels.

    Returns
    -------
    Path
        The store.
    """
    settings = RunSettings.from_dict(run.config)
    modalities = tuple(settings.backbone.modalities.split("+"))
    wanted = None if len(modalities) > 1 else [modalities] * len(manifest)
    source = open_clips(
        manifest, settings.backbone.clip, data_source, degradation, exchange, reporter, wanted, in_order=True
    )
    workers = n_loader_processes(source, data_source) if len(manifest) > 8 * data_source.n_workers else 0
    backbone = TorchBackbone(
        settings.backbone, settings.head_sizes, source, device=choose_device(device), workers=workers
    )
    reporter = reporter if exchange.rank == 0 else SILENT
    with raise_together(exchange):
        state = backbone.load_state(read_newest(run, reporter), run.checkpoint_folder)
    consensus = checkpoint_consensus(state, settings)
    heads = range(settings.heads)
    datasets = {**backbone.datasets(), "disagreement": settings.heads}
    datasets |= {f"log_prob/{space}/{head}": settings.clusters for space in backbone.spaces for head in heads}
    model = None if audio_statistics else final_model(run)
    if audio_statistics:
        datasets[f"features/{STATISTICS}"] = N_FEATURES
    elif model is not None:
        datasets["log_posterior"] = settings.clusters
    self_labels = None
    if run.videos_file.exists() and manifest.paths == read_manifest(run.videos_file).paths:
        self_labels = state["labels"][:, : settings.heads].astype(np.int32)
        datasets["labels"] = settings.heads
    whole: dict[str, Any] = {"alignment": consensus.alignment, "groups": consensus.groups}
    if all(f"potentials_{head}" in state for head in heads):
        whole["potentials"] = np.stack([state[f"potentials_{head}"] for head in heads])
    provenance = _provenance(run, settings, state, consensus, sampling, degradation)
    if model is not None:
        provenance["search"] = asdict(model.summary)
    own, shards = local_rows(len(manifest), exchange), _shards(out, len(manifest), exchange.size)
    with raise_together(exchange):
        if own:
            part = slice(own.start, own.stop)
            writer = StoreWriter(
                shard_path(out, exchange.rank, exchange.size),
                manifest.paths[part],
                datasets,
                classes=manifest.classes[part],
                provenance=provenance,
                whole=whole,
                start=own.start,
                total=len(manifest),
            )
            change = None
            if audio_statistics or model is not None:
                rows = (writer.remaining + own.start).tolist()
                change = _SoundStatistics(manifest, rows, model, degradation, data_source.n_workers, reporter)
            done = int(writer.done.sum())
            with (
                nullcontext() if change is None else closing(change),
                writer,
                reporter.bar(len(own), "extracting", "video", done) as bar,
            ):
                backbone.extract(writer, heads, sampling, bar.update, self_labels, own.start, change)
                writer.finish()
    with raise_together(exchange):
        if exchange.rank == 0 and exchange.size > 1:
            join(out, shards)
    return Path(out)


def final_model(run: Run) -> CrossfitModel | None:
    """Return the heads by which a run gives other videos their final labels; None if it has none."""
    return load_model(run.final_labels_file) if run.final_labels_file.exists() else None


class _SoundStatistics:
    """
    Adds statistics of sounds to the values of videos, which come in the order of `rows`.

    With a model, which takes them, its log-posterior stands in their place.
    """

    def __init__(
        self,
        manifest: Manifest,
        rows: Sequence[int],
        model: CrossfitModel | None,
        degradation: Degradation,
        workers: int,
        reporter: Reporter = SILENT,
    ):
        self._manifest, self._rows, self._model, self._degradation = manifest, rows, model, degradation
        self._read = self._all(workers, reporter)

    def _all(self, workers: int, reporter: Reporter) -> Generator[NDArray[np.float32]]:
        """Yield the statistics of each video; warn of each file whose sound could not be read this time."""
        groups, warned = neighbours([self._manifest.entries[row].path for row in self._rows], _GROUP_SECONDS), set()
        with closing(parallel_map(self._read_group, groups, workers, _AHEAD)) as results:
            for group, found in results:
                if isinstance(found, TransientMediaError):
                    file = file_of(self._manifest.entries[self._rows[group[0]]].path)
                    if file not in warned:
                        reporter.warn(f"{found}; it counts as without sound in the final labels")
                    warned.add(file)
                none = np.full((len(group), N_FEATURES), np.nan, np.float32)
                yield from none if isinstance(found, MediaError) else found

    def close(self) -> None:
        """End the processes that read sounds."""
        self._read.close()

    def _read_group(self, group: list[int]) -> NDArray[np.float32] | MediaError:
        """Return the statistics of a file, or of segments of one, or why it cannot be read."""
        rows = [self._rows[number] for number in group]
        entries = [self._manifest.entries[row] for row in rows]
        limit = time_limit(sum(entry.info.audio_seconds for entry in entries if entry.info))
        # A function of this module would make the process that reads the sound import PyTorch, which takes seconds.
        degrade = partial(_degraded, self._degradation, rows) if self._degradation else None
        names = [entry.path for entry in entries]
        try:
            return run_guarded(read_sound_statistics, file_of(names[0]), names, degrade, limit=limit)
        except MediaError as error:
            return error

    def __call__(self, rows: NDArray[np.int64], values: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the values of the next rows with what is added."""
        statistics = np.stack(list(islice(self._read, len(rows))))
        # A video of which no clip can be decoded has no label either, whatever its whole sound is like.
        statistics[~np.isfinite(values["features/audio"]).all(1)] = np.nan
        if self._model is None:
            return values | {f"features/{STATISTICS}": statistics}
        features = {f"features/{STATISTICS}": statistics, **values}
        return values | {
            "log_posterior": self._model.log_posterior(
                {name: features[f"features/{name}"] for name in self._model.components}
            )
        }


def _degraded(
    degradation: Degradation, rows: Sequence[int], number: int, samples: NDArray[np.float32]
) -> NDArray[np.float32]:
    return degradation.degrade_samples(samples, seed=(rows[number],))


def _shards(out: str | os.PathLike[str], n_videos: int, size: int) -> list[Path]:
    """Return the shards of the processes that have at least one video."""
    return [
        shard_path(out, rank, size) for rank in range(size) if n_videos * rank // size < n_videos * (rank + 1) // size
    ]


def checkpoint_consensus(state: Mapping[str, Any], settings: RunSettings) -> HeadConsensus:
    """Return the consensus of the labelling heads of a checkpoint."""
    if int(state["epoch"]) == 0:
        raise InputError("the run has not learnt anything yet")
    consensus = find_consensus(state["labels"][:, : settings.heads].astype(np.int32), settings.clusters)
    return consensus.renumbered(np.asarray(state["numbers"])) if "numbers" in state else consensus


def _provenance(
    run: Run,
    settings: RunSettings,
    state: Mapping[str, Any],
    consensus: HeadConsensus,
    sampling: ClipSampling,
    degradation: Degradation,
) -> dict[str, Any]:
    return Provenance(
        run=os.path.abspath(run.folder),
        epoch=int(state["epoch"]),
        video_net=settings.backbone.video_net,
        audio_net=settings.backbone.audio_net,
        settings=settings.to_dict(),
        strength=settings.training.strength,
        clips=sampling.n_clips,
        crops=sampling.n_crops,
        degradation=_finite(asdict(degradation)) if degradation else {},
        reference=consensus.reference,
        agreement=tuple(consensus.agreement.tolist()),
        versions={**_versions(("selavi-ref", "torch", "numpy", "h5py")), "python": platform.python_version()},
    ).to_dict()


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Leave out infinite values, which JSON cannot represent."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _versions(packages: Sequence[str]) -> dict[str, str]:
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
