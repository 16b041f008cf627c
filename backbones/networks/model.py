"""Model of two networks with heads, with the parameter names of the published checkpoints."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from backbones.networks.registry import Base, NetworkSpec
from selavi_ref.runs.modality_names import BOTH

MODALITIES = ("video", "audio")
_LETTERS = {"video": "v", "audio": "a", BOTH: "va"}  # in the names of the heads' parameters


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
    A video network and an audio network, each with the same number of heads; or one of them; or both with joint heads.

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
    concatenate : bool
        Whether there is one set of heads, on the concatenated features of both networks.

    Attributes
    ----------
    modalities : tuple of str
        Those of the networks.
    spaces : tuple of str
        Feature spaces that have heads: the modalities, or ``"video+audio"``.
    n_features : dict
        Width of each feature space.
    concatenated : bool
        Whether heads are on the concatenated features of both networks.
    """

    def __init__(
        self,
        video: NetworkSpec | None,
        audio: NetworkSpec | None,
        clusters: Sequence[int],
        dropout: float = 0.3,
        *,
        mlp: bool = True,
        concatenate: bool = False,
    ):
        super().__init__()
        specs = {modality: spec for modality, spec in (("video", video), ("audio", audio)) if spec is not None}
        self.modalities = tuple(specs)
        for modality, spec in specs.items():
            setattr(self, f"{modality}_network", Base(spec.build()))
        self.clusters = tuple(clusters)
        widths = {modality: (spec.n_features, spec.hidden) for modality, spec in specs.items()}
        if concatenate:
            widths = {BOTH: (sum(n for n, _ in widths.values()), max(hidden for _, hidden in widths.values()))}
        self.n_features = {space: n_features for space, (n_features, _) in widths.items()}
        self.spaces = tuple(widths)
        self.concatenated = concatenate
        for space, (n_features, hidden) in widths.items():
            for head, n_clusters in enumerate(self.clusters):
                module = Head(n_features, hidden, n_clusters, dropout) if mlp else LinearHead(n_features, n_clusters)
                setattr(self, head_name(space, head, len(self.clusters)), module)

    def network(self, modality: str) -> nn.Module:
        """Return the network of a modality, ``"video"`` or ``"audio"``."""
        network: nn.Module = getattr(self, f"{modality}_network")
        return network

    def of_spaces(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the features (B, D) of the spaces that have heads; sound goes with all crops of its clip."""
        if not self.concatenated or not features:
            return features
        video, audio = (features[modality] for modality in self.modalities)
        n_crops = len(video) // max(1, len(audio))
        return {self.spaces[0]: torch.cat([video, audio.repeat_interleave(n_crops, 0)], 1)}

    def head(self, space: str, head: int) -> Head | LinearHead:
        """Return a head of a feature space."""
        module: Head | LinearHead = getattr(self, head_name(space, head, len(self.clusters)))
        return module

    def logits(self, space: str, features: Tensor) -> list[Tensor]:
        """Return the logits (B, K) of every head of a feature space for features (B, D)."""
        return [self.head(space, head)(features) for head in range(len(self.clusters))]


def head_name(space: str, head: int, n_heads: int) -> str:
    """Return the name of the parameters of a head, as in the published checkpoints; a single head has no number."""
    return f"mlp_{_LETTERS[space]}{head}" if n_heads > 1 else f"mlp_{_LETTERS[space]}"


@torch.no_grad()
def _permute_outputs(linear: nn.Module, permutation: Sequence[int]) -> None:
    order = list(permutation)
    for parameter in linear.parameters():
        parameter.copy_(parameter[order].clone())
