"""Two small networks, fast enough to train on a CPU."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.networks.norm_relu import norm_relu


class _Layers(nn.Sequential):
    """Sequential container that computes a batch norm together with the ReLU that follows it."""

    def forward(self, x: Tensor) -> Tensor:
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


class TinyVideo(_Layers):
    """Video network of four (2+1)D stages of 24, 48, 96 and 192 channels: input (B, 3, T, S, S), features (B, 192)."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 192)):
        layers: list[nn.Module] = []
        n_in = 3
        for stage, width in enumerate(widths):
            stride = 1 if stage == len(widths) - 1 else 2
            layers += _conv3d(n_in, width, (1, 3, 3), (1, stride, stride))
            layers += _conv3d(width, width, (3, 1, 1), (1 if stage == 0 else 2, 1, 1))
            n_in = width
        super().__init__(*layers, nn.AdaptiveAvgPool3d(1))


class TinyAudio(_Layers):
    """Audio network of four convolutions of 24, 48, 96 and 192 channels: input (B, 1, F, T), features (B, 192)."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 192)):
        layers: list[nn.Module] = []
        n_in = 1
        for stage, width in enumerate(widths):
            stride = 1 if stage == len(widths) - 1 else 2
            layers += [nn.Conv2d(n_in, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            n_in = width
        super().__init__(*layers, _MeanOverPositions())


class _MeanOverPositions(nn.Module):
    """
    Mean (B, C) of activations (B, C, F, T) over their positions.

    The numbers are those of `torch.nn.AdaptiveAvgPool2d`, whose gradient has another memory format than the
    activations: the network would take a tenth more time.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2).mean(1)


def _conv3d(n_in: int, n_out: int, kernel: tuple[int, ...], stride: tuple[int, ...]) -> list[nn.Module]:
    padding = tuple(k // 2 for k in kernel)
    convolution = nn.Conv3d(n_in, n_out, kernel, stride, padding, bias=False)  # type: ignore[arg-type]
    return [convolution, nn.BatchNorm3d(n_out), nn.ReLU(inplace=True)]
