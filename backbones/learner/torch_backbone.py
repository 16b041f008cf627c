"""PyTorch backbone: trains on clips with given labels, and writes features and log-probabilities to a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from backbones.data import augment
from backbones.data.clips import ClipSource
from backbones.data.loader import Batch, ClipSampling, EvalBatch, TrainingLoader, eval_batches
from backbones.distributed.processes import local_device
from backbones.distributed.sync_batch_norm import sync_batch_norms
from backbones.learner.checkpoint import (
    first_line,
    random_states,
    read_training_checkpoint,
    restore_random_states,
    write_checkpoint,
)
from backbones.learner.clip_inputs import ClipInputs
from backbones.learner.cpu_memory import keep_freed_memory
from backbones.learner.cpu_threads import AdaptiveThreads, is_fixed, limit_threads
from backbones.learner.held_features import HeldFeatures
from backbones.learner.loss import LAYOUTS, TrainingLoss, features_in_parts, features_of
from backbones.learner.missing_values import nan_where_absent, reasons_of, replace_failed
from backbones.learner.optimizer import load_optimizer, make_optimizer
from backbones.learner.settings import BackboneSettings
from backbones.learner.side_by_side import ModalityThreads
from backbones.learner.step_graphs import StepGraphs, can_be_recorded
from backbones.learner.training_step import StepInputs, TrainingStep, augmented_input
from backbones.networks import registry
from backbones.networks.model import SelaviModel
from selavi_ref.errors import WRONG_CONTENT, DivergedError, InputError
from selavi_ref.runs.processes import Exchange, SingleProcess
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.selflabel.training_state import checked_state
from selavi_ref.store import StoreWriter, WorkingStore

_STREAMS = 1_000_003  # offset between the seeds of the processes


class TorchBackbone:
    """
    Video and audio network, or one of them, with heads, their optimiser, and the clips on which they are trained.

    It implements the `selavi_ref.selflabel.backbone.Backbone` contract.

    Parameters
    ----------
    settings : BackboneSettings
        Settings of networks, clips, augmentation and optimiser.
    clusters : sequence of int
        Number of clusters of each head.
    source : ClipSource
        The clips of the collection.
    device : str
        ``"cpu"``, ``"cuda"`` or another device of PyTorch's.
    workers : int
        Number of loader processes; 0 decodes in this process.
    seed : int
        Seed of the initial weights, the same in all processes, and of the dropout, which differs between them.
    exchange : Exchange
        Exchange with the other processes of the run; with several, that of ``torch.distributed``.
    reporter : Reporter
        Receives a warning if fewer threads compute, because other programs use the processor.
    record_steps : bool
        Whether steps of small networks on a GPU are recorded; see `StepGraphs`. Not the default until measured.
    """

    def __init__(
        self,
        settings: BackboneSettings,
        clusters: Sequence[int],
        source: ClipSource,
        *,
        device: str = "cpu",
        workers: int = 0,
        seed: int = 0,
        exchange: Exchange = SingleProcess(),  # noqa: B008
        reporter: Reporter = SILENT,
        record_steps: bool = False,
    ):
        self.settings = settings
        self.clusters = tuple(clusters)
        self.source = source
        self.exchange = exchange
        self.device = local_device(device)
        self.workers = workers
        self._inputs = ClipInputs(source, self._eval_inputs)
        self._held = HeldFeatures(self.device)
        self._loader = TrainingLoader(source, settings.augment, workers, pin=self.device.type == "cuda")
        torch.manual_seed(seed)
        specs = {m: registry.find(m, getattr(settings, f"{m}_net")) for m in settings.modalities.split("+")}
        video, audio, joint = specs.get("video"), specs.get("audio"), settings.concatenate
        self.model = SelaviModel(video, audio, clusters, settings.dropout, mlp=settings.mlp, concatenate=joint)
        self.model.to(self.device)
        self.modalities, self.spaces = self.model.modalities, self.model.spaces
        if exchange.size > 1 and settings.sync_batch_norm:
            self.model = cast(SelaviModel, sync_batch_norms(self.model, self.device))
        # Convolutions of the small networks are faster in this memory format; the results are the same.
        for modality in self.modalities:
            self.model.network(modality).to(memory_format=LAYOUTS[modality])
            if settings.compile:
                self.model.network(modality).compile()
        loss: nn.Module = TrainingLoss(self.model, settings.precision, padded=exchange.size > 1)
        if exchange.size > 1:
            loss = DistributedDataParallel(loss, gradient_as_bucket_view=True)
            torch.manual_seed(seed + _STREAMS * exchange.rank)
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.backends.cudnn.benchmark = True  # all clips have one size
        else:
            keep_freed_memory()
        threads = limit_threads(self.device)
        self._threads = AdaptiveThreads(1 if is_fixed() or self.device.type != "cpu" else threads, reporter)
        small = all(spec.small for spec in specs.values())
        side_by_side = small and self.device.type == "cpu" and exchange.size == 1
        self._both = ModalityThreads(side_by_side and not (settings.dropout or settings.compile or joint))
        self.n_features = self.model.n_features
        recorded = record_steps and on_gpu and small and exchange.size == 1 and can_be_recorded(settings)
        self.optimizer = make_optimizer(self.model.parameters(), settings, fused=recorded or not on_gpu)
        self._step = TrainingStep(loss, self.optimizer, settings, self.modalities, self._both, exchange.size)
        self._graphs = StepGraphs(self._step, self.device, reporter) if recorded else None

    @property
    def n_videos(self) -> int:
        """Number of videos N of the collection."""
        return len(self.source)

    def batches(self, batches: Sequence[NDArray[np.int64]], seed: Sequence[int]) -> Iterator[Batch]:
        """Yield batches of random clips, by their numbers in `backbones.data.loader.TrainingClips`."""
        return self._loader.batches(batches, seed)

    def warm_up(self, batches: Iterator[Batch]) -> None:
        """Update the batch norms' statistics with some batches, without training."""
        self.model.train()
        with torch.no_grad():
            for batch in batches:
                inputs = {
                    m: self._augmented_input(m, clips, batch.draws[torch.from_numpy(batch.views[m])])
                    for m, clips in (("video", batch.frames), ("audio", batch.mel))
                    if m in self.modalities and len(clips) > 1  # a batch norm has no statistics of a single clip
                }
                features = {m: self._features(m, clips) for m, clips in inputs.items()}
                for space, values in self.model.of_spaces(features).items():
                    self.model.logits(space, values)

    def train_step(self, batch: Batch, labels: NDArray[np.int32], learning_rate: float, share: float = 1.0) -> float:
        """
        Take one step on a batch: cross-entropy to the labels, averaged over modalities and heads.

        Of a video with a single modality, two augmented views stand for the two modalities.

        Parameters
        ----------
        batch : Batch
            Batch of `batches`; with several processes, this one's part of the step's clips.
        labels : array
            int32, shape (B, H).
        learning_rate : float
            Learning rate.
        share : float
            B divided by the number of clips of the whole step, over which the gradient is averaged.

        Returns
        -------
        float
            The mean loss of this batch.
        """
        with self._threads.step():
            return self._train_step(batch, labels, learning_rate, share)

    def _train_step(self, batch: Batch, labels: NDArray[np.int32], learning_rate: float, share: float) -> float:
        if not self.model.training:
            self.model.train()  # it takes a millisecond
        inputs = StepInputs.of_batch(batch, labels, self.modalities)
        if self._graphs is not None:
            return float(self._graphs(inputs, learning_rate))
        return float(self._step(inputs.to(self.device), learning_rate, share))

    def datasets(self) -> dict[str, int]:
        """Return the names of the store's feature data sets and their widths D."""
        return {f"features/{space}": width for space, width in self.n_features.items()}

    @torch.no_grad()
    def write_features(self, store: WorkingStore, rows: range, seed: Sequence[int] | None) -> None:
        """
        Write the features of one clip of each of some videos.

        Parameters
        ----------
        store : WorkingStore
            Store of these videos, with the data sets of `datasets`.
        rows : range
            The videos.
        seed : sequence of int or None
            None: the centre clip of each video; a seed: a random, augmented clip.
        """
        self._broadcast_statistics()
        self.model.eval()
        self._held.prepare(len(rows), self.n_features)
        last_values: list[NDArray[np.float32]] = []
        with store.rewrite(*self.datasets()) as write:
            sampling = ClipSampling(seed=None if seed is None else tuple(seed))
            batches = self._eval_batches(rows, sampling)
            for batch in self._inputs.batches(rows, batches, same_every_time=seed is None):
                features = self._features_of(batch.inputs)
                values = {f"features/{space}": features[space].float().cpu().numpy() for space in self.spaces}
                failed = np.array([bool(reason) for reason in batch.reasons])
                if failed.any():
                    replace_failed(values, failed, last_values)
                last_values = list(values.values())
                part = slice(int(batch.rows[0]) - rows.start, int(batch.rows[-1]) + 1 - rows.start)
                write(part, values)
                self._held.put(part, {space: values[f"features/{space}"] for space in self.spaces})

    @torch.no_grad()
    def write_log_prob(self, store: WorkingStore, head: int, name: str) -> None:
        """Write the log-probabilities (N, K) of one head, of each feature space, as ``log_prob/{space}/{name}``."""
        self.model.eval()
        for space in self.spaces:
            dataset = f"log_prob/{space}/{name}"
            with store.rewrite(dataset) as write:
                for rows in store.blocks():
                    features = torch.from_numpy(store.features(space, rows)).to(self.device)
                    logits = self.model.head(space, head)(features)
                    write(rows, {dataset: logits.log_softmax(1).cpu().numpy()})

    def joint_log_prob(
        self, store: WorkingStore, head: int, only: str | None = None
    ) -> NDArray[np.float32] | Tensor | None:
        """Return one head's joint log-probabilities; see `HeldFeatures.joint_log_prob`."""
        self.model.eval()
        present = {space: store.present(space) for space in (self.spaces if only is None else [only])}
        return self._held.joint_log_prob(self.model, head, present, list(store.blocks()))

    def permute(self, head: int, permutation: NDArray[np.int64]) -> None:
        """Reorder the outputs of an audio head: output k becomes the former output ``permutation[k]``."""
        self.model.head("audio", head).permute(permutation.tolist())

    @torch.no_grad()
    def extract(
        self,
        writer: StoreWriter,
        heads: Sequence[int],
        sampling: ClipSampling = ClipSampling(),  # noqa: B008
        progress: Callable[[int], None] | None = None,
        self_labels: NDArray[np.int32] | None = None,
        first: int = 0,
        change: Callable[[NDArray[np.int64], dict[str, NDArray[Any]]], dict[str, NDArray[Any]]] | None = None,
    ) -> None:
        """
        Write features and log-probabilities of the given heads for the remaining videos of a store.

        Both are means over the clips and crops of `sampling`. ``disagreement`` is the fraction of clips whose own label
        differs from the video's. A video that cannot be decoded gets only its reason. `self_labels` (N, H) are written
        as ``labels``, if given. The writer's first video is video `first` of the collection. `change` gets the rows
        and the values of each batch, and returns the values to write; a video lacks a feature space that `change` adds
        where its features are NaN.
        """
        self.model.eval()
        for batch in self._eval_batches((writer.remaining + first).tolist(), sampling):
            values, present = self._batch_values(batch, heads, sampling.n_clips)
            if self_labels is not None:
                values["labels"] = self_labels[batch.rows]
            if change is not None:
                values = change(batch.rows, values)
            reasons = reasons_of(batch.reasons, present, self.modalities, self.settings.concatenate)
            present = {
                space: present[space] if space in present else np.isfinite(values[f"features/{space}"]).all(1)
                for space in writer.modalities
            }
            writer.write(batch.rows - first, values, present=present, reason=reasons)
            if progress is not None:
                progress(len(batch.rows))

    def save(self, path: Path, state: Mapping[str, Any]) -> None:
        """
        Write a checkpoint: weights, optimiser, random states, and the caller's `state` of arrays, strings and numbers.

        The file is replaced atomically. With several processes, rank 0 writes it, with the random states of all.

        Raises
        ------
        DivergedError
            If a weight is not a finite number.
        SelaviError
            If it cannot be written.
        """
        self._broadcast_statistics()
        if not all(bool(torch.isfinite(value).all()) for value in self.model.state_dict().values()):
            raise DivergedError("the weights became infinite or NaN")
        states = random_states(self.exchange, self.device)
        if self.exchange.rank == 0:
            content = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                **states,
                "state": {key: _to_tensor(value) for key, value in state.items()},
            }
            write_checkpoint(path, content)

    def load(self, path: Path) -> dict[str, Any]:
        """
        Restore a checkpoint of `save`, and return the caller's state.

        Raises
        ------
        CheckpointError
            If the file is missing or damaged.
        InputError
            If it belongs to other networks.
        """
        return self.load_state(read_training_checkpoint(path), path)

    def load_state(self, checkpoint: Mapping[str, Any], path: Path) -> dict[str, Any]:
        """Restore a checkpoint that was read from `path`; an `InputError` if it belongs to other networks."""
        try:
            self.model.load_state_dict(checkpoint["model"])
            if self._graphs is not None:
                self._graphs.forget()
            load_optimizer(self.optimizer, checkpoint["optimizer"])
            restore_random_states(checkpoint, self.exchange, self.device)
        except WRONG_CONTENT as error:
            raise InputError(f"{path} does not fit the networks of this run: {first_line(error)}", path=path) from error
        state = {
            key: value.numpy() if isinstance(value, Tensor) else value for key, value in checkpoint["state"].items()
        }
        return checked_state(state, path, clusters=self.clusters)

    def _broadcast_statistics(self) -> None:
        """Broadcast the batch norms' statistics of rank 0, where they are not synchronised."""
        if self.exchange.size > 1 and not self.settings.sync_batch_norm:
            for buffer in self.model.buffers():
                dist.broadcast(buffer, 0)

    def _augmented_input(self, modality: str, clips: Tensor, draws: Tensor) -> Tensor:
        clips = clips.to(self.device, non_blocking=True)
        return augmented_input(modality, clips, draws.to(self.device), self.settings)

    def _features(self, modality: str, clips: Tensor) -> Tensor:
        return features_of(self.model, modality, clips, self.settings.precision)

    def _eval_batches(self, rows: Sequence[int], sampling: ClipSampling) -> Iterator[EvalBatch]:
        size = max(1, self.settings.eval_batch_size // (sampling.n_clips * sampling.n_crops))
        return eval_batches(self.source, rows, self.settings.augment, sampling, batch_size=size, workers=self.workers)

    def _eval_inputs(self, batch: EvalBatch) -> dict[str, Tensor]:
        """Return the inputs of the networks: of B * M clips for audio, of B * M * P for video."""
        clip = self.settings.clip
        if batch.draws is not None:
            clips = {"video": batch.frames, "audio": batch.mel}
            return {m: self._augmented_input(m, clips[m], batch.draws) for m in self.modalities}
        return {
            "video": augment.video_input(batch.frames.to(self.device), clip, None, None),
            "audio": augment.audio_input(batch.mel.to(self.device), clip, None, None),
        }

    def _features_of(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the features, (B * M, D) or (B * M * P, D), of each modality or of both concatenated."""
        precision = self.settings.precision
        features = self._both.map(lambda m: features_in_parts(self.model, m, inputs[m], precision), self.modalities)
        return self.model.of_spaces(features)

    def _batch_values(
        self, batch: EvalBatch, heads: Sequence[int], n_clips: int
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.bool_]]]:
        """Return a store's values for some videos, means over their clips, and the feature spaces they have."""
        n_videos = len(batch.rows)
        features = self._features_of(self._eval_inputs(batch))
        present = {s: np.logical_and.reduce([batch.present[m] for m in s.split("+")]) for s in self.spaces}
        has = {space: torch.from_numpy(there)[:, None, None].to(self.device) for space, there in present.items()}
        values: dict[str, NDArray[Any]] = {}
        for space in self.spaces:
            mean = features[space].view(n_videos, -1, self.n_features[space]).mean(1)
            values[f"features/{space}"] = nan_where_absent(mean, present[space])
        disagreement = np.zeros((n_videos, len(heads)), np.float32)
        for column, head in enumerate(heads):
            joint = torch.zeros(())
            for space in self.spaces:
                logits = self.model.head(space, head)(features[space])
                log_prob = logits.log_softmax(1).view(n_videos, n_clips, -1, logits.shape[1]).mean(2)
                values[f"log_prob/{space}/{head}"] = nan_where_absent(log_prob.mean(1), present[space])
                joint = joint + torch.where(has[space], log_prob, 0.0)
            differs = joint.argmax(2) != joint.mean(1).argmax(1)[:, None]
            disagreement[:, column] = differs.float().mean(1).cpu().numpy()
        values["disagreement"] = disagreement
        return values, present


def _to_tensor(value: Any) -> Any:
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
