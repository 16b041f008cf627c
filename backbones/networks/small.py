"""Small networks, fast enough to train on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.networks.norm_relu import norm_relu

WIDTHS = (24, 48, 96, 192)


class Layers(nn.Sequential):
    """Sequential container that computes a batch norm together with the ReLU that follows it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the last layer for a batch (B, C, ...)."""
        layers = list(self)
        is_norm = [isinstance(layer, _BatchNorm) for layer in layers]
        for number, layer in enumerate(layers):
            if number and is_norm[number - 1] and isinstance(layer, nn.ReLU):
                x = norm_relu(layers[number - 1], x)
                if layer._forward_hooks:
                    x = layer(x)  # ReLU once more, which changes nothing, for those who look at its output
            elif not (is_norm[number] and isinstance(layers[min(number + 1, len(layers) - 1)], nn.ReLU)):
                x = layer(x)
        return x


class TinyVideo(Layers):
    """Video network of four (2+1)D stages of 24, 48, 96 and 192 channels: input (B, 3, T, S, S), features (B, 192)."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS):
        layers: list[nn.Module] = []
        n_in = 3
        for stage, width in enumerate(widths):
            stride = 1 if stage == len(widths) - 1 else 2
            layers += _conv3d(n_in, width, (1, 3, 3), (1, stride, stride))
            layers += _conv3d(width, width, (3, 1, 1), (1 if stage == 0 else 2, 1, 1))
            n_in = width
        super().__init__(*layers, nn.AdaptiveAvgPool3d(1))


class TinyAudio(Layers):
    """Audio network of four convolutions of 24, 48, 96 and 192 channels: input (B, 1, F, T), features (B, 192)."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS):
        layers: list[nn.Module] = []
        n_in = 1
        for stage, width in enumerate(widths):
            layers += _conv2d(n_in, width, 1 if stage == len(widths) - 1 else 2)
            n_in = width
        super().__init__(*layers, MeanOverPositions())


class _Nano(nn.Module):
    """Base class of the nano networks: convolutional layers, then the mean over positions; features (B, 192)."""

    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.maps = Layers(*layers)
        self.mean = MeanOverPositions()

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.mean(self.maps(x))
        return features


class NanoVideo(_Nano):
    """
    Video network of half the operations of `TinyVideo`: input (B, 3, T, S, S), features (B, 192).

    Four stages of 24, 48, 96 and 192 channels. The first two are (2+1)D convolutions that each halve the number of
    frames, the others convolutions of single frames.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS):
        layers: list[nn.Module] = []
        n_in = 3
        for stage, width in enumerate(widths):
            stride = 1 if stage == len(widths) - 1 else 2
            layers += _conv3d(n_in, width, (1, 3, 3), (1, stride, stride))
            if stage < 2:
                layers += _conv3d(width, width, (3, 1, 1), (2, 1, 1))
            n_in = width
        super().__init__(layers)


class NanoAudio(_Nano):
    """
    Audio network of half the operations of `TinyAudio`: input (B, 1, F, T), features (B, 192).

    Four convolutions of 24, 48, 96 and 192 channels, each of which halves both sides.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS):
        layers: list[nn.Module] = []
        n_in = 1
        for width in widths:
            layers += _conv2d(n_in, width, 2)
            n_in = width
        super().__init__(layers)


class MeanOverPositions(nn.Module):
    """
    Mean (B, C) of activations (B, C, ...) over their positions, in float32.

    The numbers are those of PyTorch's adaptive average pooling, whose gradient has another memory format than the
    activations: an audio network would take a tenth more time.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the means (B, C)."""
        return x.flatten(2).transpose(1, 2).mean(1, dtype=torch.float32)


def _conv2d(n_in: int, n_out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)]


def _conv3d(n_in: int, n_out: int, kernel: tuple[int, ...], stride: tuple[int, ...]) -> list[nn.Module]:
    padding = tuple(k // 2 for k in kernel)
    convolution = nn.Conv3d(n_in, n_out, kernel, stride, padding, bias=False)  # type: ignore[arg-type]
    return [convolution, nn.BatchNorm3d(n_out), nn.ReLU(inplace=True)]
