"""Model of two networks with heads, with the parameter names of the published checkpoints."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from backbones.networks.registry import Base, NetworkSpec

MODALITIES = ("video", "audio")


class Head(nn.Module):
    """
    MLP head: maps features (B, D) to cluster logits (B, K).

    Layers are numbered as in the published checkpoints: 2 and 8 are linear, 4 is the batch norm.
    """

    def __init__(self, n_features: int, hidden: int, n_clusters: int, dropout: float = 0.3):
        super().__init__()
        self.block_forward = nn.Sequential(
            OrderedDict(
                [
                    ("0", nn.Flatten()),
                    ("1", nn.Dropout(dropout)),
                    ("2", nn.Linear(n_features, hidden, bias=False)),
                    ("4", nn.BatchNorm1d(hidden)),
                    ("5", nn.ReLU(inplace=True)),
                    ("6", nn.Dropout(dropout)),
                    ("8", nn.Linear(hidden, n_clusters)),
                ]
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (B, K)."""
        logits: Tensor = self.block_forward(features)
        return logits

    def permute(self, permutation: Sequence[int]) -> None:
        """Reorder the outputs: output k becomes the former output ``permutation[k]``."""
        _permute_outputs(self.block_forward[-1], permutation)


class LinearHead(nn.Linear):
    """Linear head: maps features (B, D) to cluster logits (B, K), as the published heads without MLP."""

    def permute(self, permutation: Sequence[int]) -> None:
        """Reorder the outputs: output k becomes the former output ``permutation[k]``."""
        _permute_outputs(self, permutation)


class SelaviModel(nn.Module):
    """
    A video network and an audio network, each with the same number of heads; or one of them.

    Parameters
    ----------
    video, audio : NetworkSpec or None
        The networks.
    clusters : sequence of int
        Number of clusters of each head.
    dropout : float
        Dropout before each linear layer of the heads.
    mlp : bool
        Whether heads have a hidden layer; otherwise they are single linear layers without dropout.
    """

    def __init__(
        self,
        video: NetworkSpec | None,
        audio: NetworkSpec | None,
        clusters: Sequence[int],
        dropout: float = 0.3,
        *,
        mlp: bool = True,
    ):
        super().__init__()
        specs = {modality: spec for modality, spec in (("video", video), ("audio", audio)) if spec is not None}
        self.modalities = tuple(specs)
        for modality, spec in specs.items():
            setattr(self, f"{modality}_network", Base(spec.build()))
        self.clusters = tuple(clusters)
        for modality, spec in specs.items():
            for head, n_clusters in enumerate(self.clusters):
                module = (
                    Head(spec.n_features, spec.hidden, n_clusters, dropout)
                    if mlp
                    else LinearHead(spec.n_features, n_clusters)
                )
                setattr(self, self._head_name(modality[0], head), module)

    def network(self, modality: str) -> nn.Module:
        """Return the network of a modality, ``"video"`` or ``"audio"``."""
        network: nn.Module = getattr(self, f"{modality}_network")
        return network

    def head(self, modality: str, head: int) -> Head | LinearHead:
        """Return a head of a modality."""
        module: Head | LinearHead = getattr(self, self._head_name(modality[0], head))
        return module

    def logits(self, modality: str, features: Tensor) -> list[Tensor]:
        """Return the logits (B, K) of every head for features (B, D)."""
        return [self.head(modality, head)(features) for head in range(len(self.clusters))]

    def _head_name(self, letter: str, head: int) -> str:
        return f"mlp_{letter}{head}" if len(self.clusters) > 1 else f"mlp_{letter}"


@torch.no_grad()
def _permute_outputs(linear: nn.Module, permutation: Sequence[int]) -> None:
    order = list(permutation)
    for parameter in linear.parameters():
        parameter.copy_(parameter[order].clone())
