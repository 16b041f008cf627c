"""Baselines: K-means on network inputs, and on features of random, pretrained or trained networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from backbones.data import augment
from backbones.data.clips import ClipSource, Crop
from backbones.data.data_source import DataSource, n_loader_processes, open_clips
from backbones.data.settings import AugmentSettings
from backbones.learner.torch_backbone import TorchBackbone
from backbones.runs.audio_level import measure_audio_level
from backbones.runs.extract import extract
from backbones.runs.initial_weights import check_initial_weights, load_initial_weights
from backbones.runs.presets import run_settings
from backbones.runs.run_settings import RunSettings, choose_device
from backbones.runs.store_check import check_same_run
from selavi_ref.datasets import Manifest
from selavi_ref.ensemble.labels import label_store
from selavi_ref.errors import InputError, MediaError
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.selflabel.kmeans import FeatureScaler, kmeans, kmeans_of_each
from selavi_ref.store import FeatureStore, WorkingStore

_MAX_INPUT_SIZE = 20_000  # numbers of a clip beyond which it is averaged down for K-means
_BN_BATCHES, _BN_BATCH_SIZE = 20, 64  # for the batch norms of untrained networks

LabelsByName = dict[str, NDArray[np.int32]]


def kmeans_on_inputs(source: ClipSource, clusters: int, seed: int = 0) -> LabelsByName:
    """
    Cluster the centre clips of all videos by their pixels, by their log mel energies, and by both.

    Clips of more than 20,000 numbers are averaged down to 4 frames of at most 32 x 32 pixels. Every number is
    standardised over the videos by `selavi_ref.selflabel.kmeans.FeatureScaler`; K-means keeps the best of 10 starts.

    Returns
    -------
    dict
        ``"pictures"``, ``"sounds"``, ``"both"``: labels, int32, shape (N,); -1 for a video that cannot be decoded.
    """
    video_inputs, audio_inputs, rows = [], [], []
    crop = Crop.for_evaluation(source.settings, AugmentSettings())
    for row in range(len(source)):
        try:
            free = max(0.0, source.seconds(row) - source.settings.length)
            clip = source.clip(row, free / 2, crop)
        except MediaError:
            continue
        if not clip.frames.shape[1] or not clip.mel.shape[1]:
            continue
        video = augment.video_input(torch.from_numpy(clip.frames), source.settings, None, None)
        video_inputs.append(_downsampled(video).flatten().numpy())
        audio = augment.audio_input(torch.from_numpy(clip.mel)[None], source.settings, None, None)
        audio_inputs.append(audio.flatten().numpy())
        rows.append(row)
    if len(rows) < clusters:
        raise InputError(f"K-means with {clusters} clusters needs as many videos; {len(rows)} can be decoded")
    values = {"pictures": np.stack(video_inputs), "sounds": np.stack(audio_inputs)}
    result = {}
    for name, labels in kmeans_of_each(values, clusters, seed=seed).items():
        result[name] = np.full(len(source), -1, np.int32)
        result[name][rows] = labels
    return result


@dataclass(frozen=True)
class Baselines:
    """
    Labels of a collection by baseline methods, and by a run.

    Parameters
    ----------
    manifest : Manifest
        Videos with video and audio.
    clusters : int
        Number of clusters K.
    folder : Path
        Folder of the features, which are reused when the command is repeated.
    device, data_source
        As in `backbones.runs.train.train`.
    seed : int
        Seed of K-means, and of random networks.
    """

    manifest: Manifest
    clusters: int
    folder: Path
    device: str = "auto"
    data_source: DataSource = DataSource(memory_gb=4.0)  # noqa: RUF009
    seed: int = 0
    reporter: Reporter = SILENT

    def label_inputs(self, settings: RunSettings) -> LabelsByName:
        """Return labels by K-means on network inputs."""
        source = open_clips(self.manifest, settings.backbone.clip, self.data_source, reporter=self.reporter)
        return _with_prefix("K-means on inputs", kmeans_on_inputs(source, self.clusters, self.seed))

    def label_networks(self, what: str, settings: RunSettings) -> LabelsByName:
        """Return labels by K-means on the features of the initial networks of a run with these settings."""
        settings = check_initial_weights(settings)
        source = open_clips(self.manifest, settings.backbone.clip, self.data_source, reporter=self.reporter)
        settings = measure_audio_level(settings, source)
        source.settings = settings.backbone.clip
        backbone = TorchBackbone(
            settings.backbone,
            settings.head_sizes,
            source,
            device=choose_device(self.device),
            workers=n_loader_processes(source, self.data_source),
            seed=self.seed,
        )
        load_initial_weights(backbone, settings, self.reporter)
        if not (settings.init or settings.video_weights or settings.audio_weights):
            rng = np.random.default_rng(self.seed)
            size = min(_BN_BATCH_SIZE, len(source))
            rows = [rng.permutation(len(source))[:size] for _ in range(_BN_BATCHES)]
            backbone.warm_up(backbone.batches(rows, [self.seed]))
        path = self.folder / "networks.h5"
        with WorkingStore.create(path, self.manifest.paths, backbone.datasets()) as store:
            backbone.write_features(store, range(len(source)), None)
            features = {m: store.features(m) for m in store.modalities}
        path.unlink()
        return _with_prefix(
            f"K-means on {what}", kmeans_of_each(_plural_names(features), self.clusters, seed=self.seed)
        )

    def label_run(self, run: Run) -> LabelsByName:
        """Return the labels of a run, by both modalities and by each alone, and K-means on its features."""
        path = self.folder / "run.h5"
        if not path.exists():
            extract(run, self.manifest, path, device=self.device, data_source=self.data_source, reporter=self.reporter)
        with FeatureStore(path) as store:
            check_same_run(store, run, self.manifest.paths, self.reporter)
            return label_features(store, self.clusters, "trained networks", seed=self.seed)


def label_features(store: FeatureStore, clusters: int, what: str, *, seed: int = 0) -> LabelsByName:
    """
    Return labels by K-means on the features of a store, and by its heads, if it has log-probabilities.

    The label is -1 where a video lacks a modality that is used.

    Parameters
    ----------
    store : FeatureStore
        A store with features, log-probabilities, or both.
    clusters : int
        Number of clusters K.
    what : str
        Origin of the features, for the names of the results, such as "trained networks".
    seed : int
        Seed of K-means.
    """
    result: LabelsByName = {}
    features = {m: store.features(m) for m in store.modalities if store.has(f"features/{m}")}
    present = {m: store.present(m) & np.isfinite(x).all(1) for m, x in features.items()}
    feature_sets = {_PLURALS.get(m, m): [m] for m in features}
    if len(features) > 1:
        feature_sets["both"] = list(features)
    for name, modalities in feature_sets.items():
        has = np.logical_and.reduce([present[m] for m in modalities])
        labels = np.full(store.n_videos, -1, np.int32)
        values = {m: features[m][has] for m in modalities}
        labels[has] = kmeans(FeatureScaler.fit(values, seed=seed)(values), clusters, seed=seed)
        result[f"K-means on {what}: {name}"] = labels
    if store.heads:
        for m in store.modalities if len(store.modalities) > 1 else ():
            result[f"ours, {_PLURALS.get(m, m)} only"] = label_store(store, only=m).label
        result["ours"] = label_store(store).label
    return result


def _downsampled(video: torch.Tensor) -> torch.Tensor:
    """Average a clip (1, 3, T, S, S) down if it has many numbers."""
    if video.numel() <= _MAX_INPUT_SIZE:
        return video
    frames, height, width = (min(length, most) for length, most in zip(video.shape[2:], (4, 32, 32), strict=True))
    return F.adaptive_avg_pool3d(video, (frames, height, width))


def network_settings(n_videos: int, clusters: int, **options: Any) -> RunSettings:
    """Return settings for untrained networks; options are those of `run_settings`."""
    return run_settings(n_videos, clusters=clusters, overclustering_heads=0, heads=1, groups=1, **options)


_PLURALS = {"video": "pictures", "audio": "sounds"}


def _plural_names(features: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    return {_PLURALS.get(name, name): values for name, values in features.items()}


def _with_prefix(prefix: str, labels_by_name: LabelsByName) -> LabelsByName:
    return {f"{prefix}: {name}": labels for name, labels in labels_by_name.items()}
