"""Video and audio networks by name: the published ones, small ones for a CPU, and those of other installed packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from torch import Tensor, nn

from selavi_ref.errors import InputError


@dataclass(frozen=True)
class NetworkSpec:
    """
    A network that can be asked for by name, with the input that it is made for.

    Parameters
    ----------
    name : str
        What ``--video-net`` or ``--audio-net`` is called with.
    modality : str
        ``"video"`` (input (B, 3, T, S, S)) or ``"audio"`` (input (B, 1, F, T)).
    build : callable
        Returns a module that maps the input to features (B, D).
    n_features : int
        D.
    hidden : int
        Width of the hidden layer of the heads on these features.
    clip : dict
        Settings of the clip (fields of `backbones.settings.ClipSettings`) that the network is made for.
    """

    name: str
    modality: str
    build: Callable[[], nn.Module]
    n_features: int
    hidden: int
    clip: dict[str, Any] = field(default_factory=dict)


class Base(nn.Module):
    """Holds a network under the published name ``base`` and flattens its output to features (B, D)."""

    def __init__(self, base: nn.Module):
        super().__init__()
        self.base = base

    def forward(self, clips: Tensor) -> Tensor:
        """Return the features (B, D) of a batch of clips."""
        features: Tensor = self.base(clips)
        return features.flatten(1)


def find(modality: str, name: str) -> NetworkSpec:
    """
    Look a network up by name.

    Raises
    ------
    InputError
        If no installed package has it; the names known are listed.
    """
    known = {**_builtin(), **_installed()}
    spec = known.get((modality, name))
    if spec is None:
        names = ", ".join(sorted(n for m, n in known if m == modality))
        raise InputError(f"there is no {modality} network {name!r}; known are: {names}")
    return spec


def names(modality: str) -> list[str]:
    """Return the names of all networks of a modality, sorted."""
    return sorted(name for m, name in {**_builtin(), **_installed()} if m == modality)


@cache
def _installed() -> dict[tuple[str, str], NetworkSpec]:
    """Networks of other packages: entry points of the group ``selavi.backbones`` that load to a NetworkSpec."""
    found = {}
    for point in entry_points(group="selavi.backbones"):
        spec = point.load()
        if not isinstance(spec, NetworkSpec):
            raise InputError(f"entry point {point.name!r} of selavi.backbones is no NetworkSpec: {point.value}")
        found[spec.modality, point.name] = replace(spec, name=point.name)
    return found


def _builtin() -> dict[tuple[str, str], NetworkSpec]:
    published_video = {"frames": 30, "fps": 30.0, "size": 112, "decode_size": 160}
    published_audio = {"n_filters": 257, "sample_rate": 24_000}
    specs = [
        NetworkSpec("r2plus1d_18", "video", r2plus1d_18, 512, 512, published_video),
        NetworkSpec("resnet9", "audio", lambda: audio_resnet((1, 1, 1, 1)), 512, 512, published_audio),
        NetworkSpec("resnet18", "audio", lambda: audio_resnet((2, 2, 2, 2)), 512, 512, published_audio),
        NetworkSpec("tiny", "video", TinyVideo, 192, 256, {"frames": 4, "fps": 4.0, "size": 40, "decode_size": 48}),
        NetworkSpec("tiny", "audio", TinyAudio, 192, 256, {"n_filters": 64, "sample_rate": 16_000}),
    ]
    return {(spec.modality, spec.name): spec for spec in specs}


def r2plus1d_18() -> nn.Module:
    """R(2+1)D-18 (Tran et al., 2018) as torchvision builds it, without its classifier, Kaiming fan-out weights."""
    from torchvision.models.video import r2plus1d_18 as build

    network: nn.Module = build(weights=None)
    network.fc = nn.Identity()
    return _kaiming_fan_out(network)


def audio_resnet(layers: tuple[int, int, int, int]) -> nn.Module:
    """ResNet of basic blocks (He et al., 2016) on one channel of log mel energies, without its classifier."""
    from torchvision.models.resnet import BasicBlock, ResNet

    network = ResNet(BasicBlock, list(layers))
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    network.fc = nn.Identity()
    return _kaiming_fan_out(network)


class TinyVideo(nn.Sequential):
    """Four (2+1)D stages of 24, 48, 96 and 192 channels: input (B, 3, T, S, S), features (B, 192)."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 192)):
        layers: list[nn.Module] = []
        before = 3
        for stage, width in enumerate(widths):
            stride = 1 if stage == len(widths) - 1 else 2
            layers += _conv3d(before, width, (1, 3, 3), (1, stride, stride))
            layers += _conv3d(width, width, (3, 1, 1), (1 if stage == 0 else 2, 1, 1))
            before = width
        super().__init__(*layers, nn.AdaptiveAvgPool3d(1))


class TinyAudio(nn.Sequential):
    """Four convolutions of 24, 48, 96 and 192 channels: input (B, 1, F, T), features (B, 192)."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 192)):
        layers: list[nn.Module] = []
        before = 1
        for stage, width in enumerate(widths):
            stride = 1 if stage == len(widths) - 1 else 2
            layers += [nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            before = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1))


def _conv3d(before: int, after: int, kernel: tuple[int, ...], stride: tuple[int, ...]) -> list[nn.Module]:
    padding = tuple(k // 2 for k in kernel)
    convolution = nn.Conv3d(before, after, kernel, stride, padding, bias=False)  # type: ignore[arg-type]
    return [convolution, nn.BatchNorm3d(after), nn.ReLU(inplace=True)]


def _kaiming_fan_out(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
