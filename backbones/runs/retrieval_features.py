"""Features for retrieval: feature maps of the networks' last stage, max-pooled as published, or averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from backbones.data import augment
from backbones.data.data_source import DataSource, n_loader_processes, open_clips
from backbones.data.loader import ClipSampling, EvalBatch, eval_batches
from backbones.learner.checkpoint import read_newest
from backbones.learner.settings import BackboneSettings
from backbones.learner.torch_backbone import TorchBackbone, features_of
from backbones.networks import registry
from backbones.networks.model import MODALITIES
from backbones.networks.registry import Base, NetworkSpec
from backbones.runs.run_settings import RunSettings, choose_device
from selavi_ref.datasets import Manifest
from selavi_ref.errors import InputError
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run

POOLS = ("max", "average", "mean")
_KERNEL = 2  # along each axis, where there is room for it


@dataclass(frozen=True)
class RetrievalFeatures:
    """
    Retrieval features of the N videos of a collection.

    Parameters
    ----------
    features : dict of str to array
        For ``"video"`` and ``"audio"``: float32, shape (N, D); NaN in the rows of videos that lack the modality.
    present : dict of str to array
        Whether each video has the modality: bool, shape (N,).
    reasons : list of str
        Why a video could not be decoded; "" where it could.
    """

    features: dict[str, NDArray[np.float32]]
    present: dict[str, NDArray[np.bool_]]
    reasons: list[str]


def retrieval_features(
    run: Run,
    manifest: Manifest,
    *,
    pool: str = "max",
    clips: int = 10,
    frames: int | None = 32,
    device: str = "auto",
    data_source: DataSource = DataSource(),  # noqa: B008
    progress: Callable[[int], None] | None = None,
    reporter: Reporter = SILENT,
) -> RetrievalFeatures:
    """
    Return features for retrieval: L2-normalised maps of each clip, averaged over the clips of a video.

    Published: the maps of R(2+1)D-18 for 32 frames of 112 x 112 pixels, max-pooled by 2 x 2 x 2: 512 x 2 x 3 x 3 =
    9,216 numbers.

    Parameters
    ----------
    run : Run
        A trained run.
    manifest : Manifest
        The videos.
    pool : str
        ``"max"``, ``"average"``: the map, max- or average-pooled by 2 along each axis that is long enough, flattened.
        ``"mean"``: the mean of the map, as `backbones.runs.extract` writes it.
    clips : int
        Clips of each video, evenly spread, of which the middle square is batches.
    frames : int, optional
        Frames per clip; None: as in the run's training.
    device, data_source
        As in `backbones.runs.extract.extract`.
    progress : callable, optional
        Called with the number of videos of each finished batch.
    reporter : Reporter
        Receives a warning if the newest checkpoint is damaged.

    Raises
    ------
    InputError
        If the run has no networks, a network has no maps or does not accept so many frames, or `pool` is unknown.
    """
    reader = RetrievalReader(
        run, manifest, pool=pool, clips=clips, frames=frames, device=device, data_source=data_source, reporter=reporter
    )
    table = _FeatureTable(len(manifest))
    for batch, features in reader.read(range(len(manifest))):
        for modality, values in features.items():
            table.take(batch, modality, values)
        if progress is not None:
            progress(len(batch.rows))
    return RetrievalFeatures(table.features, table.present, table.reasons)


class RetrievalReader:
    """
    Networks of a run that compute retrieval features of a collection; parameters as in `retrieval_features`.

    Raises
    ------
    InputError
        As in `retrieval_features`.
    """

    def __init__(
        self,
        run: Run,
        manifest: Manifest,
        *,
        pool: str = "max",
        clips: int = 10,
        frames: int | None = 32,
        device: str = "auto",
        data_source: DataSource = DataSource(),  # noqa: B008
        reporter: Reporter = SILENT,
    ):
        if pool not in POOLS:
            raise InputError(f"pool={pool!r}: choose {' or '.join(POOLS)}", option="pool", value=pool)
        run_settings = RunSettings.from_dict(Run.of_videos(run.folder).config)
        self.settings = _with_frames(run_settings.backbone, frames)
        specs = {m: registry.find(m, getattr(self.settings, f"{m}_net")) for m in self.settings.modalities.split("+")}
        _check(specs, self.settings, pool)
        self.clips = clips
        self.pool = pool
        self._pooled = specs if pool != "mean" else {}
        self._backbone, self.epoch = _backbone(
            run, replace(run_settings, backbone=self.settings), manifest, device, data_source, reporter
        )

    @torch.no_grad()
    def read(self, rows: Sequence[int]) -> Iterator[tuple[EvalBatch, dict[str, NDArray[np.float32]]]]:
        """Yield batches of some videos, and the features (B, D) of each modality; NaN where it is missing."""
        settings, backbone = self.settings, self._backbone
        sampling, size = ClipSampling(self.clips), max(1, settings.eval_batch_size // self.clips)
        batches = eval_batches(
            backbone.source, rows, settings.augment, sampling, batch_size=size, workers=backbone.workers
        )
        with _captured_maps(backbone, self._pooled) as maps:
            for batch in batches:
                table = {}
                inputs = _inputs(batch, settings, backbone.device)
                for modality, of_clips in ((m, inputs[m]) for m in backbone.modalities):
                    features = features_of(backbone.model, modality, of_clips, settings.precision)
                    features = pool_maps(maps[modality].pop(), self.pool) if self._pooled else features
                    values = clip_mean(features, self.clips).cpu().numpy()
                    table[modality] = np.where(batch.present[modality][:, None], values, np.float32(np.nan))
                yield batch, table


def pool_maps(maps: Tensor, pool: str = "max") -> Tensor:
    """Return maps (B, C, ...), max- or average-pooled by 2 along each further axis of length 2 or more: (B, D)."""
    kernel = [min(_KERNEL, length) for length in maps.shape[2:]]
    if pool == "max":
        pooled = (F.max_pool3d if len(kernel) == 3 else F.max_pool2d)(maps.float(), kernel)
    else:
        pooled = (F.avg_pool3d if len(kernel) == 3 else F.avg_pool2d)(maps.float(), kernel)
    return pooled.flatten(1)


def clip_mean(features: Tensor, n_clips: int) -> Tensor:
    """L2-normalise the features of each clip (B * M, D), and average those of each video: (B, D)."""
    return F.normalize(features, dim=1).view(-1, n_clips, features.shape[1]).mean(1)


class _FeatureTable:
    """Features of all videos, collected in arrays that are allocated once the number of features is known."""

    def __init__(self, n_videos: int):
        self.features: dict[str, NDArray[np.float32]] = {m: np.empty((n_videos, 0), np.float32) for m in MODALITIES}
        self.present = {m: np.zeros(n_videos, bool) for m in MODALITIES}
        self.reasons = [""] * n_videos

    def take(self, batch: EvalBatch, modality: str, features: NDArray[np.float32]) -> None:
        """Store the features (B, D) of the videos of a batch."""
        if not self.features[modality].shape[1]:
            shape = (len(self.reasons), features.shape[1])
            self.features[modality] = np.full(shape, np.nan, np.float32)
        self.features[modality][batch.rows] = features
        self.present[modality][batch.rows] = batch.present[modality]
        for row, reason in zip(batch.rows.tolist(), batch.reasons, strict=True):
            self.reasons[row] = reason


def _with_frames(settings: BackboneSettings, frames: int | None) -> BackboneSettings:
    """Return the settings with another number of frames, and without compilation, which would bypass the hooks."""
    clip = settings.clip if frames is None else replace(settings.clip, frames=frames)
    return replace(settings, clip=clip, compile=False)


def _check(specs: dict[str, NetworkSpec], settings: BackboneSettings, pool: str) -> None:
    for modality, spec in specs.items():
        spec.check(settings.clip)
        if pool != "mean" and not spec.maps:
            raise InputError(
                f"the {modality} network {spec.name} has no feature maps to pool; choose mean",
                option="pool",
                value=pool,
            )


def _backbone(
    run: Run, settings: RunSettings, manifest: Manifest, device: str, data_source: DataSource, reporter: Reporter
) -> tuple[TorchBackbone, int]:
    """Return the networks of a run in evaluation mode, with the clips of the videos, and the epoch."""
    source = open_clips(manifest, settings.backbone.clip, data_source)
    workers = n_loader_processes(source, data_source) if len(manifest) > 8 * data_source.n_workers else 0
    backbone = TorchBackbone(
        settings.backbone, settings.head_sizes, source, device=choose_device(device), workers=workers
    )
    state = backbone.load_state(read_newest(run, reporter), run.checkpoint_folder)
    backbone.model.eval()
    return backbone, int(state["epoch"])


@contextmanager
def _captured_maps(backbone: TorchBackbone, specs: dict[str, NetworkSpec]) -> Iterator[dict[str, list[Tensor]]]:
    """Within this block, append the feature maps of each forward pass to the list of its modality."""
    captured: dict[str, list[Tensor]] = {modality: [] for modality in specs}
    with ExitStack() as stack:
        for modality, spec in specs.items():
            network = backbone.model.network(modality)
            assert isinstance(network, Base)
            last_stage = network.base.get_submodule(spec.maps)
            handle = last_stage.register_forward_hook(lambda module, given, maps, m=modality: captured[m].append(maps))
            stack.callback(handle.remove)
        yield captured


def _inputs(batch: EvalBatch, settings: BackboneSettings, device: torch.device) -> dict[str, Tensor]:
    """Return the networks' inputs for a batch of centre crops."""
    return {
        "video": augment.video_input(batch.frames.to(device), settings.clip, None, None),
        "audio": augment.audio_input(batch.mel.to(device), settings.clip, None, None),
    }
