"""One training step: gradients of the loss of a batch of clips, and the change of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backbones.data import augment
from backbones.data.clips import empty_shape
from backbones.data.loader import Batch
from backbones.learner.loss import TrainingLoss
from backbones.learner.muon import Muon
from backbones.learner.optimizer import start_momentum
from backbones.learner.settings import BackboneSettings
from backbones.learner.side_by_side import ModalityStreams, ModalityThreads


@dataclass(frozen=True)
class StepInputs:
    """
    Clips and labels of one training step, by modality.

    Parameters
    ----------
    n_videos : int
        Videos B of the batch.
    clips : dict of str to Tensor
        Decoded clips of the V views that have the modality: uint8 (V, T, R, R, 3) or float32 (V, F, T').
    draws : dict of str to Tensor
        Random numbers of the augmentation of these views, float32 (V, D).
    labels : dict of str to Tensor
        Labels of these views, int64 (V, H).
    """

    n_videos: int
    clips: dict[str, Tensor]
    draws: dict[str, Tensor]
    labels: dict[str, Tensor]

    @classmethod
    def of_batch(cls, batch: Batch, labels: NDArray[np.int32], modalities: Sequence[str]) -> StepInputs:
        """Return the inputs of a batch whose videos have the given labels (B, H), on the CPU."""
        views = {m: torch.from_numpy(batch.views[m]) for m in modalities}
        of_views = torch.from_numpy(labels[np.concatenate([np.arange(len(labels)), batch.second])].astype(np.int64))
        clips = {"video": batch.frames, "audio": batch.mel}
        return cls(
            len(labels),
            {m: clips[m] for m in modalities},
            {m: batch.draws[view] for m, view in views.items()},
            {m: of_views[view] for m, view in views.items()},
        )

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in the same order for all inputs of the same modalities."""
        return [*self.clips.values(), *self.draws.values(), *self.labels.values()]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of videos, and the sizes of all tensors one after the other."""
        return self.n_videos, *(size for tensor in self.tensors for size in tensor.shape)

    def to(self, device: torch.device) -> StepInputs:
        """Return the inputs on a device."""

        def moved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}

        return StepInputs(self.n_videos, moved(self.clips), moved(self.draws), moved(self.labels))


def augmented_input(modality: str, clips: Tensor, draws: Tensor, settings: BackboneSettings) -> Tensor:
    """Return a network's input for decoded clips and the random numbers of their augmentation, on their device."""
    if not len(clips):
        clips = clips.new_empty(empty_shape(modality, settings.clip))
    varied = augment.video_input if modality == "video" else augment.audio_input
    return varied(clips, settings.clip, settings.augment, augment.Draw(draws))


def augmented_inputs(inputs: StepInputs, settings: BackboneSettings) -> dict[str, Tensor]:
    """Return the inputs of the networks for the clips of a step."""
    return {m: augmented_input(m, clips, inputs.draws[m], settings) for m, clips in inputs.clips.items()}


class TrainingStep:
    """
    Stochastic gradient descent on the training loss.

    Parameters
    ----------
    loss : Module
        `TrainingLoss`, or a wrapper that averages its gradients over several processes.
    optimizer : Optimizer
        Of the loss's parameters.
    settings : BackboneSettings
        Clips and augmentation.
    modalities : sequence of str
        Those of the networks.
    both : ModalityThreads
        Computes the two modalities, unless a step is told otherwise.
    n_processes : int
        Processes of the run.
    """

    def __init__(
        self,
        loss: nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: BackboneSettings,
        modalities: Sequence[str],
        both: ModalityThreads,
        n_processes: int = 1,
    ):
        self.optimizer = optimizer
        self._loss = loss
        self._settings = settings
        self.modalities = tuple(modalities)
        self._both = both
        self._n_processes = n_processes

    def __call__(
        self,
        inputs: StepInputs,
        learning_rate: float | Tensor,
        share: float = 1.0,
        both: ModalityThreads | ModalityStreams | None = None,
    ) -> Tensor:
        """
        Take a step, and return the mean loss of the batch, which is on the device of the inputs.

        `share` is the number of videos divided by that of the whole step, over which gradients are averaged.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        if self._n_processes > 1 or self._settings.concatenate:
            loss: Tensor = self._loss(augmented_inputs(inputs, self._settings), inputs.labels, inputs.n_videos)
            # DistributedDataParallel averages gradients over processes regardless of their batch sizes.
            (loss * (share * self._n_processes)).backward()
        else:
            parts = (both or self._both).map(lambda modality: self._learn(modality, inputs), self.modalities)
            loss = torch.stack(list(parts.values())).sum()
        start_momentum(self.optimizer)
        self.optimizer.step()
        return loss.detach()

    def _learn(self, modality: str, inputs: StepInputs) -> Tensor:
        """Compute the gradients of one modality's part of the loss, update its filters if by Muon, and return it."""
        clips = augmented_input(modality, inputs.clips[modality], inputs.draws[modality], self._settings)
        module = cast(TrainingLoss, self._loss)
        loss = module.of_space(modality, {modality: clips}, inputs.labels, inputs.n_videos)
        if loss.requires_grad:  # some of the clips have the modality
            loss.backward()
            if isinstance(self.optimizer, Muon):  # here, since both modalities can be computed at the same time
                self.optimizer.step_filters(module.model.network(modality).parameters())
        return loss.detach()
