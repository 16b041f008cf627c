"""An audio network that hears nothing but how loud each band is."""

from torch import nn

from backbones.networks import NetworkSpec


class Loudness(nn.Module):
    """Mean of each of the first bands over time: input (B, 1, F, T), features (B, D)."""

    def __init__(self, n_bands):
        super().__init__()
        self.n_bands = n_bands

    def forward(self, sounds):
        return sounds[:, 0, : self.n_bands].mean(2)


LOUDNESS = NetworkSpec(
    name="loudness",
    modality="audio",
    build=lambda: Loudness(16),
    n_features=16,
    hidden=32,
    clip={"n_filters": 40, "sample_rate": 16_000},
    limits={"n_filters": (16, None)},
)
