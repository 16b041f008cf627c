"""The training loss: cross-entropy of augmented clips to the pseudo-labels, over modalities and heads."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.networks.model import SelaviModel

LAYOUTS = {"video": torch.channels_last_3d, "audio": torch.channels_last}
_LEAST = 2  # clips of which a batch norm has statistics
_PART = 64  # clips whose features are computed at once on a CPU
_IGNORED = -100  # target of clips that are not learnt


class TrainingLoss(nn.Module):
    """
    Training loss, as a module, so that `DistributedDataParallel` sees a single forward pass.

    Parameters
    ----------
    model : SelaviModel
        The networks.
    precision : str
        See `features_of`.
    padded : bool
        Whether each network takes part in every step, also in those without a clip for it: processes that synchronise
        batch norms and gradients wait for each other.
    """

    def __init__(self, model: SelaviModel, precision: str, *, padded: bool = False):
        super().__init__()
        self.model = model
        self.precision = precision
        self.padded = padded

    def forward(self, inputs: dict[str, Tensor], targets: dict[str, Tensor], n_videos: int) -> Tensor:
        """
        Return the mean cross-entropy over videos, their two views (modalities, or views of one), and heads.

        Joint heads see the features of both modalities side by side, so that a video counts once for each.

        Parameters
        ----------
        inputs : dict of str to Tensor
            Of each modality: augmented clips of the views that have it.
        targets : dict of str to Tensor
            Their labels, int64, shape (V, H).
        n_videos : int
            Videos of the batch.
        """
        terms = (self.of_space(space, inputs, targets, n_videos) for space in self.model.spaces)
        return sum(terms, torch.zeros((), device=next(iter(targets.values())).device))

    def of_space(
        self, space: str, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], n_videos: int
    ) -> Tensor:
        """Return what one modality (or both, concatenated) adds to the loss; parameters are those of `forward`."""
        modalities = space.split("+")
        labels, n_views = targets[modalities[0]], len(inputs[modalities[0]])
        total, n_heads = torch.zeros((), device=labels.device), labels.shape[1]
        if not n_views and not self.padded:
            return total
        clips = [_at_least_two(inputs[modality]) for modality in modalities]
        labels = F.pad(labels, (0, 0, 0, len(clips[0]) - n_views), value=_IGNORED)
        of_each = {m: features_of(self.model, m, c, self.precision) for m, c in zip(modalities, clips, strict=True)}
        features = self.model.of_spaces(of_each)[space]
        for head, logits in enumerate(self.model.logits(space, features)):
            if n_views == n_videos:
                total = total + F.cross_entropy(logits, labels[:, head])
            else:
                total = total + F.cross_entropy(logits, labels[:, head], reduction="sum") / n_videos
        n_terms = 1 if self.model.concatenated else 2
        return total / (n_terms * n_heads)


def features_of(model: SelaviModel, modality: str, clips: Tensor, precision: str) -> Tensor:
    """Return the features (B, D), float32, of clips, computed in ``precision``."""
    clips = clips.contiguous(memory_format=LAYOUTS[modality])
    lower = precision == "bfloat16"
    with torch.autocast(clips.device.type, torch.bfloat16) if lower else nullcontext():
        features: Tensor = model.network(modality)(clips)
    return features.float()


def features_in_parts(model: SelaviModel, modality: str, clips: Tensor, precision: str) -> Tensor:
    """
    Return the features (B, D) of clips by a model in evaluation mode, computed on a CPU 64 clips at a time.

    They are those of `features_of`, up to rounding. The activations of more clips do not fit in the caches, and glibc
    gives tensors of more than 32 MiB new memory each time, which the system fills with zeros first.
    """
    parts = clips.split(_PART if clips.device.type == "cpu" else max(1, len(clips)))
    return torch.cat([features_of(model, modality, part, precision) for part in parts])


def _at_least_two(clips: Tensor) -> Tensor:
    """Add mean clips to a batch of fewer than two, of which batch norms have no statistics."""
    missing = max(0, _LEAST - len(clips))
    return F.pad(clips, (0, 0) * (clips.dim() - 1) + (0, missing)) if missing else clips
