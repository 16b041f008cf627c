"""The small networks give the same numbers as plain layers of PyTorch."""

import copy

import pytest
import torch
from torch import nn

from backbones.learner.loss import LAYOUTS
from backbones.networks import registry

SHAPES = {"video": (6, 3, 4, 40, 40), "audio": (6, 1, 64, 99)}


class Pooling(nn.Module):
    """Average pooling in float32, whose gradient has PyTorch's usual memory format."""

    def forward(self, x):
        pooling = nn.AdaptiveAvgPool2d(1) if x.dim() == 4 else nn.AdaptiveAvgPool3d(1)
        return pooling(x.float()).flatten(1)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("modality", "name"), [("audio", "tiny"), ("audio", "nano"), ("video", "nano")])
def test_the_mean_over_positions_is_average_pooling(modality, name, precision):
    tolerance = 1e-5 if precision == torch.float32 else 2e-2
    torch.manual_seed(0)
    fast = registry.find(modality, name).build().to(memory_format=LAYOUTS[modality])
    plain = copy.deepcopy(fast)
    plain.set_submodule("mean" if name == "nano" else "12", Pooling())
    clips = torch.randn(SHAPES[modality]).contiguous(memory_format=LAYOUTS[modality])
    weights = torch.randn(6, 192)
    of_networks = []
    for network in (fast, plain):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            features = network(clips)
        assert features.dtype == torch.float32
        (features.float() * weights).sum().backward()
        of_networks.append([features.detach(), *(p.grad for p in network.parameters())])
    for ours, theirs in zip(*of_networks, strict=True):
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize(("modality", "shape"), SHAPES.items())
def test_nano_takes_half_of_the_multiplications_of_tiny(modality, shape):
    multiplications = {"nano": 0, "tiny": 0}
    for name in multiplications:
        with torch.device("meta"):
            network = registry.find(modality, name).build()

        def count(layer, given, out, name=name):
            multiplications[name] += layer.weight.numel() * out[0, 0].numel()

        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                layer.register_forward_hook(count)
        network(torch.empty(shape, device="meta"))
    assert multiplications["nano"] <= 0.6 * multiplications["tiny"]
