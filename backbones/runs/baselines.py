"""What simpler ways make of the same videos: K-means on inputs, and on features of random or trained networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from backbones.data import augment
from backbones.data.clips import ClipSource, Crop, mel_statistics
from backbones.data.data_source import DataSource, n_loader_processes, open_clips
from backbones.data.settings import AugmentSettings
from backbones.learner.torch_backbone import TorchBackbone
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

_LEVEL_SAMPLE = 256  # videos whose sound sets the mean and spread of the log energies
_MOST_NUMBERS = 20_000  # of a clip that K-means sees as it is
_NORM_BATCHES, _NORM_BATCH = 20, 64  # that the batch norms of networks without training see

Labellings = dict[str, NDArray[np.int32]]


def kmeans_on_inputs(source: ClipSource, clusters: int, seed: int = 0) -> Labellings:
    """
    Cluster the middle clips of all videos by their pixels, by their log mel energies, and by both.

    Clips of more than 20,000 numbers are averaged down to 4 frames of at most 32 x 32 pixels. Every number is
    standardised over the videos, as `selavi_ref.selflabel.kmeans.FeatureScaler` does; K-means has 10 starts, the best
    kept.

    Returns
    -------
    dict
        ``"pictures"``, ``"sounds"``, ``"both"``: labels, int32, shape (N,); -1 for a video that cannot be decoded.
    """
    pictures, sounds, rows = [], [], []
    view = Crop.whole(source.settings, AugmentSettings())
    for row in range(len(source)):
        try:
            free = max(0.0, source.seconds(row) - source.settings.length)
            clip = source.clip(row, free / 2, view)
        except MediaError:
            continue
        if not clip.frames.shape[1] or not clip.mel.shape[1]:
            continue
        picture = augment.picture(torch.from_numpy(clip.frames), source.settings, None, None)
        pictures.append(_smaller(picture).flatten().numpy())
        sounds.append(augment.sound(torch.from_numpy(clip.mel)[None], source.settings, None, None).flatten().numpy())
        rows.append(row)
    if len(rows) < clusters:
        raise InputError(f"K-means with {clusters} clusters needs as many videos; {len(rows)} can be decoded")
    values = {"pictures": np.stack(pictures), "sounds": np.stack(sounds)}
    found = {}
    for name, labels in kmeans_of_each(values, clusters, seed=seed).items():
        found[name] = np.full(len(source), -1, np.int32)
        found[name][rows] = labels
    return found


@dataclass(frozen=True)
class Baselines:
    """
    Labels of one collection by simpler ways, beside those of a run.

    Parameters
    ----------
    manifest : Manifest
        Videos with picture and sound.
    clusters : int
        Number of clusters K of each labelling.
    folder : Path
        Where features are kept, and taken from when the same is done again.
    device, loading
        As in `backbones.runs.train.train`.
    seed : int
        Of K-means, and of random networks.
    """

    manifest: Manifest
    clusters: int
    folder: Path
    device: str = "auto"
    data_source: DataSource = DataSource(memory_gb=4.0)  # noqa: RUF009
    seed: int = 0
    reporter: Reporter = SILENT

    def on_inputs(self, settings: RunSettings) -> Labellings:
        """Return labels by K-means on what networks would see."""
        source = open_clips(self.manifest, settings.backbone.clip, self.data_source, reporter=self.reporter)
        return _named("K-means on inputs", kmeans_on_inputs(source, self.clusters, self.seed))

    def on_networks(self, what: str, settings: RunSettings) -> Labellings:
        """Return labels by K-means on the features of networks that a run with these settings would begin with."""
        settings = check_initial_weights(settings)
        source = open_clips(self.manifest, settings.backbone.clip, self.data_source, reporter=self.reporter)
        settings = _with_level(settings, source)
        source.settings = settings.backbone.clip
        backbone = TorchBackbone(
            settings.backbone,
            settings.head_sizes,
            source,
            device=choose_device(self.device),
            workers=n_loader_processes(source, self.data_source),
            seed=self.seed,
        )
        load_initial_weights(backbone, settings)
        if not (settings.init or settings.video_weights or settings.audio_weights):
            rng = np.random.default_rng(self.seed)
            size = min(_NORM_BATCH, len(source))
            rows = [rng.permutation(len(source))[:size] for _ in range(_NORM_BATCHES)]
            backbone.warm_up(backbone.batches(rows, [self.seed]))
        place = self.folder / "networks.h5"
        with WorkingStore.create(place, self.manifest.paths, backbone.datasets()) as store:
            backbone.write_features(store, range(len(source)), None)
            features = {m: store.features(m) for m in store.modalities}
        place.unlink()
        return _named(f"K-means on {what}", kmeans_of_each(_plain(features), self.clusters, seed=self.seed))

    def of_run(self, run: Run) -> Labellings:
        """Return the labels of a run, by both modalities and by each, and K-means on its features."""
        place = self.folder / "run.h5"
        if not place.exists():
            extract(run, self.manifest, place, device=self.device, data_source=self.data_source, reporter=self.reporter)
        with FeatureStore(place) as store:
            check_same_run(store, run, self.manifest.paths)
            return labels_of_store(store, self.clusters, "trained networks", seed=self.seed)


def labels_of_store(store: FeatureStore, clusters: int, what: str, *, seed: int = 0) -> Labellings:
    """
    Return labels by K-means on the features of a store, and by its heads, if it has log-probabilities.

    Videos that lack a modality are left out (-1) where it is looked at.

    Parameters
    ----------
    store : FeatureStore
        With features, log-probabilities, or both.
    clusters : int
        Number of clusters K.
    what : str
        What the features are, for names: "trained networks".
    seed : int
        Of K-means.
    """
    found: Labellings = {}
    features = {m: store.features(m) for m in store.modalities if store.has(f"features/{m}")}
    present = {m: store.present(m) & np.isfinite(x).all(1) for m, x in features.items()}
    ways = {_PLURALS.get(m, m): [m] for m in features}
    if len(features) > 1:
        ways["both"] = list(features)
    for name, modalities in ways.items():
        has = np.logical_and.reduce([present[m] for m in modalities])
        labels = np.full(store.n_videos, -1, np.int32)
        values = {m: features[m][has] for m in modalities}
        labels[has] = kmeans(FeatureScaler.fit(values, seed=seed)(values), clusters, seed=seed)
        found[f"K-means on {what}: {name}"] = labels
    if store.heads:
        for m in store.modalities if len(store.modalities) > 1 else ():
            found[f"ours, {_PLURALS.get(m, m)} only"] = label_store(store, only=m).label
        found["ours"] = label_store(store).label
    return found


def _smaller(picture: torch.Tensor) -> torch.Tensor:
    """Average a clip (1, 3, T, S, S) of many numbers down."""
    if picture.numel() <= _MOST_NUMBERS:
        return picture
    frames, height, width = (min(length, most) for length, most in zip(picture.shape[2:], (4, 32, 32), strict=True))
    return F.adaptive_avg_pool3d(picture, (frames, height, width))


def network_settings(n_videos: int, clusters: int, **options: Any) -> RunSettings:
    """Return settings of networks that are not trained; options are those of `run_settings`."""
    return run_settings(n_videos, clusters=clusters, overclustering_heads=0, heads=1, groups=1, **options)


_PLURALS = {"video": "pictures", "audio": "sounds"}


def _plain(features: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    return {_PLURALS.get(name, name): values for name, values in features.items()}


def _named(what: str, found: Labellings) -> Labellings:
    return {f"{what}: {name}": labels for name, labels in found.items()}


def _with_level(settings: RunSettings, source: ClipSource) -> RunSettings:
    """Measure the collection's log mel energies, where the settings ask for that."""
    if settings.backbone.mel_normalise != "collection":
        return settings
    mean, std = mel_statistics(source, range(min(_LEVEL_SAMPLE, len(source))))
    clip = replace(settings.backbone.clip, mel_mean=mean, mel_std=std, mel_floor=mean - 4 * std)
    return replace(settings, backbone=replace(settings.backbone, clip=clip))
