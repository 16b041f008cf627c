"""A network with a linear classifier on its features, and an optimiser with separate learning rates for the two."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.finetuning.settings import FineTuneSettings
from backbones.networks import registry
from backbones.networks.registry import Base


class Classifier(nn.Module):
    """
    Video network with a linear layer from its features to class logits.

    Parameters
    ----------
    settings : FineTuneSettings
        Settings of the network, and of norm and dropout before the linear layer.
    n_classes : int
        Number of classes C.
    """

    def __init__(self, settings: FineTuneSettings, n_classes: int):
        super().__init__()
        spec = registry.find("video", settings.video_net)
        self.probe = settings.linear_probe
        self.precision = settings.precision
        self.base = Base(spec.build()).to(memory_format=torch.channels_last_3d)
        self.base.requires_grad_(not self.probe)
        norms = {"none": nn.Identity, "l2": L2Norm}
        self.norm = (
            nn.BatchNorm1d(spec.n_features, affine=False) if settings.norm == "batch" else norms[settings.norm]()
        )
        self.dropout = nn.Dropout(settings.dropout)
        self.classifier = nn.Linear(spec.n_features, n_classes)
        nn.init.orthogonal_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def train(self, mode: bool = True) -> Classifier:
        """Set training or evaluation mode; the network of a linear probe stays in evaluation mode."""
        super().train(mode)
        if self.probe:
            self.base.eval()
        return self

    def forward(self, clips: Tensor) -> Tensor:
        """Return the logits (B, C), float32, of clips (B, 3, T, S, S)."""
        clips = clips.contiguous(memory_format=torch.channels_last_3d)
        lower = self.precision == "bfloat16"
        with (
            torch.autocast(clips.device.type, torch.bfloat16) if lower else nullcontext(),
            torch.no_grad() if self.probe else nullcontext(),
        ):
            features: Tensor = self.base(clips)
        logits: Tensor = self.classifier(self.dropout(self.norm(features.float())))
        return logits


class L2Norm(nn.Module):
    """L2 normalisation of features (B, D)."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the features, each divided by its Euclidean norm."""
        return F.normalize(features, dim=1)


def make_optimizer(model: Classifier, settings: FineTuneSettings) -> torch.optim.Optimizer:
    """Return the optimiser of the classifier and, except for a linear probe, of the network."""
    groups: list[dict[str, Any]] = [{"params": list(model.classifier.parameters())}]
    if not settings.linear_probe:
        groups.append({"params": list(model.base.parameters())})
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, lr=0.0, weight_decay=settings.weight_decay)
    return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum, weight_decay=settings.weight_decay)


def set_learning_rates(optimizer: torch.optim.Optimizer, settings: FineTuneSettings, epoch: int) -> tuple[float, ...]:
    """Set the learning rates of an epoch, and return those of the classifier and of the network."""
    rates = tuple(rate * settings.factor(epoch) for rate in (settings.learning_rate, settings.base_learning_rate))
    for group, rate in zip(optimizer.param_groups, rates, strict=False):
        group["lr"] = rate
    return rates
